//! RSTs sent and received.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use core::ffi::c_void;
use tcptrace_common::{
    config::feature,
    record::{KIND_RESET_RECEIVED, KIND_RESET_SENT, Reset, socket_flag},
    state,
    tracked::TrackedSock,
};

use crate::{
    aggregate,
    config::{config, member},
    counters::count,
    deferred, emit, filter,
    kernel::{
        clock::{jiffies, now_ns},
        ptr::KernelPtr,
        sock::{TcpSock, as_mini, mini_state},
        tuple::Tuple,
    },
    tracked,
};

/// `tcp_receive_reset`: (sk).
#[btf_tracepoint(function = "tcp_receive_reset")]
fn reset_received(ctx: BtfTracePointContext) -> i32 {
    let sk: *const c_void = ctx.arg(0);
    if let Some(sock) = TcpSock::new(sk) {
        emit_deferred(sock, sk);
        emit_reset(KIND_RESET_RECEIVED, &ResetInfo::of_socket(sock, sk), 0);
    }
    0
}

/// `tcp_send_reset`: (sk, skb), and since 6.10 the reason.
///
/// `sk` may be null, a listener or a mini-socket. Then only the packet that the RST answers (`skb`) has the addresses.
#[btf_tracepoint(function = "tcp_send_reset")]
fn reset_sent(ctx: BtfTracePointContext) -> i32 {
    let sk: *const c_void = ctx.arg(0);
    let skb: *const c_void = ctx.arg(1);
    let reason: u32 = if has_reason() { ctx.arg(2) } else { 0 };
    let sock = if sk.is_null() { None } else { TcpSock::new(sk) };
    if let Some(sock) = sock
        && sock.common.state() != state::LISTEN
    {
        emit_deferred(sock, sk);
        emit_reset(KIND_RESET_SENT, &ResetInfo::of_socket(sock, sk), reason);
        return 0;
    }
    let (address, state) = match sock {
        Some(listener) => (listener.address, state::LISTEN),
        None if sk.is_null() => (0, state::CLOSE),
        None => (0, as_mini(sk).map_or(state::TIME_WAIT, mini_state)),
    };
    match ResetInfo::of_packet(skb, (address, state)) {
        Some(info) => emit_reset(KIND_RESET_SENT, &info, reason),
        None => count!(unreadable),
    }
    0
}

/// The tracked socket. An abort goes to CLOSE before it sends its RST.
#[inline(always)]
fn tracked_of(sock: TcpSock) -> Option<&'static mut TrackedSock> {
    let key = sock.key();
    if sock.common.state() == state::CLOSE { tracked::get_ended(key) } else { tracked::get(key) }
}

#[inline(always)]
fn emit_deferred(sock: TcpSock, sk: *const c_void) {
    if let Some(tracked) = tracked_of(sock)
        && tracked.deferred_from != 0
    {
        deferred::emit(sock, sk, tracked);
    }
}

#[inline(always)]
fn has_reason() -> bool {
    config!(features) & feature::RESET_REASON != 0
}

/// The socket and addresses of a RST.
struct ResetInfo {
    /// The connection's own socket, if there is one.
    sock: Option<TcpSock>,
    /// Address of the `struct sock` that sent the RST, or 0.
    address: u64,
    cookie: u64,
    tuple: Tuple,
    state: u8,
    flags: u16,
}

impl ResetInfo {
    #[inline(always)]
    fn of_socket(sock: TcpSock, sk: *const c_void) -> Self {
        Self {
            sock: Some(sock),
            address: sock.address,
            cookie: sock.cookie(sk),
            tuple: sock.tuple(),
            state: sock.common.state(),
            flags: sock.flags(),
        }
    }

    /// For a RST that answers a packet and comes from another socket than the connection's own, given by its address and
    /// state, or from none.
    #[inline(always)]
    fn of_packet(skb: *const c_void, (address, state): (u64, u8)) -> Option<Self> {
        let tuple = if skb.is_null() { None } else { Tuple::of_received_packet(KernelPtr::new(skb)) };
        tuple.map(|tuple| Self { sock: None, address, cookie: 0, tuple, state, flags: socket_flag::FROM_PACKET })
    }
}

/// Sends or counts a RST if it passes the filter.
#[inline(always)]
fn emit_reset(kind: u8, info: &ResetInfo, reason: u32) {
    let tracked = info.sock.and_then(tracked_of);
    if !filter::passes(|| state::bit(info.state), &info.tuple, tracked.as_deref()) {
        return;
    }
    if aggregate::is_on() {
        let listening = if info.state == state::LISTEN { Some(&info.tuple) } else { None };
        return aggregate::count_event(kind, tracked.as_deref(), listening);
    }
    emit::send::<Reset>(|record| {
        // SAFETY: `record` is a reserved record, and all of it is written.
        unsafe {
            emit::write_header::<Reset>(&raw mut (*record).header, kind, now_ns(), info.address, info.cookie);
            info.tuple.write(&raw mut (*record).socket, info.state, info.flags);
            tracked::write_owner(tracked.as_deref(), &raw mut (*record).owner);
            (*record).reason = reason;
            (*record).has_reason = u32::from(kind == KIND_RESET_SENT && has_reason());
            write_facts(record, info);
        }
    });
}

/// Writes the fields that describe the connection.
///
/// # Safety
/// `record` is a reserved record.
#[inline(always)]
unsafe fn write_facts(record: *mut Reset, info: &ResetInfo) {
    // An abort is in CLOSE already. A socket that was never established has not sent data.
    let last_sent = |sock: TcpSock| sock.load::<u32, _>(member!(tcp_sock_lsndtime));
    let was_connected = state::bit(info.state) & (state::CONNECTED | state::bit(state::CLOSE)) != 0;
    let sock = info.sock.filter(|sock| was_connected && last_sent(*sock) != 0);
    let (receive_queue, send_queue) = sock.map_or((0, 0), |sock| sock.queues(info.flags));
    let now = jiffies() as u32;
    let ns_since = |offset: u32| {
        let ticks = sock.map_or(0, |sock| now.wrapping_sub(sock.load_at(offset)));
        u64::from(ticks) * 1_000_000_000 / u64::from(config!(hz)).max(1)
    };
    // SAFETY: as the caller guarantees.
    unsafe {
        (*record).receive_queue = receive_queue;
        (*record).send_queue = send_queue;
        (*record).has_facts = sock.is_some().into();
        (*record).probes =
            sock.map_or(0, |sock| sock.load::<u8, _>(member!(inet_connection_sock_icsk_probes_out)).into());
        (*record).last_sent_ns = ns_since(config!(layout.tcp_sock_lsndtime));
        (*record).last_received_ns = ns_since(config!(layout.inet_connection_sock_icsk_ack_lrcvtime));
        (*record).last_ack_ns = ns_since(config!(layout.tcp_sock_rcv_tstamp));
    }
}
