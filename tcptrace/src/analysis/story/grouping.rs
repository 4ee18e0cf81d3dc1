//! Groups events into connections.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::SocketAddr,
};

use crate::{
    analysis::story::connection::{Listed, Role, Side, Story, StoryFilter, begins, own_sk},
    model::{
        event::{Event, EventKind, Socket, StateSource, Transition},
        snapshot::Snapshot,
        state::State,
    },
    table::Connection,
};

/// How long a story waits for the rest of its events after the other side has ended, in ns.
const GRACE_NS: u64 = 200_000_000;
/// Room for transitions beyond the limit of events; no connection has more.
const MORE_TRANSITIONS: usize = 16;

/// Bounds of the memory for stories.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most sides of connections; a connection with both ends on this host has two.
    pub sides: usize,
    /// Most events of one side, apart from its transitions.
    pub events: usize,
    /// Most events of all sides; each takes about 240 bytes.
    pub all_events: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { sides: 20_000, events: 1_000, all_events: 400_000 }
    }
}

/// Connections that have not ended, and ended ones that were not taken yet.
///
/// A side is identified by its `sk` from its first event to its end. Two sides belong together if each one's local end is the
/// other's remote end while both exist. With address translation (NAT) between them they stay separate.
pub struct Stories {
    /// Which connections are wanted; `None` for all.
    filter: Option<StoryFilter>,
    limits: Limits,
    next_id: u64,
    /// Sides by id; ids are assigned in order of arrival.
    sides: BTreeMap<u64, Side>,
    partners: HashMap<u64, u64>,
    by_sk: HashMap<u64, u64>,
    /// Ids by local and remote end; sides with unknown ports are left out.
    by_ends: HashMap<(SocketAddr, SocketAddr), Vec<u64>>,
    /// Ends of sides, roughly in order of time.
    ended: VecDeque<(u64, u64)>,
    kept_events: usize,
    evicted: u64,
}

impl Stories {
    /// Stories of the connections that match `filter`, or of all.
    #[must_use]
    pub fn new(filter: impl Into<Option<StoryFilter>>, limits: Limits) -> Self {
        Self {
            filter: filter.into(),
            limits,
            next_id: 0,
            sides: BTreeMap::new(),
            partners: HashMap::new(),
            by_sk: HashMap::new(),
            by_ends: HashMap::new(),
            ended: VecDeque::new(),
            kept_events: 0,
            evicted: 0,
        }
    }

    /// Adds an event; events must be roughly in order of time.
    pub fn ingest(&mut self, event: &Event) {
        if is_listeners(event) {
            return;
        }
        let id = match self.side_of(event) {
            Some(id) => id,
            None if tells_only_of_the_past(event) => return,
            None => self.add_side(event),
        };
        self.add_event(id, event);
        self.make_room();
    }

    /// Number of connections that were dropped to make room for others.
    #[must_use]
    pub const fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Takes out a wanted connection that has ended at `now_ns` (CLOCK_MONOTONIC); all events until then must have been added.
    pub fn take_over(&mut self, now_ns: u64) -> Option<Story> {
        let is_over =
            |ended_ns: Option<u64>| ended_ns.is_some_and(|ended_ns| ended_ns.saturating_add(GRACE_NS) <= now_ns);
        while let Some((_, id)) = self.ended.pop_front_if(|(ended_ns, _)| is_over(Some(*ended_ns))) {
            // Otherwise the end of the other side takes both.
            let partner = self.partners.get(&id).and_then(|partner| self.sides.get(partner));
            if partner.is_none_or(|partner| is_over(partner.ended_ns))
                && let Some(story) = self.take(id, now_ns).filter(|story| self.is_wanted(story))
            {
                return Some(story);
            }
        }
        None
    }

    /// Adds a listing of the connections that have not ended.
    pub fn listed(&mut self, snapshot: &Snapshot) {
        // sock_diag identifies sockets by cookies, or by their ends if they had no cookie yet (before 5.12).
        let mut by_cookie = HashMap::new();
        if snapshot.sockets.iter().any(|socket| socket.sk.is_none()) {
            by_cookie.extend(self.sides.iter().filter_map(|(id, side)| Some((side.cookie?, *id))));
        }
        for socket in &snapshot.sockets {
            let by_ends = || {
                let is_nameless = |_, side: &Side| side.cookie.is_none() && side.ended_ns.is_none();
                self.latest((socket.local, socket.remote), Some(socket.netns), is_nameless)
            };
            let id = match (socket.sk, socket.cookie) {
                (Some(sk), _) => self.by_sk.get(&sk).copied(),
                (None, Some(cookie)) => by_cookie.get(&cookie).copied().or_else(by_ends),
                (None, None) => None,
            };
            let side = id.and_then(|id| self.sides.get_mut(&id));
            if let Some(side) = side.filter(|side| are_same_or_unknown(side.cookie, socket.cookie)) {
                let (state, connection) = (socket.state, socket.connection);
                side.listed = Some(Listed { at_ns: snapshot.ended_ns, state, connection });
            }
        }
    }

    /// Takes out a wanted connection at the end of the run, ended or not; all events up to `until_ns` must have been added.
    pub fn take_rest(&mut self, until_ns: u64) -> Option<Story> {
        while let Some((&id, _)) = self.sides.first_key_value() {
            if let Some(story) = self.take(id, until_ns).filter(|story| self.is_wanted(story)) {
                return Some(story);
            }
        }
        None
    }

    /// The latest connection of a socket with these ends as it is at `now_ns`, which stays; all events until then must have
    /// been added.
    #[must_use]
    pub fn peek(
        &self,
        ends: (SocketAddr, SocketAddr),
        netns: Option<u32>,
        cookie: Option<u64>,
        now_ns: u64,
    ) -> Option<Story> {
        let id = self.latest(ends, netns, |_, side| are_same_or_unknown(side.cookie, cookie))?;
        let partner = self.partners.get(&id).and_then(|partner| self.sides.get(partner));
        Some(Story::new(self.sides.get(&id)?.clone(), partner.cloned(), now_ns))
    }

    /// True if there are no connections.
    #[cfg(test)]
    pub(super) fn is_clear(&self) -> bool {
        let indexes = (self.partners.len(), self.by_sk.len(), self.by_ends.len(), self.kept_events);
        self.sides.is_empty() && indexes == (0, 0, 0, 0)
    }

    fn is_wanted(&self, story: &Story) -> bool {
        let cookies = || story.seen().filter_map(|(_, side)| side.cookie);
        self.filter.is_none_or(|filter| filter.is_of(story.ends(), cookies()))
    }

    /// True if this connection is wanted.
    #[must_use]
    pub fn asks_for(&self, known: &Connection) -> bool {
        let ends = [known.local(), known.remote()];
        self.filter.is_none_or(|filter| filter.is_of(ends, known.cookie().into_iter()))
    }

    /// The side that an event belongs to.
    fn side_of(&self, event: &Event) -> Option<u64> {
        let socket = &event.socket;
        match own_sk(event) {
            Some(sk) => {
                let id = *self.by_sk.get(&sk)?;
                let side = self.sides.get(&id)?;
                (begins(event).is_none() && side.is_of(event)).then_some(id)
            }
            // A SYN-ACK belongs to a connection that begins. A RST may also belong to one that has just ended. But two RSTs
            // without a socket belong to different connections.
            None => self.latest((socket.local, socket.remote), socket.netns, |id, side| {
                side.ended_ns.is_none()
                    || matches!(event.what, EventKind::ResetSent { .. })
                        && (side.sk.is_some() || self.partner_is_open(id))
            }),
        }
    }

    fn partner_is_open(&self, id: u64) -> bool {
        let partner = self.partners.get(&id).and_then(|partner| self.sides.get(partner));
        partner.is_some_and(|partner| partner.ended_ns.is_none())
    }

    /// The newest side with these ends and, if known, this namespace.
    fn latest(
        &self,
        ends: (SocketAddr, SocketAddr),
        netns: Option<u32>,
        fits: impl Fn(u64, &Side) -> bool,
    ) -> Option<u64> {
        let is_it = |id: &&u64| {
            let side = self.sides.get(id);
            side.is_some_and(|side| are_same_or_unknown(side.netns, netns) && fits(**id, side))
        };
        self.by_ends.get(&ends)?.iter().rev().find(is_it).copied()
    }

    fn add_side(&mut self, event: &Event) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let side = Side::new(event);
        if let Some(sk) = side.sk
            && let Some(former_id) = self.by_sk.insert(sk, id)
            && let Some(former) = self.sides.get_mut(&former_id)
            && former.ended_ns.is_none()
        {
            // Its end was lost.
            former.ended_ns = Some(event.time_ns);
            self.ended.push_back((event.time_ns, former_id));
        }
        self.sides.insert(id, side);
        id
    }

    fn add_event(&mut self, id: u64, event: &Event) {
        let Some(side) = self.sides.get_mut(&id) else {
            return;
        };
        let was_settled = side.is_settled();
        self.kept_events += usize::from(side.add(event, self.limits.events));
        if side.ended_ns.is_none() && side.ends_with(event) {
            side.ended_ns = Some(event.time_ns);
            self.ended.push_back((event.time_ns, id));
        }
        // A side whose first event has both ports can be paired at once.
        if side.is_settled() && (!was_settled || side.events.len() == 1) {
            self.settle(id);
        }
    }

    /// Finds the other side of a side whose ends are now known.
    fn settle(&mut self, id: u64) {
        let Some(side) = self.sides.get(&id) else {
            return;
        };
        let (ends, swapped, netns) = ((side.local, side.remote), (side.remote, side.local), side.netns);
        let has_socket = side.sk.is_some();
        let earlier = self.latest(ends, netns, |_, other| has_socket && other.sk.is_none() && side.overlaps(other));
        let is_partner = |other: &u64| {
            ends != swapped
                && !self.partners.contains_key(other)
                && self.sides.get(other).is_some_and(|other| side.overlaps(other) && side.can_reach(other))
        };
        let candidates = self.by_ends.get(&swapped).into_iter().flatten().copied().filter(is_partner);
        let rank = |other: &u64| self.sides.get(other).map(|side| (side.netns == netns, *other));
        let mut partner = candidates.max_by_key(rank);
        if let Some(earlier) = earlier {
            partner = self.partners.get(&earlier).copied().or(partner);
            if let Some(absorbed) = self.remove(earlier)
                && let Some(side) = self.sides.get_mut(&id)
            {
                self.kept_events += absorbed.events.len();
                side.absorb(absorbed);
            }
        }
        self.by_ends.entry(ends).or_default().push(id);
        if let Some(partner) = partner {
            self.partners.insert(id, partner);
            self.partners.insert(partner, id);
        }
    }

    fn take(&mut self, id: u64, until_ns: u64) -> Option<Story> {
        let partner = self.partners.get(&id).copied();
        let side = self.remove(id)?;
        Some(Story::new(side, partner.and_then(|partner| self.remove(partner)), until_ns))
    }

    fn remove(&mut self, id: u64) -> Option<Side> {
        let side = self.sides.remove(&id)?;
        self.kept_events = self.kept_events.saturating_sub(side.events.len());
        if let Some(partner) = self.partners.remove(&id) {
            self.partners.remove(&partner);
        }
        if let Some(sk) = side.sk
            && self.by_sk.get(&sk) == Some(&id)
        {
            self.by_sk.remove(&sk);
        }
        let ends = (side.local, side.remote);
        if let Some(ids) = self.by_ends.get_mut(&ends) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_ends.remove(&ends);
            }
        }
        Some(side)
    }

    /// Drops the oldest connections to make room, but not the one whose cookie is wanted.
    fn make_room(&mut self) {
        while self.sides.len() > self.limits.sides || self.kept_events > self.limits.all_events {
            let stays =
                |side: &Side| matches!(self.filter, Some(StoryFilter::Cookie(cookie)) if side.cookie == Some(cookie));
            let stays_or_partner = |id: &u64, side: &Side| {
                let partner = self.partners.get(id).and_then(|partner| self.sides.get(partner));
                stays(side) || partner.is_some_and(stays)
            };
            let first = self.sides.iter().find(|(id, side)| !stays_or_partner(id, side)).map(|(id, _)| *id);
            let Some(id) = first else {
                return;
            };
            self.take(id, 0);
            self.evicted += 1;
        }
        while self.ended.pop_front_if(|(_, id)| !self.sides.contains_key(id)).is_some() {}
    }
}

/// True if the event concerns a listener, not a connection.
fn is_listeners(event: &Event) -> bool {
    match event.what {
        EventKind::Transition(Transition { old, new, .. }) => {
            new == State::Listen || old == State::Listen && new != State::SynRecv
        }
        _ => event.socket.state == State::Listen && own_sk(event).is_some(),
    }
}

/// True for events that mean nothing without a known connection: the end of TIME_WAIT, and an owner at the end.
fn tells_only_of_the_past(event: &Event) -> bool {
    match event.what {
        EventKind::Transition(transition) => transition.old == State::TimeWait,
        EventKind::OwnerChanged => event.socket.state == State::Close,
        _ => false,
    }
}

fn are_same_or_unknown<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
    one.zip(other).is_none_or(|(one, other)| one == other)
}

impl Side {
    /// True if an event with the same `sk` belongs to this side; another socket may have got the same address in memory.
    fn is_of(&self, event: &Event) -> bool {
        let Socket { cookie, local, remote, .. } = event.socket;
        let are_known = self.is_settled() && local.port() != 0 && remote.port() != 0;
        are_same_or_unknown(self.cookie, cookie) && (!are_known || (self.local, self.remote) == (local, remote))
    }

    fn is_settled(&self) -> bool {
        self.local.port() != 0 && self.remote.port() != 0
    }

    /// Adds an event; returns false if there was no room.
    fn add(&mut self, event: &Event, most: usize) -> bool {
        let socket = &event.socket;
        if !self.is_settled() {
            (self.local, self.remote) = (socket.local, socket.remote);
        }
        // At LISTEN→SYN_RECV the child may still have its listener's cookie (kernels before 6.18).
        let is_own_cookie = !matches!(event.what, EventKind::Transition(Transition { old: State::Listen, .. }));
        if is_own_cookie && self.cookie.is_none() {
            self.cookie = socket.cookie;
        }
        self.netns = self.netns.or(socket.netns);
        self.first_ns = self.first_ns.min(event.time_ns);
        let is_transition = matches!(event.what, EventKind::Transition(_));
        let has_room = self.events.len() < most + if is_transition { MORE_TRANSITIONS } else { 0 };
        if has_room {
            self.events.push(event.clone());
        } else {
            self.omitted += 1;
        }
        has_room
    }

    /// True if the side ends with this event.
    fn ends_with(&self, event: &Event) -> bool {
        match event.what {
            // A mini-socket replaces the full one and causes no events.
            EventKind::Transition(transition) => {
                matches!(transition.new, State::Close | State::TimeWait) || transition.source != StateSource::Observed
            }
            EventKind::ResetSent { .. } if self.sk.is_none() => true,
            _ => self.sk.is_some() && event.socket.state == State::Close,
        }
    }

    /// True if both existed at the same time. A side whose start was not seen existed long before its first event.
    fn overlaps(&self, other: &Self) -> bool {
        let not_before = |one: &Self, other: &Self| {
            one.ended_ns.is_none_or(|ended_ns| other.role() == Role::Unknown || ended_ns >= other.first_ns)
        };
        not_before(self, other) && not_before(other, self)
    }

    /// True if the two can be ends of one connection; loopback does not leave its namespace.
    fn can_reach(&self, other: &Self) -> bool {
        are_same_or_unknown(self.netns, other.netns)
            || !(self.local.ip().is_loopback() || self.remote.ip().is_loopback())
    }

    /// Takes over the answers that the kernel sent before this socket existed.
    fn absorb(&mut self, earlier: Self) {
        self.cookie = self.cookie.or(earlier.cookie);
        self.netns = self.netns.or(earlier.netns);
        self.first_ns = self.first_ns.min(earlier.first_ns);
        self.omitted += earlier.omitted;
        self.events.splice(..0, earlier.events);
    }
}
