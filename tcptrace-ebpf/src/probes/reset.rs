//! RSTs, sent and received.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use core::ffi::c_void;
use tcptrace_common::{
    config::kernel,
    record::{KIND_RESET_RECEIVED, KIND_RESET_SENT, Reset, socket_flag},
    state,
};

use crate::{
    config::config,
    emit::{self, count},
    filter, memos,
    probes::transition,
    sock::{Kernel, TcpSock, Tuple, mini_state},
};

/// `tcp_receive_reset`: (sk).
#[btf_tracepoint(function = "tcp_receive_reset")]
pub(crate) fn reset_received(ctx: BtfTracePointContext) -> i32 {
    let sk: *const c_void = ctx.arg(0);
    if let Some(sock) = TcpSock::new(sk) {
        send_held_back(sock, sk);
        send(KIND_RESET_RECEIVED, &About::socket(sock, sk), 0);
    }
    0
}

/// `tcp_send_reset`: (sk, skb) and, where the kernel passes it, the reason.
///
/// `sk` may be missing, a listener or a mini-socket: then only the packet that is answered (`skb`) tells the connection.
#[btf_tracepoint(function = "tcp_send_reset")]
pub(crate) fn reset_sent(ctx: BtfTracePointContext) -> i32 {
    let sk: *const c_void = ctx.arg(0);
    let skb: *const c_void = ctx.arg(1);
    let reason: u32 = if has_reason() { ctx.arg(2) } else { 0 };
    if sk.is_null() {
        return answer(skb, (0, state::CLOSE), reason);
    }
    let Some(sock) = TcpSock::new(sk) else {
        return answer(skb, (0, mini_state(sk).unwrap_or(state::TIME_WAIT)), reason);
    };
    if sock.common.state() == state::LISTEN {
        return answer(skb, (sock.key, state::LISTEN), reason);
    }
    send_held_back(sock, sk);
    send(KIND_RESET_SENT, &About::socket(sock, sk), reason);
    0
}

/// What waited for the socket's addresses goes out ahead.
#[inline(always)]
fn send_held_back(sock: TcpSock, sk: *const c_void) {
    if let Some(memo) = memos::known(sock.key)
        && memo.deferred_from != 0
    {
        transition::send_deferred(sock, sk, memo);
    }
}

#[inline(always)]
fn has_reason() -> bool {
    config!(kernel) & kernel::RESET_REASON != 0
}

/// A RST in answer to a packet, from a socket that is not the connection's own: its key (0 for none) and state.
#[inline(always)]
fn answer(skb: *const c_void, (key, state): (u64, u8), reason: u32) -> i32 {
    if !skb.is_null()
        && let Some(tuple) = Tuple::of_received_packet(Kernel::new(skb))
    {
        let about = About { key, cookie: 0, tuple, state, flags: socket_flag::FROM_PACKET };
        send(KIND_RESET_SENT, &about, reason);
    } else {
        // SAFETY: a place within the counters.
        count(|counters| unsafe { &raw mut (*counters).unreadable });
    }
    0
}

/// What a RST is about.
struct About {
    key: u64,
    cookie: u64,
    tuple: Tuple,
    state: u8,
    flags: u16,
}

impl About {
    #[inline(always)]
    fn socket(sock: TcpSock, sk: *const c_void) -> Self {
        Self {
            key: sock.key,
            cookie: sock.cookie(sk),
            tuple: sock.tuple(),
            state: sock.common.state(),
            flags: sock.flags(),
        }
    }
}

#[inline(always)]
fn send(kind: u8, about: &About, reason: u32) {
    let memo = memos::known(about.key);
    if !filter::passes(state::bit(about.state), &about.tuple, memo.as_deref()) {
        return;
    }
    emit::send::<Reset>(|record| {
        // SAFETY: `record` is a reserved record, and all of it is written.
        unsafe {
            emit::header::<Reset>(&raw mut (*record).header, kind, emit::now_ns(), about.key, about.cookie);
            about.tuple.write(&raw mut (*record).socket, about.state, about.flags);
            memos::write_owner(memo.as_deref(), &raw mut (*record).owner);
            (*record).reason = reason;
            (*record).has_reason = u32::from(kind == KIND_RESET_SENT && has_reason());
        }
    });
}
