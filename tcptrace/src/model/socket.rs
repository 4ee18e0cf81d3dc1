//! A socket as a listing shows it, and what follows from its numbers.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::model::{event::Owner, state::State};

/// One socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedSocket {
    /// Address of its `struct sock`; `None` where sock_diag told of it.
    pub sk: Option<u64>,
    /// Its cookie; the same for a full socket and the mini-socket that replaces it, and for a request and its child.
    pub cookie: Option<u64>,
    /// Key of its holders in [`Holders`]: `sk` with the iterators (of a subflow of MPTCP the inode number of the MPTCP
    /// socket), the inode number of its file with sock_diag; 0 where no file can refer to it.
    pub handle: u64,
    /// Inode number of its network namespace.
    pub netns: u32,
    /// Is it an IPv6 socket? It may still talk IPv4.
    pub ipv6: bool,
    /// Its state; a mini-socket's is TIME_WAIT or FIN_WAIT2, a request's SYN_RECV.
    pub state: State,
    /// What kind of kernel object it is.
    pub kind: Kind,
    /// Local end; IPv4 in IPv6 is shown as IPv4.
    pub local: SocketAddr,
    /// Remote end; unspecified with port 0 for a listener.
    pub remote: SocketAddr,
    /// Bytes that wait to be read; for a listener, connections that wait to be accepted.
    pub receive_queue: u32,
    /// Bytes that the peer has not acknowledged; for a listener, the limit of the queue of connections to be accepted.
    pub send_queue: u32,
    /// The timer that runs.
    pub timer: Option<Timer>,
    /// Timeouts in a row without an answer; for a request, how often its SYN-ACK was sent again.
    pub timeouts: u8,
    /// Probes in a row without an answer (keepalive or zero window).
    pub probes: u8,
    /// Timeout of the next retransmission in ns, doublings included. Only full sockets that do not listen have it.
    pub rto_ns: Option<u64>,
    /// How often that timeout was doubled, for want of an answer.
    pub backoff: Option<u8>,
    /// Is an idle peer asked whether it is still there?
    pub keepalive: Keepalive,
    /// TCP_USER_TIMEOUT in ms, 0 for none; `None` where it is not known, as by sock_diag.
    pub user_timeout_ms: Option<u32>,
    /// UID of the socket's file; `None` where it has none.
    pub uid: Option<u32>,
    /// CLOCK_MONOTONIC at which it entered its state, where the programs saw that.
    pub entered_ns: Option<u64>,
    /// The owner that the programs learnt.
    pub owner: Option<Owner>,
    /// What a full socket knows of its connection, once that is established.
    pub connection: Option<ConnectionInfo>,
}

/// Keepalive of a socket (SO_KEEPALIVE).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keepalive {
    /// Not known.
    #[default]
    Unknown,
    /// Off.
    Off,
    /// On. What the socket has not set for itself is set in its namespace, see [`NetSettings`]. By sock_diag it is not known
    /// what is set: then all are `None`, too.
    On {
        /// Time without a segment from the peer before it is asked (TCP_KEEPIDLE), in ns.
        time_ns: Option<u64>,
        /// Time from one probe to the next (TCP_KEEPINTVL), in ns.
        interval_ns: Option<u64>,
        /// Probes without an answer before the connection is ended (TCP_KEEPCNT).
        probes: Option<u8>,
    },
}

impl Keepalive {
    /// Is it on? `None` where that is not known.
    #[must_use]
    pub const fn is_on(&self) -> Option<bool> {
        match self {
            Self::Unknown => None,
            Self::Off => Some(false),
            Self::On { .. } => Some(true),
        }
    }
}

/// Kinds of sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `struct tcp_sock`.
    Full,
    /// `struct tcp_timewait_sock`: TIME_WAIT, or FIN_WAIT2 of an orphan.
    Mini,
    /// `struct tcp_request_sock`: the handshake is not over.
    Request,
}

/// A timer of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// What it is for.
    pub kind: TimerKind,
    /// Time left in ns; 0 where it is due.
    pub left_ns: u64,
}

/// What a timer is for, as sock_diag tells it (`net/ipv4/inet_diag.c`, `inet_sk_diag_fill`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimerKind {
    /// Retransmission, of a SYN-ACK too; also tail loss probe and reordering.
    Retransmit,
    /// Keepalive; on orphans in FIN_WAIT2 the rest of tcp_fin_timeout.
    Keepalive,
    /// The mini-socket's end.
    TimeWait,
    /// Zero window probe.
    Probe,
}

impl TimerKind {
    /// Name in all outputs.
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

/// Facts on a connection, from `struct tcp_sock` (`struct tcp_info`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// Time since data was sent last, in ns.
    pub last_sent_ns: u64,
    /// Time since data was received last, in ns.
    pub last_received_ns: u64,
    /// Time since an ACK was received last, in ns.
    pub last_ack_ns: u64,
    /// Smoothed round-trip time in µs, `None` where the kernel has none.
    pub srtt_us: Option<u32>,
    /// Segments retransmitted in the connection's life.
    pub total_retrans: u32,
    /// Bytes that the peer acknowledged, the SYN and the FIN counted as one each.
    pub bytes_acked: u64,
    /// Bytes received, the FIN counted as one.
    pub bytes_received: u64,
    /// Was it accepted, where it came through a listener? `None` where that cannot be told, as for MPTCP's subflows.
    pub is_accepted: Option<bool>,
    /// The window that the peer advertised last, in bytes.
    pub send_window: Option<u32>,
    /// Bytes written and never sent, its own FIN counted as one.
    pub unsent: Option<u32>,
    /// The window that this side advertised last, in bytes.
    pub receive_window: Option<u32>,
}

impl ConnectionInfo {
    /// Time since data was sent or received, in ns: without ACKs, with which a peer answers keepalives too.
    #[must_use]
    pub fn without_data_ns(&self) -> u64 {
        self.last_sent_ns.min(self.last_received_ns)
    }

    /// Time since data was sent, or data or an ACK received, in ns.
    #[must_use]
    pub fn quiet_ns(&self) -> u64 {
        self.last_sent_ns.min(self.last_received_ns).min(self.last_ack_ns)
    }

    /// Does the kernel keep these facts for such a socket? Before a connection is established it has no times of
    /// segments, and shows its uptime for them (`net/ipv4/tcp.c`, `tcp_get_info`).
    #[must_use]
    pub const fn is_kept(kind: Kind, state: State) -> bool {
        matches!(kind, Kind::Full) && !matches!(state, State::Listen | State::SynSent | State::SynRecv)
    }
}

/// For what a connection waits that only a process can end: this side's or the peer's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ailments {
    /// Nobody accepted it yet.
    pub not_accepted: bool,
    /// The same may be so: it is a subflow of MPTCP without a file.
    pub may_be_not_accepted: bool,
    /// It has data to send, and the peer's window is closed.
    pub window_closed: bool,
    /// So many bytes lie unread for [`UNREAD_NS`] at least.
    pub unread: u32,
}

/// Data that came within this time may still be read at once, in ns.
pub const UNREAD_NS: u64 = 1_000_000_000;

impl Ailments {
    /// Is there one?
    #[must_use]
    pub const fn any(&self) -> bool {
        self.not_accepted || self.may_be_not_accepted || self.window_closed || self.unread > 0
    }
}

impl ListedSocket {
    /// A socket of which no more is known: without holders, timers or data.
    #[must_use]
    pub const fn new(kind: Kind, state: State, netns: u32, local: SocketAddr, remote: SocketAddr) -> Self {
        Self {
            sk: None,
            cookie: None,
            handle: 0,
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
        }
    }

    /// Is it a listener whose accept queue is full? The kernel's rule: `sk_acceptq_is_full` (`include/net/sock.h`).
    #[must_use]
    pub fn is_full_listener(&self) -> bool {
        self.state == State::Listen && self.receive_queue > self.send_queue
    }

    /// What it waits for. The iterator's program asks the same (`is_ailing`).
    #[must_use]
    pub fn ailments(&self) -> Ailments {
        let Some(info) = self.connection.filter(|_| self.kind == Kind::Full) else { return Ailments::default() };
        let is_open = matches!(self.state, State::Established | State::CloseWait);
        let probes = self.timer.is_some_and(|timer| timer.kind == TimerKind::Probe);
        // The peer's FIN counts as a byte until it is read.
        let fin = u32::from(!matches!(self.state, State::Established | State::FinWait1 | State::FinWait2));
        let is_old = info.last_received_ns >= UNREAD_NS;
        Ailments {
            not_accepted: is_open && info.is_accepted == Some(false),
            may_be_not_accepted: is_open && info.is_accepted.is_none() && self.handle == 0,
            window_closed: probes || info.send_window == Some(0) && self.send_queue > 0,
            unread: if is_old { self.receive_queue.saturating_sub(fin) } else { 0 },
        }
    }
}

/// What tells an address from the same one elsewhere on this host: each network namespace has a loopback device of its own.
#[must_use]
pub fn place(netns: Option<u32>, address: SocketAddr) -> Option<u32> {
    netns.filter(|_| address.ip().is_loopback())
}

/// Where a listener may listen that gets the connections to `local`: the first of these that there is. The kernel takes
/// the one that has the very address before one that has any (`net/ipv4/inet_hashtables.c`, `__inet_lookup_listener`).
pub fn listeners_of(local: SocketAddr) -> impl Iterator<Item = SocketAddr> {
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
            listeners_of(local.parse().unwrap()).map(|place| place.to_string()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(places("10.0.0.1:80"), "10.0.0.1:80 0.0.0.0:80 [::]:80");
        assert_eq!(places("[2001:db8::1]:80"), "[2001:db8::1]:80 [::]:80");
    }
}
