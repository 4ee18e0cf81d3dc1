//! An iterator over the TCP sockets of a network namespace. It runs when user space reads its file, and writes a
//! [`SocketEntry`] for each socket.

use core::ffi::c_void;
use tcptrace_common::{
    config::feature,
    listing::{KIND_FULL, KIND_MINI, KIND_REQUEST, SocketEntry, timer},
    record::socket_flag,
    state::{self, CLOSE_WAIT, CLOSING, ESTABLISHED, FIN_WAIT1, FIN_WAIT2, LAST_ACK, LISTEN},
};

use crate::{
    config::{config, member},
    kernel::{
        clock::jiffies,
        iter::{IterMeta, write_entry},
        ptr::KernelPtr,
        sock::{SockCommon, TcpSock, as_mini, as_request, mini_state},
    },
    maps::{REQUEST, SOCKET_ENTRY},
    mem, tracked,
};

/// `struct bpf_iter__tcp` (`net/ipv4/tcp_ipv4.c`).
#[repr(C)]
struct TcpContext {
    meta: *const IterMeta,
    sk: *const c_void,
    uid: u32,
}

/// Each TCP socket of the network namespace of the process that opened the iterator.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
extern "C" fn list_sockets(ctx: *mut TcpContext) -> i32 {
    // SAFETY: the context of this kind of iterator. Each member is read once: the verifier would not know that a second
    // value is not null.
    let (meta, sk, uid) = unsafe {
        (
            (&raw const (*ctx).meta).read_volatile(),
            (&raw const (*ctx).sk).read_volatile(),
            (&raw const (*ctx).uid).read_volatile(),
        )
    };
    if sk.is_null() {
        return 0; // the end
    }
    let Some(request) = REQUEST.get(0) else {
        return 0;
    };
    let state = SockCommon(KernelPtr::new(sk)).state();
    let counts_as = if state == state::NEW_SYN_RECV { state::SYN_RECV } else { state };
    // A mini-socket in FIN_WAIT2 is in TIME_WAIT here.
    let is_requested = request.states == 0 || request.states & state::bit(counts_as) != 0;
    if !is_requested && (request.stuck == 0 || !is_stuck(sk, state)) {
        return 0;
    }
    let Some(entry) = SOCKET_ENTRY.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: the value of this CPU. No other program writes it, since only one thread reads this iterator.
    unsafe {
        mem::zero(entry);
        fill(entry, sk, uid);
        write_entry(meta, entry);
    }
    0
}

/// Whether a connection waits for a process, see [`tcptrace_common::listing::ListingRequest::stuck`].
#[inline(always)]
fn is_stuck(sk: *const c_void, state: u8) -> bool {
    if !matches!(state, ESTABLISHED | CLOSE_WAIT | FIN_WAIT1 | FIN_WAIT2 | CLOSING | LAST_ACK) {
        return false;
    }
    let Some(sock) = TcpSock::from_common(sk) else {
        return false; // a mini-socket
    };
    if matches!(state, ESTABLISHED | CLOSE_WAIT) && !sock.is_attached() {
        return true;
    }
    let (unread, unacked) = sock.queues(sock.flags());
    let is_blocked = unacked != 0 && sock.load::<u32, _>(member!(tcp_sock_snd_wnd)) == 0;
    if is_blocked || sock.load::<u8, _>(member!(inet_connection_sock_icsk_pending)) == ICSK_TIME_PROBE0 {
        return true;
    }
    let received = sock.load_at(config!(layout.inet_connection_sock_icsk_ack_lrcvtime));
    unread != 0 && (jiffies() as u32).wrapping_sub(received) >= config!(hz)
}

#[inline(always)]
unsafe fn fill(entry: *mut SocketEntry, sk: *const c_void, uid: u32) {
    let common = SockCommon(KernelPtr::new(sk));
    // SAFETY: `entry` is a map value.
    unsafe {
        (*entry).sk = sk as u64;
        (*entry).cookie = common.cookie(sk);
        (*entry).uid = uid;
        if let Some(sock) = TcpSock::from_common(sk) {
            (*entry).kind = KIND_FULL;
            sock.tuple().write(&raw mut (*entry).socket, common.state(), sock.flags());
            fill_full(entry, sock);
        } else if let Some(mini) = as_mini(sk) {
            (*entry).kind = KIND_MINI;
            (*entry).timer = timer::TIME_WAIT;
            (*entry).timer_ticks = ticks_until(mini.load(member!(inet_timewait_sock_tw_timer_expires)));
            let substate = mini_state(mini);
            SockCommon(mini).tuple().write(&raw mut (*entry).socket, substate, 0);
        } else if let Some(request) = as_request(sk) {
            (*entry).kind = KIND_REQUEST;
            (*entry).timer = timer::RETRANSMIT;
            (*entry).timer_ticks = ticks_until(request.load(member!(request_sock_rsk_timer_expires)));
            (*entry).timeouts = request.load(member!(request_sock_num_retrans));
            SockCommon(request).tuple().write(&raw mut (*entry).socket, common.state(), 0);
        }
    }
}

/// Fills in the members that only full sockets have.
#[inline(always)]
unsafe fn fill_full(entry: *mut SocketEntry, sock: TcpSock) {
    let now = jiffies() as u32;
    let ticks_since = |offset: u32| now.wrapping_sub(sock.load_at(offset));
    // SAFETY: `entry` is a map value.
    unsafe {
        if config!(features) & feature::TRACKING != 0
            && let Some(tracked) = tracked::get(sock.key())
        {
            mem::copy(&raw mut (*entry).owner, &raw const tracked.owner);
            if tracked.state == sock.common.state() {
                (*entry).entered_ns = tracked.entered_ns;
            }
        }
        (*entry).mptcp_inode = sock.mptcp_inode();
        if sock.common.state() == LISTEN {
            (*entry).receive_queue = sock.load(member!(sock_sk_ack_backlog));
            (*entry).send_queue = sock.load(member!(sock_sk_max_ack_backlog));
            return;
        }
        (*entry).receive_queue = sock.seq_difference(member!(tcp_sock_rcv_nxt), member!(tcp_sock_copied_seq));
        (*entry).send_queue = sock.seq_difference(member!(tcp_sock_write_seq), member!(tcp_sock_snd_una));
        (*entry).bytes_acked = sock.bytes_acked();
        (*entry).bytes_received = sock.bytes_received();
        (*entry).last_sent_ticks = ticks_since(config!(layout.tcp_sock_lsndtime));
        (*entry).last_received_ticks = ticks_since(config!(layout.inet_connection_sock_icsk_ack_lrcvtime));
        (*entry).last_ack_ticks = ticks_since(config!(layout.tcp_sock_rcv_tstamp));
        (*entry).srtt_us8 = sock.srtt_us8();
        (*entry).total_retrans = sock.total_retrans();
        (*entry).timeouts = sock.timeouts();
        (*entry).probes = sock.load(member!(inet_connection_sock_icsk_probes_out));
        (*entry).rto_ticks = sock.load(member!(inet_connection_sock_icsk_rto));
        (*entry).backoff = sock.load(member!(inet_connection_sock_icsk_backoff));
        (*entry).user_timeout_ms = sock.load(member!(inet_connection_sock_icsk_user_timeout));
        (*entry).ulp = u8::from(sock.load::<u64, _>(member!(inet_connection_sock_icsk_ulp_ops)) != 0);
        (*entry).send_window = sock.load(member!(tcp_sock_snd_wnd));
        (*entry).unsent = sock.seq_difference(member!(tcp_sock_write_seq), member!(tcp_sock_snd_nxt));
        (*entry).receive_window = sock.load(member!(tcp_sock_rcv_wnd));
        if (*entry).socket.flags & socket_flag::KEEPALIVE != 0 {
            (*entry).keepalive_ticks = sock.load(member!(tcp_sock_keepalive_time));
            (*entry).keepalive_interval_ticks = sock.load(member!(tcp_sock_keepalive_intvl));
            (*entry).keepalive_probes = sock.load(member!(tcp_sock_keepalive_probes));
        }
        let (kind, expires) = running_timer(sock);
        if kind != timer::NONE {
            (*entry).timer = kind;
            (*entry).timer_ticks = ticks_until(expires);
        }
    }
}

/// Values of `icsk_pending` (`include/net/inet_connection_sock.h`).
const ICSK_TIME_RETRANS: u8 = 1;
const ICSK_TIME_PROBE0: u8 = 3;
const ICSK_TIME_LOSS_PROBE: u8 = 5;
const ICSK_TIME_REO_TIMEOUT: u8 = 6;

/// The timer that sock_diag would report (`net/ipv4/inet_diag.c`, `inet_sk_diag_fill`), and when it expires, in jiffies.
#[inline(always)]
fn running_timer(sock: TcpSock) -> (u8, u64) {
    match sock.load::<u8, _>(member!(inet_connection_sock_icsk_pending)) {
        ICSK_TIME_RETRANS | ICSK_TIME_LOSS_PROBE | ICSK_TIME_REO_TIMEOUT => {
            (timer::RETRANSMIT, sock.load(member!(inet_connection_sock_icsk_timeout)))
        }
        ICSK_TIME_PROBE0 => (timer::PROBE, sock.load(member!(inet_connection_sock_icsk_timeout))),
        _ if sock.load::<u64, _>(member!(sock_keepalive_pprev)) != 0 => {
            (timer::KEEPALIVE, sock.load(member!(sock_keepalive_expires)))
        }
        _ => (timer::NONE, 0),
    }
}

#[inline(always)]
fn ticks_until(expires: u64) -> i32 {
    (expires as u32).wrapping_sub(jiffies() as u32) as i32
}
