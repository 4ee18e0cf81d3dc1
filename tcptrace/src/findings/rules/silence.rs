//! Established connections whose peer does not answer.

use super::incidents::{judged, sightings};
use crate::{
    findings::{
        cause::Cause,
        context::{Group, OtherEnd, View},
        detection::{Sighting, Value},
        incident::Incident,
        kind::{Kind, Severity},
        rules::readers::is_held_up,
    },
    model::{close_reason::CloseReason, errno, namespace::NetSettings, socket::Keepalive, state::State},
    table::{Connection, Facts},
};

/// Which trouble it is that an established connection timed out. Data that waits for its acknowledgement keeps the
/// keepalive timer from probing (`net/ipv4/tcp_timer.c`, `tcp_keepalive_timer`).
pub(super) fn kind(incident: &Incident) -> Option<Kind> {
    let is_open = matches!(incident.state, State::Established | State::CloseWait);
    let is_timeout = incident.ending == CloseReason::TimedOut && is_open;
    is_timeout.then_some(if incident.unacked > 0 { Kind::PeerDead } else { Kind::KeepaliveTimeout })
}

/// All troubles of this family.
pub(super) fn look(view: &View<'_>) -> Vec<Sighting> {
    let mut found = half_open(view);
    found.extend(peer_dead(view));
    found.extend(sightings(view, Kind::KeepaliveTimeout, judged, |newest| {
        // The kernel sends a RST before it ends the connection, and shows these then.
        vec![
            ("errno", newest.ending.errno().and_then(errno::name).map_or(Value::Unknown, Value::Name)),
            ("probes", newest.reset.map(|facts| facts.probes).into()),
            ("idle_ns", newest.reset.map(|facts| facts.silence_ns()).into()),
        ]
    }));
    found
}

fn settings<'a>(view: &View<'a>, netns: Option<u32>) -> Option<&'a NetSettings> {
    view.namespaces.of(netns)?.settings.as_ref()
}

/// Only a listing tells that nothing was sent or received, and whether a keepalive asks.
fn half_open(view: &View<'_>) -> Vec<Sighting> {
    let is_silent = |known: &&Connection| {
        let Some(facts) = &known.facts() else { return false };
        let after_ns = view.thresholds.stuck_after(State::Established).unwrap_or(u64::MAX);
        quiet_ns(view, known) >= after_ns
            && facts.socket.keepalive == Keepalive::Off
            && facts.socket.timeouts == 0
            && !known.stuck_reasons().window_closed
            && matches!(view.other_end(known), OtherEnd::Gone | OtherEnd::NotVisible)
    };
    let silent = view.in_state(State::Established).iter().copied().filter(is_silent);
    let sighting = |group: Group<'_>| {
        let settings = settings(view, group.netns);
        let ns = |s: u32| u64::from(s) * 1_000_000_000;
        let first = group.members.first();
        let idle_ns = first.map(|known| quiet_ns(view, known));
        let evidence = [
            ("idle_ns", idle_ns.into()),
            ("keepalive", Value::Flag(false)),
            ("keepalive_time_ns", settings.and_then(|settings| settings.keepalive_time).map(ns).into()),
            ("keepalive_interval_ns", settings.and_then(|settings| settings.keepalive_interval).map(ns).into()),
            ("keepalive_probes", settings.and_then(|settings| settings.keepalive_probes).into()),
            ("peer_end", first.map_or(Value::Unknown, |known| Value::Name(view.other_end(known).name()))),
        ];
        group.sighting(view, Kind::HalfOpen, Severity::Warning, Cause::NobodyAsks).with(evidence)
    };
    view.group(silent, |known| view.subject_of(known)).into_iter().map(sighting).collect()
}

/// How long there was no segment, as far as is known, in ns.
fn quiet_ns(view: &View<'_>, known: &Connection) -> u64 {
    view.now_ns.saturating_sub(known.active_ns().max(known.since_ns))
}

/// Both those that still wait, and those that the kernel gave up.
fn peer_dead(view: &View<'_>) -> Vec<Sighting> {
    // While the window is closed it is probes that go unanswered.
    let timeouts = |known: &Connection| {
        let probes =
            known.facts().filter(|_| known.stuck_reasons().window_closed).map_or(0, |facts| facts.socket.probes);
        known.retransmits().timeouts.max(probes)
    };
    let is_dead = |known: &&Connection| timeouts(known) >= view.thresholds.peer_dead_timeouts && !is_held_up(known);
    let open =
        [State::Established, State::CloseWait].into_iter().flat_map(|state| view.in_state(state).iter().copied());
    let waiting = |group: Group<'_>| {
        let facts = group.facts().next();
        let listed = facts.map(|facts| facts.socket);
        let left = facts.and_then(|facts| gives_up_in_ns(facts, settings(view, group.netns)?.retries2?, view.now_ns));
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
        let was_idle = facts.and_then(idle_before_ns).is_some_and(|idle_ns| idle_ns >= view.thresholds.idle_reset_ns);
        let cause = if was_idle { Cause::ForgottenSilently } else { Cause::DataUnanswered };
        group.sighting(view, Kind::PeerDead, Severity::Warning, cause).with(evidence)
    };
    let mut found: Vec<_> =
        view.group(open.filter(is_dead), |known| view.subject_of(known)).into_iter().map(waiting).collect();
    found.extend(sightings(view, Kind::PeerDead, judged, |newest| {
        vec![
            ("timeouts", Value::Number(newest.timeouts.into())),
            ("total_retrans", Value::Number(newest.total_retrans.into())),
            ("unacked_bytes", Value::Number(newest.unacked.into())),
            ("errno", newest.ending.errno().and_then(errno::name).map_or(Value::Unknown, Value::Name)),
        ]
    }));
    found
}

/// For how long nothing had come when the data was sent that is not answered, in ns: each timeout was twice the one before.
fn idle_before_ns(facts: &Facts) -> Option<u64> {
    let (info, timer) = (facts.socket.connection?, facts.socket.timer?);
    let (rto_ns, backoff) = (facts.socket.rto_ns?, u32::from(facts.socket.backoff?));
    let waited_ns = rto_ns.saturating_sub(rto_ns.checked_shr(backoff).unwrap_or(0));
    let tried_ns = waited_ns.saturating_add(rto_ns.saturating_sub(timer.left_ns));
    Some(info.last_ack_ns.saturating_sub(tried_ns))
}

/// `TCP_RTO_MIN` and `TCP_RTO_MAX` of `include/net/tcp.h`, in ns.
const RTO_NS: (u64, u64) = (200_000_000, 120_000_000_000);

/// About how long the kernel goes on, in ns: until so much time has passed since the first retransmission as `retries`
/// take from the shortest timeout on, or as TCP_USER_TIMEOUT says (`net/ipv4/tcp_timer.c`, `retransmits_timed_out`), and
/// the timer runs out after that.
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
