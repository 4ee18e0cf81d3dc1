//! Counts and latencies over a time, and the report made of them, which all outputs render.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use crate::{
    ending::Ending,
    event::{Command, Event, Owner, TimeSource, What},
    latency::{Latencies, Percentiles},
    losses::Losses,
    state::State,
    table::Table,
};

/// Processes that are counted apart; events of others are counted together.
const MAX_PROCESSES: usize = 10_000;
/// Processes in a report.
const REPORTED_PROCESSES: usize = 10;

/// What happened since it was made or taken.
#[derive(Default)]
pub struct Summary {
    transitions: HashMap<(State, State), TransitionCount, FxBuildHasher>,
    processes: HashMap<(u32, Command), Activity, FxBuildHasher>,
    endings: HashMap<Ending, u64, FxBuildHasher>,
    other_processes: u64,
    activity: Activity,
}

#[derive(Clone, Default)]
struct TransitionCount {
    count: u64,
    times: Latencies,
}

/// Events by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Changes of state.
    pub transitions: u64,
    /// Retransmitted segments and SYN-ACKs.
    pub retransmits: u64,
    /// RSTs sent.
    pub resets_sent: u64,
    /// RSTs received.
    pub resets_received: u64,
}

impl Activity {
    fn add(&mut self, what: &What) {
        *match what {
            What::Transition(_) => &mut self.transitions,
            What::Retransmit(_) | What::SynAckRetransmit { .. } => &mut self.retransmits,
            What::ResetSent { .. } => &mut self.resets_sent,
            What::ResetReceived => &mut self.resets_received,
            What::OwnerChanged => return,
        } += 1;
    }

    fn merge(&mut self, other: &Self) {
        self.transitions += other.transitions;
        self.retransmits += other.retransmits;
        self.resets_sent += other.resets_sent;
        self.resets_received += other.resets_received;
    }

    const fn total(&self) -> u64 {
        self.transitions + self.retransmits + self.resets_sent + self.resets_received
    }
}

impl Summary {
    /// Takes in an event.
    pub fn ingest(&mut self, event: &Event) {
        self.activity.add(&event.what);
        if let Some(owner) = &event.owner {
            let key = (owner.pid, owner.command);
            if let Some(process) = self.processes.get_mut(&key) {
                process.add(&event.what);
            } else if self.processes.len() < MAX_PROCESSES {
                self.processes.entry(key).or_default().add(&event.what);
            } else {
                self.other_processes += 1;
            }
        }
        if let What::Transition(transition) = event.what {
            let entry = self.transitions.entry((transition.old, transition.new)).or_default();
            entry.count += 1;
            // A lower bound is no member of the distribution.
            if let Some(time) = transition.time_in_old.filter(|time| time.source != TimeSource::HandshakeLowerBound) {
                entry.times.record(time.ns);
            }
            if let Some(ending) = transition.ending {
                *self.endings.entry(ending).or_default() += 1;
            }
        }
    }

    /// Takes in all of another summary.
    pub fn merge(&mut self, other: Self) {
        for (key, theirs) in other.transitions {
            let mine = self.transitions.entry(key).or_default();
            mine.count += theirs.count;
            mine.times.merge(&theirs.times);
        }
        for (key, theirs) in other.processes {
            if self.processes.len() < MAX_PROCESSES || self.processes.contains_key(&key) {
                self.processes.entry(key).or_default().merge(&theirs);
            } else {
                self.other_processes += theirs.total();
            }
        }
        for (ending, count) in other.endings {
            *self.endings.entry(ending).or_default() += count;
        }
        self.other_processes += other.other_processes;
        self.activity.merge(&other.activity);
    }

    /// Events of processes that there was no room to count apart.
    #[must_use]
    pub const fn other_processes(&self) -> u64 {
        self.other_processes
    }

    /// The report on this summary and on the sockets of `table`, as of `now_ns`.
    #[must_use]
    pub fn report(&self, table: &Table, now_ns: u64, span_ns: u64, is_final: bool, losses: Losses) -> Report {
        let mut transitions: Vec<_> = self
            .transitions
            .iter()
            .map(|(&(old, new), counted)| TransitionRow {
                old,
                new,
                count: counted.count,
                timed: counted.times.count(),
                times: counted.times.percentiles(),
            })
            .collect();
        let order = |state: State| State::ALL.iter().position(|other| *other == state);
        transitions.sort_by_key(|row| (order(row.old), order(row.new)));
        let mut processes: Vec<_> =
            self.processes.iter().map(|(&(pid, command), &activity)| ProcessRow { pid, command, activity }).collect();
        processes.sort_by_key(|row| (std::cmp::Reverse(row.activity.total()), row.pid));
        processes.truncate(REPORTED_PROCESSES);
        let mut endings: Vec<_> = self.endings.iter().map(|(&ending, &count)| (ending, count)).collect();
        endings.sort_by_key(|(ending, count)| (std::cmp::Reverse(*count), ending.name(), ending.errno()));
        Report {
            is_final,
            now_ns,
            span_ns,
            activity: self.activity,
            transitions,
            endings,
            processes,
            sockets: socket_rows(table, now_ns),
            losses,
        }
    }
}

fn socket_rows(table: &Table, now_ns: u64) -> Vec<SocketRow> {
    let mut groups: HashMap<(State, Option<u32>), SocketRow> = HashMap::new();
    for connection in table.connections() {
        let key = (connection.state, connection.owner.map(|owner| owner.pid));
        let age_ns = now_ns.saturating_sub(connection.since_ns);
        let row = groups.entry(key).or_insert_with(|| SocketRow {
            state: connection.state,
            owner: connection.owner,
            count: 0,
            oldest_ns: 0,
        });
        row.count += 1;
        row.oldest_ns = row.oldest_ns.max(age_ns);
    }
    let mut rows: Vec<_> = groups.into_values().collect();
    let order = |state: State| State::ALL.iter().position(|other| *other == state);
    rows.sort_by_key(|row| (order(row.state), std::cmp::Reverse(row.count), row.owner.map(|owner| owner.pid)));
    rows
}

/// A report on a span of time.
#[derive(Clone, Debug)]
pub struct Report {
    /// Is it on the whole run, not on an interval?
    pub is_final: bool,
    /// CLOCK_MONOTONIC of its making, in ns.
    pub now_ns: u64,
    /// Length of the span, in ns.
    pub span_ns: u64,
    /// Events by kind.
    pub activity: Activity,
    /// Transitions, in the order of a connection's life.
    pub transitions: Vec<TransitionRow>,
    /// How connections ended, most frequent first.
    pub endings: Vec<(Ending, u64)>,
    /// Processes with the most events.
    pub processes: Vec<ProcessRow>,
    /// Sockets alive now by state and owner. Sockets from before the start that made no event are not among them.
    pub sockets: Vec<SocketRow>,
    /// What was lost since the start.
    pub losses: Losses,
}

/// One pair of states.
#[derive(Clone, Copy, Debug)]
pub struct TransitionRow {
    /// State that was left.
    pub old: State,
    /// State that was entered.
    pub new: State,
    /// How often.
    pub count: u64,
    /// How many of them have a known time in `old`.
    pub timed: u64,
    /// Distribution of the known times.
    pub times: Option<Percentiles>,
}

/// One process.
#[derive(Clone, Copy, Debug)]
pub struct ProcessRow {
    /// Its PID.
    pub pid: u32,
    /// Its command name.
    pub command: Command,
    /// What its sockets did.
    pub activity: Activity,
}

/// Sockets in one state that belong to one process.
#[derive(Clone, Copy, Debug)]
pub struct SocketRow {
    /// The state.
    pub state: State,
    /// The process, `None` where it is not known.
    pub owner: Option<Owner>,
    /// How many sockets.
    pub count: u64,
    /// Time that the oldest of them has been in the state, in ns.
    pub oldest_ns: u64,
}
