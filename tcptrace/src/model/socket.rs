//! A socket as a listing reports it, and conclusions from its numbers.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::model::{event::Owner, state::State};

/// One socket as a listing reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedSocket {
    /// Address of its `struct sock`; `None` if it came from sock_diag.
    pub sk: Option<u64>,
    /// Its cookie. A timewait socket has the cookie of the full socket that it replaced, and a child socket that of
    /// its request.
    pub cookie: Option<u64>,
    /// Key of its holders in `Holders`: with iterators `sk` (for an MPTCP subflow the inode number of the MPTCP
    /// socket), with sock_diag the inode number of its file; 0 if no file can refer to it.
    pub handle: u64,
    /// Index of the network device that it is bound to; 0 for none, and if it came from an iterator.
    pub interface: u32,
    /// Inode number of its network namespace.
    pub netns: u32,
    /// True for an IPv6 socket, which may still carry IPv4.
    pub ipv6: bool,
    /// Its state: TIME_WAIT or FIN_WAIT2 for a timewait socket, SYN_RECV for a request.
    pub state: State,
    /// Type of its kernel object.
    pub kind: Kind,
    /// Local address; IPv4-mapped IPv6 becomes IPv4.
    pub local: SocketAddr,
    /// Remote address; for a listener unspecified with port 0.
    pub remote: SocketAddr,
    /// Bytes waiting to be read; for a listener, connections waiting to be accepted.
    pub receive_queue: u32,
    /// Bytes that the peer has not acknowledged; for a listener, the limit of the accept queue.
    pub send_queue: u32,
    /// The running timer, if any.
    pub timer: Option<Timer>,
    /// Consecutive timeouts without a reply; for a request, retransmissions of its SYN-ACK.
    pub timeouts: u8,
    /// Consecutive probes (keepalive or zero window) without a reply.
    pub probes: u8,
    /// Timeout of the next retransmission in ns, backoff included. Only for full sockets that are not listeners.
    pub rto_ns: Option<u64>,
    /// How often that timeout was doubled for lack of a reply.
    pub backoff: Option<u8>,
    /// Whether an idle peer is probed.
    pub keepalive: Keepalive,
    /// TCP_USER_TIMEOUT in ms, 0 for none; `None` if unknown, as with sock_diag.
    pub user_timeout_ms: Option<u32>,
    /// UID of the socket's file; `None` if it has no file.
    pub uid: Option<u32>,
    /// CLOCK_MONOTONIC in ns at which it entered its state, if the BPF programs observed that.
    pub entered_ns: Option<u64>,
    /// The owner as the BPF programs know it.
    pub owner: Option<Owner>,
    /// Details of an established connection; full sockets only.
    pub connection: Option<ConnectionInfo>,
    /// True if no listing has shown it: a replay knows it from events alone, so that its queues, timers and holders are
    /// unknown.
    #[serde(skip)]
    pub is_unlisted: bool,
}

/// Keepalive settings of a socket (SO_KEEPALIVE).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Keepalive {
    /// Unknown: sock_diag reports only the running timer, which may be another one.
    #[default]
    Unknown,
    /// SO_KEEPALIVE is off: an idle peer is never probed.
    Off,
    /// SO_KEEPALIVE is on. A field is `None` if the socket uses the default of its namespace, see `NetSettings`.
    /// sock_diag does not report the values, so all are `None` there too.
    On {
        /// Idle time in ns before the first probe (TCP_KEEPIDLE).
        time_ns: Option<u64>,
        /// Time in ns between probes (TCP_KEEPINTVL).
        interval_ns: Option<u64>,
        /// Unanswered probes before the connection is ended (TCP_KEEPCNT).
        probes: Option<u8>,
    },
}

impl Keepalive {
    /// Whether keepalive is on; `None` if unknown.
    #[must_use]
    pub const fn is_on(&self) -> Option<bool> {
        match self {
            Self::Unknown => None,
            Self::Off => Some(false),
            Self::On { .. } => Some(true),
        }
    }
}

/// Types of kernel objects that represent a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// `struct tcp_sock`: a listener or a connection.
    Full,
    /// `struct tcp_timewait_sock`: TIME_WAIT, or an orphan in FIN_WAIT2.
    TimeWait,
    /// `struct tcp_request_sock`: the handshake has not completed.
    Request,
}

/// A running timer of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// Purpose of the timer.
    pub kind: TimerKind,
    /// Time left in ns; 0 if due.
    pub left_ns: u64,
}

/// Purpose of a timer, as sock_diag reports it (`net/ipv4/inet_diag.c`, `inet_sk_diag_fill`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TimerKind {
    /// Retransmission, including that of a SYN-ACK; also tail loss probe and reordering.
    Retransmit,
    /// Keepalive; for orphans in FIN_WAIT2 the rest of tcp_fin_timeout.
    Keepalive,
    /// Removal of a timewait socket.
    TimeWait,
    /// Zero window probe, sent while the peer's window is closed.
    Probe,
}

impl TimerKind {
    /// Name in all outputs, for example `retransmit`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Retransmit => "retransmit",
            Self::Keepalive => "keepalive",
            Self::TimeWait => "time_wait",
            Self::Probe => "probe",
        }
    }
}

/// Details of a connection, from `struct tcp_sock` (as in `struct tcp_info`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionInfo {
    /// Time since data was last sent, in ns.
    pub last_sent_ns: u64,
    /// Time since data was last received, in ns.
    pub last_received_ns: u64,
    /// Time since an ACK was last received, in ns.
    pub last_ack_ns: u64,
    /// Smoothed round-trip time in µs; `None` if the kernel has none.
    pub srtt_us: Option<u32>,
    /// Segments retransmitted since the connection began.
    pub total_retrans: u32,
    /// Bytes that the peer acknowledged; the SYN and the FIN count as one each.
    pub bytes_acked: u64,
    /// Bytes received; the FIN counts as one.
    pub bytes_received: u64,
    /// Whether a connection that came through a listener was accepted; `None` if unknown, as for MPTCP subflows.
    pub is_accepted: Option<bool>,
    /// The window that the peer last advertised, in bytes.
    pub send_window: Option<u32>,
    /// Bytes written but never sent; this side's FIN counts as one.
    pub unsent: Option<u32>,
    /// The window that this side last advertised, in bytes.
    pub receive_window: Option<u32>,
}

impl ConnectionInfo {
    /// Time since data was sent or received, in ns. ACKs do not count, since a peer also answers keepalive probes with
    /// them.
    #[must_use]
    pub fn without_data_ns(&self) -> u64 {
        self.last_sent_ns.min(self.last_received_ns)
    }

    /// Time since data was sent, or since data or an ACK was received, in ns.
    #[must_use]
    pub fn quiet_ns(&self) -> u64 {
        self.last_sent_ns.min(self.last_received_ns).min(self.last_ack_ns)
    }

    /// True if the kernel keeps these details for such a socket. Before a connection is established it has no segment
    /// times, and reports the host's uptime instead (`net/ipv4/tcp.c`, `tcp_get_info`).
    #[must_use]
    pub const fn is_available(kind: Kind, state: State) -> bool {
        matches!(kind, Kind::Full) && !matches!(state, State::Listen | State::SynSent | State::SynRecv)
    }
}

/// What a connection waits for that only a process can resolve, on this side or on the peer's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StuckReasons {
    /// No process has accepted it yet.
    pub not_accepted: bool,
    /// As `not_accepted`, but uncertain: an MPTCP subflow without a file.
    pub may_be_not_accepted: bool,
    /// It has data to send, but the peer's window is closed.
    pub window_closed: bool,
    /// Bytes that have been unread for at least [`UNREAD_NS`].
    pub unread: u32,
}

/// Data received less than this ago may still be read promptly, in ns.
pub const UNREAD_NS: u64 = 1_000_000_000;

impl StuckReasons {
    /// True if it waits for anything.
    #[must_use]
    pub const fn any(&self) -> bool {
        self.not_accepted || self.may_be_not_accepted || self.window_closed || self.unread > 0
    }
}

impl ListedSocket {
    /// A socket with only these fields known: no holders, timers or data.
    #[must_use]
    pub const fn new(kind: Kind, state: State, netns: u32, local: SocketAddr, remote: SocketAddr) -> Self {
        Self {
            sk: None,
            cookie: None,
            handle: 0,
            interface: 0,
            netns,
            ipv6: false,
            state,
            kind,
            local,
            remote,
            receive_queue: 0,
            send_queue: 0,
            timer: None,
            timeouts: 0,
            probes: 0,
            rto_ns: None,
            backoff: None,
            keepalive: Keepalive::Unknown,
            user_timeout_ms: None,
            uid: None,
            entered_ns: None,
            owner: None,
            connection: None,
            is_unlisted: false,
        }
    }

    /// True for a listener with a full accept queue, by the kernel's rule: `sk_acceptq_is_full` (`include/net/sock.h`).
    #[must_use]
    pub fn is_full_listener(&self) -> bool {
        self.state == State::Listen && self.receive_queue > self.send_queue
    }

    /// The running timer's name in all outputs. A mini-socket in FIN_WAIT2 has the timer of TIME_WAIT, but waits for the rest
    /// of tcp_fin_timeout (`net/ipv4/tcp_minisocks.c`, `tcp_time_wait`).
    #[must_use]
    pub fn timer_name(&self) -> Option<&'static str> {
        let timer = self.timer?;
        let is_fin_timeout = (self.kind, self.state) == (Kind::TimeWait, State::FinWait2);
        Some(if is_fin_timeout && timer.kind == TimerKind::TimeWait { "fin_timeout" } else { timer.kind.name() })
    }

    /// What it waits for. The iterator program makes the same decision (`is_stuck`).
    #[must_use]
    pub fn stuck_reasons(&self) -> StuckReasons {
        let Some(info) = self.connection.filter(|_| self.kind == Kind::Full) else { return StuckReasons::default() };
        let is_open = matches!(self.state, State::Established | State::CloseWait);
        let probes = self.timer.is_some_and(|timer| timer.kind == TimerKind::Probe);
        // The peer's FIN counts as one byte until it is read.
        let fin = u32::from(!matches!(self.state, State::Established | State::FinWait1 | State::FinWait2));
        let is_old = info.last_received_ns >= UNREAD_NS;
        StuckReasons {
            not_accepted: is_open && info.is_accepted == Some(false),
            may_be_not_accepted: is_open && info.is_accepted.is_none() && self.handle == 0,
            window_closed: probes || info.send_window == Some(0) && self.send_queue > 0,
            unread: if is_old { self.receive_queue.saturating_sub(fin) } else { 0 },
        }
    }
}

/// Distinguishes loopback addresses of different network namespaces, each of which has a loopback device of its own;
/// `None` for any other address.
#[must_use]
pub fn loopback_netns(netns: Option<u32>, address: SocketAddr) -> Option<u32> {
    netns.filter(|_| address.ip().is_loopback())
}

/// Addresses at which the listener for connections to `local` may listen, most specific first: the kernel prefers an
/// exact match to a wildcard (`net/ipv4/inet_hashtables.c`, `__inet_lookup_listener`).
pub fn listener_addresses(local: SocketAddr) -> impl Iterator<Item = SocketAddr> {
    let any_v4 = local.is_ipv4().then_some(Ipv4Addr::UNSPECIFIED.into());
    let addresses = [Some(local.ip()), any_v4, Some(Ipv6Addr::UNSPECIFIED.into())];
    addresses.into_iter().flatten().map(move |address| SocketAddr::new(address, local.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listener_with_the_very_address_comes_first() {
        let places = |local: &str| {
            listener_addresses(local.parse().unwrap()).map(|place| place.to_string()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(places("10.0.0.1:80"), "10.0.0.1:80 0.0.0.0:80 [::]:80");
        assert_eq!(places("[2001:db8::1]:80"), "[2001:db8::1]:80 [::]:80");
    }
}
