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
    sock::{Kernel, SockCommon, TcpSock, Tuple},
};

/// `tcp_receive_reset`: (sk).
#[btf_tracepoint(function = "tcp_receive_reset")]
pub(crate) fn reset_received(ctx: BtfTracePointContext) -> i32 {
    let sk: *const c_void = ctx.arg(0);
    if let Some(sock) = TcpSock::new(sk) {
        let about = About::socket(sock, sk, sock.tuple());
        send(KIND_RESET_RECEIVED, &about, None);
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
    let reason: Option<u32> = if config!(kernel) & kernel::RESET_REASON != 0 {
        Some(ctx.arg(2))
    } else {
        None
    };
    let sock = if sk.is_null() { None } else { TcpSock::new(sk) };
    if let Some(sock) = sock
        && sock.common.state() != state::LISTEN
    {
        send(KIND_RESET_SENT, &About::socket(sock, sk, sock.tuple()), reason);
        return 0;
    }
    let tuple = if skb.is_null() { None } else { Tuple::of_received_packet(Kernel::new(skb)) };
    let Some(tuple) = tuple else {
        // SAFETY: a place within the counters.
        count(|counters| unsafe { &raw mut (*counters).unreadable });
        return 0;
    };
    let about = match sock {
        Some(listener) => About {
            flags: socket_flag::FROM_PACKET,
            cookie: 0,
            ..About::socket(listener, sk, tuple)
        },
        None if sk.is_null() => About::packet(tuple),
        None => About {
            netns: SockCommon(Kernel::new(sk)).netns(),
            state: state::TIME_WAIT,
            ..About::packet(tuple)
        },
    };
    send(KIND_RESET_SENT, &about, reason);
    0
}

/// What a RST is about.
struct About {
    key: u64,
    cookie: u64,
    tuple: Tuple,
    netns: u32,
    state: u8,
    flags: u16,
}

impl About {
    #[inline(always)]
    fn socket(sock: TcpSock, sk: *const c_void, tuple: Tuple) -> Self {
        Self {
            key: sock.key,
            cookie: sock.cookie(sk),
            tuple,
            netns: sock.common.netns(),
            state: sock.common.state(),
            flags: sock.flags(),
        }
    }

    #[inline(always)]
    fn packet(tuple: Tuple) -> Self {
        Self {
            key: 0,
            cookie: 0,
            tuple,
            netns: 0,
            state: state::CLOSE,
            flags: socket_flag::FROM_PACKET,
        }
    }
}

#[inline(always)]
fn send(kind: u8, about: &About, reason: Option<u32>) {
    let memo = memos::known(about.key);
    if !filter::passes(state::bit(about.state), &about.tuple, memo.as_deref()) {
        return;
    }
    emit::send::<Reset>(|record| {
        // SAFETY: `record` is a reserved record, and all of it is written.
        unsafe {
            emit::header::<Reset>(
                &raw mut (*record).header,
                kind,
                emit::now_ns(),
                about.key,
                about.cookie,
            );
            about.tuple.write(&raw mut (*record).socket, about.netns, about.state, about.flags);
            (*record).owner = memos::owner(memo.as_deref());
            (*record).reason = reason.unwrap_or(0);
            (*record).has_reason = u32::from(reason.is_some());
        }
    });
}
