//! Connections that this host tries to open.
//!
//! Attempts that still wait are found in the table (SYN_SENT); attempts that have failed come from the history.

use std::net::SocketAddr;

use super::{
    incidents::{detections, diagnosed},
    pressure,
};
use crate::{
    findings::{
        cause::Cause,
        context::{RuleContext, SocketGroup},
        detection::{Detection, Subject, Value},
        incident::Incident,
        kind::{Kind, Severity},
        rules::accept_queue,
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

/// The kind of finding for a failed `connect`, if it is one.
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

/// Shortest time after which an abandoned attempt counts as waited for, in ns; an ICMP error would end it sooner.
const WAITED_NS: u64 = 200_000_000;

/// True if the destination is a listener on this host whose queue is or was full; that listener's finding reports it.
pub(in crate::findings) fn is_listener_full(context: &RuleContext<'_>, incident: &Incident) -> bool {
    let since_ns = incident.time_ns.saturating_sub(incident.in_state_ns.unwrap_or(0));
    waits_for_full_listener(context, incident.netns, incident.remote, Attempt { since_ns, timeouts: incident.timeouts })
}

/// An attempt to connect: its start (CLOCK_MONOTONIC, in ns) and the retransmissions of its SYN.
struct Attempt {
    since_ns: u64,
    timeouts: u8,
}

/// True if the destination is a listener on this host whose queue is full, or was full when the last SYN came.
fn waits_for_full_listener(
    context: &RuleContext<'_>,
    netns: Option<u32>,
    remote: SocketAddr,
    attempt: Attempt,
) -> bool {
    // The time to the next SYN, plus a second for the answer. It starts at 1 s and doubles, up to 64 s with the default
    // tcp_syn_retries (`net/ipv4/tcp_timer.c`, `tcp_retransmit_timer`).
    let next_syn_ns = ((1 << attempt.timeouts.min(6)) + 1) * 1_000_000_000;
    let was_full = |listener: &Connection| {
        let full_ns = listener.full_ns().filter(|full_ns| *full_ns >= attempt.since_ns);
        accept_queue::is_full(listener, context.now_ns)
            || full_ns.is_some_and(|full_ns| context.now_ns.saturating_sub(full_ns) < next_syn_ns)
    };
    context.in_state(State::Listen).iter().any(|listener| is_at(listener, netns, remote) && was_full(listener))
}

/// True if connections to `remote` reach this listener.
fn is_at(listener: &Connection, netns: Option<u32>, remote: SocketAddr) -> bool {
    listener_addresses(remote).any(|local| local == listener.local())
        && loopback_netns(listener.netns(), remote) == loopback_netns(netns, remote)
}

pub(super) fn evaluate(context: &RuleContext<'_>) -> Vec<Detection> {
    let mut found = syn_sent_unanswered(context);
    found.extend(given_up(context));
    found.extend(detections(context, Kind::ConnectRefused, diagnosed, |newest| {
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
    found.extend(detections(context, Kind::SelfConnect, diagnosed, |newest| {
        vec![("port", Value::Number(newest.local.port().into()))]
    }));
    let mut failed = detections(context, Kind::ConnectFailed, diagnosed, |newest| {
        let errno = match newest.ending {
            // `inet_hash_connect` (`net/ipv4/inet_hashtables.c`) found no free port, or the pair of addresses in use.
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
    for detection in &mut failed {
        // A single one may be a program that was interrupted.
        if detection.cause == Cause::EndedAtOnce && detection.count >= MANY_AT_ONCE {
            detection.severity = Severity::Warning;
        }
        if detection.cause == Cause::NoLocalPort {
            pressure::add_port_holders(context, detection);
        }
    }
    found.extend(failed);
    found
}

/// Number of attempts that ended at once from which the finding is a warning.
const MANY_AT_ONCE: u64 = 3;
/// A single abandoned attempt is a problem if it lasted this long, in ns.
const LONG_NS: u64 = 3_000_000_000;

/// Attempts that their process gave up before any SYN was answered.
fn given_up(context: &RuleContext<'_>) -> Vec<Detection> {
    let mut found = detections(context, Kind::SynSentUnanswered, diagnosed, |newest| {
        vec![
            ("given_up_after_ns", newest.in_state_ns.into()),
            ("syn_retransmits", Value::Number(newest.total_retrans.into())),
        ]
    });
    let group_of = |detection: &Detection| (detection.netns, detection.owner.map(|owner| owner.command));
    let mut destinations: KeyedMap<_, KeyedSet<SocketAddr>> = KeyedMap::default();
    for ((_, netns, command, remote, _), _) in
        context.history.incidents().filter(|((kind, ..), _)| *kind == Kind::SynSentUnanswered)
    {
        destinations.entry((*netns, *command)).or_default().insert(*remote);
    }
    let latency = |detection: &Detection| match detection.evidence.first() {
        Some((_, Value::Number(ns))) => *ns,
        _ => 0,
    };
    found.retain(|detection| detection.count > 1 || latency(detection) >= LONG_NS);
    for detection in &mut found {
        let all = destinations.get(&group_of(detection)).map_or(1, KeyedSet::len);
        let count = if detection.subject == Subject::Several { all } else { 1 };
        let is_scan = count >= MANY_DESTINATIONS;
        if is_scan {
            detection.cause = Cause::ScanLike;
        }
        detection.evidence.extend([("destinations", Value::Number(count as u64)), ("scan_like", Value::Flag(is_scan))]);
    }
    found
}

/// Number of destinations of one command from which it looks like a scan.
const MANY_DESTINATIONS: usize = 10;

fn syn_sent_unanswered(context: &RuleContext<'_>) -> Vec<Detection> {
    // If the destination is a listener on this host with a full queue, the listener's finding reports it.
    let is_waiting = |known: &Connection| {
        let attempt = Attempt { since_ns: known.since_ns, timeouts: known.retransmits().timeouts };
        waits_for_full_listener(context, known.netns(), known.remote(), attempt)
    };
    let stuck = context.stuck_in(State::SynSent).filter(|known| !is_waiting(known));
    let detection = |group: SocketGroup<'_>| {
        let destinations: KeyedSet<_> = group.members.iter().map(|known| known.remote()).collect();
        let is_scan = destinations.len() >= MANY_DESTINATIONS;
        let evidence = [
            ("syn_retransmits", Value::Number(group.timeouts().into())),
            ("destinations", Value::Number(destinations.len() as u64)),
            ("scan_like", Value::Flag(is_scan)),
        ];
        let cause = if is_scan { Cause::ScanLike } else { Cause::SynUnanswered };
        group.detection(context, Kind::SynSentUnanswered, Severity::Warning, cause).with(evidence)
    };
    context.group(stuck, |known| Subject::Remote(known.remote())).into_iter().map(detection).collect()
}
