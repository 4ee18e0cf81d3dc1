//! Every state transition of a socket.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use aya_log_ebpf::{debug, trace};
use core::ffi::c_void;
use tcptrace_common::{
    record::socket_flag,
    state::{CLOSE, CLOSE_WAIT, CLOSING, ESTABLISHED, FIN_WAIT2, LISTEN, SYN_RECV, SYN_SENT},
};

use crate::{
    attribution,
    change::Change,
    counters::count,
    deferred, filter,
    kernel::{
        clock::now_ns,
        ptr::KernelPtr,
        sock::{IPPROTO_TCP, SockCommon, SockKey, TcpSock},
    },
    tracked::{self, Entry},
};

/// `sock:inet_sock_set_state`: (sk, old state, new state).
#[btf_tracepoint(function = "inet_sock_set_state")]
fn transition(ctx: BtfTracePointContext) -> i32 {
    let sk: *const c_void = ctx.arg(0);
    let (old, new) = (ctx.arg::<i32>(1) as u8, ctx.arg::<i32>(2) as u8);
    if old == new {
        // No transition: close() after shutdown() sets the current state again (`net/ipv4/tcp.c`, `tcp_close_state`;
        // FIN_WAIT1, FIN_WAIT2, CLOSING and LAST_ACK on 5.10 to 7.2). It must not restart the clock.
        return 0;
    }
    let common = SockCommon(KernelPtr::new(sk));
    if common.protocol() != IPPROTO_TCP {
        return 0; // DCCP, MPTCP or SCTP
    }
    let needs_time = filter::needs_time((old, new));
    if !needs_time && is_irrelevant((old, new)) {
        count!(filtered);
        return 0;
    }
    let now_ns = if needs_time { now_ns() } else { 0 };
    let key = SockKey::of(sk as u64);
    let begins = old == CLOSE || old == LISTEN && new == SYN_RECV;
    let entry = if begins { Entry::start(key) } else { Entry::of(key) };
    // Log the cookie instead of the address: the verifier lets a program store a kernel pointer, but not format it.
    trace!(&ctx, "socket {}: {} -> {}", common.cookie(sk), old, new);
    let exit = attribution::infer_owner(entry, common, sk, (old, new));
    let Some(tracked) = entry.get() else {
        return 0;
    };
    let passes = filter::transition_may_pass((old, new));
    let sock = if passes || tracked.deferred_from != 0 || attribution::involves_listener(tracked, (old, new)) {
        TcpSock::new(sk)
    } else {
        None
    };
    if let Some(sock) = sock {
        attribution::update_listeners(tracked, sock, sk, (old, new));
    }
    if new == ESTABLISHED && filter::mini_sockets_may_pass() {
        // Generates the cookie even if this event is filtered out: a mini-socket inherits it only if the socket has one
        // before it goes to CLOSE (`net/ipv4/inet_timewait_sock.c`, `inet_twsk_alloc`).
        common.cookie(sk);
    }
    if let Some(sock) = sock
        && tracked.deferred_from != 0
    {
        let change = deferred::take(sock, tracked);
        change.send(sock, sk, tracked, &sock.tuple());
    }
    let entered_ns = tracked::enter_state(tracked, (old, new), now_ns);
    if let Some(sock) = sock
        && passes
    {
        if tracked.netns_or_service_port == 0 {
            tracked.netns_or_service_port = sock.netns();
        }
        let tuple = sock.tuple_in(tracked.netns_or_service_port);
        let addresses_missing = new == SYN_RECV && tuple.remote_port == 0;
        if addresses_missing || matches!(new, SYN_SENT | LISTEN) && filter::needs_local_port(&tuple) {
            debug!(&ctx, "socket {}: {} -> {} waits for its addresses", sock.cookie(sk), old, new);
            tracked.deferred_from = old;
            return 0;
        }
        let at_end = if new == CLOSE { sock.linger2_flag() } else { 0 };
        let exiting = if exit != 0 { socket_flag::EXITING } else { 0 };
        let flags = sock.flags() | at_end | exiting | tracked::flags(tracked);
        let exit_signal = exit as u8;
        let change = Change { old, new, entered_ns, now_ns, flags, err: common.err(), exit_signal };
        change.send(sock, sk, tracked, &tuple);
    }
    tracked::forget_if_owner_left(tracked);
    if new == CLOSE {
        entry.end();
    }
    0
}

/// Whether a transition reveals no owner and frees no slot, because the peer causes it. After SYN_RECV a deferred transition
/// may have to be sent. After SYN_SENT there is one only if it is reported, and then its time is needed.
#[inline(always)]
fn is_irrelevant((old, new): (u8, u8)) -> bool {
    match new {
        CLOSE_WAIT | FIN_WAIT2 | CLOSING => old != SYN_RECV,
        ESTABLISHED => old == SYN_SENT && !filter::mini_sockets_may_pass(),
        _ => false,
    }
}
