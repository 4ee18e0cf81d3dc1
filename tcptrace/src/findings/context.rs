//! All that rules look at.

use std::{cell::OnceCell, net::SocketAddr};

use super::paths::{Path, path};
use crate::{
    findings::{
        cause::Cause,
        detection::{Example, MAX_EXAMPLES, Processes, Sighting, Subject, Value},
        history::Recent,
        incident::Incident,
        kind::{Kind, Severity},
        namespaces::Namespaces,
        process_states::ProcessStates,
        thresholds::Thresholds,
    },
    model::{
        age::Age,
        event::{Owner, OwnerSource},
        holders::Holder,
        keyed::{KeyedMap, KeyedSet},
        socket::listener_addresses,
        state::State,
    },
    table::{Connection, Facts, Table},
};

/// Subjects of one trouble of one owner that are told of one by one; more are told of together.
pub(super) const MAX_SUBJECTS: usize = 8;

/// More than states have numbers (`include/net/tcp_states.h`).
const STATES: usize = 16;

/// All that rules look at. Nothing in it changes while they do.
pub struct View<'a> {
    /// CLOCK_MONOTONIC, in ns.
    pub now_ns: u64,
    /// The sockets.
    pub table: &'a Table,
    /// What happened lately.
    pub recent: &'a Recent,
    /// The namespaces.
    pub namespaces: &'a Namespaces,
    /// What is called trouble.
    pub thresholds: &'a Thresholds,
    /// Which sockets are shown; `None` for all. It changes nothing of what a finding says.
    pub filter: Option<ShownFilter<'a>>,
    /// What processes do that connections wait for.
    pub process_states: Option<&'a ProcessStates>,
    by_state: [Vec<&'a Connection>; STATES],
    listeners: KeyedMap<(u32, SocketAddr), &'a Connection>,
    /// Ends of failures that are asked for.
    asked: Vec<Path>,
    ends: OnceCell<Ends<'a>>,
    /// How many sockets of a state that may be in trouble have an end in common, by state.
    shared: [OnceCell<SharedEnds>; STATES],
}

/// How many sockets have this local end, or this remote one, of those in a namespace.
#[derive(Default)]
struct SharedEnds {
    local: KeyedMap<(Option<u32>, SocketAddr), u32>,
    remote: KeyedMap<(Option<u32>, SocketAddr), u32>,
}

/// Is a socket shown that these processes hold?
pub type ShownFilter<'a> = &'a dyn Fn(&Connection, &[Holder]) -> bool;

/// Sockets by their ends: of those ends on this host that are asked for, which are few, since no table by ends is kept of
/// all sockets. Made only where a rule does ask.
struct Ends<'a> {
    sockets: KeyedMap<Path, Option<&'a Connection>>,
    /// Local ends of sockets.
    locals: KeyedSet<SocketAddr>,
}

/// What is known of the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum OtherEnd<'a> {
    /// It is a socket of this host.
    Here(&'a Connection),
    /// It is a half-open connection of this host: the handshake is not over there.
    Request,
    /// Its address is one of this host, and no socket is there.
    Gone,
    /// It is not on this host, or in a part of it that is not looked at, or it knows this end by another address (NAT).
    NotVisible,
}

impl OtherEnd<'_> {
    /// Name in all outputs.
    #[must_use]
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Here(_) | Self::Request => "alive",
            Self::Gone => "gone",
            Self::NotVisible => "not_visible",
        }
    }
}

/// Sockets of one command with one subject.
pub struct Group<'a> {
    /// Network namespace.
    pub netns: Option<u32>,
    /// The process that has most of them.
    pub owner: Option<Owner>,
    /// All processes that have them.
    pub processes: Processes,
    /// What they have in common.
    pub subject: Subject,
    /// The sockets, those that have been in their state for longest first.
    pub members: Vec<&'a Connection>,
}

impl<'a> View<'a> {
    /// Everything as of `now_ns`.
    #[must_use]
    pub fn new(
        table: &'a Table,
        recent: &'a Recent,
        namespaces: &'a Namespaces,
        thresholds: &'a Thresholds,
        now_ns: u64,
    ) -> Self {
        let mut by_state = [const { Vec::<&Connection>::new() }; STATES];
        let mut listeners = KeyedMap::default();
        for known in table.to_evaluate(now_ns) {
            by_state[known.state as usize % STATES].push(known);
            if let (State::Listen, Some(netns)) = (known.state, known.netns()) {
                listeners.insert((netns, known.local()), known);
            }
        }
        Self {
            now_ns,
            table,
            recent,
            namespaces,
            thresholds,
            filter: None,
            process_states: None,
            by_state,
            listeners,
            asked: Vec::new(),
            ends: OnceCell::new(),
            shared: [const { OnceCell::new() }; STATES],
        }
    }

    /// Sockets at both ends of these will be asked for.
    pub(super) fn ask(&mut self, failed: &[Incident]) {
        let both = |failed: &Incident| {
            let (netns, local, remote) = (failed.netns, failed.local, failed.remote);
            [path(netns, local, remote), path(netns, remote, local)]
        };
        self.asked = failed.iter().flat_map(both).collect();
    }

    /// The sockets in a state, as far as they may be in trouble.
    #[must_use]
    pub fn in_state(&self, state: State) -> &[&'a Connection] {
        &self.by_state[state as usize % STATES]
    }

    /// Those that are stuck: in the state for longer than its threshold.
    pub fn stuck_in(&self, state: State) -> impl Iterator<Item = &'a Connection> {
        let after_ns = self.thresholds.stuck_after(state).unwrap_or(u64::MAX);
        self.in_state(state).iter().copied().filter(move |known| self.age_ns(known) >= after_ns)
    }

    /// How long a socket has been in its state, at least.
    #[must_use]
    pub const fn age_ns(&self, known: &Connection) -> u64 {
        self.now_ns.saturating_sub(known.since_ns)
    }

    /// Does the filter show any of these sockets?
    #[must_use]
    pub fn is_any_shown<'b>(&self, mut sockets: impl Iterator<Item = &'b Connection>) -> bool {
        let Some(filter) = self.filter else { return true };
        sockets.any(|known| filter(known, self.table.holders_of(known).unwrap_or_default()))
    }

    /// Does it show one of these listeners, or a connection, half-open or not, that came to one of them?
    #[must_use]
    pub fn is_any_at_shown(&self, listeners: &[&Connection]) -> bool {
        let comes_to = |netns, local| {
            let is_it = |listener: &&Connection| (listener.netns(), listener.local()) == (netns, local);
            listeners.iter().any(is_it)
        };
        let came_to = |netns, local| listener_addresses(local).any(|local| comes_to(netns, local));
        let connections = || self.table.all().filter(|known| came_to(known.netns(), known.local()));
        let requests = || self.table.half_open_matching();
        self.is_any_shown(listeners.iter().copied())
            || requests().iter().any(|row| came_to(Some(row.netns), row.local))
            || self.is_any_shown(connections())
    }

    /// The listener that gets the connections to `local`, if it is known.
    #[must_use]
    pub fn listener_of(&self, netns: Option<u32>, local: SocketAddr) -> Option<&'a Connection> {
        let netns = netns?;
        listener_addresses(local).find_map(|local| self.listeners.get(&(netns, local)).copied())
    }

    /// The other end of a connection.
    #[must_use]
    pub(super) fn other_end(&self, known: &Connection) -> OtherEnd<'a> {
        self.end_at(known.netns(), known.remote(), known.local())
    }

    /// The socket of this host with these ends.
    #[must_use]
    pub(super) fn end_at(&self, netns: Option<u32>, local: SocketAddr, remote: SocketAddr) -> OtherEnd<'a> {
        if self.table.is_requested(netns, local, remote) {
            return OtherEnd::Request;
        }
        if !self.table.has_address(local.ip()) {
            return OtherEnd::NotVisible;
        }
        match self.ends().sockets.get(&path(netns, local, remote)).copied().flatten() {
            Some(known) => OtherEnd::Here(known),
            // A socket is there, and has another remote end: one of the two was translated on the way.
            None if !local.ip().is_loopback() && self.ends().locals.contains(&local) => OtherEnd::NotVisible,
            None => OtherEnd::Gone,
        }
    }

    fn ends(&self) -> &Ends<'a> {
        self.ends.get_or_init(|| {
            // Of what failed, and other ends of what is silent or waits.
            let states = State::ALL.iter().filter(|state| **state != State::Listen);
            let silent = states.flat_map(|state| self.in_state(*state)).filter(|known| known.facts().is_some());
            let asked = self.asked.iter().copied();
            let asked = asked.chain(silent.map(|known| path(known.netns(), known.remote(), known.local())));
            let here = asked.filter(|(_, local, _)| self.table.has_address(local.ip()));
            let mut sockets: KeyedMap<Path, Option<&Connection>> = here.map(|path| (path, None)).collect();
            let mut ports = vec![false; 1 << 16];
            sockets.keys().for_each(|(_, local, _)| ports[usize::from(local.port())] = true);
            let mut locals = KeyedSet::default();
            let all = self.table.all().filter(|known| known.state != State::Listen);
            for known in all.filter(|known| ports[usize::from(known.local().port())]) {
                locals.insert(known.local());
                if let Some(found) = sockets.get_mut(&path(known.netns(), known.local(), known.remote())) {
                    *found = Some(known);
                }
            }
            Ends { sockets, locals }
        })
    }

    /// What connections have in common: the service that they came to, or their destination.
    #[must_use]
    pub fn subject_of(&self, known: &Connection) -> Subject {
        let ends = (known.local(), known.remote());
        let came = || self.came_to_local(known).then_some(false);
        let is_active = known.is_active().or_else(|| self.is_active(known.netns(), ends)).or_else(came);
        self.subject_at(known.netns(), ends, is_active)
    }

    /// Did it come to its local end? Where others in its state have that in common with it, and none has its remote end, they
    /// came there: connections that are made here have the destination in common.
    fn came_to_local(&self, known: &Connection) -> bool {
        let shared = self.shared[known.state as usize % STATES].get_or_init(|| {
            let mut shared = SharedEnds::default();
            for known in self.in_state(known.state) {
                *shared.local.entry((known.netns(), known.local())).or_default() += 1;
                *shared.remote.entry((known.netns(), known.remote())).or_default() += 1;
            }
            shared
        });
        let others = |ends: &KeyedMap<_, u32>, end| ends.get(&(known.netns(), end)).copied().unwrap_or(0) > 1;
        others(&shared.local, known.local()) && !others(&shared.remote, known.remote())
    }

    /// The same by the ends of a connection; `is_active` tells whether this host opened it, where that was seen.
    #[must_use]
    pub fn subject_at(
        &self,
        netns: Option<u32>,
        (local, remote): (SocketAddr, SocketAddr),
        is_active: Option<bool>,
    ) -> Subject {
        let service = self.recent.services().of(netns, local);
        match is_active.or_else(|| self.is_active(netns, (local, remote))) {
            Some(false) => Subject::Local(service.unwrap_or(local)),
            _ => Subject::Remote(remote),
        }
    }

    /// Did this host open a connection whose beginning was not seen? By the listeners at its ends, else by which of its
    /// ports is of `ip_local_port_range`.
    pub(super) fn is_active(&self, netns: Option<u32>, (local, remote): (SocketAddr, SocketAddr)) -> Option<bool> {
        if self.recent.services().of(netns, local).is_some() {
            return Some(false);
        }
        if self.recent.services().of(netns, remote).is_some() {
            return Some(true);
        }
        let (first, last) = self.namespaces.of(netns)?.settings?.local_ports?;
        let is_chosen = |end: SocketAddr| (first..=last).contains(&end.port());
        (is_chosen(local) != is_chosen(remote)).then(|| is_chosen(local))
    }

    /// Sockets by the command of their owner and by what they have in common; many groups of one command as one.
    pub fn group(
        &self,
        members: impl Iterator<Item = &'a Connection>,
        subject: impl Fn(&Connection) -> Subject,
    ) -> Vec<Group<'a>> {
        let mut by_command: KeyedMap<_, KeyedMap<Subject, Vec<&Connection>>> = KeyedMap::default();
        for known in members {
            let command = (known.netns(), known.owner().map(|owner| owner.command));
            by_command.entry(command).or_default().entry(subject(known)).or_default().push(known);
        }
        let mut groups = Vec::new();
        for ((netns, _), mut subjects) in by_command {
            if subjects.len() > MAX_SUBJECTS {
                let all = subjects.drain().flat_map(|(_, members)| members).collect();
                subjects.insert(Subject::Several, all);
            }
            for (subject, mut members) in subjects {
                members.sort_by_key(|known| known.since_ns);
                groups.push(Group::new(self, netns, subject, members));
            }
        }
        groups
    }
}

impl<'a> Group<'a> {
    /// Sockets in the order of their age, the oldest first.
    #[must_use]
    pub fn new(view: &View<'_>, netns: Option<u32>, subject: Subject, members: Vec<&'a Connection>) -> Self {
        let mut processes = Processes::default();
        for known in &members {
            let holders = view.table.holders_of(known).unwrap_or_default();
            match known.owner() {
                Some(owner) if owner.source == OwnerSource::Shared && !holders.is_empty() => {
                    let mut pids: Vec<_> = holders.iter().collect();
                    pids.dedup_by_key(|holder| holder.pid);
                    pids.iter().for_each(|holder| processes.add(Some(holder.owner(OwnerSource::Shared)), 1));
                }
                owner => processes.add(owner, 1),
            }
        }
        let most = processes.most();
        let oldest = members.first().and_then(|known| known.owner());
        // The oldest socket's owner, unless others have more.
        let owner = oldest.filter(|oldest| {
            let count = |pid| most.iter().find(|(owner, _)| owner.pid == pid).map_or(0, |(_, count)| *count);
            most.first().is_none_or(|(_, highest)| count(oldest.pid) == *highest)
        });
        let owner = owner.or_else(|| most.first().map(|(owner, _)| *owner));
        Self { netns, owner, processes, subject, members }
    }

    /// What the last listing showed of its sockets.
    pub fn facts(&self) -> impl Iterator<Item = &'a Facts> + '_ {
        self.members.iter().filter_map(|known| known.facts())
    }

    /// A sum over what was shown of the sockets; `None` where nothing was shown of any.
    pub fn sum(&self, of: impl Fn(&Facts) -> u64) -> Option<u64> {
        self.facts().map(of).reduce(u64::saturating_add)
    }

    /// Are all of them orphans, or none? `None` where that differs or is not known.
    #[must_use]
    pub fn is_orphaned(&self) -> Option<bool> {
        let first = self.members.first()?.orphan;
        first.filter(|_| self.members.iter().all(|known| known.orphan == first))
    }

    /// The process that closed the sockets, by the oldest of those where it is known.
    #[must_use]
    pub fn closed_by(&self) -> Value {
        self.members.iter().find_map(|known| known.closed_by()).into()
    }

    /// Timeouts in a row without an answer, the most of any.
    #[must_use]
    pub(super) fn timeouts(&self) -> u8 {
        self.members.iter().map(|known| known.retransmits().timeouts).max().unwrap_or(0)
    }

    /// As a sighting, to which evidence is added. It is settled when a listing has shown its examples since each was
    /// suspected.
    #[must_use]
    pub fn sighting(&self, view: &View<'_>, kind: Kind, severity: Severity, cause: Cause) -> Sighting {
        let shown = &self.members[..self.members.len().min(MAX_EXAMPLES)];
        let example =
            |known: &&Connection| Example::of(known, view.table.holders_of(known).unwrap_or_default(), view.now_ns);
        let former = self.members.iter().find_map(|known| known.former());
        let former = former.map(|owner| ("inherited_from", Value::Text(owner.to_string())));
        Sighting {
            owner: self.owner,
            processes: self.processes.clone(),
            count: self.members.len() as u64,
            oldest: self.members.first().map(|known| Age { ns: view.age_ns(known), source: known.since }),
            evidence: former.into_iter().collect(),
            examples: shown.iter().map(example).collect(),
            is_settled: shown
                .iter()
                .all(|known| known.is_timewait() || known.facts().is_some() && is_owned(view, known)),
            is_shown: view.is_any_shown(self.members.iter().copied()),
            ..Sighting::new(kind, severity, cause, self.netns, self.subject)
        }
    }
}

/// Is a socket's owner one that holds it? That of its listener may have handed it on, which a listing of holders tells.
fn is_owned(view: &View<'_>, known: &Connection) -> bool {
    let is_through = |owner: &Owner| matches!(owner.source, OwnerSource::Listener | OwnerSource::Shared);
    let Some(owner) = known.owner().filter(is_through) else { return true };
    let holders = view.table.holders_of(known);
    holders.is_some_and(|holders| holders.is_empty() || holders.iter().any(|holder| holder.pid == owner.pid))
}
