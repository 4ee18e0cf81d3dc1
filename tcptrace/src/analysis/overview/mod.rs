//! What is alive and what goes on at one moment: each socket in a few words, and sums by state, process and service.
//!
//! For example, 40 sockets of a server in CLOSE_WAIT are 40 [`SocketLine`]s, 40 in `states`, 40 in the server's
//! [`ProcessLine`] and 40 in the [`ServiceLine`] of its port. It is made anew for each refresh of a screen, in one pass over
//! the table, and formats nothing.

pub mod history;

use std::net::SocketAddr;

use crate::{
    analysis::{
        overview::history::{Rate, Rates},
        report::{Activity, TransitionRow},
        summary::Summary,
    },
    model::{
        age::{Age, AgeSource},
        event::{Command, OwnerSource},
        holders::Holder,
        keyed::{Keyed, KeyedMap},
        state::{State, StateCounts},
    },
    table::{Connection, Table},
};

/// A moment.
#[derive(Clone, Debug, Default)]
pub struct Overview {
    /// CLOCK_MONOTONIC in ns.
    pub now_ns: u64,
    /// The sockets that the filter shows.
    pub sockets: Vec<SocketLine>,
    /// Number of sockets in all.
    pub all_sockets: usize,
    /// Their number in each state, in the order of [`State::ALL`].
    pub states: StateCounts,
    /// Processes with sockets or events.
    pub processes: Vec<ProcessLine>,
    /// Local ports at which connections come in.
    pub services: Vec<ServiceLine>,
    /// Sockets that belong to no service: outgoing connections, and those whose direction is not known.
    pub elsewhere: u64,
    /// Transitions since counting began, in the order of a connection's life.
    pub edges: Vec<EdgeLine>,
    /// Index by process and by service, kept between two moments for its memory.
    of_process: KeyedMap<(u32, Command), u32>,
    of_service: KeyedMap<(Option<u32>, u16), u32>,
}

/// A socket.
#[derive(Clone, Copy, Debug)]
pub struct SocketLine {
    /// Local end.
    pub local: SocketAddr,
    /// Remote end; unspecified for listeners.
    pub remote: SocketAddr,
    /// CLOCK_MONOTONIC in ns at which it entered its state, or an upper bound on that.
    pub since_ns: u64,
    /// Cookie, if known.
    pub cookie: Option<u64>,
    /// Bytes not read and not acknowledged (of a listener: the accept queue and its limit) as of the last listing that
    /// showed it; `None` if no listing did.
    pub queues: Option<(u32, u32)>,
    /// Inode number of its network namespace.
    pub netns: Option<u32>,
    /// Index of its process; `None` if that is not known, or if only the kernel holds it.
    pub process: Option<u32>,
    /// Retransmissions so far that were seen.
    pub retransmits: u32,
    /// Its state.
    pub state: State,
    /// How `since_ns` was determined.
    pub since: AgeSource,
    /// How the process is known.
    pub by: Option<OwnerSource>,
    /// True if no file refers to it any more.
    pub is_orphan: bool,
    /// True if it came through a listener.
    pub is_incoming: bool,
}

impl SocketLine {
    fn new(known: &Connection, process: Option<u32>) -> Self {
        let listed = known.facts().map(|facts| &facts.socket);
        Self {
            local: known.local(),
            remote: known.remote(),
            since_ns: known.since_ns,
            cookie: known.cookie(),
            queues: listed.map(|socket| (socket.receive_queue, socket.send_queue)),
            netns: known.netns(),
            process,
            retransmits: known.retransmits().total,
            state: known.state,
            since: known.since,
            by: known.owner().map(|owner| owner.source),
            is_orphan: known.orphan == Some(true),
            is_incoming: known.is_active() == Some(false) || known.state == State::SynRecv,
        }
    }

    /// Time in its state at `now_ns`.
    #[must_use]
    pub const fn age(&self, now_ns: u64) -> Age {
        Age { ns: now_ns.saturating_sub(self.since_ns), source: self.since }
    }

    /// A number that stays the same while it lives.
    #[must_use]
    pub fn id(&self) -> u64 {
        use std::hash::BuildHasher as _;
        self.cookie.unwrap_or_else(|| Keyed.hash_one((self.netns, self.local, self.remote)))
    }
}

/// What finds a socket again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketId {
    /// Local end.
    pub local: SocketAddr,
    /// Remote end.
    pub remote: SocketAddr,
    /// Inode number of its network namespace, if known.
    pub netns: Option<u32>,
    /// Cookie, if known.
    pub cookie: Option<u64>,
}

impl From<&SocketLine> for SocketId {
    fn from(line: &SocketLine) -> Self {
        Self { local: line.local, remote: line.remote, netns: line.netns, cookie: line.cookie }
    }
}

/// A process.
#[derive(Clone, Copy, Debug)]
pub struct ProcessLine {
    /// PID.
    pub pid: u32,
    /// Command name.
    pub command: Command,
    /// Its sockets by state.
    pub states: StateCounts,
    /// Number of its sockets.
    pub sockets: u64,
    /// Events of its sockets since counting began.
    pub activity: Activity,
    /// Their rates now.
    pub rates: Rates,
}

/// A local port.
#[derive(Clone, Debug)]
pub struct ServiceLine {
    /// Inode number of the network namespace.
    pub netns: Option<u32>,
    /// The port.
    pub port: u16,
    /// Its sockets by state, listeners included.
    pub states: StateCounts,
    /// Number of its sockets.
    pub sockets: u64,
    /// The longest accept queue of its listeners as of the last listing, with its limit.
    pub accept_queue: Option<(u32, u32)>,
    /// Half-open requests, as of the last poll.
    pub half_open: u64,
    /// Index of the process that listens, else of one that has such a socket.
    pub process: Option<u32>,
}

/// The transitions from one state to another.
#[derive(Clone, Copy, Debug)]
pub struct EdgeLine {
    /// Their number and times.
    pub row: TransitionRow,
    /// Transitions per second now.
    pub rate: Rate,
}

impl Overview {
    /// Takes in a moment. `shows` is the filter; events were counted by `summary`.
    pub fn take(
        &mut self,
        table: &Table,
        summary: &Summary,
        rates: &history::History,
        now_ns: u64,
        mut shows: impl FnMut(&Connection, &[Holder]) -> bool,
    ) {
        self.clear();
        self.now_ns = now_ns;
        for known in table.all() {
            if !shows(known, table.holders_of(known).unwrap_or_default()) {
                continue;
            }
            let owner = known.owner().filter(|_| known.orphan != Some(true));
            let process = owner.map(|owner| self.process(owner.pid, owner.command));
            self.states[known.state.index()] += 1;
            if let Some(line) = process.and_then(|index| self.processes.get_mut(index as usize)) {
                line.states[known.state.index()] += 1;
                line.sockets += 1;
            }
            let line = SocketLine::new(known, process);
            if line.state == State::Listen || line.is_incoming {
                self.service(&line);
            }
            self.sockets.push(line);
        }
        self.all_sockets = table.len();
        self.count_services();
        for half_open in table.half_open() {
            let index = self.of_service.get(&(Some(half_open.netns), half_open.local.port()));
            if let Some(line) = index.and_then(|index| self.services.get_mut(*index as usize)) {
                line.half_open += half_open.count;
            }
        }
        for (process, activity) in summary.activities() {
            let Some((pid, command)) = process else { continue };
            let index = self.process(pid, command) as usize;
            if let Some(line) = self.processes.get_mut(index) {
                (line.activity, line.rates) = (activity, rates.of_process((pid, command)));
            }
        }
        let edge = |row: TransitionRow| EdgeLine { rate: rates.of_edge(row.old, row.new), row };
        self.edges.extend(summary.transitions().into_iter().map(edge));
    }

    fn clear(&mut self) {
        self.sockets.clear();
        self.states = StateCounts::default();
        self.processes.clear();
        self.services.clear();
        self.elsewhere = 0;
        self.edges.clear();
        self.of_process.clear();
        self.of_service.clear();
    }

    fn process(&mut self, pid: u32, command: Command) -> u32 {
        let next = self.processes.len() as u32;
        let index = *self.of_process.entry((pid, command)).or_insert(next);
        if index == next {
            let (activity, rates) = (Activity::default(), Rates::default());
            self.processes.push(ProcessLine {
                pid,
                command,
                states: StateCounts::default(),
                sockets: 0,
                activity,
                rates,
            });
        }
        index
    }

    fn service(&mut self, socket: &SocketLine) {
        let next = self.services.len() as u32;
        let index = *self.of_service.entry((socket.netns, socket.local.port())).or_insert(next);
        if index == next {
            self.services.push(ServiceLine {
                netns: socket.netns,
                port: socket.local.port(),
                states: StateCounts::default(),
                sockets: 0,
                accept_queue: None,
                half_open: 0,
                process: None,
            });
        }
    }

    /// Counts the sockets of each service. A connection whose direction was not seen counts if its local port is a
    /// service's.
    fn count_services(&mut self) {
        for socket in &self.sockets {
            let index = self.of_service.get(&(socket.netns, socket.local.port()));
            let Some(line) = index.and_then(|index| self.services.get_mut(*index as usize)) else {
                self.elsewhere += 1;
                continue;
            };
            line.sockets += 1;
            line.states[socket.state.index()] += 1;
            if socket.state == State::Listen {
                line.process = socket.process.or(line.process);
                let longest = line.accept_queue.max(socket.queues);
                line.accept_queue = longest;
            } else {
                line.process = line.process.or(socket.process);
            }
        }
    }

    /// The process of a socket or service.
    #[must_use]
    pub fn process_of(&self, index: Option<u32>) -> Option<&ProcessLine> {
        self.processes.get(index? as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::{history::History, *};
    use crate::model::{
        event::{Event, EventKind, Owner, Socket, Transition},
        state::StateSet,
    };

    const S: u64 = 1_000_000_000;

    fn transition(sk: u64, time_ns: u64, old: State, new: State, local: u16, pid: Option<u32>) -> Event {
        let end = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let socket = Socket { sk: Some(1 << 63 | sk), ..Socket::new(new, end(local), end(9)) };
        let command = Command::new(*b"some\0\0\0\0\0\0\0\0\0\0\0\0");
        let owner = pid.map(|pid| Owner { pid, uid: 0, cgroup: 0, start: None, command, source: OwnerSource::Accept });
        Event { owner, ..Event::new(time_ns, socket, EventKind::Transition(Transition::new(old, new))) }
    }

    #[test]
    fn sums_are_those_of_the_sockets() {
        let mut table = Table::new(100, StateSet::default(), true);
        let (mut summary, mut history) = (Summary::new(false), History::new(0));
        let mut add = |mut event: Event| {
            summary.ingest(&event);
            table.ingest(&mut event);
        };
        use State::{Close, CloseWait, Established, Listen, SynRecv, SynSent};
        add(transition(1, S, Close, Listen, 80, Some(7)));
        for sk in 2..5 {
            add(transition(sk, S, Listen, SynRecv, 80, None));
            add(transition(sk, S, SynRecv, Established, 80, Some(7)));
        }
        add(transition(4, 2 * S, Established, CloseWait, 80, Some(7)));
        add(transition(5, 2 * S, Close, SynSent, 4000, Some(8)));
        history.advance(2 * S, &summary, table.len() as u64);
        let mut overview = Overview::default();
        overview.take(&table, &summary, &history, 5 * S, |_, _| true);
        assert_eq!((overview.sockets.len(), overview.all_sockets, overview.elsewhere), (5, 5, 1));
        let of = |states: &StateCounts| [Listen, Established, CloseWait, SynSent].map(|state| states[state.index()]);
        assert_eq!(of(&overview.states), [1, 2, 1, 1]);
        let server = overview.processes.iter().find(|line| line.pid == 7).unwrap();
        assert_eq!((of(&server.states), server.sockets, server.activity.transitions), ([1, 2, 1, 0], 4, 5));
        let [service] = &overview.services[..] else { panic!("{:?}", overview.services) };
        assert_eq!((service.port, of(&service.states), service.sockets), (80, [1, 2, 1, 0], 4));
        assert_eq!(overview.process_of(service.process).map(|line| line.pid), Some(7));
        let leak = overview.sockets.iter().find(|line| line.state == CloseWait).unwrap();
        assert_eq!((leak.age(5 * S).ns, leak.is_incoming), (3 * S, true));
        let hidden = |known: &Connection, _: &[Holder]| known.state == CloseWait;
        overview.take(&table, &summary, &history, 5 * S, hidden);
        assert_eq!((overview.sockets.len(), overview.all_sockets), (1, 5));
        assert_eq!(overview.services.len(), 1, "the port of an incoming connection");
    }
}
