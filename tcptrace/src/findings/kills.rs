//! Processes killed by a signal, and the connections that this cut.

use std::net::{IpAddr, SocketAddr};

use crate::{
    findings::{
        detection::{Example, MAX_EXAMPLES, Processes, Subject},
        services::Services,
    },
    model::{
        event::{Command, Event, Exit, Owner, Transition},
        keyed::{KeyedMap, KeyedSet},
        state::State,
    },
    table::Connection,
};

/// Most commands to remember; the one killed longest ago is dropped first.
const MAX_COMMANDS: usize = 256;
/// Most peer addresses, and most subjects, of one command.
const MAX_ENDS: usize = 1024;

/// The killed processes of one command.
#[derive(Clone, Debug)]
pub(crate) struct Kill {
    /// The process killed last.
    pub(crate) owner: Owner,
    /// All killed processes, with the number of connections of each.
    pub(crate) processes: Processes,
    /// How the last one ended.
    pub(crate) exit: Exit,
    /// Time of the last kill, CLOCK_MONOTONIC in ns.
    last_ns: u64,
    /// Cut connections: open ones, and half-closed ones with unread or unsent data.
    pub(crate) cut: u64,
    /// How many of these were connections to a service of this host.
    pub(crate) served: u64,
    /// Unread bytes.
    pub(crate) unread: u64,
    /// Unacknowledged bytes.
    pub(crate) unsent: u64,
    pub(crate) peers: KeyedSet<IpAddr>,
    /// Number of connections by local service or by destination.
    subjects: KeyedMap<Subject, u64>,
    /// The connections cut last.
    pub(crate) examples: Vec<Example>,
    /// True if the filter shows any of the connections.
    pub(crate) is_shown: bool,
}

/// Killed processes by network namespace and command.
#[derive(Debug, Default)]
pub(super) struct Kills(KeyedMap<(Option<u32>, Command), Kill>);

impl Kills {
    /// Takes the event of a socket that an exiting process closes.
    pub(super) fn ingest(
        &mut self,
        event: &Event,
        transition: &Transition,
        left: Option<&Connection>,
        services: &Services,
        is_shown: bool,
    ) {
        let Some((exit, owner)) = transition.exit.filter(|exit| exit.is_killed()).zip(event.owner) else { return };
        let socket = &event.socket;
        let has_data = transition.receive_queue > 1 || transition.send_queue > 1;
        let is_open = transition.old == State::Established;
        let is_cut = is_open || has_data && transition.old == State::CloseWait;
        if !is_cut {
            return;
        }
        let key = (socket.netns, owner.command);
        if self.0.len() >= MAX_COMMANDS && !self.0.contains_key(&key) {
            let oldest = self.0.iter().min_by_key(|(_, kill)| kill.last_ns).map(|(key, _)| *key);
            oldest.and_then(|oldest| self.0.remove(&oldest));
        }
        let kill = self.0.entry(key).or_insert_with(|| Kill {
            owner,
            processes: Processes::default(),
            exit,
            last_ns: event.time_ns,
            cut: 0,
            served: 0,
            unread: 0,
            unsent: 0,
            peers: KeyedSet::default(),
            subjects: KeyedMap::default(),
            examples: Vec::new(),
            is_shown,
        });
        kill.is_shown |= is_shown;
        (kill.owner, kill.exit, kill.last_ns) = (owner, exit, event.time_ns);
        kill.processes.add(Some(owner), 1);
        let came_in = || left.is_some_and(|left| left.is_active() == Some(false)).then_some(socket.local);
        let service = services.of(socket.netns, socket.local).or_else(came_in);
        kill.cut += 1;
        kill.served += u64::from(service.is_some());
        kill.unread += u64::from(transition.receive_queue);
        kill.unsent += u64::from(transition.send_queue);
        if kill.peers.len() < MAX_ENDS {
            kill.peers.insert(socket.remote.ip());
        }
        let subject = service.map_or(Subject::Remote(socket.remote), Subject::Local);
        if kill.subjects.len() < MAX_ENDS || kill.subjects.contains_key(&subject) {
            *kill.subjects.entry(subject).or_default() += 1;
        }
        if kill.examples.len() == MAX_EXAMPLES {
            kill.examples.remove(0);
        }
        kill.examples.push(example(event, socket.local, transition.old));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Option<u32>, &Kill)> {
        self.0.iter().map(|((netns, _), kill)| (*netns, kill))
    }

    /// Drops entries without a kill for `quiet_ns`.
    pub(super) fn forget(&mut self, now_ns: u64, quiet_ns: u64) {
        self.0.retain(|_, kill| now_ns.saturating_sub(kill.last_ns) < quiet_ns);
    }
}

fn example(event: &Event, local: SocketAddr, state: State) -> Example {
    let (cookie, remote) = (event.socket.cookie, event.socket.remote);
    Example { cookie, local, remote, state, age: None, facts: None, holders: Vec::new(), peer: event.peer }
}

impl Kill {
    /// The common subject of the cut connections: the service of incoming ones if there are any, else the destination.
    pub(crate) fn subject(&self) -> Subject {
        let is_service = |subject: &Subject| matches!(subject, Subject::Local(_));
        let mut all: Vec<_> = self.subjects.keys().filter(|subject| self.served == 0 || is_service(subject)).collect();
        all.sort_unstable();
        match all[..] {
            [one] => *one,
            _ => Subject::Several,
        }
    }
}
