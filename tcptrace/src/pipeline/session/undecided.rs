//! Events and findings that wait until the processes are read whose names a filter depends on. Those after them wait too, so
//! that the order stays. They wait longer than records wait for names that they show: on a busy machine a late event is
//! better than one that is left out.

use super::Session;
use crate::{
    findings::Finding,
    model::{event::Event, filter::EventSubject, names::Names},
    pipeline::{
        held::{RELEASED_AT_ONCE, Undecided},
        route::Route,
        user_filter::UserFilter,
    },
    table::Connection,
};

/// Longest time that an event waits to be decided about.
const DECIDED_WITHIN_NS: u64 = 1_000_000_000;

/// Whether a filter cannot decide about an event yet. Asks for all processes that one of them depends on.
fn is_event_undecided(filter: &UserFilter, routes: &[Route], event: &Event, names: &mut Names) -> bool {
    let is_undecided = filter.is_undecided(event, names);
    routes.iter().fold(is_undecided, |any, route| route.is_undecided(&EventSubject(event), names) || any)
}

fn is_finding_undecided(routes: &[Route], finding: &Finding, names: &mut Names) -> bool {
    routes.iter().any(|route| route.is_undecided(&finding.detection, names))
}

impl Session {
    /// Holds an event back if a filter cannot decide about it yet, or something before it waits; returns true if it did.
    pub(super) fn hold_undecided(&mut self, event: &Event, left: Option<&Connection>) -> bool {
        let names = &mut self.context.names;
        let is_undecided = is_event_undecided(&self.user_filter, &self.routes, event, names);
        self.hold(is_undecided, || Undecided::Event(Box::new(event.clone()), left.cloned().map(Box::new)))
    }

    /// The same for a finding.
    pub(super) fn hold_undecided_finding(&mut self, finding: &Finding) -> bool {
        let is_undecided = is_finding_undecided(&self.routes, finding, &mut self.context.names);
        self.hold(is_undecided, || Undecided::Finding(Box::new(finding.clone())))
    }

    fn hold(&mut self, is_undecided: bool, record: impl FnOnce() -> Undecided) -> bool {
        let holds = is_undecided || !self.undecided.is_empty();
        if holds {
            if self.undecided.is_full() {
                self.decide_first();
            }
            self.undecided.add(&self.context, record());
        }
        holds
    }

    /// Decides about what waits no longer, a number of them; returns true if there may be more.
    pub(super) fn decide(&mut self) -> bool {
        for _ in 0..RELEASED_AT_ONCE {
            let Some((held_ns, record)) = self.undecided.first() else { return false };
            let (routes, names) = (&self.routes, &mut self.context.names);
            let is_undecided = match record {
                Undecided::Event(event, _) => is_event_undecided(&self.user_filter, routes, event, names),
                Undecided::Finding(finding) => is_finding_undecided(routes, finding, names),
            };
            if is_undecided && self.context.now_ns.saturating_sub(held_ns) < DECIDED_WITHIN_NS {
                return false;
            }
            self.decide_first();
        }
        true
    }

    /// Decides about all that waits, by what is known now.
    pub(super) fn decide_all(&mut self) {
        while !self.undecided.is_empty() {
            self.decide_first();
        }
    }

    fn decide_first(&mut self) {
        let Some((held_ns, wall, record)) = self.undecided.take_first() else { return };
        // As it would have been without waiting; records do not wait a second time for the names that they show.
        let now = (self.context.now_ns, self.context.wall);
        (self.context.now_ns, self.context.wall) = (held_ns, wall);
        match record {
            Undecided::Event(event, left) => self.dispatch_decided(&event, left.as_deref()),
            Undecided::Finding(finding) if !self.is_complete() && !self.is_muted => self.write_finding(&finding),
            Undecided::Finding(_) => {}
        }
        (self.context.now_ns, self.context.wall) = now;
    }

    /// The time until which all events were decided about, if all until `now_ns` were read.
    pub(super) fn decided_until(&self, now_ns: u64) -> u64 {
        match self.undecided.first() {
            Some((_, Undecided::Event(event, _))) => now_ns.min(event.time_ns.saturating_sub(1)),
            Some((held_ns, Undecided::Finding(_))) => now_ns.min(held_ns),
            None => now_ns,
        }
    }
}
