//! Every change of a socket's state, where it is only counted.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use core::ffi::c_void;
use tcptrace_common::{
    memo::Memo,
    state::{CLOSE, LISTEN, SYN_RECV, SYN_SENT},
};

use super::transition::{self, Change};
use crate::{
    aggregate, emit, filter, memos,
    sock::{TcpSock, Tuple},
};

/// Stands where nothing depends on the addresses, in read-only memory.
static NO_TUPLE: Tuple = Tuple { family: 0, local: [0; 2], remote: [0; 2], local_port: 0, remote_port: 0, netns: 0 };

/// `sock:inet_sock_set_state`: (sk, old state, new state). Takes the place of [`transition::transition`], and reads no
/// more of the socket than counting takes.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub(crate) fn count_transition(ctx: BtfTracePointContext) -> i32 {
    let sk: *const c_void = ctx.arg(0);
    let (old, new) = (ctx.arg::<i32>(1) as u8, ctx.arg::<i32>(2) as u8);
    if old == new {
        return 0; // no transition, see there
    }
    let Some(sock) = TcpSock::new(sk) else {
        return 0;
    };
    let comes_in = old == LISTEN && new == SYN_RECV;
    let found = if comes_in || old == CLOSE { memos::begun(sock.memo_key()) } else { memos::of(sock.memo_key()) };
    let Some(found) = found else {
        return 0;
    };
    let memo = &mut *found.memo;
    let owner_matters = aggregate::owner_matters();
    let (flags, err) = match new {
        CLOSE => (sock.flags() | sock.linger2_flag(), sock.common.err()),
        _ if old == SYN_RECV => (sock.flags(), 0),
        _ => (0, 0),
    };
    let tuple = if aggregate::addresses_matter() { &sock.tuple() } else { &NO_TUPLE };
    if owner_matters {
        transition::learn_owner(memo, sock.common, sk, (old, new));
    }
    aggregate::learn_service(memo, tuple, old, new, flags);
    if memo.deferred_from != 0 {
        let change = transition::take_deferred(sock, memo);
        count(sock, memo, tuple, &change);
    }
    let now_ns = emit::now_ns();
    let left_ns = if memo.state == old || memo.state == 0 { memo.entered_ns } else { 0 };
    memo.previous_ns = left_ns;
    memo.entered_ns = now_ns;
    memo.state = new;
    if comes_in {
        memo.syn_cookies = u8::from(sock.comes_after_syn_cookies());
    }
    let addresses_missing = new == SYN_RECV && tuple.remote_port == 0 && aggregate::addresses_matter();
    if addresses_missing || matches!(new, SYN_SENT | LISTEN) && filter::waits_for_port(tuple) {
        memo.deferred_from = old;
        return 0;
    }
    count(sock, memo, tuple, &Change { old, new, left_ns, now_ns, flags, err });
    memos::let_go(memo);
    if new == CLOSE {
        found.end();
    }
    0
}

#[inline(always)]
fn count(sock: TcpSock, memo: &Memo, tuple: &Tuple, change: &Change) {
    if change.passes(tuple, memo) {
        aggregate::transition(sock, memo, change);
    }
}
