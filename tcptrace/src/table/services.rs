//! The processes that hold listeners, by the address at which these listen: whose a connection may be that came through
//! one of them, and was not taken by a process yet.

use std::{net::SocketAddr, sync::Arc};

use rustc_hash::{FxHashMap, FxHashSet};

use super::{Connection, connection::is_seen};
use crate::{
    event::{Event, MAX_CANDIDATES, Owner, OwnerSource, Process, ProcessId, Transition, What, is_same_process},
    snapshot::{Holder, Snapshot, listeners_of},
    state::State,
};

/// Addresses with listeners that are remembered at most.
const MAX_PLACES: usize = 65_536;
/// A listing is asked for so long after a listener came, in ns: what starts a service makes its processes first.
const SETTLES_NS: u64 = 1_000_000_000;
/// What looks as if a listing knew too little asks for another one after so long, in ns.
const LISTED_FOR_NS: u64 = 5_000_000_000;

/// Listeners by network namespace and address.
#[derive(Default)]
pub(super) struct Services {
    by_place: FxHashMap<(u32, SocketAddr), Vec<Service>>,
    /// CLOCK_MONOTONIC at which the last listing of their holders began, in ns.
    listed_ns: u64,
    /// CLOCK_MONOTONIC from which another one is wanted, in ns.
    wanted_ns: Option<u64>,
}

/// A listener.
struct Service {
    cookie: Option<u64>,
    /// The processes that hold it.
    processes: Arc<[Process]>,
    /// Are these all, by a listing? Else it is who called `listen`.
    is_listed: bool,
}

impl Services {
    /// Takes in the listeners of a listing that shows all of them, and of holders.
    pub(super) fn listed(&mut self, snapshot: &Snapshot) {
        let Some(holders) = &snapshot.holders else { return };
        let visited: FxHashSet<u32> = snapshot.namespaces.iter().map(|namespace| namespace.inode).collect();
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
        self.by_place.entry(place).or_default().push(service);
    }

    /// Is a listing of listeners and of holders wanted at `now_ns`?
    pub(super) fn wants_listing(&self, now_ns: u64) -> bool {
        self.wanted_ns.is_some_and(|wanted_ns| wanted_ns <= now_ns)
    }

    /// Takes in what an event tells of listeners; `known` is what was known of its socket.
    pub(super) fn ingest(&mut self, event: &Event, known: Option<&Connection>) {
        if let What::Transition(Transition { old, new, .. }) = event.what
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
            // It may hold the listener since.
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

    /// Where the listeners are that get the connections to `local`.
    fn place_of(&self, netns: Option<u32>, local: SocketAddr) -> Option<(u32, SocketAddr)> {
        let netns = netns?;
        listeners_of(local).map(|local| (netns, local)).find(|place| self.by_place.contains_key(place))
    }

    /// Names whose a connection is that came through a listener, by who holds that now: who called `listen` may have ended.
    /// With several the owner is one of them. `None` where nothing is known that the owner does not tell.
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
            // Who was told to listen does not hold it any more, or nobody was.
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

/// The processes that hold some listeners, each once.
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

/// Is it known by the listener that the connection came through?
pub(super) const fn is_through_listener(owner: &Owner) -> bool {
    matches!(owner.source, OwnerSource::Listener | OwnerSource::Shared)
}

/// The processes among holders, which are in order, each once.
pub(super) fn processes(holders: &[Holder]) -> Vec<Process> {
    let each = holders.chunk_by(|one, other| one.pid == other.pid).filter_map(|of_one| of_one.first());
    each.take(MAX_CANDIDATES).map(Process::from).collect()
}

impl Service {
    fn holds(&self, id: ProcessId) -> bool {
        self.processes.iter().any(|process| is_same_process(process.id(), id))
    }

    /// A process was seen; gives whether it is one of these. It may have executed another program.
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
    /// Its name.
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

/// Whose a socket is that these hold: of the one that is recorded where it was seen using the socket and holds it still,
/// else of the only process that does, else of one of several. What it is called now is what the listing says.
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
