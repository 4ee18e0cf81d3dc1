//! Loss on the path.

use crate::{
    findings::{
        cause::Cause,
        context::{RuleContext, SocketGroup},
        detection::{Detection, Processes, Subject, Value},
        kind::{Kind, Severity},
        lossy::Loss,
    },
    model::state::State,
    table::{Connection, Retransmits},
};

/// A peer that does not answer at all is not loss; `peer-dead` reports it.
pub(super) fn evaluate(context: &RuleContext<'_>) -> Vec<Detection> {
    let is_storm = |known: &&Connection| {
        known.retransmits().recent(context.now_ns).0 >= context.thresholds.storm_retransmits
            && known.retransmits().timeouts < context.thresholds.peer_dead_timeouts
    };
    let open =
        State::ALL.into_iter().filter(|state| !matches!(state, State::Listen | State::SynSent | State::TimeWait));
    let storming = open.flat_map(|state| context.in_state(state).iter().copied()).filter(is_storm);
    let detection = |group: SocketGroup<'_>| {
        let worst = group.members.iter().max_by_key(|known| known.retransmits().recent(context.now_ns).0);
        let recent = worst.map(|known| known.retransmits().recent(context.now_ns));
        let evidence = [
            ("retransmits", recent.map(|(count, _)| count).into()),
            ("window_ns", recent.map(|(_, window_ns)| window_ns).into()),
            ("total_retrans", worst.map(|known| known.retransmits().total).into()),
            ("srtt_us", worst.and_then(|known| known.retransmits().srtt_us).into()),
            ("state", worst.map_or(Value::Unknown, |known| Value::Name(known.state.name()))),
        ];
        let detection = group.detection(context, Kind::RetransmitStorm, Severity::Warning, Cause::PathLoses);
        Detection { is_settled: true, ..detection }.with(evidence)
    };
    let mut found: Vec<_> =
        context.group(storming, |known| context.subject_of(known)).into_iter().map(detection).collect();
    let of_short = context
        .history
        .lossy
        .iter()
        .filter_map(|(netns, subject, loss)| short_connections(context, netns, subject, loss));
    let of_short: Vec<_> =
        of_short.filter(|detection| found.iter().all(|long| long.key() != detection.key())).collect();
    found.extend(of_short);
    found
}

/// Fewest connections from which a share of loss is computed.
const LEAST_CONNECTIONS: u64 = 20;
/// Retransmissions per 100 connections from which the path is bad.
const PERCENT: u64 = 2;

/// Loss that is spread over many connections.
fn short_connections(context: &RuleContext<'_>, netns: Option<u32>, subject: Subject, loss: Loss) -> Option<Detection> {
    let (retransmits, connections) = loss.recent(context.now_ns);
    let is_storm = retransmits >= context.thresholds.storm_retransmits.into()
        && connections >= LEAST_CONNECTIONS
        && retransmits * 100 >= connections * PERCENT;
    if !is_storm || is_overflowing(context, netns, subject) {
        return None;
    }
    let service = match subject {
        Subject::Local(local) => context.listener_of(netns, local).and_then(Connection::owner),
        _ => None,
    };
    let owner = service.or(loss.owner);
    let mut processes = Processes::default();
    processes.add(owner, retransmits);
    let detection = Detection {
        owner,
        processes,
        count: retransmits,
        is_shown: loss.is_shown,
        ..Detection::new(Kind::RetransmitStorm, Severity::Warning, Cause::PathLoses, netns, subject)
    };
    let (_, window_ns) = Retransmits::default().recent(context.now_ns);
    Some(detection.with([
        ("retransmits", Value::Number(retransmits)),
        ("window_ns", Value::Number(window_ns)),
        ("connections", Value::Number(connections)),
    ]))
}

/// True if the segments are retransmitted because a listener on this host has a full queue; its own finding reports that.
fn is_overflowing(context: &RuleContext<'_>, netns: Option<u32>, subject: Subject) -> bool {
    let (local, remote) = subject.ends();
    let Some(end) = local.or(remote) else { return false };
    let is_full = |listener: &&Connection| {
        listener.local().port() == end.port() && crate::findings::rules::accept_queue::is_full(listener, context.now_ns)
    };
    let grew = context.namespaces.of(netns).and_then(|state| state.grew(|counters| counters.listen_overflows));
    context.in_state(State::Listen).iter().any(is_full) || grew.is_some_and(|grew| grew > 0)
}
