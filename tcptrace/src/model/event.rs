//! Events as the rest of the program sees them: validated, owned values decoded from the kernel's records.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    num::NonZeroU32,
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use tcptrace_common::record::{AF_INET6, socket_flag};

use crate::model::{close_reason::CloseReason, state::State};

/// One event on one socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Time of the event: CLOCK_MONOTONIC in ns.
    pub time_ns: u64,
    /// CPU on which it happened; `None` for events derived from a listing.
    pub cpu: Option<u32>,
    /// The socket that it happened on.
    pub socket: Socket,
    /// The process that the socket belongs to; `None` if unknown.
    pub owner: Option<Owner>,
    /// The known candidates, at most [`MAX_CANDIDATES`], when the owner is one of several ([`OwnerSource::Shared`]).
    pub candidates: Option<Arc<[Process]>>,
    /// The process that owns the listener which accepted the connection, if known.
    pub listener: Option<ProcessId>,
    /// The process at the other end of the connection, if that is on this host and known.
    pub peer: Option<Peer>,
    /// True if earlier events of this socket were lost just before this one.
    pub after_gap: bool,
    /// What happened to the socket.
    pub what: EventKind,
}

impl Event {
    /// An event of a socket whose owner is unknown.
    #[must_use]
    pub const fn new(time_ns: u64, socket: Socket, what: EventKind) -> Self {
        Self {
            time_ns,
            cpu: None,
            socket,
            owner: None,
            candidates: None,
            listener: None,
            peer: None,
            after_gap: false,
            what,
        }
    }
}

/// What kind of event it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The socket's state changed.
    Transition(Transition),
    /// A segment was retransmitted.
    Retransmit(Retransmit),
    /// A SYN-ACK was retransmitted. The socket is the listener; the addresses are those of the half-open request.
    SynAckRetransmit {
        /// Number of retransmissions so far, including this one.
        count: u32,
    },
    /// This host sent a RST.
    ResetSent {
        /// The kernel's `enum sk_rst_reason`, if the kernel reports one (6.10 and later).
        reason: Option<u32>,
        /// State of the socket at that time, if it is known.
        facts: Option<ResetFacts>,
    },
    /// This host received a RST.
    ResetReceived(Option<ResetFacts>),
    /// The owner became known, or changed to another process.
    OwnerChanged,
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// State that the socket left.
    pub old: State,
    /// State that the socket entered.
    pub new: State,
    /// How `new` was determined.
    pub source: StateSource,
    /// How long the socket was in `old`, if known.
    pub time_in_old: Option<TimeInState>,
    /// Handshake time as the kernel measured it, in ns, on the transition to ESTABLISHED: from SYN_SENT the time
    /// between SYN and SYN-ACK, from SYN_RECV the time between SYN-ACK and ACK. `None` if the kernel has none.
    pub handshake_rtt_ns: Option<u64>,
    /// Smoothed round-trip time in µs; `None` if the kernel has none.
    pub srtt_us: Option<u32>,
    /// Segments retransmitted since the connection began.
    pub total_retrans: u32,
    /// Bytes that the peer acknowledged; the SYN and the FIN count as one each.
    pub bytes_acked: u64,
    /// Bytes received; the FIN counts as one.
    pub bytes_received: u64,
    /// Bytes received but not read; 0 if `old` is not a connection state.
    pub receive_queue: u32,
    /// Bytes written but not acknowledged by the peer, the FIN counting as one; 0 if `old` is not a connection state.
    pub send_queue: u32,
    /// Why the connection ended; set on the transition that ends it.
    pub ending: Option<CloseReason>,
    /// Set if the process that closed the socket is exiting.
    pub exit: Option<Exit>,
    /// Time in ns until the kernel's timer removes the timewait socket: the full TIME_WAIT length if that was
    /// inferred, the remaining time if it came from a listing. `None` if unknown.
    pub expires_in_ns: Option<u64>,
}

impl Transition {
    /// An observed transition of which no more is known.
    #[must_use]
    pub const fn new(old: State, new: State) -> Self {
        Self {
            old,
            new,
            source: StateSource::Observed,
            time_in_old: None,
            handshake_rtt_ns: None,
            srtt_us: None,
            total_retrans: 0,
            bytes_acked: 0,
            bytes_received: 0,
            receive_queue: 0,
            send_queue: 0,
            ending: None,
            exit: None,
            expires_in_ns: None,
        }
    }
}

/// Why a process exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The signal that terminates it (signal(7)); 0 if it called `exit` or its `main` returned.
    pub signal: u8,
}

impl Exit {
    /// True if a signal terminated the process.
    #[must_use]
    pub const fn is_killed(self) -> bool {
        self.signal != 0
    }

    /// `exit` or the name of the signal, as in all outputs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        /// Signal names from number 1 on, as numbered on x86 and arm.
        const SIGNALS: [&str; 31] = [
            "SIGHUP",
            "SIGINT",
            "SIGQUIT",
            "SIGILL",
            "SIGTRAP",
            "SIGABRT",
            "SIGBUS",
            "SIGFPE",
            "SIGKILL",
            "SIGUSR1",
            "SIGSEGV",
            "SIGUSR2",
            "SIGPIPE",
            "SIGALRM",
            "SIGTERM",
            "SIGSTKFLT",
            "SIGCHLD",
            "SIGCONT",
            "SIGSTOP",
            "SIGTSTP",
            "SIGTTIN",
            "SIGTTOU",
            "SIGURG",
            "SIGXCPU",
            "SIGXFSZ",
            "SIGVTALRM",
            "SIGPROF",
            "SIGWINCH",
            "SIGIO",
            "SIGPWR",
            "SIGSYS",
        ];
        match self.signal {
            0 => "exit",
            signal if signal as usize <= SIGNALS.len() => SIGNALS[signal as usize - 1],
            _ => "SIGRT",
        }
    }
}

/// How a state was determined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateSource {
    /// The kernel reported the transition.
    Observed,
    /// Inferred from the socket: the full socket went to CLOSE, and a socket in TIME_WAIT or FIN_WAIT2 replaced it. Or
    /// from another socket: a new connection has the same address pair as one in TIME_WAIT, which has therefore ended.
    Inferred,
    /// Found by a listing: it happened since the previous listing, or when the kernel's timer says.
    Polled,
}

impl StateSource {
    /// Name in all outputs, for example `observed`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Observed => "observed",
            Self::Inferred => "inferred",
            Self::Polled => "polled",
        }
    }
}

/// Time that a socket spent in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeInState {
    /// The time in ns.
    pub ns: u64,
    /// How the time was determined.
    pub source: TimeSource,
}

/// How the time in a state was determined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeSource {
    /// Both the entry and the exit were observed.
    Observed,
    /// The kernel's own handshake measurement: the child socket appears in SYN_RECV only for an instant.
    Handshake,
    /// As `Handshake`, but the SYN-ACK was retransmitted and the kernel measures only from the last one: a lower bound.
    HandshakeLowerBound,
    /// As `Handshake`, but the listener was sending SYN cookies, for which the kernel's measurement is wrong
    /// (`net/ipv4/syncookies.c` does not keep the time of the SYN-ACK).
    HandshakeUnreliable,
    /// The entry was not observed: the socket was in the state for at least this long.
    LowerBound,
    /// The exit was not observed: a listing found the socket gone, or in another state.
    Polled,
    /// The exit was not observed, but the TIME_WAIT timer dates the entry: 60 s before it expires
    /// (`net/ipv4/tcp_minisocks.c`, `tcp_timewait_state_process`). Accurate to a jiffy.
    Timer,
}

impl TimeSource {
    /// True if the duration was measured (polled values have poll precision); false for lower bounds.
    #[must_use]
    pub const fn is_measured(self) -> bool {
        matches!(self, Self::Observed | Self::Handshake | Self::Polled | Self::Timer)
    }

    /// Name in machine-readable outputs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Observed => "observed",
            Self::Handshake => "handshake_rtt",
            Self::HandshakeLowerBound => "handshake_rtt_lower_bound",
            Self::HandshakeUnreliable => "handshake_rtt_unreliable",
            Self::LowerBound => "lower_bound",
            Self::Polled => "polled",
            Self::Timer => "timer",
        }
    }
}

/// A retransmitted segment (`tcp_retransmit_skb`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retransmit {
    /// State of the socket at the retransmission.
    pub state: State,
    /// Segments retransmitted since the connection began.
    pub total_retrans: u32,
    /// Consecutive timeouts without a reply (`icsk_retransmits`).
    pub timeouts: u8,
    /// Smoothed round-trip time in µs; `None` if the kernel has none.
    pub srtt_us: Option<u32>,
    /// Positive errno if the segment could not be sent.
    pub failed: Option<i32>,
}

/// State of a connection when a RST is sent or received. Only full sockets of established connections have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResetFacts {
    /// Bytes received but not read.
    pub receive_queue: u32,
    /// Bytes written but not acknowledged by the peer, the FIN counting as one.
    pub send_queue: u32,
    /// Consecutive probes without a reply, keepalive probes included.
    pub probes: u32,
    /// Time since data was last sent, in ns, at jiffy resolution.
    pub last_sent_ns: u64,
    /// Time since data was last received, in ns.
    pub last_received_ns: u64,
    /// Time since an ACK was last received, in ns.
    pub last_ack_ns: u64,
}

impl ResetFacts {
    /// How long the peer has been silent, in ns. An incoming RST does not count.
    #[must_use]
    pub fn silence_ns(&self) -> u64 {
        self.last_received_ns.min(self.last_ack_ns)
    }
}

/// Identity, addresses and state of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Address of the `struct sock`, which identifies it while it lives; `None` if no socket was involved.
    pub sk: Option<u64>,
    /// Socket cookie, which is never reused; `None` if the kernel assigned none.
    pub cookie: Option<u64>,
    /// Inode number of the network namespace; `None` if unknown.
    pub netns: Option<u32>,
    /// True for an IPv6 socket, which may still carry IPv4.
    pub ipv6: bool,
    /// State at the event; for a transition the state that was left.
    pub state: State,
    /// Local address. Port 0 if none is bound yet.
    pub local: SocketAddr,
    /// Remote address; unspecified for listeners.
    pub remote: SocketAddr,
    /// Bits of [`socket_flag`]; test them with [`Socket::is`].
    pub flags: u16,
}

impl Socket {
    /// A socket with only these fields known.
    #[must_use]
    pub const fn new(state: State, local: SocketAddr, remote: SocketAddr) -> Self {
        Self { sk: None, cookie: None, netns: None, ipv6: false, state, local, remote, flags: 0 }
    }

    /// True if this [`socket_flag`] is set.
    #[must_use]
    pub const fn is(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// True if the addresses were taken from the packet rather than from a socket.
    #[must_use]
    pub const fn is_from_packet(&self) -> bool {
        self.is(socket_flag::FROM_PACKET)
    }
}

/// Converts an address from its wire form; IPv4-mapped IPv6 becomes IPv4.
#[must_use]
pub fn address(bytes: [u8; 16]) -> IpAddr {
    IpAddr::from(Ipv6Addr::from(bytes)).to_canonical()
}

/// True if `family` is AF_INET6.
#[must_use]
pub const fn is_ipv6(family: u16) -> bool {
    family == AF_INET6
}

/// The process that a socket belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// PID in the initial PID namespace.
    pub pid: u32,
    /// UID in the initial user namespace.
    pub uid: u32,
    /// Id of its cgroup in the v2 hierarchy, 0 if unknown.
    pub cgroup: u64,
    /// Start time of the process, if known.
    pub start: Option<StartTicks>,
    /// Command name of the process.
    pub command: Command,
    /// How the owner was determined.
    pub source: OwnerSource,
}

/// Formats as `COMMAND[PID]`. The command may contain any bytes.
impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{}]", self.command.to_text(), self.pid)
    }
}

/// The process at the other end of a connection on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The process that the socket at the other end belongs to.
    pub owner: Owner,
    /// How that socket was found.
    pub source: PeerSource,
}

/// How the socket at the other end was found. Its addresses are those of this end, swapped; no other socket has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerSource {
    /// It is alive.
    Socket,
    /// It was alive earlier in the life of this end.
    Earlier,
}

impl PeerSource {
    /// Name in all outputs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::Earlier => "earlier",
        }
    }
}

/// Start time of a process in ticks of 10 ms since boot, modulo 2^32: field 22 of `/proc/PID/stat`. Together with the
/// PID it identifies a process even after the PID is reused.
pub type StartTicks = NonZeroU32;

/// Identifies a process: its PID and its start time.
pub type ProcessId = (u32, Option<StartTicks>);

/// True if two ids refer to the same process; unknown start times match any.
#[must_use]
pub fn is_same_process(one: ProcessId, other: ProcessId) -> bool {
    one.0 == other.0 && one.1.zip(other.1).is_none_or(|(one, other)| one == other)
}

impl Owner {
    /// PID and start time.
    #[must_use]
    pub const fn id(&self) -> ProcessId {
        (self.pid, self.start)
    }
}

/// One of several processes that a socket may belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// PID in the initial PID namespace.
    pub pid: u32,
    /// Start time of the process, if known.
    pub start: Option<StartTicks>,
    /// UID in the initial user namespace.
    pub uid: u32,
    /// Id of its cgroup in the v2 hierarchy, 0 if unknown.
    pub cgroup: u64,
    /// Command name (`comm`) of the process.
    pub command: Command,
}

/// Maximum length of [`Event::candidates`].
pub const MAX_CANDIDATES: usize = 8;

/// Command name of a process (`comm`), at most 15 bytes, kept as the kernel reports it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Command([u8; 16]);

impl Command {
    /// Takes the kernel's NUL-padded bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// All bytes, padded with NUL.
    #[must_use]
    pub const fn padded(self) -> [u8; 16] {
        self.0
    }

    /// The bytes up to the first NUL.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        let end = self.0.iter().position(|&byte| byte == 0).unwrap_or(self.0.len());
        &self.0[..end]
    }

    /// As text. Invalid UTF-8 is replaced, since a process may choose any bytes.
    #[must_use]
    pub fn to_text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(self.as_bytes())
    }
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.to_text())
    }
}

/// How an owner was determined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum OwnerSource {
    /// Called `connect` on it.
    Connect,
    /// Called `listen` on it.
    Listen,
    /// Called `accept`, which returned it.
    Accept,
    /// Read from the socket (`tcp_rcv_space_adjust`).
    Io,
    /// Owns the listener that accepted the connection.
    Listener,
    /// Closed the socket or shut it down.
    Close,
    /// Was the only process with a descriptor for the socket in a listing.
    Holder,
    /// One of several processes that hold the socket, or the listener that accepted the connection.
    Shared,
}

impl OwnerSource {
    /// Name in all outputs, for example `connect`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Listen => "listen",
            Self::Accept => "accept",
            Self::Io => "io",
            Self::Listener => "listener",
            Self::Close => "close",
            Self::Holder => "holder",
            Self::Shared => "shared",
        }
    }
}
