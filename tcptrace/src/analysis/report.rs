//! The summary of a time span, as one value that all outputs render.

use std::collections::HashMap;

use crate::{
    analysis::histogram::Percentiles,
    model::{
        age::Age,
        close_reason::CloseReason,
        event::{Command, Owner, OwnerSource},
        event_kind::Counter,
        losses::Losses,
        state::State,
    },
    table::{HalfOpen, Table},
};

/// The summary of a time span.
#[derive(Clone, Debug)]
pub struct Report {
    /// True for the whole run, false for an interval.
    pub is_final: bool,
    /// When it was made, CLOCK_MONOTONIC in ns.
    pub now_ns: u64,
    /// Length of the span, in ns.
    pub span_ns: u64,
    /// Events by kind.
    pub activity: Activity,
    /// Transitions, in the order of a connection's life.
    pub transitions: Vec<TransitionRow>,
    /// How connections ended, most frequent first.
    pub endings: Vec<(CloseReason, u64)>,
    /// Processes with the most events; `None` if not known (aggregate mode), as in the next two.
    pub processes: Option<Vec<ProcessRow>>,
    /// Sockets alive now by state, owner and holders.
    pub sockets: Option<Vec<SocketRow>>,
    /// Half-open connections by local address, as the last poll found them.
    pub half_open: Option<Vec<HalfOpen>>,
    /// The same counts for each port or cgroup; `None` if not wanted.
    pub keys: Option<Vec<KeyRow>>,
    /// Losses since the start.
    pub losses: Losses,
}

/// The transitions from one state to another.
#[derive(Clone, Copy, Debug)]
pub struct TransitionRow {
    /// State that was left.
    pub old: State,
    /// State that was entered.
    pub new: State,
    /// Number of transitions.
    pub count: u64,
    /// Number of transitions whose time in `old` is known.
    pub timed: u64,
    /// Percentiles of the known times.
    pub times: Option<Percentiles>,
}

/// The events of a process.
#[derive(Clone, Debug)]
pub struct ProcessRow {
    /// PID and command name; `None` for events of unknown owners.
    pub process: Option<(u32, Command)>,
    /// Number of events of its sockets, by kind.
    pub activity: Activity,
    /// Transitions in the order of a connection's life; empty if not counted by process.
    pub transitions: Vec<TransitionRow>,
}

/// What the counts of `--aggregate` are separated by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// Port of a service: the local port of listeners and incoming connections, the remote port of outgoing ones. `None` if
    /// not known.
    Port(Option<u16>),
    /// Cgroup of the owner: its id, and its path if known. `None` for unknown owners.
    Cgroup(Option<(u64, Option<String>)>),
    /// All keys for which there was no room.
    Other,
}

/// The counts of one port or cgroup.
#[derive(Clone, Debug)]
pub struct KeyRow {
    /// The port or cgroup.
    pub key: Key,
    /// Events by kind.
    pub activity: Activity,
    /// Transitions, in the order of a connection's life.
    pub transitions: Vec<TransitionRow>,
    /// How connections ended, most frequent first.
    pub endings: Vec<(CloseReason, u64)>,
}

/// Sockets in the same state, with the same owner (known from the same source) and the same holders.
#[derive(Clone, Debug)]
pub struct SocketRow {
    /// The state.
    pub state: State,
    /// The owner; `None` if not known.
    pub owner: Option<Owner>,
    /// Number of sockets.
    pub count: u64,
    /// Longest time in the state.
    pub oldest: Age,
    /// The process that created them, if known and not the owner.
    pub creator: Option<(u32, Command)>,
    /// The process that accepted them, if known and not the owner.
    pub acceptor: Option<(u32, Command)>,
    /// The processes that hold a descriptor of them, by PID; `None` if not known.
    pub holders: Option<Vec<(u32, Command)>>,
}

/// Number of events by kind.
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
    pub(crate) const fn add(&mut self, counter: Counter, count: u64) {
        let counted = match counter {
            Counter::Transitions => &mut self.transitions,
            Counter::Retransmits | Counter::SynAckRetransmits => &mut self.retransmits,
            Counter::ResetsSent => &mut self.resets_sent,
            Counter::ResetsReceived => &mut self.resets_received,
        };
        *counted = counted.wrapping_add(count);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.transitions += other.transitions;
        self.retransmits += other.retransmits;
        self.resets_sent += other.resets_sent;
        self.resets_received += other.resets_received;
    }

    /// What was counted since `before`.
    pub(crate) const fn since(&self, before: &Self) -> Self {
        Self {
            transitions: self.transitions.saturating_sub(before.transitions),
            retransmits: self.retransmits.saturating_sub(before.retransmits),
            resets_sent: self.resets_sent.saturating_sub(before.resets_sent),
            resets_received: self.resets_received.saturating_sub(before.resets_received),
        }
    }

    pub(crate) const fn total(&self) -> u64 {
        self.transitions + self.retransmits + self.resets_sent + self.resets_received
    }
}

/// Endings, most frequent first.
pub(crate) fn ending_rows<'a>(counts: impl IntoIterator<Item = (&'a CloseReason, &'a u64)>) -> Vec<(CloseReason, u64)> {
    let mut rows: Vec<_> = counts.into_iter().map(|(&ending, &count)| (ending, count)).collect();
    rows.sort_by_key(|(ending, count)| (std::cmp::Reverse(*count), ending.name(), ending.errno()));
    rows
}

fn rank(state: State) -> Option<usize> {
    State::ALL.iter().position(|other| *other == state)
}

pub(crate) fn in_order_of_life(rows: &mut [TransitionRow]) {
    rows.sort_by_key(|row| (rank(row.old), rank(row.new)));
}

pub(crate) fn socket_rows(table: &Table, now_ns: u64) -> Vec<SocketRow> {
    type Process = (u32, Command);
    type Key = (State, Option<(u32, OwnerSource)>, [Option<Process>; 2], Option<Vec<Process>>);
    let mut groups: HashMap<Key, SocketRow> = HashMap::new();
    for connection in table.connections() {
        let holders = table.holders_of(connection).map(|holders| {
            let mut processes: Vec<_> = holders.iter().map(|holder| (holder.pid, holder.command)).collect();
            processes.dedup_by_key(|(pid, _)| *pid); // sorted by PID
            processes
        });
        // Rows with different sources stay separate: a connection that was not accepted yet is not the application's leak.
        let owner = connection.owner().map(|owner| (owner.pid, owner.source));
        let other = |process: Option<Owner>| {
            let is_other = |process: &Owner| Some(process.pid) != owner.map(|(pid, _)| pid);
            process.filter(is_other).map(|process| (process.pid, process.command))
        };
        let [creator, acceptor] = [other(connection.creator()), other(connection.acceptor())];
        let key = (connection.state, owner, [creator, acceptor], holders);
        let age = Age { ns: now_ns.saturating_sub(connection.since_ns), source: connection.since };
        let holders = key.3.clone();
        let row = groups.entry(key).or_insert_with(|| SocketRow {
            state: connection.state,
            owner: connection.owner(),
            count: 0,
            oldest: age,
            creator,
            acceptor,
            holders,
        });
        row.count += 1;
        if age.ns > row.oldest.ns {
            (row.oldest, row.owner) = (age, connection.owner());
        }
    }
    let mut rows: Vec<_> = groups.into_values().collect();
    let owner = |row: &SocketRow| row.owner.map(|owner| (owner.pid, owner.source));
    let pids = |row: &SocketRow| Some(row.holders.as_ref()?.iter().map(|(pid, _)| *pid).collect::<Vec<_>>());
    rows.sort_by_cached_key(|row| (rank(row.state), std::cmp::Reverse(row.count), owner(row), pids(row)));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        holders::{Holder, Holders},
        snapshot::Snapshot,
        socket::{Kind, ListedSocket},
        state::StateSet,
    };

    #[test]
    fn sockets_with_other_holders_are_in_rows_of_their_own() {
        let listed = |cookie| ListedSocket {
            sk: Some(cookie),
            cookie: Some(cookie),
            handle: cookie,
            entered_ns: Some(10 * cookie),
            ..ListedSocket::new(
                Kind::Full,
                State::CloseWait,
                7,
                "127.0.0.1:1".parse().unwrap(),
                "127.0.0.1:2".parse().unwrap(),
            )
        };
        let command = Command::new([b'a'; 16]);
        let holder =
            |handle, pid| Holder { handle, pid, ns_pid: pid, fd: pid + 3, uid: 0, cgroup: None, start: None, command };
        // Nobody holds 1; one process 2 and, by two descriptors, 3; two hold 4, and two others 5.
        let holders = [(2, 10), (3, 10), (4, 10), (4, 11), (5, 10), (5, 12)].map(|(handle, pid)| holder(handle, pid));
        let twice = Holder { fd: 99, ..holder(3, 10) };
        let snapshot = Snapshot {
            started_ns: 90,
            ended_ns: 100,
            sockets: (1..=5).map(listed).collect(),
            holders: Some(Holders::new(holders.into_iter().chain([twice]).collect())),
            ..Snapshot::default()
        };
        let mut table = Table::new(10, StateSet::default(), true);
        table.reconcile(&snapshot, |_, _| true, |_| ());
        let rows: Vec<_> = socket_rows(&table, 100)
            .iter()
            .map(|row| {
                let pids = row.holders.as_ref().map(|holders| holders.iter().map(|(pid, _)| *pid).collect::<Vec<_>>());
                (row.count, row.owner.map(|owner| owner.source), pids.unwrap(), row.oldest.ns)
            })
            .collect();
        let expected = [
            (2, Some(OwnerSource::Holder), vec![10], 80),
            (1, None, vec![], 90),
            (1, Some(OwnerSource::Shared), vec![10, 11], 60),
            (1, Some(OwnerSource::Shared), vec![10, 12], 50),
        ];
        assert_eq!(rows, expected);
    }
}
