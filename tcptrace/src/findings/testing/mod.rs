//! An artificial host for the tests of rules.

mod sockets;

use std::net::SocketAddr;

pub(super) use sockets::{LISTENER, ON, SERVER, in_state};
use tcptrace_common::record::socket_flag;

use super::{Detection, Finding, Findings, RuleContext, Thresholds, Value, rules};
use crate::{
    model::{
        close_reason::CloseReason,
        event::{
            Command, Event, EventKind, Exit, Owner, OwnerSource, ResetFacts, Retransmit, Socket, StateSource,
            TimeInState, TimeSource, Transition,
        },
        holders::{Holder, Holders},
        namespace::{Namespace, NetCounters, NetSettings},
        snapshot::{NextHop, ProcessState, Snapshot},
        socket::{ConnectionInfo, Keepalive, Kind, ListedSocket},
        state::{State, StateSet},
    },
    table::Table,
};

pub(super) const MS: u64 = 1_000_000;
pub(super) const S: u64 = 1000 * MS;
/// Start of the trace, in CLOCK_MONOTONIC.
pub(super) const START_NS: u64 = 36_000 * S;
pub(super) const NETNS: u32 = 4_026_531_840;
/// PID of the process that owns added sockets.
pub(super) const PID: u32 = 700;

pub(super) fn process(pid: u32) -> Owner {
    let command = Command::new(*b"server\0\0\0\0\0\0\0\0\0\0");
    Owner { pid, uid: 33, cgroup: 0, start: None, command, source: OwnerSource::Io }
}

pub(super) fn end(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(super) fn evidence<'a>(detection: &'a Detection, name: &str) -> &'a Value {
    let found = detection.evidence.iter().find(|(known, _)| *known == name);
    &found.unwrap_or_else(|| panic!("no evidence {name}: {:?}", detection.evidence)).1
}

/// Sockets, one namespace, and the findings on them.
pub(super) struct Host {
    pub(super) findings: Findings,
    pub(super) table: Table,
    /// The sockets that a listing shows.
    pub(super) sockets: Vec<ListedSocket>,
    pub(super) holders: Vec<Holder>,
    pub(super) processes: Vec<ProcessState>,
    pub(super) next_hops: Vec<NextHop>,
    pub(super) counters: NetCounters,
    pub(super) settings: NetSettings,
    pub(super) now_ns: u64,
}

impl Host {
    pub(super) fn new() -> Self {
        Self::with(Thresholds::default())
    }

    pub(super) fn with(thresholds: Thresholds) -> Self {
        Self {
            findings: Findings::new(thresholds, START_NS),
            table: Table::new(100_000, StateSet::default(), true),
            sockets: Vec::new(),
            holders: Vec::new(),
            processes: Vec::new(),
            next_hops: Vec::new(),
            counters: NetCounters::default(),
            settings: NetSettings::default(),
            now_ns: START_NS,
        }
    }

    pub(super) fn wait(&mut self, ns: u64) {
        self.now_ns += ns;
    }

    /// Adds a socket of [`PID`] that has been in its state for `age_ns`; returns its index.
    pub(super) fn add(&mut self, state: State, local: &str, remote: &str, age_ns: u64) -> usize {
        let (local, remote) = (end(local), end(remote));
        let place = self.sockets.len();
        let connection = ConnectionInfo::is_available(Kind::Full, state).then(ConnectionInfo::default);
        self.sockets.push(ListedSocket {
            sk: Some(0xffff_8881_0000_0000 + place as u64),
            cookie: Some(place as u64 + 1),
            handle: place as u64 + 1,
            ipv6: local.is_ipv6(),
            keepalive: Keepalive::Off,
            uid: Some(33),
            entered_ns: Some(self.now_ns - age_ns),
            owner: Some(process(PID)),
            connection,
            ..ListedSocket::new(Kind::Full, state, NETNS, local, remote)
        });
        place
    }

    /// Gives the socket to another process.
    pub(super) fn owned_by(&mut self, place: usize, pid: u32) {
        self.sockets[place].owner = Some(process(pid));
    }

    /// A listing of everything.
    pub(super) fn list(&mut self) {
        self.table.begin_listing();
        let namespace = Namespace {
            inode: NETNS,
            counters: Some(self.counters),
            settings: Some(self.settings),
            ..Namespace::default()
        };
        let snapshot = Snapshot {
            started_ns: self.now_ns,
            ended_ns: self.now_ns,
            sockets: self.sockets.iter().map(|socket| self.as_listed(socket)).collect(),
            stuck: true,
            processes: self.processes.clone(),
            next_hops: self.next_hops.clone(),
            holders: Some(Holders::new(self.holders.clone())),
            namespaces: vec![namespace],
            ..Snapshot::default()
        };
        self.table.reconcile(&snapshot, |_, _| true, |_| {});
        self.findings.listed(&snapshot);
    }

    /// A listing of listeners shows who holds all sockets.
    pub(super) fn list_holders(&mut self, holders: Vec<Holder>) {
        let (started_ns, ended_ns) = (self.now_ns, self.now_ns);
        let holders = Some(Holders::new(holders));
        self.table.update_listeners(&Snapshot { started_ns, ended_ns, holders, ..Snapshot::default() });
    }

    /// Closed connections carry no data unless a test says so.
    fn as_listed(&self, socket: &ListedSocket) -> ListedSocket {
        use State::{CloseWait, Closing, FinWait1, FinWait2, LastAck};
        let is_closing = matches!(socket.state, CloseWait | FinWait1 | FinWait2 | Closing | LastAck);
        if !is_closing || socket.connection != Some(ConnectionInfo::default()) {
            return *socket;
        }
        let ns = self.now_ns - socket.entered_ns.unwrap_or(self.now_ns);
        let (last_sent_ns, last_received_ns, last_ack_ns) = (ns, ns, ns);
        let silent = ConnectionInfo { last_sent_ns, last_received_ns, last_ack_ns, ..ConnectionInfo::default() };
        ListedSocket { connection: Some(silent), ..*socket }
    }

    fn tell(&mut self, place: usize, flags: u16, what: EventKind) {
        let socket = &self.sockets[place];
        let mut event = Event {
            cpu: Some(0),
            owner: socket.owner,
            ..Event::new(
                self.now_ns,
                Socket {
                    sk: socket.sk,
                    cookie: socket.cookie,
                    netns: Some(socket.netns),
                    ipv6: socket.ipv6,
                    state: socket.state,
                    local: socket.local,
                    remote: socket.remote,
                    flags,
                },
                what,
            )
        };
        let left = self.table.ingest(&mut event);
        self.findings.ingest(&event, left.as_ref(), true);
    }

    /// A socket leaves its state; its queues are those that it has.
    pub(super) fn enters(&mut self, place: usize, new: State, ending: Option<CloseReason>) {
        self.leaves(place, new, |transition| Transition { ending, ..transition });
    }

    /// A socket leaves its state because its process exits.
    pub(super) fn exits(&mut self, place: usize, new: State, ending: Option<CloseReason>, exit: Option<Exit>) {
        self.leaves(place, new, |transition| Transition { ending, exit, ..transition });
    }

    fn leaves(&mut self, place: usize, new: State, change: impl FnOnce(Transition) -> Transition) {
        let socket = self.sockets[place];
        let in_old_ns = self.now_ns - socket.entered_ns.unwrap();
        let is_on = socket.keepalive.is_on() == Some(true);
        let flags = socket_flag::OWNED | if is_on { socket_flag::KEEPALIVE } else { 0 };
        self.tell(
            place,
            flags,
            EventKind::Transition(change(Transition {
                time_in_old: Some(TimeInState { ns: in_old_ns, source: TimeSource::Observed }),
                total_retrans: socket.timeouts.into(),
                receive_queue: socket.receive_queue,
                send_queue: socket.send_queue,
                ..Transition::new(socket.state, new)
            })),
        );
        (self.sockets[place].state, self.sockets[place].entered_ns) = (new, Some(self.now_ns));
    }

    /// A mini-socket replaces a socket.
    pub(super) fn enters_mini(&mut self, place: usize, new: State) {
        let source = StateSource::Inferred;
        self.leaves(place, new, |transition| Transition { source, ending: Some(CloseReason::Normal), ..transition });
        self.sockets[place].kind = Kind::TimeWait;
    }

    /// An existing connection fails.
    pub(super) fn fails(&mut self, place: usize, ending: CloseReason) {
        self.list();
        self.enters(place, State::Close, Some(ending));
    }

    /// A RST comes for a connection, with these times since the last data to the peer and the last segment from it. It answers
    /// the socket's probes, if there are any.
    pub(super) fn is_reset(&mut self, place: usize, errno: i32, last_sent_ns: u64, silence_ns: u64) {
        self.list();
        let socket = self.sockets[place];
        let facts = ResetFacts {
            receive_queue: socket.receive_queue,
            send_queue: socket.send_queue,
            probes: socket.probes.into(),
            last_sent_ns,
            last_received_ns: silence_ns,
            last_ack_ns: silence_ns,
        };
        self.tell(place, 0, EventKind::ResetReceived(Some(facts)));
        self.enters(place, State::Close, Some(CloseReason::ResetByPeer(errno)));
    }

    /// A RST answers the SYN.
    pub(super) fn is_refused(&mut self, place: usize) {
        self.list();
        self.tell(place, 0, EventKind::ResetReceived(None));
        self.enters(place, State::Close, Some(CloseReason::Refused));
    }

    /// The kernel gives up after this many unanswered probes: it sends a RST and ends the connection.
    pub(super) fn is_given_up(&mut self, place: usize, probes: u32, silence_ns: u64) {
        self.list();
        let times = ResetFacts { last_sent_ns: silence_ns, last_received_ns: silence_ns, ..ResetFacts::default() };
        let facts = ResetFacts { probes, last_ack_ns: silence_ns, ..times };
        self.tell(place, 0, EventKind::ResetSent { reason: None, facts: Some(facts) });
        self.enters(place, State::Close, Some(CloseReason::TimedOut));
    }

    /// Retransmits a segment, with this many timeouts in a row.
    pub(super) fn retransmits(&mut self, place: usize, timeouts: u8) {
        self.sockets[place].timeouts = timeouts;
        let state = self.sockets[place].state;
        let total_retrans = timeouts.into();
        let what = Retransmit { state, total_retrans, timeouts, srtt_us: Some(409), failed: None };
        self.tell(place, 0, EventKind::Retransmit(what));
    }

    /// The detections after a listing has shown all suspicious sockets.
    pub(super) fn detections(&mut self) -> Vec<Detection> {
        self.list();
        self.unlisted_detections(); // what is suspected then
        self.list();
        self.unlisted_detections()
    }

    /// The detections without another listing.
    pub(super) fn unlisted_detections(&mut self) -> Vec<Detection> {
        let (thresholds, now_ns) = (self.findings.thresholds.clone(), self.now_ns);
        self.findings.diagnose(&self.table, now_ns);
        self.table.suspect(now_ns, |known| {
            rules::suspicion(known, &thresholds).map_or(u64::MAX, |suspicion| suspicion.since_ns)
        });
        let Findings { thresholds, history, namespaces, process_states, .. } = &self.findings;
        let mut context = RuleContext::new(&self.table, history, namespaces, thresholds, self.now_ns);
        context.process_states = Some(process_states);
        let mut found = rules::evaluate(&context);
        found.sort_by_key(|detection| (detection.kind, detection.subject));
        for detection in &found {
            let mut names: Vec<_> = detection.evidence.iter().map(|(name, _)| *name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), detection.evidence.len(), "{detection:?}");
        }
        found
    }

    /// The only detection; panics if there are more or none.
    pub(super) fn only(&mut self) -> Detection {
        let mut found = self.detections();
        assert_eq!(found.len(), 1, "{found:#?}");
        found.remove(0)
    }

    /// The findings that an evaluation reports.
    pub(super) fn evaluate(&mut self) -> Vec<Finding> {
        self.findings.evaluate(&mut self.table, self.now_ns, None)
    }
}
