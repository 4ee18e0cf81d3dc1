//! RSTs, sent and received.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use core::ffi::c_void;
use tcptrace_common::{
    config::kernel,
    record::{KIND_RESET_RECEIVED, KIND_RESET_SENT, Reset, socket_flag},
    state,
    tracked::Memo,
};

use crate::{
    aggregate,
    config::{config, member},
    emit::{self, count},
    filter,
    kernel::sock::{Kernel, TcpSock, Tuple, jiffies, mini_state},
    probes::transition,
    tracked,
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
    let sock = if sk.is_null() { None } else { TcpSock::new(sk) };
    if let Some(sock) = sock
        && sock.common.state() != state::LISTEN
    {
        send_held_back(sock, sk);
        send(KIND_RESET_SENT, &About::socket(sock, sk), reason);
        return 0;
    }
    let (key, state) = match sock {
        Some(listener) => (listener.key, state::LISTEN),
        None if sk.is_null() => (0, state::CLOSE),
        None => (0, mini_state(sk).unwrap_or(state::TIME_WAIT)),
    };
    match About::packet(skb, (key, state)) {
        Some(about) => send(KIND_RESET_SENT, &about, reason),
        // SAFETY: a place within the counters.
        None => count(|counters| unsafe { &raw mut (*counters).unreadable }),
    }
    0
}

/// An abort goes to CLOSE before it sends its RST.
#[inline(always)]
fn memo_of(sock: TcpSock) -> Option<&'static mut Memo> {
    let key = sock.memo_key();
    if sock.common.state() == state::CLOSE { tracked::ended(key) } else { tracked::known(key) }
}

/// What waited for the socket's addresses goes out ahead.
#[inline(always)]
fn send_held_back(sock: TcpSock, sk: *const c_void) {
    if let Some(memo) = memo_of(sock)
        && memo.deferred_from != 0
    {
        transition::tell_deferred(sock, sk, memo);
    }
}

#[inline(always)]
fn has_reason() -> bool {
    config!(kernel) & kernel::RESET_REASON != 0
}

/// What a RST is about.
struct About {
    /// The connection's own socket.
    sock: Option<TcpSock>,
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
            sock: Some(sock),
            key: sock.key,
            cookie: sock.cookie(sk),
            tuple: sock.tuple(),
            state: sock.common.state(),
            flags: sock.flags(),
        }
    }

    /// A RST in answer to a packet, from a socket that is not the connection's own: its key (0 for none) and state.
    #[inline(always)]
    fn packet(skb: *const c_void, (key, state): (u64, u8)) -> Option<Self> {
        let tuple = if skb.is_null() { None } else { Tuple::of_received_packet(Kernel::new(skb)) };
        tuple.map(|tuple| Self { sock: None, key, cookie: 0, tuple, state, flags: socket_flag::FROM_PACKET })
    }
}

#[inline(always)]
fn send(kind: u8, about: &About, reason: u32) {
    let memo = about.sock.and_then(memo_of);
    if !filter::passes(|| state::bit(about.state), &about.tuple, memo.as_deref()) {
        return;
    }
    if aggregate::is_on() {
        let listening = if about.state == state::LISTEN { Some(&about.tuple) } else { None };
        return aggregate::event(kind, memo.as_deref(), listening);
    }
    emit::send::<Reset>(|record| {
        // SAFETY: `record` is a reserved record, and all of it is written.
        unsafe {
            emit::header::<Reset>(&raw mut (*record).header, kind, emit::now_ns(), about.key, about.cookie);
            about.tuple.write(&raw mut (*record).socket, about.state, about.flags);
            tracked::write_owner(memo.as_deref(), &raw mut (*record).owner);
            (*record).reason = reason;
            (*record).has_reason = u32::from(kind == KIND_RESET_SENT && has_reason());
            write_facts(record, about);
        }
    });
}

/// Writes the rest of the record.
///
/// # Safety
/// `record` is a reserved record.
#[inline(always)]
unsafe fn write_facts(record: *mut Reset, about: &About) {
    // An abort goes to CLOSE first. A socket that was never established has sent nothing.
    let last_sent = |sock: TcpSock| sock.load::<u32, _>(member!(tcp_sock_lsndtime));
    let was_connected = state::bit(about.state) & (state::CONNECTED | state::bit(state::CLOSE)) != 0;
    let sock = about.sock.filter(|sock| was_connected && last_sent(*sock) != 0);
    let (receive_queue, send_queue) = sock.map_or((0, 0), |sock| sock.queues(about.flags));
    let now = jiffies() as u32;
    let since = |offset: u32| {
        let ticks = sock.map_or(0, |sock| now.wrapping_sub(sock.load_at(offset)));
        u64::from(ticks) * 1_000_000_000 / u64::from(config!(hz)).max(1)
    };
    // SAFETY: as the caller says.
    unsafe {
        (*record).receive_queue = receive_queue;
        (*record).send_queue = send_queue;
        (*record).has_facts = sock.is_some().into();
        (*record).probes =
            sock.map_or(0, |sock| sock.load::<u8, _>(member!(inet_connection_sock_icsk_probes_out)).into());
        (*record).last_sent_ns = since(config!(layout.tcp_sock_lsndtime));
        (*record).last_received_ns = since(config!(layout.inet_connection_sock_icsk_ack_lrcvtime));
        (*record).last_ack_ns = since(config!(layout.tcp_sock_rcv_tstamp));
    }
}
