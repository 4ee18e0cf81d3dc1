//! How events and listings change a socket of the table.

use std::{net::SocketAddr, num::NonZeroU32};

use super::{
    Connection, Facts, Pauses, Rare, Reading, expires_ns, flag, is_acceptor, is_close, is_creator, is_left_by,
    is_orphan, is_orphaned, since,
};
use crate::{
    model::{
        age::AgeSource,
        event::{Event, EventKind, Owner, OwnerSource, Transition, is_same_process},
        snapshot::Snapshot,
        socket::{ConnectionInfo, Kind, ListedSocket},
        state::State,
    },
    table::{
        compact::{NicheU64, PackedAddr},
        roles::{AllRoles, Roles},
    },
};

impl Connection {
    /// A socket that was unknown until an event reported it in `state`.
    pub(in crate::table) fn of_event(event: &Event, state: State, all: &mut AllRoles) -> Self {
        let mut new = Self {
            since_ns: event.time_ns,
            first_seen_ns: event.time_ns,
            timer_or_active_ns: NicheU64::NONE,
            suspected_ns: NicheU64::NONE,
            cookie: NicheU64::NONE,
            handle: NicheU64::NONE,
            roles: None,
            rare: None,
            netns: None,
            listing: 0,
            local: PackedAddr::new(event.socket.local),
            remote: PackedAddr::new(event.socket.remote),
            state,
            since: AgeSource::Observed,
            orphan: None,
            flags: 0,
        };
        new.enter(event, state, all);
        new
    }

    /// Enters `state` by an event.
    pub(in crate::table) fn enter(&mut self, event: &Event, state: State, all: &mut AllRoles) {
        let roles = self.roles();
        let closed_by = event.owner.filter(|_| is_close(event)).map(|owner| owner.pid);
        let now = Roles {
            owner: event.owner,
            creator: roles.creator.or(event.owner.filter(is_creator)),
            acceptor: roles.acceptor.or(event.owner.filter(is_acceptor)),
            closed_by: roles.closed_by.or(closed_by),
            // The owner holds the socket again.
            former: roles
                .former
                .filter(|former| event.owner.is_none_or(|owner| !is_same_process(owner.id(), former.id()))),
            peer: event.peer.map(|peer| peer.owner),
        };
        self.set_roles(now, all);
        (self.state, self.since_ns, self.since) = (state, event.time_ns, AgeSource::Observed);
        self.orphan = is_orphaned(event);
        self.cookie = NicheU64::new(event.socket.cookie);
        (self.local, self.remote) = (PackedAddr::new(event.socket.local), PackedAddr::new(event.socket.remote));
        self.netns = event.socket.netns.and_then(NonZeroU32::new);
        self.set(flag::IPV6, event.socket.ipv6);
        self.set(flag::HAS_EVENTS, true);
        match &event.what {
            EventKind::Transition(Transition { new: State::SynSent, .. }) => self.set(flag::ACTIVE, true),
            EventKind::Transition(Transition { old: State::Listen, .. }) => self.set(flag::PASSIVE, true),
            _ => {}
        }
        self.timer_or_active_ns = NicheU64(event.time_ns);
        self.suspected_ns = NicheU64::NONE;
        self.set(flag::STUCK, false); // until a listing shows it in this state
        self.forget_facts();
        self.listing = 0;
    }

    /// A timewait socket replaces the full socket. No file refers to it.
    pub(in crate::table) fn enter_timewait(&mut self, now_ns: u64, expires_ns: Option<u64>) {
        (self.first_seen_ns, self.orphan, self.handle) = (now_ns, Some(true), NicheU64(0));
        self.set(flag::TIMEWAIT, true);
        self.set_expiry(expires_ns);
    }

    pub(in crate::table) fn of_listed(
        socket: &ListedSocket,
        owner: Option<Owner>,
        now_ns: u64,
        all: &mut AllRoles,
    ) -> Self {
        // The programs' entry for a timewait socket's full socket may have been reused by now.
        let seen = socket.owner.filter(|_| socket.kind != Kind::TimeWait);
        let former = seen.filter(|seen| is_left_by(seen, owner));
        let (since_ns, since) = since(socket, now_ns);
        let (creator, acceptor) = (owner.filter(is_creator), owner.filter(is_acceptor));
        let mut new = Self {
            since_ns,
            first_seen_ns: now_ns,
            timer_or_active_ns: NicheU64::NONE,
            suspected_ns: NicheU64::NONE,
            cookie: NicheU64::new(socket.cookie),
            handle: NicheU64(socket.handle),
            roles: all.share(Roles { owner, creator, acceptor, former, ..Roles::default() }),
            rare: None,
            netns: NonZeroU32::new(socket.netns),
            listing: 0,
            local: PackedAddr::new(socket.local),
            remote: PackedAddr::new(socket.remote),
            state: socket.state,
            since,
            orphan: Some(is_orphan(socket)),
            flags: 0,
        };
        new.set(flag::IPV6, socket.ipv6);
        let has = |sources: &[OwnerSource]| owner.is_some_and(|owner| sources.contains(&owner.source));
        new.set(flag::ACTIVE, has(&[OwnerSource::Connect]));
        new.set(flag::PASSIVE, has(&[OwnerSource::Accept, OwnerSource::Listener]));
        if socket.kind == Kind::TimeWait {
            new.set(flag::TIMEWAIT, true);
            new.set_expiry(expires_ns(socket, now_ns));
        }
        new
    }

    /// Marks it as part of this listing.
    pub(in crate::table) fn in_listing(self, listing: u32) -> Self {
        Self { listing, ..self }
    }

    fn set_roles(&mut self, roles: Roles, all: &mut AllRoles) {
        if self.roles() != roles {
            self.roles = all.share(roles);
        }
    }

    /// Sets when the kernel removes a timewait socket.
    pub(in crate::table) fn set_expiry(&mut self, expires_ns: Option<u64>) {
        self.timer_or_active_ns = NicheU64::new(expires_ns);
    }

    /// Updates the local address, for a port that was bound after the event that reported the socket.
    pub(in crate::table) fn set_local(&mut self, local: SocketAddr) {
        if self.local().port() == 0 {
            self.local = PackedAddr::new(local);
        }
    }

    /// Updates what a listing shows for every socket.
    pub(in crate::table) fn update_listed(&mut self, socket: &ListedSocket) {
        self.handle = NicheU64(socket.handle);
        self.orphan = Some(is_orphan(socket));
    }

    /// A listing found it in its state, without an event.
    pub(in crate::table) fn set_found_state(&mut self, socket: &ListedSocket, now_ns: u64) {
        self.state = socket.state;
        (self.since_ns, self.since) = since(socket, now_ns);
    }

    /// Sets the cookie if it was unknown.
    pub(in crate::table) fn set_cookie(&mut self, cookie: Option<u64>) {
        self.cookie = NicheU64::new(self.cookie().or(cookie));
    }

    /// Sets the owner from a listing of holders. A process that was seen using the socket but no longer holds it
    /// becomes the former owner.
    pub(in crate::table) fn set_holder(&mut self, owner: Option<Owner>, all: &mut AllRoles) {
        let roles = self.roles();
        let left = roles.owner.filter(|before| is_left_by(before, owner));
        self.set_roles(Roles { owner, former: left.or(roles.former), ..roles }, all);
    }

    /// Updates it with a listing; keeps the whole listed socket if findings may need it.
    pub(in crate::table) fn update(&mut self, socket: &ListedSocket, snapshot: &Snapshot) {
        let quiet_ns = |info: ConnectionInfo| match socket.state {
            // A peer that only answers keepalives does not count as activity.
            State::CloseWait | State::FinWait2 => info.without_data_ns(),
            _ => info.quiet_ns(),
        };
        if let Some(since_ns) = socket.connection.map(quiet_ns) {
            self.timer_or_active_ns = NicheU64(self.active_ns().max(snapshot.ended_ns.saturating_sub(since_ns)));
        }
        let total = socket.connection.map_or(0, |info| info.total_retrans);
        if self.retransmits().last_ns < snapshot.started_ns
            && (self.retransmits().timeouts != socket.timeouts || self.retransmits().total < total)
        {
            let retransmits = &mut self.rare().retransmits;
            (retransmits.timeouts, retransmits.total) = (socket.timeouts, retransmits.total.max(total));
        }
        let stuck_reasons = socket.stuck_reasons();
        self.set(flag::STUCK, stuck_reasons.any() && self.state == socket.state);
        if stuck_reasons.unread > 0 {
            let received = socket.connection.map_or(0, |info| info.bytes_received);
            let now = received.saturating_sub(socket.receive_queue.into());
            let last_ns = snapshot.ended_ns;
            let first = Reading { bytes: now, first_ns: last_ns, last_ns, read_ns: None };
            let before = self.rare().read.unwrap_or(first);
            let read_ns = if before.bytes < now { Some(last_ns) } else { before.read_ns };
            self.rare().read = Some(Reading { bytes: now, last_ns, read_ns, ..before });
        } else if let Some(rare) = &mut self.rare {
            rare.read = None;
        }
        if let Some(info) = socket.connection.filter(|_| stuck_reasons.window_closed) {
            let sent_ns = snapshot.ended_ns.saturating_sub(info.last_sent_ns);
            let rare = self.rare();
            rare.pauses = Some(Pauses::next(rare.pauses, sent_ns, snapshot.ended_ns));
        }
        if socket.is_full_listener() {
            self.rare().full_ns = Some(snapshot.ended_ns);
        }
        let is_kept = self.suspected_ns().is_some() || self.is_ailing() || socket.state == State::Listen;
        if is_kept && self.state == socket.state {
            let (at_ns, listed_ns) = (snapshot.started_ns, snapshot.ended_ns);
            self.rare().facts = Some(Box::new(Facts { at_ns, listed_ns, socket: *socket }));
        }
    }

    /// Marks it as a suspect, from `now_ns` unless it already was one.
    pub(in crate::table) fn mark_suspect(&mut self, now_ns: u64) {
        self.suspected_ns = NicheU64::new(self.suspected_ns().or(Some(now_ns)));
    }

    /// Clears the suspicion. Listeners keep their listed data all the same.
    pub(in crate::table) fn clear_suspect(&mut self) {
        self.suspected_ns = NicheU64::NONE;
        if self.state != State::Listen && !self.is_ailing() {
            self.forget_facts();
        }
    }

    /// Clears the stuck state: the last listing did not contain it.
    pub(in crate::table) fn clear_stuck(&mut self) {
        self.set(flag::STUCK, false);
        if let Some(rare) = &mut self.rare {
            rare.read = None;
        }
        if self.suspected_ns().is_none() {
            self.forget_facts();
        }
    }

    fn forget_facts(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.facts = None;
        }
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Updates it with an event that is not a transition.
    pub(in crate::table) fn apply_event(&mut self, event: &Event, all: &mut AllRoles) {
        self.set_local(event.socket.local);
        self.set_cookie(event.socket.cookie);
        match &event.what {
            EventKind::Retransmit(retransmit) => {
                self.rare().retransmits.add(event.time_ns, retransmit);
                self.timer_or_active_ns = NicheU64(event.time_ns);
            }
            EventKind::ResetReceived(facts) | EventKind::ResetSent { facts, .. } if *facts != self.reset() => {
                self.rare().reset = *facts;
            }
            EventKind::OwnerChanged => {
                let roles = self.roles();
                let acceptor = roles.acceptor.or(event.owner.filter(is_acceptor));
                self.set_roles(Roles { owner: event.owner, acceptor, ..roles }, all);
            }
            _ => {}
        }
    }
}
