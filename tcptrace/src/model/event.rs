//! What happened, as the rest of the program sees it: checked, owned values made from the kernel's records.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    num::NonZeroU32,
    sync::Arc,
};

use tcptrace_common::record::{AF_INET6, socket_flag};

use crate::model::{close_reason::CloseReason, state::State};

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// CLOCK_MONOTONIC in ns.
    pub time_ns: u64,
    /// CPU on which it happened; `None` where a listing tells of it.
    pub cpu: Option<u32>,
    /// The socket.
    pub socket: Socket,
    /// The process that the socket belongs to, `None` where it is not known.
    pub owner: Option<Owner>,
    /// Where the owner is one of several ([`OwnerSource::Shared`]), those that are known, at most [`MAX_CANDIDATES`].
    pub candidates: Option<Arc<[Process]>>,
    /// The process by whose listener the connection came in, where that is known.
    pub listener: Option<ProcessId>,
    /// Events of this socket just before this one were lost.
    pub after_gap: bool,
    /// What happened.
    pub what: EventKind,
}

impl Event {
    /// An event of a socket whose owner is not known.
    #[must_use]
    pub const fn new(time_ns: u64, socket: Socket, what: EventKind) -> Self {
        Self { time_ns, cpu: None, socket, owner: None, candidates: None, listener: None, after_gap: false, what }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The socket's state changed.
    Transition(Transition),
    /// A segment was sent again.
    Retransmit(Retransmit),
    /// A SYN-ACK was sent again; the socket is the listener, the addresses are those of the half-open request.
    SynAckRetransmit {
        /// How often it has been sent again, this time included.
        count: u32,
    },
    /// This host sent a RST.
    ResetSent {
        /// The kernel's `enum sk_rst_reason`, where it gives one (6.10 and later).
        reason: Option<u32>,
        /// What the socket told then.
        facts: Option<ResetFacts>,
    },
    /// This host received a RST.
    ResetReceived(Option<ResetFacts>),
    /// The owner became known, or is another process than before.
    OwnerChanged,
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// State that was left.
    pub old: State,
    /// State that was entered.
    pub new: State,
    /// How `new` is known.
    pub source: StateSource,
    /// How long the socket was in `old`.
    pub time_in_old: Option<TimeInState>,
    /// The kernel's measure of the handshake in ns, on the way into ESTABLISHED: for SYN_SENT from the SYN to the SYN-ACK,
    /// for SYN_RECV from the SYN-ACK to the ACK. `None` where it has none.
    pub handshake_rtt_ns: Option<u64>,
    /// Smoothed round-trip time in µs, `None` where the kernel has none.
    pub srtt_us: Option<u32>,
    /// Segments retransmitted in the connection's life.
    pub total_retrans: u32,
    /// Bytes that the peer acknowledged, the SYN and the FIN counted as one each.
    pub bytes_acked: u64,
    /// Bytes received, the FIN counted as one.
    pub bytes_received: u64,
    /// Bytes received and not read; 0 where `old` is no state of a connection.
    pub receive_queue: u32,
    /// Bytes written that the peer has not acknowledged, the FIN counted as one; 0 as above.
    pub send_queue: u32,
    /// Why the connection ended, for the transition that ends it.
    pub ending: Option<CloseReason>,
    /// The process that closes the socket by this transition is exiting.
    pub exit: Option<Exit>,
    /// Time after which the kernel's timer ends the mini-socket, in ns: the whole of TIME_WAIT where that is inferred,
    /// what was left of it where a listing tells. `None` where it is not known.
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
    /// The signal that ends it (signal(7)); 0: it called `exit`, or its `main` returned.
    pub signal: u8,
}

impl Exit {
    /// Was it ended by a signal?
    #[must_use]
    pub const fn is_killed(self) -> bool {
        self.signal != 0
    }

    /// `exit`, or the name of the signal, in all outputs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        /// By number, from 1 on, as x86 and arm have them.
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

/// How a state is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateSource {
    /// The kernel showed the transition.
    Observed,
    /// It follows from the socket's facts: the full socket went to CLOSE, and a mini-socket in TIME_WAIT or FIN_WAIT2 took
    /// its place; or from another socket's: a new connection has the ends of one in TIME_WAIT, which is over with it.
    Inferred,
    /// A listing found it; it happened since the one before, or when the kernel's timer says.
    Polled,
}

impl StateSource {
    /// Name in all outputs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Observed => "observed",
            Self::Inferred => "inferred",
            Self::Polled => "polled",
        }
    }
}

/// A time spent in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeInState {
    /// The time in ns.
    pub ns: u64,
    /// How it is known.
    pub source: TimeSource,
}

/// How a time in a state is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeSource {
    /// Both ends were seen.
    Observed,
    /// The kernel's own measure of the handshake: it shows the child socket in SYN_RECV only for an instant.
    Handshake,
    /// The same, but the SYN-ACK was sent again, and only the last of them is measured: a lower bound.
    HandshakeLowerBound,
    /// The same, but the listener was sending SYN cookies: then the kernel's measure is wrong (`net/ipv4/syncookies.c`
    /// does not keep the time of the SYN-ACK).
    HandshakeUnreliable,
    /// The beginning was not seen: the socket has been in the state for at least this long.
    LowerBound,
    /// The end was not seen: a listing found the socket gone, or in another state.
    Polled,
    /// The end was not seen, but the timer of TIME_WAIT tells when that began: 60 s before it runs out
    /// (`net/ipv4/tcp_minisocks.c`, `tcp_timewait_state_process`). Exact to a jiffy.
    Timer,
}

impl TimeSource {
    /// Is the time what it says, if by a poll with the precision of polling? A lower bound is not.
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

/// A retransmitted segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retransmit {
    /// State of the socket.
    pub state: State,
    /// Segments retransmitted in the connection's life.
    pub total_retrans: u32,
    /// Timeouts in a row without an answer (`icsk_retransmits`).
    pub timeouts: u8,
    /// Smoothed round-trip time in µs, `None` where the kernel has none.
    pub srtt_us: Option<u32>,
    /// A positive errno where the segment could not be sent.
    pub failed: Option<i32>,
}

/// What a socket knows of its connection when a RST is sent or received. Only full sockets do, once the connection is
/// established.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResetFacts {
    /// Bytes received and not read.
    pub receive_queue: u32,
    /// Bytes written that the peer has not acknowledged, the FIN counted as one.
    pub send_queue: u32,
    /// Probes in a row without an answer, keepalive ones among them.
    pub probes: u32,
    /// Time since data was sent last, in ns, to a tick of the kernel's jiffies.
    pub last_sent_ns: u64,
    /// Time since data was received last, in ns.
    pub last_received_ns: u64,
    /// Time since an ACK was received last, in ns.
    pub last_ack_ns: u64,
}

impl ResetFacts {
    /// For how long the peer had sent nothing, in ns. A RST that comes in does not count.
    #[must_use]
    pub fn silence_ns(&self) -> u64 {
        self.last_received_ns.min(self.last_ack_ns)
    }
}

/// Names of a socket and its two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Address of the `struct sock`, its name while it lives; `None` where no socket was involved.
    pub sk: Option<u64>,
    /// Cookie, its name for ever; `None` where the kernel gave none.
    pub cookie: Option<u64>,
    /// Inode number of the network namespace, `None` where it is not known.
    pub netns: Option<u32>,
    /// Is it an IPv6 socket? It may still talk IPv4.
    pub ipv6: bool,
    /// State at the event: for a transition the one that was left.
    pub state: State,
    /// Local end. Port 0: not chosen yet.
    pub local: SocketAddr,
    /// Remote end.
    pub remote: SocketAddr,
    /// Bits of [`socket_flag`].
    pub flags: u16,
}

impl Socket {
    /// A socket of which no more is known.
    #[must_use]
    pub const fn new(state: State, local: SocketAddr, remote: SocketAddr) -> Self {
        Self { sk: None, cookie: None, netns: None, ipv6: false, state, local, remote, flags: 0 }
    }

    /// Is a fact of [`socket_flag`] true of it?
    #[must_use]
    pub const fn is(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Do the addresses come from the packet?
    #[must_use]
    pub const fn is_from_packet(&self) -> bool {
        self.is(socket_flag::FROM_PACKET)
    }
}

/// An address as the wire holds it; IPv4 in IPv6 is shown as IPv4.
#[must_use]
pub fn address(bytes: [u8; 16]) -> IpAddr {
    IpAddr::from(Ipv6Addr::from(bytes)).to_canonical()
}

/// Is this the family number of an IPv6 socket?
#[must_use]
pub const fn is_ipv6(family: u16) -> bool {
    family == AF_INET6
}

/// The process that a socket belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// PID in the initial PID namespace.
    pub pid: u32,
    /// UID in the initial user namespace.
    pub uid: u32,
    /// Id of its cgroup in the v2 hierarchy.
    pub cgroup: u64,
    /// When it started.
    pub start: Option<StartTicks>,
    /// Command name of the process.
    pub command: Command,
    /// How it is known.
    pub source: OwnerSource,
}

/// As `COMMAND[PID]`. The command may hold any bytes.
impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{}]", self.command.to_text(), self.pid)
    }
}

/// When a process started, in ticks of 10 ms since boot, modulo 2^32: field 22 of `/proc/PID/stat`. With its PID it names a
/// process for ever.
pub type StartTicks = NonZeroU32;

/// Name of a process: its PID, and when it started.
pub type ProcessId = (u32, Option<StartTicks>);

/// Do two names stand for the same process, as far as is known?
#[must_use]
pub fn is_same_process(one: ProcessId, other: ProcessId) -> bool {
    one.0 == other.0 && one.1.zip(other.1).is_none_or(|(one, other)| one == other)
}

impl Owner {
    /// Its name.
    #[must_use]
    pub const fn id(&self) -> ProcessId {
        (self.pid, self.start)
    }
}

/// One of the processes that a socket may belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// PID in the initial PID namespace.
    pub pid: u32,
    /// When it started.
    pub start: Option<StartTicks>,
    /// UID in the initial user namespace.
    pub uid: u32,
    /// Id of its cgroup in the v2 hierarchy, 0 where it is not known.
    pub cgroup: u64,
    /// Command name.
    pub command: Command,
}

/// Most [`Event::candidates`].
pub const MAX_CANDIDATES: usize = 8;

/// Command name of a process, at most 15 bytes, kept as the kernel gives it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Command([u8; 16]);

impl Command {
    /// From the kernel's NUL-padded bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes up to the first NUL.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        let end = self.0.iter().position(|&byte| byte == 0).unwrap_or(self.0.len());
        &self.0[..end]
    }

    /// As text; a process may choose any bytes, so what is no UTF-8 is replaced.
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

/// How an owner is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OwnerSource {
    /// Called `connect`.
    Connect,
    /// Called `listen`.
    Listen,
    /// Called `accept`.
    Accept,
    /// Read from the socket.
    Io,
    /// Owns the listener that the connection came through.
    Listener,
    /// Closed the socket or shut it down.
    Close,
    /// Held the socket by a descriptor when the sockets were listed, alone.
    Holder,
    /// One of several that hold the socket, or the listener that the connection came through.
    Shared,
}

impl OwnerSource {
    /// Name in all outputs.
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
