//! Processes that hold listeners, by the listener's address: the possible owners of a connection that came through the
//! listener and that no process has used yet.

use std::{net::SocketAddr, sync::Arc};

use super::connection::is_seen;
use crate::{
    model::{
        event::{
            Event, EventKind, MAX_CANDIDATES, Owner, OwnerSource, Process, ProcessId, Transition, is_same_process,
        },
        holders::Holder,
        keyed::{KeyedMap, KeyedSet},
        snapshot::Snapshot,
        socket::listener_addresses,
        state::State,
    },
    table::connection::Connection,
};

/// Maximum number of addresses with listeners.
const MAX_PLACES: usize = 65_536;
/// Maximum number of listeners per address (SO_REUSEPORT).
const MAX_LISTENERS: usize = 256;
/// Delay in ns from a new listener to the listing of its holders, so that a starting service can create its processes
/// first.
const SETTLES_NS: u64 = 1_000_000_000;
/// Minimum interval in ns between listings when the last one seems incomplete.
const LISTED_FOR_NS: u64 = 5_000_000_000;

/// Holders of listeners by network namespace and address.
#[derive(Default)]
pub(super) struct ListenerHolders {
    by_place: KeyedMap<(u32, SocketAddr), Vec<Service>>,
    /// CLOCK_MONOTONIC in ns of the start of the last listing of holders.
    listed_ns: u64,
    /// CLOCK_MONOTONIC in ns at which the next one is due.
    wanted_ns: Option<u64>,
}

/// One listener and its processes.
struct Service {
    cookie: Option<u64>,
    /// The processes that hold it.
    processes: Arc<[Process]>,
    /// True if a listing found them, so that they are complete; false for the caller of `listen` alone.
    is_listed: bool,
}

impl ListenerHolders {
    /// Updates it with a listing that contains all listeners and holders.
    pub(super) fn listed(&mut self, snapshot: &Snapshot) {
        let Some(holders) = &snapshot.holders else { return };
        let visited: KeyedSet<u32> = snapshot.namespaces.iter().map(|namespace| namespace.inode).collect();
        self.by_place.retain(|(netns, _), _| !visited.contains(netns));
        for socket in snapshot.sockets.iter().filter(|socket| socket.state == State::Listen) {
            let processes = processes(holders.of(socket.handle));
            if !processes.is_empty() {
                let service = Service { cookie: socket.cookie, processes: processes.into(), is_listed: true };
                self.add((socket.netns, socket.local), service);
            }
        }
        self.listed_ns = snapshot.started_ns;
        if self.wanted_ns.is_some_and(|wanted_ns| wanted_ns <= snapshot.started_ns) {
            self.wanted_ns = None;
        }
    }

    fn add(&mut self, place: (u32, SocketAddr), service: Service) {
        if self.by_place.len() >= MAX_PLACES && !self.by_place.contains_key(&place) {
            return;
        }
        let services = self.by_place.entry(place).or_default();
        if services.len() == MAX_LISTENERS {
            services.remove(0);
        }
        services.push(service);
    }

    /// Whether a listing of listeners and holders is due at `now_ns`.
    pub(super) fn wants_listing(&self, now_ns: u64) -> bool {
        self.wanted_ns.is_some_and(|wanted_ns| wanted_ns <= now_ns)
    }

    /// Updates it with an event about a listener; `known` is its socket in the table.
    pub(super) fn ingest(&mut self, event: &Event, known: Option<&Connection>) {
        if let EventKind::Transition(Transition { old, new, .. }) = event.what
            && let Some(netns) = event.socket.netns
        {
            let place = (netns, event.socket.local);
            if new == State::Listen {
                let processes = event.owner.iter().map(Process::from).collect();
                self.add(place, Service { cookie: event.socket.cookie, processes, is_listed: false });
                self.want(event.time_ns.saturating_add(SETTLES_NS));
            } else if old == State::Listen && new == State::Close {
                self.remove(place, event.socket.cookie);
            }
        }
        let Some((user, listener)) = event.owner.zip(known.and_then(Connection::creator)) else { return };
        let is_as_before = known.and_then(Connection::owner) == Some(user);
        if is_as_before || is_through_listener(&user) || !is_through_listener(&listener) {
            return;
        }
        let Some(place) = self.place_of(event.socket.netns, event.socket.local) else { return };
        let services = self.by_place.get_mut(&place).map_or(&mut [][..], Vec::as_mut_slice);
        let mut is_known = false;
        services.iter_mut().for_each(|service| is_known |= service.is_seen(&user));
        if !is_known {
            // It may have become a holder since the listing.
            self.want(event.time_ns.max(self.listed_ns.saturating_add(LISTED_FOR_NS)));
        }
    }

    fn want(&mut self, from_ns: u64) {
        self.wanted_ns = Some(self.wanted_ns.map_or(from_ns, |wanted_ns| wanted_ns.min(from_ns)));
    }

    fn remove(&mut self, place: (u32, SocketAddr), cookie: Option<u64>) {
        if let Some(services) = self.by_place.get_mut(&place) {
            services.retain(|service| service.cookie != cookie);
            if services.is_empty() {
                self.by_place.remove(&place);
            }
        }
    }

    /// Address of the listener for connections to `local`.
    fn place_of(&self, netns: Option<u32>, local: SocketAddr) -> Option<(u32, SocketAddr)> {
        let netns = netns?;
        listener_addresses(local).map(|local| (netns, local)).find(|place| self.by_place.contains_key(place))
    }

    /// Determines the owner of a connection that came through a listener, by the listener's current holders: the caller
    /// of `listen` may have ended. With several holders, the owner is one of them. `None` if nothing is known beyond
    /// `owner`.
    pub(super) fn name(
        &self,
        netns: Option<u32>,
        local: SocketAddr,
        owner: Option<&Owner>,
    ) -> Option<(Owner, Option<Arc<[Process]>>)> {
        let all = self.by_place.get(&self.place_of(netns, local)?)?;
        let has = |owner: &Owner| all.iter().filter(|service| service.holds(owner.id())).collect::<Vec<_>>();
        let mut services = owner.map(has).unwrap_or_default();
        if services.is_empty() {
            // The caller of `listen` no longer holds it, or is unknown.
            services = all.iter().filter(|service| service.is_listed).collect();
        }
        let candidates = union(&services)?;
        let is_candidate = |owner: &&Owner| candidates.iter().any(|one| is_same_process(one.id(), owner.id()));
        let first = candidates.first()?;
        let listed = services.iter().all(|service| service.is_listed);
        if candidates.len() == 1 {
            if !listed && owner.is_some() {
                return None;
            }
            return Some((first.as_owner(OwnerSource::Listener), None));
        }
        let chosen = owner.filter(is_candidate).map(Owner::id);
        let chosen = candidates.iter().find(|one| chosen.is_some_and(|id| is_same_process(one.id(), id)));
        Some((chosen.unwrap_or(first).as_owner(OwnerSource::Shared), Some(candidates)))
    }
}

/// The processes that hold these listeners, without duplicates.
fn union(services: &[&Service]) -> Option<Arc<[Process]>> {
    match services {
        [] => None,
        [one] => Some(Arc::clone(&one.processes)),
        several => {
            let mut all: Vec<Process> = Vec::new();
            for process in several.iter().flat_map(|service| service.processes.iter()) {
                if all.len() < MAX_CANDIDATES && all.iter().all(|known| known.id() != process.id()) {
                    all.push(*process);
                }
            }
            Some(all.into())
        }
    }
}

/// True if the owner is known only through the listener.
pub(super) const fn is_through_listener(owner: &Owner) -> bool {
    matches!(owner.source, OwnerSource::Listener | OwnerSource::Shared)
}

/// The processes among sorted holders, without duplicates.
pub(super) fn processes(holders: &[Holder]) -> Vec<Process> {
    let each = holders.chunk_by(|one, other| one.pid == other.pid).filter_map(|of_one| of_one.first());
    each.take(MAX_CANDIDATES).map(Process::from).collect()
}

impl Service {
    fn holds(&self, id: ProcessId) -> bool {
        self.processes.iter().any(|process| is_same_process(process.id(), id))
    }

    /// Updates a process that was seen, which may have executed another program; returns true if it is one of these.
    fn is_seen(&mut self, owner: &Owner) -> bool {
        let Some(place) = self.processes.iter().position(|process| is_same_process(process.id(), owner.id())) else {
            return false;
        };
        if self.processes[place].command != owner.command {
            let mut processes = self.processes.to_vec();
            processes[place] = owner.into();
            self.processes = processes.into();
        }
        true
    }
}

impl Process {
    /// PID and start time.
    #[must_use]
    pub const fn id(&self) -> ProcessId {
        (self.pid, self.start)
    }

    pub(crate) const fn as_owner(&self, source: OwnerSource) -> Owner {
        let Self { pid, start, uid, cgroup, command } = *self;
        Owner { pid, uid, cgroup, start, command, source }
    }
}

impl From<&Owner> for Process {
    fn from(owner: &Owner) -> Self {
        let Owner { pid, uid, cgroup, start, command, .. } = *owner;
        Self { pid, start, uid, cgroup, command }
    }
}

impl From<&Holder> for Process {
    fn from(holder: &Holder) -> Self {
        let Holder { pid, uid, cgroup, start, command, .. } = *holder;
        Self { pid, start, uid, cgroup: cgroup.unwrap_or(0), command }
    }
}

/// Owner of a socket with these holders: the recorded owner if it was seen using the socket and still holds it, else
/// the only holder, else one of several. The command name is the one in the listing.
pub(super) fn owner_among(recorded: Option<Owner>, holders: &[Holder]) -> Option<Owner> {
    let Some(first) = holders.first() else { return recorded };
    let named = |holder: &Holder, source| Some(Process::from(holder).as_owner(source));
    if let Some(owner) = recorded.filter(is_seen)
        && let Some(holder) = holders.iter().find(|holder| is_same_process(holder.id(), owner.id()))
    {
        return named(holder, owner.source);
    }
    let is_shared = holders.iter().any(|other| other.pid != first.pid);
    named(first, if is_shared { OwnerSource::Shared } else { OwnerSource::Holder })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{
            event::{Command, StartTicks},
            holders::Holders,
            namespace::Namespace,
            socket::Kind,
        },
        table::tests::{NETNS, S, event, holder, listed, snapshot},
    };

    fn place() -> SocketAddr {
        "127.0.0.1:80".parse().unwrap()
    }

    fn owner(pid: u32, source: OwnerSource) -> Owner {
        Owner { pid, uid: 0, cgroup: 0, start: None, command: Command::new([b'o'; 16]), source }
    }

    /// Listeners, each with the PIDs of its holders.
    fn services(listeners: &[&[u32]]) -> ListenerHolders {
        let mut services = ListenerHolders::default();
        services.listed(&of_listeners(10 * S, listeners));
        services
    }

    fn of_listeners(ended_ns: u64, listeners: &[&[u32]]) -> Snapshot {
        let sockets =
            (1..=listeners.len() as u64).map(|cookie| listed(cookie, Kind::Full, State::Listen, "0.0.0.0:80"));
        let held = (1..).zip(listeners).flat_map(|(handle, pids)| pids.iter().map(move |pid| holder(handle, *pid)));
        let holders = Some(Holders::new(held.collect()));
        Snapshot { holders, ..snapshot(ended_ns, sockets.collect()) }
    }

    /// Source, PID and candidates of a connection with this owner according to the programs.
    fn named(services: &ListenerHolders, owner: Option<Owner>) -> Option<(OwnerSource, u32, Vec<u32>)> {
        let (owner, candidates) = services.name(Some(NETNS), place(), owner.as_ref())?;
        let pids = candidates.iter().flat_map(|all| all.iter()).map(|process| process.pid).collect();
        Some((owner.source, owner.pid, pids))
    }

    #[test]
    fn a_connection_is_of_those_that_hold_its_listener() {
        use OwnerSource::{Listener, Shared};
        let by = |pid| Some(owner(pid, Listener));
        for (listeners, taken_for, want) in [
            (&[&[5][..]][..], by(5), (Listener, 5, vec![])),
            (&[&[5, 6, 7]], by(6), (Shared, 6, vec![5, 6, 7])),
            (&[&[5, 6, 7]], None, (Shared, 5, vec![5, 6, 7])),
            // The caller of listen() no longer holds it.
            (&[&[6]], by(5), (Listener, 6, vec![])),
            (&[&[6, 7]], by(5), (Shared, 6, vec![6, 7])),
            // Another process once used a connection, but holds no listener.
            (&[&[5]], Some(owner(5, Shared)), (Listener, 5, vec![])),
            // SO_REUSEPORT: the process identifies the listener, otherwise it may be any of them.
            (&[&[5], &[6]], by(6), (Listener, 6, vec![])),
            (&[&[5], &[6]], None, (Shared, 5, vec![5, 6])),
            (&[&[4, 5], &[4, 6]], by(6), (Shared, 6, vec![4, 6])),
        ] {
            assert_eq!(named(&services(listeners), taken_for), Some(want), "{listeners:?} {taken_for:?}");
        }
        let many: Vec<u32> = (1..100).collect();
        assert_eq!(named(&services(&[&many]), by(3)).unwrap().2.len(), MAX_CANDIDATES);
        assert_eq!(named(&ListenerHolders::default(), by(5)), None);
        assert_eq!(services(&[&[5, 6]]).name(Some(NETNS + 1), place(), None), None, "another namespace");
    }

    #[test]
    fn a_pid_that_is_another_processs_is_no_candidate() {
        let start = StartTicks::new;
        let mut services = services(&[&[5, 6]]);
        for service in services.by_place.values_mut().flatten() {
            service.processes = service.processes.iter().map(|one| Process { start: start(10), ..*one }).collect();
        }
        let by = |ticks| Some(Owner { start: start(ticks), ..owner(6, OwnerSource::Listener) });
        assert_eq!(named(&services, by(10)).unwrap().1, 6);
        assert_eq!(named(&services, by(11)).unwrap().1, 5, "the one that listened had the PID before");
    }

    #[test]
    fn listeners_come_and_go_between_listings() {
        let listens = |cookie, old, new, pid, time_ns| {
            let mut event = event(cookie, cookie, time_ns, super::super::tests::enters(new));
            if let EventKind::Transition(transition) = &mut event.what {
                transition.old = old;
            }
            event.socket.netns = Some(NETNS);
            event.socket.local = "0.0.0.0:80".parse().unwrap();
            event.owner = Some(owner(pid, OwnerSource::Listen));
            event
        };
        let mut services = services(&[&[5, 6]]);
        assert!(!services.wants_listing(u64::MAX));
        services.ingest(&listens(9, State::Close, State::Listen, 7, 20 * S), None);
        assert!(!services.wants_listing(20 * S) && services.wants_listing(21 * S));
        let by_new = Some(owner(7, OwnerSource::Listener));
        assert_eq!(named(&services, by_new), None, "not listed yet: it is whose the programs say");
        services.listed(&of_listeners(25 * S, &[&[5, 6], &[7]]));
        assert!(!services.wants_listing(u64::MAX));
        assert_eq!(named(&services, by_new), Some((OwnerSource::Listener, 7, vec![])));
        services.ingest(&listens(1, State::Listen, State::Close, 5, 26 * S), None);
        assert_eq!(named(&services, None), Some((OwnerSource::Listener, 7, vec![])));
        services.listed(&Snapshot { namespaces: vec![Namespace::default()], ..of_listeners(27 * S, &[]) });
        assert_eq!(named(&services, None), Some((OwnerSource::Listener, 7, vec![])), "nobody looked there");
    }

    #[test]
    fn what_a_process_is_called_is_learnt_when_it_acts() {
        let mut services = services(&[&[5, 6]]);
        let acts = Owner { command: Command::new([b'n'; 16]), ..owner(6, OwnerSource::Io) };
        for service in services.by_place.values_mut().flatten() {
            assert!(service.is_seen(&acts) && !service.is_seen(&owner(8, OwnerSource::Io)));
        }
        let (owner, _) = services.name(Some(NETNS), place(), Some(&owner(6, OwnerSource::Listener))).unwrap();
        assert_eq!(owner.command, acts.command);
    }
}
