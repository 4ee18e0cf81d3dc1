//! Connections that this host tries to open.

use rustc_hash::FxHashSet;

use super::incidents::{sightings, warning};
use crate::{
    ending::{Abort, Ending},
    errno,
    findings::{Cause, Group, Incident, Kind, Severity, Sighting, Subject, Value, View, rules::listening},
    snapshot::{listeners_of, place},
    state::State,
    table::Connection,
};

/// Which trouble a failed `connect` is.
pub(super) fn kind(incident: &Incident) -> Option<Kind> {
    match incident.ending {
        Ending::Refused => Some(Kind::ConnectRefused),
        Ending::TimedOut | Ending::Failed(_) if incident.state == State::SynSent => Some(Kind::ConnectFailed),
        Ending::Aborted(Abort::NeverSent) => Some(Kind::ConnectFailed),
        _ => None,
    }
}

/// All troubles of this family.
pub(super) fn look(view: &View<'_>) -> Vec<Sighting> {
    let mut found = syn_sent_unanswered(view);
    found.extend(sightings(view, Kind::ConnectRefused, warning(Cause::PortClosed), |newest| {
        vec![("errno", Value::Name("ECONNREFUSED")), ("latency_ns", newest.in_state_ns.into())]
    }));
    found.extend(sightings(view, Kind::ConnectFailed, connect_failed, |newest| {
        // Without a port nothing was sent: `inet_hash_connect` (`net/ipv4/inet_hashtables.c`) found none that is free.
        let errno = newest.ending.errno().unwrap_or(libc::EADDRNOTAVAIL);
        let name = errno::name(errno).map_or_else(|| Value::Text(errno.to_string()), Value::Name);
        vec![
            ("errno", name),
            ("latency_ns", newest.in_state_ns.into()),
            ("syn_retransmits", Value::Number(newest.total_retrans.into())),
        ]
    }));
    found
}

/// From so many destinations of one process on it looks like a scan.
const MANY_DESTINATIONS: usize = 10;

fn syn_sent_unanswered(view: &View<'_>) -> Vec<Sighting> {
    // Told of where they wait: the listener of this host does not take them, or did not when the last SYN came.
    let listeners = view.in_state(State::Listen).iter();
    let full: Vec<_> = listeners.filter(|listener| listener.full_ns().is_some()).collect();
    let is_waiting = |known: &Connection| {
        let is_there = |netns| place(netns, known.remote()) == place(known.netns(), known.remote());
        let was_full = |listener: &Connection| {
            let full_ns = listener.full_ns().filter(|full_ns| *full_ns >= known.since_ns);
            listening::is_full(listener, view.now_ns)
                || full_ns.is_some_and(|full_ns| view.now_ns.saturating_sub(full_ns) < until_next_syn_ns(known))
        };
        let mut places = listeners_of(known.remote());
        places.any(|local| full.iter().any(|full| full.local() == local && is_there(full.netns()) && was_full(full)))
    };
    let stuck = view.stuck_in(State::SynSent).filter(|known| !is_waiting(known));
    let sighting = |group: Group<'_>| {
        let destinations: FxHashSet<_> = group.members.iter().map(|known| known.remote()).collect();
        let is_scan = destinations.len() >= MANY_DESTINATIONS;
        let evidence = [
            ("syn_retransmits", Value::Number(group.timeouts().into())),
            ("destinations", Value::Number(destinations.len() as u64)),
            ("scan_like", Value::Flag(is_scan)),
        ];
        let cause = if is_scan { Cause::ScanLike } else { Cause::SynUnanswered };
        group.sighting(view, Kind::SynSentUnanswered, Severity::Warning, cause).with(evidence)
    };
    view.group(stuck, |known| Subject::Remote(known.remote())).into_iter().map(sighting).collect()
}

/// The longest time from one SYN to the next, and a second for its answer, in ns: it doubles from 1 s on, up to 64 s with
/// the default of tcp_syn_retries (`net/ipv4/tcp_timer.c`, `tcp_retransmit_timer`).
fn until_next_syn_ns(known: &Connection) -> u64 {
    ((1 << known.retransmits().timeouts.min(6)) + 1) * 1_000_000_000
}

/// What the last failure proves.
fn connect_failed(last: &[&Incident]) -> (Severity, Cause) {
    let cause = match last.first().map(|newest| newest.ending) {
        Some(Ending::TimedOut) => Cause::ConnectTimedOut,
        Some(Ending::Aborted(_)) => Cause::NoLocalPort,
        _ => Cause::Unreachable,
    };
    (Severity::Warning, cause)
}
