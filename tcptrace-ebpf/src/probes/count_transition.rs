//! Every change of a socket's state, where it is only counted.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use core::ffi::c_void;
use tcptrace_common::{
    state::{CLOSE, LISTEN, SYN_RECV, SYN_SENT},
    tracked::Memo,
};

use super::transition::{self, Change};
use crate::{
    aggregate, emit, filter,
    kernel::sock::{IPPROTO_TCP, Kernel, SockCommon, TcpSock, Tuple},
    tracked::{self, Place},
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
    let common = SockCommon(Kernel::new(sk));
    if common.protocol() != IPPROTO_TCP {
        return 0; // DCCP, MPTCP, SCTP
    }
    let key = tracked::Key::of(sk as u64);
    let comes_in = old == LISTEN && new == SYN_RECV;
    let place = if comes_in || old == CLOSE { Place::begun(key) } else { Place::of(key) };
    let owner_matters = aggregate::owner_matters();
    if owner_matters {
        transition::learn(place, common, sk, (old, new));
    }
    let Some(memo) = place.memo() else {
        return 0;
    };
    // Of most others the states and the time are all that counts.
    let is_asked =
        comes_in || old == SYN_RECV || new == CLOSE || aggregate::addresses_matter() || memo.deferred_from != 0;
    let sock = if is_asked { TcpSock::new(sk) } else { None };
    let (mut flags, mut tuple) = (0, &NO_TUPLE);
    let known;
    if let Some(sock) = sock {
        if comes_in {
            memo.syn_cookies = sock.comes_after_syn_cookies().into();
        }
        if new == CLOSE || old == SYN_RECV {
            flags = sock.flags() | sock.linger2_flag();
        }
        if aggregate::addresses_matter() {
            known = sock.tuple();
            tuple = &known;
        }
        if owner_matters {
            transition::keep_listeners(memo, sock, sk, (old, new));
        }
        aggregate::learn_service(memo, tuple, old, new, flags);
        if memo.deferred_from != 0 {
            let change = transition::take_deferred(sock, memo);
            count(Some(sock), memo, tuple, &change);
        }
    }
    let now_ns = emit::now_ns();
    let left_ns = tracked::move_clock(memo, (old, new), now_ns);
    let addresses_missing = new == SYN_RECV && tuple.remote_port == 0 && aggregate::addresses_matter();
    if addresses_missing || matches!(new, SYN_SENT | LISTEN) && filter::waits_for_port(tuple) {
        memo.deferred_from = old;
        return 0;
    }
    count(sock, memo, tuple, &Change { old, new, left_ns, now_ns, flags, err: common.err(), exit_signal: 0 });
    tracked::let_go(memo);
    if new == CLOSE {
        place.end();
    }
    0
}

#[inline(always)]
fn count(sock: Option<TcpSock>, memo: &Memo, tuple: &Tuple, change: &Change) {
    if change.passes(tuple, memo) {
        aggregate::transition(sock, memo, change);
    }
}
