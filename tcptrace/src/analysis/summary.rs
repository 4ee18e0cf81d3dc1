//! Counts and latencies over a time span, from which a report is made.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    hash::Hash,
};

use rustc_hash::FxBuildHasher;

use crate::{
    analysis::{
        histogram::Latencies,
        report::{Activity, ProcessRow, Report, TransitionRow, ending_rows, in_order_of_life, socket_rows},
    },
    model::{
        close_reason::CloseReason,
        event::{Command, Event, EventKind, Transition},
        keyed::KeyedMap,
        losses::Losses,
        state::State,
    },
    table::Table,
};

/// Most processes that are counted separately; the events of others are counted together.
const MAX_PROCESSES: usize = 10_000;
/// Most pairs of process and transition with their own histogram, if these are wanted: 25 MiB.
const MAX_PROCESS_TRANSITIONS: usize = 1_000;
/// Number of processes in a report: this many with the most events, with the most retransmits, and with the most RSTs.
const REPORTED_PROCESSES: usize = 10;

/// A process by PID and command name; `None` for events of unknown owners.
type Process = Option<(u32, Command)>;

/// The counts since its creation.
pub struct Summary {
    by_process: bool,
    transitions: HashMap<(State, State), TransitionCount, FxBuildHasher>,
    processes: KeyedMap<Process, Activity>,
    process_transitions: KeyedMap<(Process, State, State), TransitionCount>,
    endings: HashMap<CloseReason, u64, FxBuildHasher>,
    other_processes: u64,
    activity: Activity,
}

#[derive(Clone, Default)]
struct TransitionCount {
    count: u64,
    times: Latencies,
}

impl TransitionCount {
    fn add(&mut self, transition: &Transition) {
        self.count += 1;
        if let Some(time) = transition.time_in_old.filter(|time| time.source.is_measured()) {
            self.times.record(time.ns);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.times.merge(&other.times);
    }

    fn row(&self, old: State, new: State) -> TransitionRow {
        TransitionRow { old, new, count: self.count, timed: self.times.count(), times: self.times.percentiles() }
    }
}

/// The value of `key`, created if there is room.
fn entry_within<K: Hash + Eq, V: Default>(map: &mut KeyedMap<K, V>, max: usize, key: K) -> Option<&mut V> {
    if map.len() >= max && !map.contains_key(&key) {
        return None;
    }
    Some(map.entry(key).or_default())
}

impl Summary {
    /// An empty summary; with `by_process` it counts the transitions of each process separately.
    #[must_use]
    pub fn new(by_process: bool) -> Self {
        Self {
            by_process,
            transitions: HashMap::default(),
            processes: HashMap::default(),
            process_transitions: HashMap::default(),
            endings: HashMap::default(),
            other_processes: 0,
            activity: Activity::default(),
        }
    }

    /// Counts an event.
    pub fn ingest(&mut self, event: &Event) {
        if event.what == EventKind::OwnerChanged {
            return; // it is not counted, and its process may have no other event
        }
        let counter = event.what.counter();
        counter.into_iter().for_each(|counter| self.activity.add(counter, 1));
        let process = event.owner.map(|owner| (owner.pid, owner.command));
        match entry_within(&mut self.processes, MAX_PROCESSES, process) {
            Some(activity) => counter.into_iter().for_each(|counter| activity.add(counter, 1)),
            None => self.other_processes += 1,
        }
        let EventKind::Transition(transition) = event.what else {
            return;
        };
        self.transitions.entry((transition.old, transition.new)).or_default().add(&transition);
        if let Some(ending) = transition.ending {
            *self.endings.entry(ending).or_default() += 1;
        }
        if self.by_process {
            let key = (process, transition.old, transition.new);
            match entry_within(&mut self.process_transitions, MAX_PROCESS_TRANSITIONS, key) {
                Some(counted) => counted.add(&transition),
                // If there was no room for the process itself, it is counted already.
                None => self.other_processes += u64::from(self.processes.contains_key(&process)),
            }
        }
    }

    /// Adds another summary.
    pub fn merge(&mut self, other: Self) {
        for (key, theirs) in other.transitions {
            self.transitions.entry(key).or_default().merge(&theirs);
        }
        for (key, theirs) in other.processes {
            match entry_within(&mut self.processes, MAX_PROCESSES, key) {
                Some(mine) => mine.merge(&theirs),
                None => self.other_processes += theirs.total(),
            }
        }
        for (key, theirs) in other.process_transitions {
            match entry_within(&mut self.process_transitions, MAX_PROCESS_TRANSITIONS, key) {
                Some(mine) => mine.merge(&theirs),
                None => self.other_processes += theirs.count,
            }
        }
        for (ending, count) in other.endings {
            *self.endings.entry(ending).or_default() += count;
        }
        self.other_processes += other.other_processes;
        self.activity.merge(&other.activity);
    }

    /// Number of processes that are counted separately.
    #[must_use]
    pub fn processes(&self) -> usize {
        self.processes.len()
    }

    /// Number of events of processes that are not counted separately for lack of room.
    #[must_use]
    pub const fn other_processes(&self) -> u64 {
        self.other_processes
    }

    /// Events by kind.
    #[must_use]
    pub const fn activity(&self) -> Activity {
        self.activity
    }

    /// The events of each process that is counted separately, unordered; `None` is that of unknown owners.
    pub fn activities(&self) -> impl Iterator<Item = (Option<(u32, Command)>, Activity)> {
        self.processes.iter().map(|(process, activity)| (*process, *activity))
    }

    /// The number of transitions from one state to another, unordered.
    pub fn transition_counts(&self) -> impl Iterator<Item = (State, State, u64)> {
        self.transitions.iter().map(|(&(old, new), counted)| (old, new, counted.count))
    }

    /// The transitions, in the order of a connection's life.
    #[must_use]
    pub fn transitions(&self) -> Vec<TransitionRow> {
        let mut rows: Vec<_> = self.transitions.iter().map(|(&(old, new), counted)| counted.row(old, new)).collect();
        in_order_of_life(&mut rows);
        rows
    }

    /// The report for this summary and the sockets of `table`, at `now_ns`.
    #[must_use]
    pub fn report(&self, table: &Table, now_ns: u64, span_ns: u64, is_final: bool, losses: Losses) -> Report {
        let transitions = self.transitions();
        let mut processes: Vec<_> = self.processes.iter().map(|(&process, &activity)| (process, activity)).collect();
        // The top processes by each kind of event, so that many transitions do not hide retransmits.
        let ranks: [fn(&Activity) -> u64; 3] = [
            Activity::total,
            |activity| activity.retransmits,
            |activity| activity.resets_sent + activity.resets_received,
        ];
        let mut foremost: HashSet<Process> = HashSet::new();
        for rank in ranks {
            processes.sort_by_key(|(process, activity)| (Reverse(rank(activity)), *process));
            let first = processes.iter().take(REPORTED_PROCESSES).filter(|(_, activity)| rank(activity) > 0);
            foremost.extend(first.map(|(process, _)| *process));
        }
        processes.retain(|(process, _)| foremost.contains(process));
        processes.sort_by_key(|(process, activity)| (Reverse(activity.total()), *process));
        let processes = processes.into_iter().map(|(process, activity)| ProcessRow {
            process,
            activity,
            transitions: self.transitions_of(process),
        });
        Report {
            is_final,
            now_ns,
            span_ns,
            activity: self.activity,
            transitions,
            endings: ending_rows(&self.endings),
            processes: Some(processes.collect()),
            sockets: Some(socket_rows(table, now_ns)),
            half_open: Some(table.half_open_matching()),
            keys: None,
            losses,
        }
    }

    fn transitions_of(&self, process: Process) -> Vec<TransitionRow> {
        let own = self.process_transitions.iter().filter(|((whose, ..), _)| *whose == process);
        let mut rows: Vec<_> = own.map(|(&(_, old, new), counted)| counted.row(old, new)).collect();
        in_order_of_life(&mut rows);
        rows
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;
    use crate::model::{
        event::{Owner, OwnerSource, Socket, TimeInState, TimeSource},
        state::StateSet,
    };

    fn event(what: EventKind, owner: Option<Owner>) -> Event {
        let end = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 1);
        let socket = Socket { sk: Some(1), ..Socket::new(State::Established, end, end) };
        Event { cpu: Some(0), owner, ..Event::new(100, socket, what) }
    }

    fn process(pid: u32) -> Option<Owner> {
        let command = Command::new(*b"some\0\0\0\0\0\0\0\0\0\0\0\0");
        Some(Owner { pid, uid: 0, cgroup: 0, start: None, command, source: OwnerSource::Connect })
    }

    fn transition(time: Option<(u64, TimeSource)>, ending: Option<CloseReason>) -> EventKind {
        EventKind::Transition(Transition {
            time_in_old: time.map(|(ns, source)| TimeInState { ns, source }),
            ending,
            ..Transition::new(State::SynRecv, State::Established)
        })
    }

    fn report(summary: &Summary, table: &Table) -> Report {
        summary.report(table, 1000, 0, true, Losses::default())
    }

    fn empty_table() -> Table {
        Table::new(1, StateSet::default(), true)
    }

    #[test]
    fn unknown_times_and_lower_bounds_are_counted_but_not_measured() {
        let mut summary = Summary::new(false);
        summary.ingest(&event(transition(None, None), None));
        summary.ingest(&event(transition(Some((9_000_000, TimeSource::HandshakeLowerBound)), None), None));
        assert_eq!(report(&summary, &empty_table()).transitions[0].times, None);
        summary.ingest(&event(transition(Some((500, TimeSource::Handshake)), None), None));
        summary.ingest(&event(transition(Some((700, TimeSource::Observed)), None), None));
        let row = report(&summary, &empty_table()).transitions[0];
        assert_eq!((row.count, row.timed, row.times.unwrap().max_ns), (4, 2, 700));
    }

    #[test]
    fn processes_with_the_most_events_come_first_and_unknown_owners_are_one_of_them() {
        let mut summary = Summary::new(false);
        for pid in 1..=12 {
            for _ in 0..pid {
                summary.ingest(&event(EventKind::ResetReceived(None), process(pid)));
            }
        }
        for _ in 0..5 {
            summary.ingest(&event(EventKind::ResetSent { reason: None, facts: None }, None));
        }
        summary.ingest(&event(EventKind::OwnerChanged, process(99)));
        let report = report(&summary, &empty_table());
        let pids: Vec<_> = report.processes.iter().flatten().map(|row| row.process.map(|(pid, _)| pid)).collect();
        let some = [12, 11, 10, 9, 8, 7, 6].map(Some);
        assert_eq!(pids, [&some[..], &[None, Some(5), Some(4)]].concat());
        assert_eq!((report.activity.resets_received, report.activity.resets_sent), (78, 5));
        assert!(report.processes.iter().flatten().all(|row| row.transitions.is_empty()), "they were not asked for");
    }

    #[test]
    fn transitions_are_told_by_process_where_that_is_asked_for() {
        let mut summary = Summary::new(true);
        for (pid, times) in [(1, 3), (2, 1)] {
            for _ in 0..times {
                summary.ingest(&event(transition(Some((500, TimeSource::Observed)), None), process(pid)));
            }
        }
        let counts: Vec<_> =
            report(&summary, &empty_table()).processes.iter().flatten().map(|row| row.transitions[0].count).collect();
        assert_eq!(counts, [3, 1]);
    }

    #[test]
    fn pairs_of_process_and_transition_are_bounded_and_the_rest_is_counted() {
        let mut summary = Summary::new(true);
        for pid in 0..MAX_PROCESS_TRANSITIONS as u32 + 7 {
            summary.ingest(&event(transition(None, None), process(pid)));
        }
        assert_eq!(summary.process_transitions.len(), MAX_PROCESS_TRANSITIONS);
        assert_eq!(summary.other_processes(), 7);
        let mut other = Summary::new(true);
        other.ingest(&event(transition(None, None), process(1_000_000)));
        other.ingest(&event(transition(None, None), process(0)));
        summary.merge(other);
        assert_eq!((summary.process_transitions.len(), summary.other_processes()), (MAX_PROCESS_TRANSITIONS, 8));
    }

    #[test]
    fn endings_are_counted_by_kind_and_error() {
        let mut summary = Summary::new(false);
        let reset = |errno| Some(CloseReason::ResetByPeer(errno));
        for ending in [reset(libc::EPIPE), Some(CloseReason::Normal), reset(libc::ECONNRESET), reset(libc::EPIPE), None]
        {
            summary.ingest(&event(transition(None, ending), None));
        }
        let endings = report(&summary, &empty_table()).endings;
        let want = [
            (CloseReason::ResetByPeer(libc::EPIPE), 2),
            (CloseReason::Normal, 1),
            (CloseReason::ResetByPeer(libc::ECONNRESET), 1),
        ];
        assert_eq!(endings, want);
    }

    #[test]
    fn sockets_are_grouped_by_state_and_process() {
        let mut table = Table::new(10, StateSet::default(), true);
        for (sk, time_ns, pid) in [(1, 100, 7), (2, 400, 7), (3, 300, 8)] {
            let mut opened = event(transition(None, None), process(pid));
            (opened.socket.sk, opened.time_ns) = (Some(sk), time_ns);
            table.ingest(&mut opened);
        }
        let mut nobodys = event(transition(None, None), None);
        nobodys.socket.sk = Some(4);
        table.ingest(&mut nobodys);
        let rows: Vec<_> = report(&Summary::new(false), &table)
            .sockets
            .iter()
            .flatten()
            .map(|row| (row.state, row.owner.map(|owner| owner.pid), row.count, row.oldest.ns))
            .collect();
        let state = State::Established;
        assert_eq!(rows, [(state, Some(7), 2, 900), (state, None, 1, 900), (state, Some(8), 1, 700)]);
    }
}
