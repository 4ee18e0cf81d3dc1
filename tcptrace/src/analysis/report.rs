//! What is told of a span of time. All outputs render it.

use std::collections::HashMap;

use crate::{
    analysis::histogram::Percentiles,
    model::{
        age::Age,
        close_reason::CloseReason,
        event::{Command, EventKind, Owner, OwnerSource},
        losses::Losses,
        state::State,
    },
    table::{HalfOpen, Table},
};

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
    pub endings: Vec<(CloseReason, u64)>,
    /// Processes with the most events; `None` where they are not known, as for the next two.
    pub processes: Option<Vec<ProcessRow>>,
    /// Sockets alive now by state, owner and holders.
    pub sockets: Option<Vec<SocketRow>>,
    /// Half-open connections by local address, as the last poll found them.
    pub half_open: Option<Vec<HalfOpen>>,
    /// The same counts by port or cgroup; `None` where that was not asked for.
    pub keys: Option<Vec<KeyRow>>,
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
#[derive(Clone, Debug)]
pub struct ProcessRow {
    /// Its PID and command name; `None`: the events whose owner is not known.
    pub process: Option<(u32, Command)>,
    /// What its sockets did.
    pub activity: Activity,
    /// Their transitions, in the order of a connection's life; empty where they were not counted by process.
    pub transitions: Vec<TransitionRow>,
}

/// What is counted apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// Port of a service: the local port of a listener and of a connection that came in, the remote port of one that was
    /// made here. `None`: the sockets of which that is not known.
    Port(Option<u16>),
    /// Cgroup of the owner: its id and its path, if that was found. `None`: the sockets whose owner is not known.
    Cgroup(Option<(u64, Option<String>)>),
    /// All for which there was no room.
    Other,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct KeyRow {
    /// Which.
    pub key: Key,
    /// Events by kind.
    pub activity: Activity,
    /// Transitions, in the order of a connection's life.
    pub transitions: Vec<TransitionRow>,
    /// How connections ended, most frequent first.
    pub endings: Vec<(CloseReason, u64)>,
}

/// Sockets in one state that belong to one process, which is known in one way, and are held by the same processes.
#[derive(Clone, Debug)]
pub struct SocketRow {
    /// The state.
    pub state: State,
    /// The process, `None` where it is not known.
    pub owner: Option<Owner>,
    /// How many sockets.
    pub count: u64,
    /// Time that the oldest of them has been in the state.
    pub oldest: Age,
    /// The process that made them, where that is known and another one than the owner.
    pub creator: Option<(u32, Command)>,
    /// The process that accepted them, under the same conditions.
    pub acceptor: Option<(u32, Command)>,
    /// The processes that hold them by a descriptor, by PID; `None` where that is not known.
    pub holders: Option<Vec<(u32, Command)>>,
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
    pub(crate) fn add(&mut self, what: &EventKind) {
        *match what {
            EventKind::Retransmit(retransmit) if retransmit.failed.is_some() => return, // nothing was sent
            EventKind::Transition(_) => &mut self.transitions,
            EventKind::Retransmit(_) | EventKind::SynAckRetransmit { .. } => &mut self.retransmits,
            EventKind::ResetSent { .. } => &mut self.resets_sent,
            EventKind::ResetReceived(_) => &mut self.resets_received,
            EventKind::OwnerChanged => return,
        } += 1;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.transitions += other.transitions;
        self.retransmits += other.retransmits;
        self.resets_sent += other.resets_sent;
        self.resets_received += other.resets_received;
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
            processes.dedup_by_key(|(pid, _)| *pid); // they are in the order of PIDs
            processes
        });
        // How the owner is known matters: a connection that nobody accepted yet is no leak of the application's.
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
