//! Connections that this host tries to open.

use std::net::SocketAddr;

use super::{
    incidents::{judged, sightings},
    pressure,
};
use crate::{
    findings::{
        cause::Cause,
        context::{Group, View},
        detection::{Sighting, Subject, Value},
        incident::Incident,
        kind::{Kind, Severity},
        rules::queues,
    },
    model::{
        close_reason::{Abort, CloseReason},
        errno,
        keyed::{KeyedMap, KeyedSet},
        socket::{listener_addresses, loopback_netns},
        state::State,
    },
    table::Connection,
};

/// Which trouble a failed `connect` is.
pub(super) fn kind(incident: &Incident) -> Option<Kind> {
    match incident.ending {
        CloseReason::Refused => Some(Kind::ConnectRefused),
        CloseReason::TimedOut | CloseReason::Failed(_) if incident.state == State::SynSent => Some(Kind::ConnectFailed),
        CloseReason::Aborted(Abort::NeverSent) => Some(Kind::ConnectFailed),
        CloseReason::Aborted(Abort::BeforeEstablished) if was_waited_for(incident) => Some(Kind::SynSentUnanswered),
        CloseReason::Aborted(Abort::BeforeEstablished) if incident.state == State::SynSent => Some(Kind::ConnectFailed),
        _ => None,
    }
}

fn was_waited_for(incident: &Incident) -> bool {
    incident.state == State::SynSent
        && (incident.total_retrans > 0 || incident.in_state_ns.is_some_and(|ns| ns >= WAITED_NS))
}

/// Attempts that were given up after this time at least were waited for, in ns: what an ICMP error rejects ends sooner.
const WAITED_NS: u64 = 200_000_000;

/// Is the destination a listener of this host whose queue is full, or was? That is told of there.
pub(in crate::findings) fn is_listener_full(view: &View<'_>, incident: &Incident) -> bool {
    let since_ns = incident.time_ns.saturating_sub(incident.in_state_ns.unwrap_or(0));
    waits_for_full_listener(view, incident.netns, incident.remote, Attempt { since_ns, timeouts: incident.timeouts })
}

/// An attempt to connect: when it began (CLOCK_MONOTONIC, in ns), and how often its SYN was sent again.
struct Attempt {
    since_ns: u64,
    timeouts: u8,
}

/// Is the destination a listener of this host whose queue is full, or was when the last SYN came?
fn waits_for_full_listener(view: &View<'_>, netns: Option<u32>, remote: SocketAddr, attempt: Attempt) -> bool {
    // The longest time from one SYN to the next, and a second for its answer: it doubles from 1 s on, up to 64 s with the
    // default of tcp_syn_retries (`net/ipv4/tcp_timer.c`, `tcp_retransmit_timer`).
    let next_syn_ns = ((1 << attempt.timeouts.min(6)) + 1) * 1_000_000_000;
    let was_full = |listener: &Connection| {
        let full_ns = listener.full_ns().filter(|full_ns| *full_ns >= attempt.since_ns);
        queues::is_full(listener, view.now_ns)
            || full_ns.is_some_and(|full_ns| view.now_ns.saturating_sub(full_ns) < next_syn_ns)
    };
    view.in_state(State::Listen).iter().any(|listener| is_at(listener, netns, remote) && was_full(listener))
}

/// Does a listener get the connections to `remote`?
fn is_at(listener: &Connection, netns: Option<u32>, remote: SocketAddr) -> bool {
    listener_addresses(remote).any(|local| local == listener.local())
        && loopback_netns(listener.netns(), remote) == loopback_netns(netns, remote)
}

/// All troubles of this family.
pub(super) fn look(view: &View<'_>) -> Vec<Sighting> {
    let mut found = syn_sent_unanswered(view);
    found.extend(given_up(view));
    found.extend(sightings(view, Kind::ConnectRefused, judged, |newest| {
        let (place, owner) = newest.peer.listens_at.unzip();
        let owner = owner.flatten();
        vec![
            ("errno", Value::Name("ECONNREFUSED")),
            ("latency_ns", newest.in_state_ns.into()),
            ("listens_at", place.map_or(Value::Unknown, |place| Value::Text(place.to_string()))),
            ("peer_pid", owner.map(|owner| owner.pid).into()),
            ("peer_command", owner.map_or(Value::Unknown, |owner| Value::Text(owner.command.to_text().into_owned()))),
        ]
    }));
    found.extend(sightings(view, Kind::SelfConnect, judged, |newest| {
        vec![("port", Value::Number(newest.local.port().into()))]
    }));
    let mut failed = sightings(view, Kind::ConnectFailed, judged, |newest| {
        let errno = match newest.ending {
            // `inet_hash_connect` (`net/ipv4/inet_hashtables.c`) found no port, or the pair of ends in use.
            CloseReason::Aborted(Abort::NeverSent) if newest.cause.1 != Cause::NotSent => Some(libc::EADDRNOTAVAIL),
            ending => ending.errno(),
        };
        let name = |errno| errno::name(errno).map_or_else(|| Value::Text(format!("errno {errno}")), Value::Name);
        vec![
            ("errno", errno.map_or(Value::Unknown, name)),
            ("latency_ns", newest.in_state_ns.into()),
            ("syn_retransmits", Value::Number(newest.total_retrans.into())),
            ("next_hop", newest.next_hop.map_or(Value::Unknown, |next| Value::Text(next.hop.to_string()))),
            ("next_hop_answers", newest.next_hop.and_then(|next| next.answers).map_or(Value::Unknown, Value::Flag)),
        ]
    });
    for sighting in &mut failed {
        // Once may be a program that was stopped.
        if sighting.cause == Cause::EndedAtOnce && sighting.count >= MANY_AT_ONCE {
            sighting.severity = Severity::Warning;
        }
        if sighting.cause == Cause::NoLocalPort {
            pressure::add_port_holders(view, sighting);
        }
    }
    found.extend(failed);
    found
}

/// From so many attempts that ended at once on they are a warning.
const MANY_AT_ONCE: u64 = 3;
/// So long is one attempt waited for until it is trouble by itself, in ns.
const LONG_NS: u64 = 3_000_000_000;

/// Attempts that their process gave up, again and again, while no SYN was answered.
fn given_up(view: &View<'_>) -> Vec<Sighting> {
    let mut found = sightings(view, Kind::SynSentUnanswered, judged, |newest| {
        vec![
            ("given_up_after_ns", newest.in_state_ns.into()),
            ("syn_retransmits", Value::Number(newest.total_retrans.into())),
        ]
    });
    let group_of = |sighting: &Sighting| (sighting.netns, sighting.owner.map(|owner| owner.command));
    let mut destinations: KeyedMap<_, KeyedSet<SocketAddr>> = KeyedMap::default();
    for ((_, netns, command, remote, _), _) in
        view.recent.incidents().filter(|((kind, ..), _)| *kind == Kind::SynSentUnanswered)
    {
        destinations.entry((*netns, *command)).or_default().insert(*remote);
    }
    let latency = |sighting: &Sighting| match sighting.evidence.first() {
        Some((_, Value::Number(ns))) => *ns,
        _ => 0,
    };
    found.retain(|sighting| sighting.count > 1 || latency(sighting) >= LONG_NS);
    for sighting in &mut found {
        let all = destinations.get(&group_of(sighting)).map_or(1, KeyedSet::len);
        let count = if sighting.subject == Subject::Several { all } else { 1 };
        let is_scan = count >= MANY_DESTINATIONS;
        if is_scan {
            sighting.cause = Cause::ScanLike;
        }
        sighting.evidence.extend([("destinations", Value::Number(count as u64)), ("scan_like", Value::Flag(is_scan))]);
    }
    found
}

/// From so many destinations of one process on it looks like a scan.
const MANY_DESTINATIONS: usize = 10;

fn syn_sent_unanswered(view: &View<'_>) -> Vec<Sighting> {
    // Told of where they wait: the listener of this host does not take them, or did not when the last SYN came.
    let is_waiting = |known: &Connection| {
        let attempt = Attempt { since_ns: known.since_ns, timeouts: known.retransmits().timeouts };
        waits_for_full_listener(view, known.netns(), known.remote(), attempt)
    };
    let stuck = view.stuck_in(State::SynSent).filter(|known| !is_waiting(known));
    let sighting = |group: Group<'_>| {
        let destinations: KeyedSet<_> = group.members.iter().map(|known| known.remote()).collect();
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
