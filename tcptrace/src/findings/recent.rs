//! What happened lately that the table does not keep: connections that failed, and how sockets of a process move on.

use std::net::SocketAddr;

use rustc_hash::FxHashMap;

use super::{
    Kind, Thresholds, rules,
    sighting::{Example, MAX_EXAMPLES},
};
use crate::{
    ending::Ending,
    event::{Event, Owner, ResetFacts, TimeSource, Transition, What},
    state::State,
    table::Connection,
};

/// A connection that failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    /// Which trouble it is.
    pub kind: Kind,
    /// CLOCK_MONOTONIC at which it failed, in ns.
    pub time_ns: u64,
    /// Network namespace.
    pub netns: Option<u32>,
    /// The process that it belonged to.
    pub owner: Option<Owner>,
    /// Its lasting name.
    pub cookie: Option<u64>,
    /// Local end.
    pub local: SocketAddr,
    /// Remote end.
    pub remote: SocketAddr,
    /// State in which it failed.
    pub state: State,
    /// How it ended.
    pub ending: Ending,
    /// Did this host open it? `None` where that was not seen.
    pub active: Option<bool>,
    /// How long it had been in the state, in ns.
    pub in_state_ns: Option<u64>,
    /// Segments sent again in its life.
    pub total_retrans: u32,
    /// Timeouts in a row at the last of them.
    pub timeouts: u8,
    /// Bytes received and not read.
    pub unread: u32,
    /// Bytes written and not acknowledged.
    pub unacked: u32,
    /// What the kernel knew when a RST came.
    pub reset: Option<ResetFacts>,
    /// Does SO_KEEPALIVE ask whether the peer is there?
    pub keepalive: bool,
}

/// Connections of one owner that failed in the same way toward one destination, or through one listener.
#[derive(Clone, Debug)]
pub struct Incidents {
    /// How many since the finding began.
    pub count: u64,
    /// CLOCK_MONOTONIC of the first, in ns.
    pub first_ns: u64,
    /// The last of them, newest last.
    pub last: Vec<Incident>,
}

/// Which incidents are told of together.
pub(super) type IncidentKey = (Kind, Option<u32>, Option<u32>, Option<SocketAddr>);

/// Groups of incidents that are remembered at most.
const MAX_GROUPS: usize = 4096;
/// Processes whose sockets are counted at most.
const MAX_FLOWS: usize = 4096;

/// What happened lately.
#[derive(Debug, Default)]
pub struct Recent {
    start_ns: u64,
    incidents: FxHashMap<IncidentKey, Incidents>,
    flows: FxHashMap<(Option<u32>, u32), Flow>,
    /// The slot in which flows made room last.
    cleared_slot: u64,
}

/// How the sockets of a process come to CLOSE_WAIT and leave it.
#[derive(Clone, Debug, Default)]
pub struct Flow {
    /// Entered less left, by slots of [`SLOT_NS`], that of `slot` first.
    net: [i64; SLOTS],
    slot: u64,
    /// Times in CLOSE_WAIT of those that left it by `close`, in ns, the last ones in a ring.
    times: [u64; 9],
    timed: usize,
}

const SLOT_NS: u64 = 10_000_000_000;
const SLOTS: usize = 7;
const MINUTE_NS: u64 = 60_000_000_000;
/// From less than this no growth per minute follows.
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

    /// The usual time in CLOSE_WAIT of those that leave it, in ns: the median of the last few.
    #[must_use]
    pub fn usual_ns(&self) -> Option<u64> {
        let mut times = self.times;
        let known = &mut times[..self.timed.min(self.times.len())];
        known.sort_unstable();
        known.get(known.len() / 2).copied()
    }
}

impl Recent {
    /// Nothing before `start_ns`, in CLOCK_MONOTONIC.
    #[must_use]
    pub fn new(start_ns: u64) -> Self {
        Self { start_ns, ..Self::default() }
    }

    /// Takes in an event, and what was known of the socket that ended with it.
    pub fn ingest(&mut self, event: &Event, left: Option<&Connection>, thresholds: &Thresholds) {
        let What::Transition(transition) = &event.what else { return };
        if transition.new == State::CloseWait || transition.old == State::CloseWait {
            self.count(event, transition);
        }
        let Some(ending) = transition.ending else { return };
        if let Some(incident) = rules::incident(event, transition, ending, left, thresholds) {
            self.add(incident);
        }
    }

    fn count(&mut self, event: &Event, transition: &Transition) {
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
        flow.add(event.time_ns, if transition.new == State::CloseWait { 1 } else { -1 });
        let time = transition.time_in_old.filter(|time| time.source == TimeSource::Observed);
        if let Some(time) = time.filter(|_| transition.new == State::LastAck) {
            let place = flow.timed % flow.times.len();
            flow.times[place] = time.ns;
            flow.timed += 1;
        }
    }

    fn add(&mut self, incident: Incident) {
        let owner = incident.owner.map(|owner| owner.pid);
        // Who opened it has the destination in common with others, who accepted it the listener.
        let subject = if incident.active == Some(false) { incident.local } else { incident.remote };
        let key = (incident.kind, incident.netns, owner, Some(subject));
        if self.incidents.len() >= MAX_GROUPS && !self.incidents.contains_key(&key) {
            // Many at once, since a scan makes a group with each event.
            let mut times: Vec<_> = self.incidents.values().map(Incidents::last_ns).collect();
            let (_, &mut latest_ns, _) = times.select_nth_unstable(MAX_GROUPS / 8 - 1);
            self.incidents.retain(|_, group| group.last_ns() > latest_ns);
        }
        let first_ns = incident.time_ns;
        let group = self.incidents.entry(key).or_insert(Incidents { count: 0, first_ns, last: Vec::new() });
        group.count += 1;
        if group.last.len() == MAX_EXAMPLES {
            group.last.remove(0);
        }
        group.last.push(incident);
    }

    /// Forgets failures after which there was quiet for `quiet_ns`.
    pub fn forget(&mut self, now_ns: u64, quiet_ns: u64) {
        self.incidents.retain(|_, group| now_ns.saturating_sub(group.last_ns()) < quiet_ns);
    }

    /// How many groups of failures, and how many processes are remembered.
    #[must_use]
    pub fn len(&self) -> (usize, usize) {
        (self.incidents.len(), self.flows.len())
    }

    /// The failures, by what they have in common.
    pub fn incidents(&self) -> impl Iterator<Item = (&IncidentKey, &Incidents)> {
        self.incidents.iter()
    }

    /// How the sockets of a process move on.
    #[must_use]
    pub fn flow(&self, netns: Option<u32>, pid: u32) -> Option<&Flow> {
        self.flows.get(&(netns, pid))
    }

    /// By how many more sockets in CLOSE_WAIT a process has per minute, over the last minute or the time that it was
    /// watched, and that time in ns; `None` within the first second, or where there is no room to count.
    #[must_use]
    pub fn growth_per_minute(&self, netns: Option<u32>, pid: u32, now_ns: u64) -> Option<(f64, u64)> {
        let watched_ns = now_ns.saturating_sub(self.start_ns);
        if watched_ns < LEAST_NS {
            return None;
        }
        // Where there was no room for it nothing is known.
        let none = || (self.flows.len() < MAX_FLOWS).then(Flow::default);
        let mut flow = self.flow(netns, pid).cloned().or_else(none)?;
        flow.move_to(now_ns / SLOT_NS);
        let net: i64 = flow.net.iter().sum();
        let span_ns = watched_ns.min((SLOTS as u64 - 1) * SLOT_NS + now_ns % SLOT_NS);
        Some((net as f64 * MINUTE_NS as f64 / span_ns as f64, span_ns))
    }
}

impl Incidents {
    /// CLOCK_MONOTONIC of the last one, in ns.
    #[must_use]
    pub fn last_ns(&self) -> u64 {
        self.last.last().map_or(self.first_ns, |incident| incident.time_ns)
    }
}

impl Incident {
    /// The socket as an example.
    #[must_use]
    pub fn example(&self) -> Example {
        Example {
            cookie: self.cookie,
            local: self.local,
            remote: self.remote,
            state: self.state,
            age: None,
            facts: None,
            holders: Vec::new(),
        }
    }
}
