//! Established connections whose peer is silent.

use super::incidents::{detections, diagnosed};
use crate::{
    findings::{
        cause::Cause,
        context::{OtherEnd, RuleContext, SocketGroup},
        detection::{Detection, Value},
        incident::Incident,
        kind::{Kind, Severity},
        rules::readers::is_held_up,
    },
    model::{close_reason::CloseReason, errno, namespace::NetSettings, socket::Keepalive, state::State},
    table::{Connection, Facts},
};

/// The kind of finding for an established connection that timed out. While data is unacknowledged the keepalive timer does not
/// probe (`net/ipv4/tcp_timer.c`, `tcp_keepalive_timer`).
pub(super) fn kind(incident: &Incident) -> Option<Kind> {
    let is_open = matches!(incident.state, State::Established | State::CloseWait);
    let is_timeout = incident.ending == CloseReason::TimedOut && is_open;
    is_timeout.then_some(if incident.unacked > 0 { Kind::PeerDead } else { Kind::KeepaliveTimeout })
}

pub(super) fn evaluate(context: &RuleContext<'_>) -> Vec<Detection> {
    let mut found = half_open(context);
    found.extend(peer_dead(context));
    found.extend(detections(context, Kind::KeepaliveTimeout, diagnosed, |newest| {
        // The kernel sends a RST just before it ends the connection; the RST's event has these values.
        vec![
            ("errno", newest.ending.errno().and_then(errno::name).map_or(Value::Unknown, Value::Name)),
            ("probes", newest.reset.map(|facts| facts.probes).into()),
            ("idle_ns", newest.reset.map(|facts| facts.silence_ns()).into()),
        ]
    }));
    found
}

fn settings<'a>(context: &RuleContext<'a>, netns: Option<u32>) -> Option<&'a NetSettings> {
    context.namespaces.of(netns)?.settings.as_ref()
}

/// Connections without traffic and without keepalive. Only a listing shows both.
fn half_open(context: &RuleContext<'_>) -> Vec<Detection> {
    let is_silent = |known: &&Connection| {
        let Some(facts) = &known.facts() else { return false };
        let after_ns = context.thresholds.stuck_after(State::Established).unwrap_or(u64::MAX);
        quiet_ns(context, known) >= after_ns
            && facts.socket.keepalive == Keepalive::Off
            && facts.socket.timeouts == 0
            && !known.stuck_reasons().window_closed
            && matches!(context.other_end(known), OtherEnd::Gone | OtherEnd::NotVisible)
    };
    let silent = context.in_state(State::Established).iter().copied().filter(is_silent);
    let detection = |group: SocketGroup<'_>| {
        let settings = settings(context, group.netns);
        let ns = |s: u32| u64::from(s) * 1_000_000_000;
        let first = group.members.first();
        let idle_ns = first.map(|known| quiet_ns(context, known));
        let evidence = [
            ("idle_ns", idle_ns.into()),
            ("keepalive", Value::Flag(false)),
            ("keepalive_time_ns", settings.and_then(|settings| settings.keepalive_time).map(ns).into()),
            ("keepalive_interval_ns", settings.and_then(|settings| settings.keepalive_interval).map(ns).into()),
            ("keepalive_probes", settings.and_then(|settings| settings.keepalive_probes).into()),
            ("peer_end", first.map_or(Value::Unknown, |known| Value::Name(context.other_end(known).name()))),
        ];
        group.detection(context, Kind::HalfOpen, Severity::Warning, Cause::NobodyAsks).with(evidence)
    };
    context.group(silent, |known| context.subject_of(known)).into_iter().map(detection).collect()
}

/// Time since the last known segment, in ns.
fn quiet_ns(context: &RuleContext<'_>, known: &Connection) -> u64 {
    context.now_ns.saturating_sub(known.active_ns().max(known.since_ns))
}

/// Connections that still wait for an answer, and those that the kernel gave up.
fn peer_dead(context: &RuleContext<'_>) -> Vec<Detection> {
    // While the window is closed the kernel sends probes instead of retransmissions.
    let timeouts = |known: &Connection| {
        let probes =
            known.facts().filter(|_| known.stuck_reasons().window_closed).map_or(0, |facts| facts.socket.probes);
        known.retransmits().timeouts.max(probes)
    };
    let is_dead = |known: &&Connection| timeouts(known) >= context.thresholds.peer_dead_timeouts && !is_held_up(known);
    let open =
        [State::Established, State::CloseWait].into_iter().flat_map(|state| context.in_state(state).iter().copied());
    let waiting = |group: SocketGroup<'_>| {
        let facts = group.facts().next();
        let listed = facts.map(|facts| facts.socket);
        let left =
            facts.and_then(|facts| gives_up_in_ns(facts, settings(context, group.netns)?.retries2?, context.now_ns));
        let total = group.members.iter().map(|known| known.retransmits().total).max();
        let evidence = [
            ("timeouts", group.members.iter().map(|known| timeouts(known)).max().into()),
            ("backoff", listed.and_then(|socket| socket.backoff).into()),
            ("rto_ns", listed.and_then(|socket| socket.rto_ns).into()),
            ("total_retrans", total.into()),
            ("unacked_bytes", group.sum(|facts| facts.socket.send_queue.into()).into()),
            ("gives_up_in_ns", left.into()),
            ("errno", Value::Unknown),
            ("idle_ns", facts.and_then(idle_before_ns).into()),
        ];
        let was_idle =
            facts.and_then(idle_before_ns).is_some_and(|idle_ns| idle_ns >= context.thresholds.idle_reset_ns);
        let cause = if was_idle { Cause::ForgottenSilently } else { Cause::DataUnanswered };
        group.detection(context, Kind::PeerDead, Severity::Warning, cause).with(evidence)
    };
    let mut found: Vec<_> =
        context.group(open.filter(is_dead), |known| context.subject_of(known)).into_iter().map(waiting).collect();
    found.extend(detections(context, Kind::PeerDead, diagnosed, |newest| {
        vec![
            ("timeouts", Value::Number(newest.timeouts.into())),
            ("total_retrans", Value::Number(newest.total_retrans.into())),
            ("unacked_bytes", Value::Number(newest.unacked.into())),
            ("errno", newest.ending.errno().and_then(errno::name).map_or(Value::Unknown, Value::Name)),
        ]
    }));
    found
}

/// How long the connection had been silent when the unanswered data was sent, in ns: computed back from the doubled timeouts.
fn idle_before_ns(facts: &Facts) -> Option<u64> {
    let (info, timer) = (facts.socket.connection?, facts.socket.timer?);
    let (rto_ns, backoff) = (facts.socket.rto_ns?, u32::from(facts.socket.backoff?));
    let waited_ns = rto_ns.saturating_sub(rto_ns.checked_shr(backoff).unwrap_or(0));
    let tried_ns = waited_ns.saturating_add(rto_ns.saturating_sub(timer.left_ns));
    Some(info.last_ack_ns.saturating_sub(tried_ns))
}

/// `TCP_RTO_MIN` and `TCP_RTO_MAX` of `include/net/tcp.h`, in ns.
const RTO_NS: (u64, u64) = (200_000_000, 120_000_000_000);

/// Estimated time until the kernel gives up, in ns: the time that `retries` take when they start from the shortest timeout,
/// or TCP_USER_TIMEOUT, counted from the first retransmission (`net/ipv4/tcp_timer.c`, `retransmits_timed_out`), and then the
/// next expiry of the timer.
fn gives_up_in_ns(facts: &Facts, retries: u32, now_ns: u64) -> Option<u64> {
    let info = facts.socket.connection?;
    let passed_ns = info.last_ack_ns.saturating_add(now_ns.saturating_sub(facts.listed_ns));
    let timer_ns = facts.socket.timer.map_or(0, |timer| timer.left_ns);
    let timeout_ns = match facts.socket.user_timeout_ms {
        None | Some(0) => timeout_of_retries_ns(retries),
        Some(ms) => u64::from(ms) * 1_000_000,
    };
    Some(timeout_ns.saturating_sub(passed_ns).max(timer_ns))
}

/// `tcp_model_timeout` of `net/ipv4/tcp_timer.c`.
fn timeout_of_retries_ns(retries: u32) -> u64 {
    let (shortest, longest) = RTO_NS;
    let doublings = (longest / shortest).ilog2();
    let doubled = ((2_u64 << retries.min(doublings)) - 1).saturating_mul(shortest);
    doubled.saturating_add(u64::from(retries.saturating_sub(doublings)).saturating_mul(longest))
}
