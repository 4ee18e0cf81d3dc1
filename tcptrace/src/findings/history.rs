//! Recent events that the table does not keep: failed connections, and how the sockets of each process enter and leave
//! CLOSE_WAIT.

use std::net::{IpAddr, SocketAddr};

use rustc_hash::FxHashSet;

use super::{kills::Kills, lossy::Lossy, paths::Paths, successes::Successes};
use crate::{
    findings::{
        cause::Cause,
        detection::{MAX_EXAMPLES, Processes},
        incident::Incident,
        kind::Kind,
        services::Services,
        thresholds::Thresholds,
    },
    model::{
        close_reason::CloseReason,
        event::{Command, Event, EventKind, StartTicks, TimeSource, Transition, is_same_process},
        keyed::KeyedMap,
        snapshot::{NextHop, Snapshot},
        state::State,
    },
    table::Connection,
};

/// Failures of one kind and cause, of one command with one destination or listener.
#[derive(Clone, Debug)]
pub struct Incidents {
    /// Number of failures since the finding began.
    pub count: u64,
    /// Time of the first failure, CLOCK_MONOTONIC in ns.
    pub first_ns: u64,
    /// The processes that owned the connections.
    pub processes: Processes,
    /// The last failures, newest last.
    pub last: Vec<Incident>,
    /// True if the filter shows any of the connections.
    pub is_shown: bool,
}

/// Incidents with the same key are one problem: kind, network namespace, command, listener or destination, and cause.
pub(super) type IncidentKey = (Kind, Option<u32>, Option<Command>, SocketAddr, Cause);

/// Most incidents that wait for events of their other end; when there are more, all get the cause that is known so far.
const MAX_PENDING: usize = 4096;
/// How long an incident waits for events of its other end, in ns.
const OTHER_END_NS: u64 = 300_000_000;

/// How long an incident waits for the poll that looks up its next hop, in ns.
const NEXT_HOP_NS: u64 = 2_500_000_000;

/// True if the next hop must be looked up: a silent neighbour fails a connect with the same errno as an ICMP error
/// (`net/ipv4/arp.c`, `arp_error_report`).
fn asks_next_hop(incident: &Incident) -> bool {
    incident.ending == CloseReason::Failed(libc::EHOSTUNREACH) && incident.next_hop.is_none()
}

/// Most groups of incidents.
const MAX_GROUPS: usize = 4096;
/// Most processes whose sockets are counted.
const MAX_FLOWS: usize = 4096;

/// Recent failures, and the flow of sockets through CLOSE_WAIT.
#[derive(Debug, Default)]
pub struct History {
    start_ns: u64,
    incidents: KeyedMap<IncidentKey, Incidents>,
    /// Incidents without a cause yet.
    pending: Vec<Incident>,
    /// Recent events at the ends of connections.
    pub(super) paths: Paths,
    pub(super) kills: Kills,
    successes: Successes,
    pub(super) lossy: Lossy,
    services: Services,
    flows: KeyedMap<(Option<u32>, u32), Flow>,
    /// The slot in which idle flows were dropped last.
    cleared_slot: u64,
}

/// How the sockets of a process enter and leave CLOSE_WAIT.
#[derive(Clone, Debug, Default)]
pub struct Flow {
    /// Start time of the process, which tells a reused PID.
    start: Option<StartTicks>,
    /// Sockets that entered CLOSE_WAIT minus sockets that left it, by slots of [`SLOT_NS`]; `slot` is the first.
    net: [i64; SLOTS],
    slot: u64,
    /// A ring of the last times in CLOSE_WAIT before `close`, in ns.
    times: [u64; 9],
    timed: usize,
    /// Sockets that entered CLOSE_WAIT until this time (CLOCK_MONOTONIC, in ns) were leaked by the times known then.
    leaked_ns: u64,
}

const SLOT_NS: u64 = 10_000_000_000;
const SLOTS: usize = 7;
const MINUTE_NS: u64 = 60_000_000_000;
/// Shortest time from which a growth per minute is computed.
const LEAST_NS: u64 = 1_000_000_000;

impl Flow {
    fn add(&mut self, time_ns: u64, change: i64) {
        self.move_to(time_ns / SLOT_NS);
        self.net[0] += change;
    }

    fn move_to(&mut self, slot: u64) {
        let passed = slot.saturating_sub(self.slot).min(SLOTS as u64) as usize;
        self.net.rotate_right(passed);
        self.net[..passed].fill(0);
        self.slot = self.slot.max(slot);
    }

    /// The process's usual time from the peer's FIN to `close`, in ns: the median of the last few.
    #[must_use]
    pub fn usual_ns(&self) -> Option<u64> {
        let mut times = self.times;
        let known = &mut times[..self.timed.min(self.times.len())];
        known.sort_unstable();
        known.get(known.len() / 2).copied()
    }

    /// True if a socket that entered CLOSE_WAIT at `since_ns` was leaked before the usual time rose. It stays leaked: that the
    /// process closes some sockets late does not mean that it will close those it forgot.
    #[must_use]
    pub const fn was_leaked(&self, since_ns: u64) -> bool {
        since_ns <= self.leaked_ns
    }
}

impl History {
    /// An empty history from `start_ns` on, in CLOCK_MONOTONIC.
    #[must_use]
    pub fn new(start_ns: u64) -> Self {
        Self { start_ns, ..Self::default() }
    }

    /// Takes an event, the table's entry of the socket that ended with it, the incident if the connection failed, and whether
    /// the filter shows the socket.
    pub fn ingest(
        &mut self,
        event: &Event,
        left: Option<&Connection>,
        incident: Option<Incident>,
        thresholds: &Thresholds,
        is_shown: bool,
    ) {
        self.paths.ingest(event);
        self.lossy.ingest(event, &self.services, is_shown);
        let EventKind::Transition(transition) = &event.what else { return };
        self.services.ingest(event);
        self.successes.ingest(event, transition);
        self.kills.ingest(event, transition, left, &self.services, is_shown);
        if transition.new == State::CloseWait || transition.old == State::CloseWait {
            self.count(event, transition, thresholds);
        }
        let has_won =
            || self.successes.of(event).is_some_and(|ns| event.time_ns.saturating_sub(ns) < Successes::NEAR_NS);
        if let Some(incident) = incident
            && !(incident.is_given_up() && has_won())
        {
            if self.pending.len() >= MAX_PENDING {
                self.pending.drain(..).collect::<Vec<_>>().into_iter().for_each(|incident| self.add(incident));
            }
            self.pending.push(Incident { is_shown, ..incident });
        }
    }

    /// Takes out the incidents whose cause can be decided at `now_ns`: those that no longer wait for their other end.
    pub(super) fn due(&mut self, now_ns: u64, is_here: impl Fn(SocketAddr) -> bool) -> Vec<Incident> {
        let paths = &self.paths;
        let waits = |incident: &Incident| {
            if asks_next_hop(incident) {
                return now_ns.saturating_sub(incident.time_ns) < NEXT_HOP_NS;
            }
            let other = paths.at(incident.netns, incident.remote, incident.local);
            let is_reported = other.ended.is_some() || other.reset_sent.is_some();
            !is_reported && is_here(incident.remote) && now_ns.saturating_sub(incident.time_ns) < OTHER_END_NS
        };
        let (waiting, due) = self.pending.drain(..).partition(waits);
        self.pending = waiting;
        due
    }

    /// Unreachable destinations whose next hop should be looked up, each with its network namespace.
    pub(super) fn unreachable(&self) -> Vec<(u32, IpAddr)> {
        let asking = self.pending.iter().filter(|incident| asks_next_hop(incident));
        let destinations: FxHashSet<_> =
            asking.filter_map(|incident| Some((incident.netns?, incident.remote.ip()))).collect();
        destinations.into_iter().collect()
    }

    /// True if an incident waits for its other end or a listing.
    pub(super) fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    fn count(&mut self, event: &Event, transition: &Transition, thresholds: &Thresholds) {
        let Some(owner) = event.owner else { return };
        let key = (event.socket.netns, owner.pid);
        if self.flows.len() >= MAX_FLOWS && !self.flows.contains_key(&key) {
            let slot = event.time_ns / SLOT_NS;
            if std::mem::replace(&mut self.cleared_slot, slot) != slot {
                self.flows.retain(|_, flow| flow.slot + SLOTS as u64 > slot);
            }
            if self.flows.len() >= MAX_FLOWS {
                return;
            }
        }
        let flow = self.flows.entry(key).or_default();
        if !is_same_process((owner.pid, flow.start), owner.id()) {
            *flow = Flow::default(); // the PID was reused
        }
        flow.start = owner.start.or(flow.start);
        flow.add(event.time_ns, if transition.new == State::CloseWait { 1 } else { -1 });
        let time = transition.time_in_old.filter(|time| time.source == TimeSource::Observed);
        if let Some(time) = time.filter(|_| transition.new == State::LastAck) {
            let slow_ns = flow.usual_ns().map_or(0, |usual_ns| usual_ns.saturating_mul(2));
            let after_ns = thresholds.stuck_after(State::CloseWait).map_or(u64::MAX, |ns| ns.max(slow_ns));
            flow.leaked_ns = flow.leaked_ns.max(event.time_ns.saturating_sub(after_ns));
            let place = flow.timed % flow.times.len();
            flow.times[place] = time.ns;
            flow.timed += 1;
        }
    }

    /// Counts an incident whose cause is known.
    pub(super) fn add(&mut self, incident: Incident) {
        let command = incident.owner.map(|owner| owner.command);
        // Outgoing connections share their destination, incoming ones their listener.
        let subject = if incident.active == Some(false) { incident.local } else { incident.remote };
        let key = (incident.kind, incident.netns, command, subject, incident.cause.1);
        if self.incidents.len() >= MAX_GROUPS && !self.incidents.contains_key(&key) {
            // Drop an eighth at once, since a scan makes a group with each event.
            let mut times: Vec<_> = self.incidents.values().map(Incidents::last_ns).collect();
            let (_, &mut latest_ns, _) = times.select_nth_unstable(MAX_GROUPS / 8 - 1);
            self.incidents.retain(|_, group| group.last_ns() > latest_ns);
        }
        let (first_ns, is_shown) = (incident.time_ns, incident.is_shown);
        let empty = || Incidents { count: 0, first_ns, processes: Processes::default(), last: Vec::new(), is_shown };
        let group = self.incidents.entry(key).or_insert_with(empty);
        group.count += 1;
        group.is_shown |= incident.is_shown;
        group.processes.add(incident.owner, 1);
        if group.last.len() == MAX_EXAMPLES {
            group.last.remove(0);
        }
        group.last.push(incident);
    }

    /// Drops groups without a failure for `quiet_ns`.
    pub fn forget(&mut self, now_ns: u64, quiet_ns: u64) {
        self.incidents.retain(|_, group| now_ns.saturating_sub(group.last_ns()) < quiet_ns);
        self.kills.forget(now_ns, quiet_ns);
        self.lossy.forget(now_ns);
    }

    /// The number of groups of failures, and of processes whose sockets are counted.
    #[must_use]
    pub fn len(&self) -> (usize, usize) {
        (self.incidents.len(), self.flows.len())
    }

    /// The groups of failures.
    pub fn incidents(&self) -> impl Iterator<Item = (&IncidentKey, &Incidents)> {
        self.incidents.iter()
    }

    /// Takes a listing: its listeners and next hops.
    pub fn listed(&mut self, snapshot: &Snapshot) {
        self.services.listed(snapshot);
        for incident in self.pending.iter_mut().filter(|incident| asks_next_hop(incident)) {
            let is_its = |hop: &&NextHop| (Some(hop.netns), hop.remote) == (incident.netns, incident.remote.ip());
            incident.next_hop = snapshot.next_hops.iter().find(is_its).copied();
        }
    }

    /// The services on this host.
    #[must_use]
    pub const fn services(&self) -> &Services {
        &self.services
    }

    /// How the sockets of a process enter and leave CLOSE_WAIT.
    #[must_use]
    pub fn flow(&self, netns: Option<u32>, pid: u32) -> Option<&Flow> {
        self.flows.get(&(netns, pid))
    }

    /// Growth of a process's sockets in CLOSE_WAIT per minute, measured over the last minute or since the start, and the length
    /// of that time in ns. `None` within the first second, or if the process is not counted for lack of room.
    #[must_use]
    pub fn growth_per_minute(&self, netns: Option<u32>, pid: u32, now_ns: u64) -> Option<(f64, u64)> {
        let watched_ns = now_ns.saturating_sub(self.start_ns);
        if watched_ns < LEAST_NS {
            return None;
        }
        // A process without an entry had no such sockets, unless the map was full.
        let none = || (self.flows.len() < MAX_FLOWS).then(Flow::default);
        let mut flow = self.flow(netns, pid).cloned().or_else(none)?;
        flow.move_to(now_ns / SLOT_NS);
        let net: i64 = flow.net.iter().sum();
        let span_ns = watched_ns.min((SLOTS as u64 - 1) * SLOT_NS + now_ns % SLOT_NS);
        Some((net as f64 * MINUTE_NS as f64 / span_ns as f64, span_ns))
    }
}

impl Incidents {
    /// Time of the last failure, CLOCK_MONOTONIC in ns.
    #[must_use]
    pub fn last_ns(&self) -> u64 {
        self.last.last().map_or(self.first_ns, |incident| incident.time_ns)
    }
}
