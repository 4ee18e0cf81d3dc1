//! What sockets there are, and who holds them: the answer of one listing, as values. Whatever way it came (BPF
//! iterators; sock_diag and `/proc`), it looks the same.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::{
    event::{Command, Owner, OwnerSource, Process, ProcessId, StartTicks},
    state::{State, StateSet},
};

/// All sockets of the namespaces that were visited.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// CLOCK_MONOTONIC just before the first socket was looked at, in ns.
    pub started_ns: u64,
    /// CLOCK_MONOTONIC just after the last one.
    pub ended_ns: u64,
    /// States that were asked for; empty for all.
    pub states: StateSet,
    /// Does it show all connections that wait for a process, of any state?
    pub ailing: bool,
    /// The sockets, those of one namespace together, no socket twice.
    pub sockets: Vec<ListedSocket>,
    /// Who holds them; `None` where nobody asked.
    pub holders: Option<Holders>,
    /// What processes do that connections wait for.
    pub processes: Vec<ProcessState>,
    /// Where packets go first toward addresses that were asked about.
    pub next_hops: Vec<NextHop>,
    /// The namespaces that were visited.
    pub namespaces: Vec<Namespace>,
    /// Inode numbers of those that were not, as there was no socket in them, or none that a poll is for, some seconds ago,
    /// and nothing happened since.
    pub left_alone: Vec<u32>,
    /// What could not be looked at.
    pub skipped: Skipped,
    /// CPU time of the thread that looked, in ns.
    pub cpu_ns: u64,
}

/// A network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Inode number: its name for ever.
    pub inode: u32,
    /// Its name in `/run/netns`, where it has one (ip-netns(8)).
    pub name: Option<String>,
    /// What the kernel counted in it since it was made; `None` where it could not be read.
    pub counters: Option<NetCounters>,
    /// What is set in it; `None` where nobody asked.
    pub settings: Option<NetSettings>,
}

/// Counters of a network namespace: `TcpExt` of `/proc/net/netstat` (`net/ipv4/proc.c`, `snmp4_net_list`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetCounters {
    /// `ListenOverflows`: handshakes that ended, or would have begun, while the accept queue was full.
    pub listen_overflows: u64,
    /// `ListenDrops`: SYNs and ACKs of handshakes that were dropped for any reason, a full accept queue among them.
    pub listen_drops: u64,
    /// `SyncookiesSent`.
    pub syncookies_sent: u64,
    /// `SyncookiesFailed`: ACKs whose cookie was wrong or too old.
    pub syncookies_failed: u64,
    /// `TCPReqQFullDoCookies`: SYNs answered by a cookie, as the queue of requests was full.
    pub request_queue_full_cookies: u64,
    /// `TCPReqQFullDrop`: SYNs dropped, as the queue of requests was full and SYN cookies are off.
    pub request_queue_full_drops: u64,
    /// `TCPTimeWaitOverflow`: connections that closed without TIME_WAIT, as there were `tcp_max_tw_buckets` already.
    pub time_wait_overflows: u64,
    /// `TCPAbortOnMemory`: connections that were reset for want of memory, or as there were too many orphans.
    pub aborts_on_memory: u64,
}

/// What is set in a network namespace (`Documentation/networking/ip-sysctl.rst`), each `None` where the kernel has no such
/// setting, does not show it in this namespace, or it may not be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetSettings {
    /// `ip_local_port_range`, both ends included.
    pub local_ports: Option<(u16, u16)>,
    /// Ports of that range that `ip_local_reserved_ports` keeps back.
    pub reserved_ports: Option<u64>,
    /// `tcp_timestamps`: 0 off; without them no port in TIME_WAIT is taken over.
    pub timestamps: Option<u32>,
    /// `tcp_tw_reuse`: 0 never, 1 always, 2 on loopback.
    pub tw_reuse: Option<u32>,
    /// `tcp_max_tw_buckets`.
    pub max_tw_buckets: Option<u32>,
    /// `tcp_syncookies`: 0 never, 1 when the queue is full, 2 always.
    pub syncookies: Option<u32>,
    /// `tcp_max_syn_backlog`.
    pub max_syn_backlog: Option<u32>,
    /// `net.core.somaxconn`.
    pub somaxconn: Option<u32>,
    /// `tcp_fin_timeout`, in s.
    pub fin_timeout: Option<u32>,
    /// `tcp_retries2`.
    pub retries2: Option<u32>,
    /// `tcp_orphan_retries`; 0 means 8.
    pub orphan_retries: Option<u32>,
    /// `tcp_syn_retries`.
    pub syn_retries: Option<u32>,
    /// `tcp_synack_retries`.
    pub synack_retries: Option<u32>,
    /// `tcp_keepalive_time`, in s.
    pub keepalive_time: Option<u32>,
    /// `tcp_keepalive_intvl`, in s.
    pub keepalive_interval: Option<u32>,
    /// `tcp_keepalive_probes`.
    pub keepalive_probes: Option<u32>,
}

/// What a listing could not look at. Nothing of this is fatal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Namespaces that went while they were being entered.
    pub namespaces_gone: u64,
    /// Namespaces that may not be entered (CAP_SYS_ADMIN is missing).
    pub namespaces_denied: u64,
    /// Answers of the kernel that were cut short, or could not be understood.
    pub cut_short: u64,
    /// Processes that ended while their files were being read.
    pub processes_gone: u64,
    /// Processes whose files may not be read (CAP_SYS_PTRACE is missing, mostly); all that hidepid does not even show are
    /// one.
    pub processes_denied: u64,
    /// Some of these.
    pub denied: Denied,
}

/// The first processes that could not be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Denied {
    /// Their PIDs; 0 where there are no more.
    pub pids: [u32; 3],
    /// Why the first of them was not read; 0 where there is none.
    pub errno: i32,
}

impl Denied {
    /// Adds one, if there is room.
    pub fn add(&mut self, pid: u32, errno: i32) {
        if let Some(place) = self.pids.iter_mut().find(|place| [0, pid].contains(*place)) {
            *place = pid;
            self.errno = if self.errno == 0 { errno } else { self.errno };
        }
    }
}

impl Skipped {
    /// Names and counts.
    #[must_use]
    pub const fn fields(&self) -> [(&'static str, u64); 5] {
        [
            ("namespaces_gone", self.namespaces_gone),
            ("namespaces_denied", self.namespaces_denied),
            ("cut_short", self.cut_short),
            ("processes_gone", self.processes_gone),
            ("processes_denied", self.processes_denied),
        ]
    }

    /// How many of these may have had sockets. What is gone has none.
    #[must_use]
    pub const fn unseen(&self) -> u64 {
        self.namespaces_denied + self.cut_short
    }

    /// Adds what another part of the listing could not look at.
    pub fn add(&mut self, other: &Self) {
        self.namespaces_gone += other.namespaces_gone;
        self.namespaces_denied += other.namespaces_denied;
        self.cut_short += other.cut_short;
        self.processes_gone += other.processes_gone;
        self.processes_denied += other.processes_denied;
        self.add_denied(&other.denied);
    }

    /// Adds processes that could not be read, which may be known already.
    pub fn add_denied(&mut self, denied: &Denied) {
        denied.pids.iter().filter(|pid| **pid != 0).for_each(|pid| self.denied.add(*pid, denied.errno));
    }
}

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

/// A process that holds a socket by a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Which socket: see [`ListedSocket::handle`].
    pub handle: u64,
    /// PID in the initial PID namespace (or the one that tcptrace runs in).
    pub pid: u32,
    /// PID in the innermost namespace of the process: what it has in its container.
    pub ns_pid: u32,
    /// The descriptor.
    pub fd: u32,
    /// Real UID.
    pub uid: u32,
    /// Id of its cgroup in the v2 hierarchy; `None` where it is not known.
    pub cgroup: Option<u64>,
    /// When it started.
    pub start: Option<StartTicks>,
    /// Command name.
    pub command: Command,
}

/// Where packets to an address go first, by the routes of a network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// Inode number of the namespace.
    pub netns: u32,
    /// The address.
    pub remote: IpAddr,
    /// The neighbour: the address itself, or a gateway.
    pub hop: IpAddr,
    /// Does the neighbour answer ARP or neighbour discovery? `None` where nobody has asked lately.
    pub answers: Option<bool>,
    /// CLOCK_MONOTONIC at which that was read, in ns.
    pub read_ns: u64,
}

/// What a process does, as `/proc` shows it (proc(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessState {
    /// PID, as that of a [`Holder`].
    pub pid: u32,
    /// CLOCK_MONOTONIC at which it was read, in ns.
    pub read_ns: u64,
    /// The letter of its state: `R` runs, `S` and `D` wait, `T` and `t` are stopped, `Z` is over.
    pub letter: u8,
    /// CPU time that it has used, its threads' too, in ns.
    pub cpu_ns: u64,
    /// Open descriptors; `None` where they may not be looked at.
    pub descriptors: Option<u64>,
    /// Limit of these (RLIMIT_NOFILE).
    pub max_descriptors: Option<u64>,
    /// Function of the kernel in which its first thread waits.
    pub waits_in: Option<String>,
}

impl Holder {
    /// The process as the owner of the socket.
    #[must_use]
    pub fn owner(&self, source: OwnerSource) -> Owner {
        Process::from(self).as_owner(source)
    }

    /// Name of the process.
    #[must_use]
    pub const fn id(&self) -> ProcessId {
        (self.pid, self.start)
    }
}

/// Holders by socket. A clone is cheap, and shares them.
#[derive(Clone, Debug, Default)]
pub struct Holders {
    all: Arc<Vec<Holder>>,
    /// Where those of a socket are.
    places: Arc<FxHashMap<u64, (u32, u32)>>,
}

impl Holders {
    /// Puts them in order: by socket, then PID, then descriptor.
    #[must_use]
    pub fn new(mut all: Vec<Holder>) -> Self {
        all.sort_unstable_by_key(|holder| (holder.handle, holder.pid, holder.fd));
        let mut places = FxHashMap::with_capacity_and_hasher(all.len(), FxBuildHasher);
        let mut start = 0;
        for holders in all.chunk_by(|one, other| one.handle == other.handle) {
            let end = start + holders.len() as u32;
            places.insert(holders[0].handle, (start, end));
            start = end;
        }
        Self { all: Arc::new(all), places: Arc::new(places) }
    }

    /// Those of the socket with this [`ListedSocket::handle`].
    #[must_use]
    pub fn of(&self, handle: u64) -> &[Holder] {
        match self.places.get(&handle) {
            Some(&(start, end)) if handle != 0 => self.all.get(start as usize..end as usize).unwrap_or_default(),
            _ => &[],
        }
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[Holder] {
        &self.all
    }
}

/// How long a socket has been in its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age {
    /// The time in ns.
    pub ns: u64,
    /// How it is known.
    pub source: AgeSource,
}

/// How an age is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AgeSource {
    /// The transition was seen.
    Observed,
    /// From the time that is left on the timer of TIME_WAIT.
    Timer,
    /// It is at least this: from the times of the last segments, or since it was first seen.
    LowerBound,
}

impl AgeSource {
    /// Name in machine-readable outputs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Observed => "observed",
            Self::Timer => "timer",
            Self::LowerBound => "lower_bound",
        }
    }

    /// What stands before an age for people.
    #[must_use]
    pub const fn mark(self) -> &'static str {
        match self {
            Self::Observed => "",
            Self::Timer => "~",
            Self::LowerBound => "≥",
        }
    }
}

/// `TCP_TIMEOUT_INIT` of `include/net/tcp.h`: 1 s.
const TIMEOUT_INIT_NS: u64 = 1_000_000_000;
/// `TCP_RTO_MIN` of it: 200 ms.
const RTO_MIN_NS: u64 = 200_000_000;
/// `TCP_RTO_MAX` of it: 120 s.
const RTO_MAX_NS: u64 = 120_000_000_000;
/// `TCP_TIMEWAIT_LEN` of `include/net/tcp.h`: 60 s.
pub const TIME_WAIT_NS: u64 = 60_000_000_000;

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

    /// How long it has been in its state at `now_ns`, the time of the listing; `None` where nothing tells.
    #[must_use]
    pub fn age(&self, now_ns: u64) -> Option<Age> {
        if let Some(entered_ns) = self.entered_ns {
            return Some(Age { ns: now_ns.saturating_sub(entered_ns), source: AgeSource::Observed });
        }
        let at_least = match (self.kind, self.state, &self.connection) {
            (Kind::Mini, State::TimeWait, _) => {
                let timer = self.timer.filter(|timer| timer.kind == TimerKind::TimeWait)?;
                return Some(Age { ns: TIME_WAIT_NS.saturating_sub(timer.left_ns), source: AgeSource::Timer });
            }
            // All timeouts were those of the SYN.
            (Kind::Full, State::SynSent, _) => self.timeouts_took_ns()?,
            // The same of the FIN where it alone is not acknowledged: with data before it they may be older.
            (Kind::Full, State::FinWait1 | State::LastAck, _) if self.send_queue == 1 => self.timeouts_took_ns()?,
            // Whatever was sent or received, it was established then.
            (Kind::Full, State::Established, Some(info)) => {
                info.last_sent_ns.max(info.last_received_ns).max(info.last_ack_ns)
            }
            // Entered by a segment with an ACK, which was the last or came before the last.
            (Kind::Full, State::CloseWait | State::FinWait2 | State::Closing, Some(info)) => info.last_ack_ns,
            _ => return None,
        };
        Some(Age { ns: at_least, source: AgeSource::LowerBound })
    }

    /// How long its timeouts in a row took at least, in ns; `None` where there was none. Each takes twice as long as the one
    /// before, up to TCP_RTO_MAX, but those that did not raise the backoff: the first ones of a SYN
    /// (`tcp_syn_linear_timeouts`, since 6.5), and those of thin streams (`net/ipv4/tcp_timer.c`, `tcp_retransmit_timer`).
    fn timeouts_took_ns(&self) -> Option<u64> {
        let timeouts = u32::from(self.timeouts);
        let (rto_ns, backoff) = match self.rto_ns.zip(self.backoff) {
            Some((rto_ns, backoff)) => (rto_ns, u32::from(backoff).min(timeouts)),
            None if self.state == State::SynSent => (TIMEOUT_INIT_NS, 0),
            None => (RTO_MIN_NS, 0),
        };
        let first_ns = (rto_ns >> self.backoff.unwrap_or(0).min(63)).min(RTO_MAX_NS);
        let doubled = (0..backoff).map(|times| first_ns.saturating_mul(1 << times.min(32)).min(RTO_MAX_NS));
        let took_ns = doubled.fold(u64::from(timeouts - backoff).saturating_mul(first_ns), u64::saturating_add);
        (timeouts > 0).then_some(took_ns)
    }
}

/// How many of the ports from `first` to `last` are in a list as `1,2-4,10-10`, which does not overlap itself
/// (`kernel/sysctl.c`, `proc_do_large_bitmap`).
#[must_use]
pub fn reserved_ports(list: &str, first: u64, last: u64) -> u64 {
    let ranges = list.split(',').filter_map(|part| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        Some((from.trim().parse::<u64>().ok()?.max(first), to.trim().parse::<u64>().ok()?.min(last)))
    });
    ranges.filter(|(from, to)| from <= to).map(|(from, to)| to - from + 1).fold(0, u64::saturating_add)
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

    fn listed(kind: Kind, state: State) -> ListedSocket {
        let end = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 1);
        ListedSocket {
            sk: None,
            cookie: None,
            handle: 0,
            netns: 1,
            ipv6: false,
            state,
            kind,
            local: end,
            remote: end,
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

    #[test]
    fn an_age_is_seen_or_what_the_kernel_knows_at_least() {
        let info =
            ConnectionInfo { last_sent_ns: 300, last_received_ns: 500, last_ack_ns: 200, ..ConnectionInfo::default() };
        for state in State::ALL {
            let socket = ListedSocket { connection: Some(info), ..listed(Kind::Full, state) };
            let at_least = |ns| Some(Age { ns, source: AgeSource::LowerBound });
            let expected = match state {
                State::Established => at_least(500),
                State::CloseWait | State::FinWait2 | State::Closing => at_least(200),
                // Entered by what this side sends, and kept by what comes in: the times of segments tell nothing.
                _ => None,
            };
            assert_eq!(socket.age(1000), expected, "{state}");
            let seen = ListedSocket { entered_ns: Some(400), ..socket };
            assert_eq!(seen.age(1000), Some(Age { ns: 600, source: AgeSource::Observed }), "{state}");
            assert_eq!(seen.age(300).unwrap().ns, 0, "entered while it was being listed");
            assert_eq!(listed(Kind::Full, state).age(1000), None, "{state}");
        }
    }

    #[test]
    fn what_waits_for_an_answer_has_waited_for_as_long_as_its_timeouts_take() {
        const S: u64 = 1_000_000_000;
        let waits = |state, timeouts, rto_ns: u64, backoff| ListedSocket {
            timeouts,
            rto_ns: Some(rto_ns),
            backoff: Some(backoff),
            send_queue: 1,
            connection: ConnectionInfo::is_kept(Kind::Full, state).then(ConnectionInfo::default),
            ..listed(Kind::Full, state)
        };
        let at_least = |socket: &ListedSocket| socket.age(100 * S).map(|age| (age.ns, age.source));
        let lower = |ns| Some((ns, AgeSource::LowerBound));
        assert_eq!(at_least(&waits(State::SynSent, 0, S, 0)), None);
        // 1, 3 and 7 s; with four that do not double, 1, 2, 3, 4, 5, 7 and 11 s.
        assert_eq!(at_least(&waits(State::SynSent, 3, 8 * S, 3)), lower(7 * S));
        assert_eq!(at_least(&waits(State::SynSent, 4, S, 0)), lower(4 * S));
        assert_eq!(at_least(&waits(State::SynSent, 7, 8 * S, 3)), lower(11 * S));
        // The timeout stops to double at 120 s.
        let long = waits(State::SynSent, 9, 120 * S, 9);
        assert!(at_least(&long).unwrap().0 <= (1 + 2 + 4 + 8 + 16 + 32 + 64 + 120 + 120) * S);
        for state in [State::FinWait1, State::LastAck] {
            let fin = waits(state, 5, 6_400_000_000, 5);
            assert_eq!(at_least(&fin), lower(6_200_000_000), "{state}");
            assert_eq!(
                at_least(&ListedSocket { send_queue: 9, ..fin }),
                None,
                "the data may have waited before: {state}"
            );
        }
        let unknown = ListedSocket { rto_ns: None, backoff: None, ..waits(State::SynSent, 3, 0, 0) };
        assert_eq!(at_least(&unknown), lower(3 * S));
        let extreme = waits(State::SynSent, 255, u64::MAX, 255);
        assert!(at_least(&extreme).is_some());
    }

    #[test]
    fn only_time_waits_timer_tells_its_age() {
        let mini = |state, kind, left_ns| {
            let timer = Some(Timer { kind, left_ns });
            ListedSocket { timer, ..listed(Kind::Mini, state) }.age(1000)
        };
        let timer = |ns| Some(Age { ns, source: AgeSource::Timer });
        assert_eq!(mini(State::TimeWait, TimerKind::TimeWait, 45_000_000_000), timer(15_000_000_000));
        assert_eq!(mini(State::TimeWait, TimerKind::TimeWait, TIME_WAIT_NS + 1), timer(0));
        assert_eq!(mini(State::FinWait2, TimerKind::TimeWait, 45_000_000_000), None, "tcp_fin_timeout may be any");
        assert_eq!(mini(State::TimeWait, TimerKind::Keepalive, 1), None);
        assert_eq!(listed(Kind::Request, State::SynRecv).age(1000), None);
    }

    #[test]
    fn the_listener_with_the_very_address_comes_first() {
        let places = |local: &str| {
            listeners_of(local.parse().unwrap()).map(|place| place.to_string()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(places("10.0.0.1:80"), "10.0.0.1:80 0.0.0.0:80 [::]:80");
        assert_eq!(places("[2001:db8::1]:80"), "[2001:db8::1]:80 [::]:80");
    }
}
