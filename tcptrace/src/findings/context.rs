//! The input of rules: everything known about the host at one moment, with the look-ups that several rules share.

use std::{cell::OnceCell, net::SocketAddr};

use super::paths::{Path, path};
use crate::{
    findings::{
        cause::Cause,
        detection::{Detection, Example, Processes, Subject, Value},
        history::History,
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

/// Most subjects of one problem of one command that get a finding each; more are reported as one.
pub(super) const MAX_SUBJECTS: usize = 8;

/// Size of arrays indexed by a state's number (`include/net/tcp_states.h`).
const STATES: usize = 16;

/// The input of rules. Nothing in it changes while they run.
pub struct RuleContext<'a> {
    /// CLOCK_MONOTONIC, in ns.
    pub now_ns: u64,
    /// The live sockets.
    pub table: &'a Table,
    /// Recent failures and the flow of sockets.
    pub history: &'a History,
    /// Settings and counters of network namespaces.
    pub namespaces: &'a Namespaces,
    /// The user's thresholds.
    pub thresholds: &'a Thresholds,
    /// Which sockets the user wants to see; `None` for all. It decides whether a finding is reported, not what it says.
    pub filter: Option<ShownFilter<'a>>,
    /// What the processes are doing that connections wait for.
    pub process_states: Option<&'a ProcessStates>,
    by_state: [Vec<&'a Connection>; STATES],
    listeners: KeyedMap<(u32, SocketAddr), &'a Connection>,
    /// Ends of failed connections, which [`Ends`] must contain.
    asked: Vec<Path>,
    ends: OnceCell<Ends<'a>>,
    /// For each state, how many suspicious sockets share an end.
    shared: [OnceCell<SharedEnds>; STATES],
}

/// How many sockets have each local end and each remote end, by namespace.
#[derive(Default)]
struct SharedEnds {
    local: KeyedMap<(Option<u32>, SocketAddr), u32>,
    remote: KeyedMap<(Option<u32>, SocketAddr), u32>,
}

/// Whether the user's filter shows a socket with these holders.
pub type ShownFilter<'a> = &'a dyn Fn(&Connection, &[Holder]) -> bool;

/// An index of sockets by their ends. It has only the few ends that rules may query, because an index of all sockets would
/// cost too much, and is built on the first query.
struct Ends<'a> {
    sockets: KeyedMap<Path, Option<&'a Connection>>,
    locals: KeyedSet<SocketAddr>,
}

/// What is known about the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum OtherEnd<'a> {
    /// It is a socket on this host.
    Local(&'a Connection),
    /// It is a half-open connection on this host, whose handshake is not finished.
    Request,
    /// Its address belongs to this host, but there is no such socket.
    Gone,
    /// It is not on this host, or in a namespace that is not traced, or NAT changed the address that it sees.
    NotVisible,
}

impl OtherEnd<'_> {
    /// The name in all outputs.
    #[must_use]
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Local(_) | Self::Request => "alive",
            Self::Gone => "gone",
            Self::NotVisible => "not_visible",
        }
    }
}

/// Sockets of one command with one subject, which make one detection.
pub struct SocketGroup<'a> {
    /// Network namespace, by inode number.
    pub netns: Option<u32>,
    /// The process that owns most of the sockets.
    pub owner: Option<Owner>,
    /// All processes that own any of the sockets.
    pub processes: Processes,
    /// The common service or destination.
    pub subject: Subject,
    /// The sockets, longest in their state first.
    pub members: Vec<&'a Connection>,
}

impl<'a> RuleContext<'a> {
    /// The state of the host at `now_ns`.
    #[must_use]
    pub fn new(
        table: &'a Table,
        history: &'a History,
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
            history,
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

    /// Prepares queries for the sockets at both ends of failed connections.
    pub(super) fn ask(&mut self, failed: &[Incident]) {
        let both = |failed: &Incident| {
            let (netns, local, remote) = (failed.netns, failed.local, failed.remote);
            [path(netns, local, remote), path(netns, remote, local)]
        };
        self.asked = failed.iter().flat_map(both).collect();
    }

    /// The suspicious sockets in a state.
    #[must_use]
    pub fn in_state(&self, state: State) -> &[&'a Connection] {
        &self.by_state[state as usize % STATES]
    }

    /// The sockets in a state for longer than its threshold.
    pub fn stuck_in(&self, state: State) -> impl Iterator<Item = &'a Connection> {
        let after_ns = self.thresholds.stuck_after(state).unwrap_or(u64::MAX);
        self.in_state(state).iter().copied().filter(move |known| self.age_ns(known) >= after_ns)
    }

    /// How long a socket has at least been in its state, in ns.
    #[must_use]
    pub const fn age_ns(&self, known: &Connection) -> u64 {
        self.now_ns.saturating_sub(known.since_ns)
    }

    /// True if the filter shows any of these sockets.
    #[must_use]
    pub fn is_any_shown<'b>(&self, mut sockets: impl Iterator<Item = &'b Connection>) -> bool {
        let Some(filter) = self.filter else { return true };
        sockets.any(|known| filter(known, self.table.holders_of(known).unwrap_or_default()))
    }

    /// True if the filter shows any of these listeners, or any of their connections, half-open ones included.
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

    /// The listener that gets connections to `local`, if known.
    #[must_use]
    pub fn listener_of(&self, netns: Option<u32>, local: SocketAddr) -> Option<&'a Connection> {
        let netns = netns?;
        listener_addresses(local).find_map(|local| self.listeners.get(&(netns, local)).copied())
    }

    #[must_use]
    pub(super) fn other_end(&self, known: &Connection) -> OtherEnd<'a> {
        self.end_at(known.netns(), known.remote(), known.local())
    }

    /// The socket on this host with these ends.
    #[must_use]
    pub(super) fn end_at(&self, netns: Option<u32>, local: SocketAddr, remote: SocketAddr) -> OtherEnd<'a> {
        if self.table.is_requested(netns, local, remote) {
            return OtherEnd::Request;
        }
        if !self.table.has_address(local.ip()) {
            return OtherEnd::NotVisible;
        }
        match self.ends().sockets.get(&path(netns, local, remote)).copied().flatten() {
            Some(known) => OtherEnd::Local(known),
            // A socket has this local end but another remote one: NAT translated one of the addresses.
            None if !local.ip().is_loopback() && self.ends().locals.contains(&local) => OtherEnd::NotVisible,
            None => OtherEnd::Gone,
        }
    }

    fn ends(&self) -> &Ends<'a> {
        self.ends.get_or_init(|| {
            // The ends of failed connections, and the other ends of sockets that a listing has shown.
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

    /// The subject of a connection: the local service, or the destination.
    #[must_use]
    pub fn subject_of(&self, known: &Connection) -> Subject {
        let ends = (known.local(), known.remote());
        let came = || self.is_incoming(known).then_some(false);
        let is_active = known.is_active().or_else(|| self.is_active(known.netns(), ends)).or_else(came);
        self.subject_at(known.netns(), ends, is_active)
    }

    /// True if other sockets in this state share the local end but not the remote end: these are incoming connections, since
    /// outgoing ones share the destination.
    fn is_incoming(&self, known: &Connection) -> bool {
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

    /// The subject of the connection with these ends; `is_active` is true if this host opened it, `None` if not known.
    #[must_use]
    pub fn subject_at(
        &self,
        netns: Option<u32>,
        (local, remote): (SocketAddr, SocketAddr),
        is_active: Option<bool>,
    ) -> Subject {
        let service = self.history.services().of(netns, local);
        match is_active.or_else(|| self.is_active(netns, (local, remote))) {
            Some(false) => Subject::Local(service.unwrap_or(local)),
            _ => Subject::Remote(remote),
        }
    }

    /// Whether this host opened a connection whose start was not seen: decided by the listeners at its ends, else by which
    /// of its ports is in `ip_local_port_range`.
    pub(super) fn is_active(&self, netns: Option<u32>, (local, remote): (SocketAddr, SocketAddr)) -> Option<bool> {
        if self.history.services().of(netns, local).is_some() {
            return Some(false);
        }
        if self.history.services().of(netns, remote).is_some() {
            return Some(true);
        }
        let (first, last) = self.namespaces.of(netns)?.settings?.local_ports?;
        let is_chosen = |end: SocketAddr| (first..=last).contains(&end.port());
        (is_chosen(local) != is_chosen(remote)).then(|| is_chosen(local))
    }

    /// Groups sockets by command and subject. A command with more than `MAX_SUBJECTS` subjects gets one group.
    pub fn group(
        &self,
        members: impl Iterator<Item = &'a Connection>,
        subject: impl Fn(&Connection) -> Subject,
    ) -> Vec<SocketGroup<'a>> {
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
                groups.push(SocketGroup::new(self, netns, subject, members));
            }
        }
        groups
    }
}

impl<'a> SocketGroup<'a> {
    /// Makes a group of these sockets, which are sorted by age, the oldest first.
    #[must_use]
    pub fn new(context: &RuleContext<'_>, netns: Option<u32>, subject: Subject, members: Vec<&'a Connection>) -> Self {
        let mut processes = Processes::default();
        for known in &members {
            let holders = context.table.holders_of(known).unwrap_or_default();
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
        // The oldest socket's owner, unless another process has more sockets.
        let owner = oldest.filter(|oldest| {
            let count = |pid| most.iter().find(|(owner, _)| owner.pid == pid).map_or(0, |(_, count)| *count);
            most.first().is_none_or(|(_, highest)| count(oldest.pid) == *highest)
        });
        let owner = owner.or_else(|| most.first().map(|(owner, _)| *owner));
        Self { netns, owner, processes, subject, members }
    }

    /// The facts of the last listing about the sockets.
    pub fn facts(&self) -> impl Iterator<Item = &'a Facts> + '_ {
        self.members.iter().filter_map(|known| known.facts())
    }

    /// The sum of a listed value over the sockets; `None` if no socket was listed.
    pub fn sum(&self, of: impl Fn(&Facts) -> u64) -> Option<u64> {
        self.facts().map(of).reduce(u64::saturating_add)
    }

    /// Whether the sockets are orphans; `None` if they differ or it is not known.
    #[must_use]
    pub fn is_orphaned(&self) -> Option<bool> {
        let first = self.members.first()?.orphan;
        first.filter(|_| self.members.iter().all(|known| known.orphan == first))
    }

    /// The PID that closed the oldest socket for which it is known.
    #[must_use]
    pub fn closed_by(&self) -> Value {
        self.members.iter().find_map(|known| known.closed_by()).into()
    }

    /// The most timeouts in a row of any socket.
    #[must_use]
    pub(super) fn timeouts(&self) -> u8 {
        self.members.iter().map(|known| known.retransmits().timeouts).max().unwrap_or(0)
    }

    /// A detection of this group, to which the rule adds evidence. It is settled if a listing has shown its examples since
    /// they became suspicious.
    #[must_use]
    pub fn detection(&self, context: &RuleContext<'_>, kind: Kind, severity: Severity, cause: Cause) -> Detection {
        let shown = &self.members[..self.members.len().min(context.thresholds.examples)];
        let example = |known: &&Connection| Example::of(known, context.table, context.now_ns);
        let former = self.members.iter().find_map(|known| known.former());
        let former = former.map(|owner| ("inherited_from", Value::Text(owner.to_string())));
        Detection {
            owner: self.owner,
            processes: self.processes.clone(),
            count: self.members.len() as u64,
            oldest: self.members.first().map(|known| Age { ns: context.age_ns(known), source: known.since }),
            evidence: former.into_iter().collect(),
            examples: shown.iter().map(example).collect(),
            is_settled: shown
                .iter()
                .all(|known| known.is_timewait() || known.facts().is_some() && is_owned(context, known)),
            is_shown: context.is_any_shown(self.members.iter().copied()),
            ..Detection::new(kind, severity, cause, self.netns, self.subject)
        }
    }
}

/// False if the owner was taken from the listener but does not hold the socket: it may have passed it to another process.
fn is_owned(context: &RuleContext<'_>, known: &Connection) -> bool {
    let is_through = |owner: &Owner| matches!(owner.source, OwnerSource::Listener | OwnerSource::Shared);
    let Some(owner) = known.owner().filter(is_through) else { return true };
    let holders = context.table.holders_of(known);
    holders.is_some_and(|holders| holders.is_empty() || holders.iter().any(|holder| holder.pid == owner.pid))
}
