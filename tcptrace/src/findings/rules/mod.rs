//! The rules, by family: when something is called trouble, how much it matters, what proves it, what it means, what helps.

mod accepting;
mod closing;
pub(super) mod connecting;
mod incidents;
mod killed;
mod listening;
mod loss;
mod pressure;
pub(crate) mod queues;
pub(crate) mod readers;
mod resets;
mod silence;
#[cfg(test)]
mod tests;
mod window;

use crate::{
    findings::{
        cause::Cause,
        context::View,
        detection::Sighting,
        incident::Incident,
        kind::{Kind, Severity},
        thresholds::Thresholds,
    },
    model::{
        close_reason::CloseReason,
        event::{Event, EventKind},
        state::State,
    },
    table::Connection,
};

/// All troubles that there are.
#[must_use]
pub fn look(view: &View<'_>) -> Vec<Sighting> {
    let mut sightings: Vec<Sighting> = Vec::new();
    for family in [
        closing::look,
        connecting::look,
        listening::look,
        accepting::look,
        window::look,
        silence::look,
        resets::look,
        killed::look,
        pressure::look,
        loss::look,
    ] {
        sightings.extend(family(view));
    }
    sightings
}

/// The incident that an event is.
#[must_use]
pub(super) fn incident(event: &Event, left: Option<&Connection>, thresholds: &Thresholds) -> Option<Incident> {
    let EventKind::Transition(transition) = &event.what else { return None };
    let is_with_itself = event.socket.local == event.socket.remote;
    if is_with_itself && transition.new == State::Established {
        let incident = Incident::new(event, transition, CloseReason::Unknown, left);
        return Some(Incident {
            kind: Kind::SelfConnect,
            cause: (Severity::Warning, Cause::ConnectedToItself),
            active: Some(true),
            ..incident
        });
    }
    let ending = transition.ending.filter(|_| !is_with_itself)?;
    let incident = Incident::new(event, transition, ending, left);
    let kind = connecting::kind(&incident)
        .or_else(|| window::kind(&incident))
        .or_else(|| silence::kind(&incident))
        .or_else(|| resets::kind(&incident, thresholds))?;
    Some(Incident { kind, ..incident })
}

/// Why a socket is suspected of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspicion {
    /// CLOCK_MONOTONIC from which on it is, in ns.
    pub since_ns: u64,
    /// The threshold that it went beyond, in ns.
    after_ns: u64,
}

/// What is shown of a suspect is asked for again after this time at least, in ns.
const REFRESH_NS: u64 = 30_000_000_000;
/// What took long to become suspect may wait to be looked at: this part of the threshold, so that one listing shows many
/// that become suspect one by one. What may be the first of its kind waits in the ledger, which is in more of a hurry.
const PATIENCE: u64 = 10;
/// The same for those that are suspected for their timeouts, in ns.
const DEAD_NS: u64 = 10_000_000_000;

impl Suspicion {
    /// Should the sockets be listed, to know more of it? The last listing ended at `listed_ns`.
    #[must_use]
    pub fn wants_facts(&self, known: &Connection, listed_ns: u64, now_ns: u64) -> bool {
        if known.is_timewait() || now_ns.saturating_sub(listed_ns) < self.after_ns / PATIENCE {
            return false;
        }
        let Some(facts) = &known.facts() else {
            // A listing that came since did not show it: it is not to be had now.
            let is_shown = known.suspected_ns().is_none_or(|since_ns| since_ns >= listed_ns);
            return is_shown || now_ns.saturating_sub(listed_ns) > REFRESH_NS;
        };
        let is_old = now_ns.saturating_sub(facts.at_ns) > REFRESH_NS.max(self.after_ns / 4);
        facts.at_ns < self.since_ns || is_old
    }
}

/// From when on a socket is suspected of trouble that takes a closer look, and why, if nothing happens to it; `None`: never.
#[must_use]
pub fn suspicion(known: &Connection, thresholds: &Thresholds) -> Option<Suspicion> {
    if known.retransmits().timeouts >= thresholds.peer_dead_timeouts && known.state != State::Listen {
        // Each further retransmission only says the same.
        return Some(Suspicion { since_ns: 0, after_ns: DEAD_NS });
    }
    let after_ns = thresholds.stuck_after(known.state)?;
    let since_ns = match known.state {
        // Here data may go on to come or go.
        State::Established | State::CloseWait | State::FinWait2 => known.active_ns().max(known.since_ns),
        _ => known.since_ns,
    };
    Some(Suspicion { since_ns: since_ns.saturating_add(after_ns), after_ns })
}
