//! Every state transition of a socket in aggregate mode.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use core::ffi::c_void;
use tcptrace_common::state::{CLOSE, LISTEN, SYN_RECV, SYN_SENT};

use crate::{
    aggregate, attribution,
    change::Change,
    deferred, filter,
    kernel::{
        clock::now_ns,
        ptr::KernelPtr,
        sock::{IPPROTO_TCP, SockCommon, SockKey, TcpSock},
        tuple::Tuple,
    },
    tracked::{self, Entry},
};

/// Used if no addresses are needed, in read-only memory.
static NO_TUPLE: Tuple = Tuple { family: 0, local: [0; 2], remote: [0; 2], local_port: 0, remote_port: 0, netns: 0 };

/// `sock:inet_sock_set_state`: (sk, old state, new state). Replaces the program `transition` and reads from the socket only
/// what the counts need.
#[btf_tracepoint(function = "inet_sock_set_state")]
fn count_transition(ctx: BtfTracePointContext) -> i32 {
    let sk: *const c_void = ctx.arg(0);
    let (old, new) = (ctx.arg::<i32>(1) as u8, ctx.arg::<i32>(2) as u8);
    if old == new {
        return 0; // no transition, as in `transition`
    }
    let common = SockCommon(KernelPtr::new(sk));
    if common.protocol() != IPPROTO_TCP {
        return 0; // DCCP, MPTCP or SCTP
    }
    let key = SockKey::of(sk as u64);
    let is_new_child = old == LISTEN && new == SYN_RECV;
    let entry = if is_new_child || old == CLOSE { Entry::start(key) } else { Entry::of(key) };
    let needs_owner = aggregate::needs_owner();
    if needs_owner {
        attribution::infer_owner(entry, common, sk, (old, new));
    }
    let Some(tracked) = entry.get() else {
        return 0;
    };
    // Most other transitions are counted by their states and time alone.
    let needs_sock =
        is_new_child || old == SYN_RECV || new == CLOSE || aggregate::needs_addresses() || tracked.deferred_from != 0;
    let sock = if needs_sock { TcpSock::new(sk) } else { None };
    let (mut flags, mut tuple) = (0, &NO_TUPLE);
    let known;
    if let Some(sock) = sock {
        if is_new_child {
            tracked.syn_cookies = sock.follows_syn_cookies().into();
        }
        if new == CLOSE || old == SYN_RECV {
            flags = sock.flags() | sock.linger2_flag();
        }
        if aggregate::needs_addresses() {
            known = sock.tuple();
            tuple = &known;
        }
        if needs_owner {
            attribution::update_listeners(tracked, sock, sk, (old, new));
        }
        aggregate::infer_service_port(tracked, tuple, old, new, flags);
        if tracked.deferred_from != 0 {
            let change = deferred::take(sock, tracked);
            aggregate::count_change(Some(sock), tracked, tuple, &change);
        }
    }
    let now_ns = now_ns();
    let entered_ns = tracked::enter_state(tracked, (old, new), now_ns);
    let addresses_missing = new == SYN_RECV && tuple.remote_port == 0 && aggregate::needs_addresses();
    if addresses_missing || matches!(new, SYN_SENT | LISTEN) && filter::needs_local_port(tuple) {
        tracked.deferred_from = old;
        return 0;
    }
    let change = Change { old, new, entered_ns, now_ns, flags, err: common.err(), exit_signal: 0 };
    aggregate::count_change(sock, tracked, tuple, &change);
    tracked::forget_if_owner_left(tracked);
    if new == CLOSE {
        entry.end();
    }
    0
}
