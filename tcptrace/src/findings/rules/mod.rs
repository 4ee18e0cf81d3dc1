//! The rules. Each file has a family of related problems, and decides when something is a problem, how serious it is, and
//! which cause the facts prove.
//!
//! A family has a function `evaluate`, which detects problems in the sockets that exist now, and often a function `kind`,
//! which classifies a connection that has just failed. To add a finding, add a row to `kind.rs` and one or more causes to
//! `cause/mod.rs`, then detect it in the family where it belongs.

pub(crate) mod accept_queue;
mod closing;
pub(super) mod connecting;
mod incidents;
mod killed;
mod listening;
mod loss;
mod pressure;
pub(crate) mod readers;
mod reading;
mod resets;
mod silence;
#[cfg(test)]
mod tests;
mod window;

use crate::{
    findings::{
        cause::Cause,
        context::RuleContext,
        detection::Detection,
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

/// All problems that exist now.
#[must_use]
pub fn evaluate(context: &RuleContext<'_>) -> Vec<Detection> {
    let mut detections: Vec<Detection> = Vec::new();
    for family in [
        closing::evaluate,
        connecting::evaluate,
        listening::evaluate,
        accept_queue::evaluate,
        reading::evaluate,
        window::evaluate,
        silence::evaluate,
        resets::evaluate,
        killed::evaluate,
        pressure::evaluate,
        loss::evaluate,
    ] {
        detections.extend(family(context));
    }
    detections
}

/// The incident that an event reports, if a connection failed.
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

/// From when a socket is suspicious, which means that a listing should collect evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspicion {
    /// From when it is suspicious, CLOCK_MONOTONIC in ns.
    pub since_ns: u64,
    /// The threshold that it exceeds, in ns.
    after_ns: u64,
}

/// Shortest time after which the facts of a suspicious socket are refreshed, in ns.
const REFRESH_NS: u64 = 30_000_000_000;
/// A socket waits this part of its threshold for a listing, so that one listing serves many that become suspicious one after
/// the other. The first of its kind does not wait so long: the tracker requests a listing for a new finding.
const PATIENCE: u64 = 10;
/// The threshold of sockets that are suspicious because of timeouts, in ns.
const DEAD_NS: u64 = 10_000_000_000;

impl Suspicion {
    /// True if a listing should collect more facts about the socket. The last listing ended at `listed_ns`.
    #[must_use]
    pub fn wants_facts(&self, known: &Connection, listed_ns: u64, now_ns: u64) -> bool {
        if known.is_timewait() || now_ns.saturating_sub(listed_ns) < self.after_ns / PATIENCE {
            return false;
        }
        let Some(facts) = &known.facts() else {
            // A listing since then did not show it, so the next one will probably not either.
            let is_shown = known.suspected_ns().is_none_or(|since_ns| since_ns >= listed_ns);
            return is_shown || now_ns.saturating_sub(listed_ns) > REFRESH_NS;
        };
        let is_old = now_ns.saturating_sub(facts.at_ns) > REFRESH_NS.max(self.after_ns / 4);
        facts.at_ns < self.since_ns || is_old
    }
}

/// From when a socket becomes suspicious if nothing happens to it; `None` for never.
#[must_use]
pub fn suspicion(known: &Connection, thresholds: &Thresholds) -> Option<Suspicion> {
    if known.retransmits().timeouts >= thresholds.peer_dead_timeouts && known.state != State::Listen {
        // Further retransmissions change nothing.
        return Some(Suspicion { since_ns: 0, after_ns: DEAD_NS });
    }
    let after_ns = thresholds.stuck_after(known.state)?;
    let since_ns = match known.state {
        // In these states data may still flow.
        State::Established | State::CloseWait | State::FinWait2 => known.active_ns().max(known.since_ns),
        _ => known.since_ns,
    };
    Some(Suspicion { since_ns: since_ns.saturating_add(after_ns), after_ns })
}
