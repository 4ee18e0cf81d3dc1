//! Connections that end with a RST: who sent it, and why.

use super::incidents::{detections, diagnosed};
use crate::{
    findings::{
        cause::Cause,
        context::RuleContext,
        detection::{Detection, Value},
        incident::Incident,
        kind::Kind,
        thresholds::Thresholds,
    },
    model::{
        close_reason::{Abort, CloseReason},
        errno,
        event::Exit,
        state::State,
    },
};

/// The kind of finding for a connection that ended with a RST, if it is one.
pub(super) fn kind(incident: &Incident, thresholds: &Thresholds) -> Option<Kind> {
    match incident.ending {
        // process-killed reports it.
        CloseReason::Aborted(_) if incident.exit.is_some_and(Exit::is_killed) => None,
        CloseReason::Aborted(Abort::LingerZero | Abort::UnreadData) => Some(Kind::AbortedClose),
        CloseReason::ResetByPeer(_) if was_answer_after_close(incident) => Some(Kind::WriteAfterClose),
        CloseReason::ResetByPeer(_) if was_answer_after_silence(incident, thresholds) => Some(Kind::IdleReset),
        CloseReason::ResetByPeer(_) if has_lost(incident) => Some(Kind::ResetByPeer),
        _ => None,
    }
}

/// True if something may be lost; false if this side had closed and everything but its FIN was acknowledged.
fn has_lost(incident: &Incident) -> bool {
    let is_open = matches!(incident.state, State::Established | State::CloseWait | State::SynRecv);
    is_open || incident.unacked > 1
}

/// True if data was sent after the peer's FIN had arrived.
fn was_answer_after_close(incident: &Incident) -> bool {
    let Some((reset, in_state_ns)) = incident.reset.zip(incident.in_state_ns) else { return false };
    incident.state == State::CloseWait && reset.last_sent_ns < in_state_ns
}

/// True if the RST answered the first segment or keepalive probe after a silence.
fn was_answer_after_silence(incident: &Incident, thresholds: &Thresholds) -> bool {
    let Some(reset) = incident.reset else { return false };
    // If the peer was dead, the silence was caused by its missing answers.
    let was_idle = incident.timeouts < thresholds.peer_dead_timeouts;
    was_idle
        && reset.silence_ns() >= thresholds.idle_reset_ns
        && (reset.last_sent_ns < reset.silence_ns() || reset.probes > 0)
}

pub(super) fn evaluate(context: &RuleContext<'_>) -> Vec<Detection> {
    let errno = |incident: &Incident| incident.ending.errno().and_then(errno::name).map_or(Value::Unknown, Value::Name);
    let mut found = detections(context, Kind::ResetByPeer, diagnosed, |newest| {
        let evidence = vec![
            ("errno", errno(newest)),
            ("state", Value::Name(newest.state.name())),
            ("unread_bytes", Value::Number(newest.unread().into())),
            ("unacked_bytes", Value::Number(newest.unacked().into())),
        ];
        with_peer(newest, evidence)
    });
    found.extend(detections(context, Kind::IdleReset, diagnosed, |newest| {
        with_peer(newest, vec![("keepalive", Value::Flag(newest.keepalive))])
    }));
    found.extend(detections(context, Kind::AbortedClose, diagnosed, |newest| {
        let cause = match newest.ending {
            CloseReason::Aborted(Abort::LingerZero) => Value::Name("linger_zero"),
            _ => Value::Name("unread_data"),
        };
        vec![
            ("cause", cause),
            ("unread_bytes", Value::Number(newest.unread.into())),
            ("unsent_bytes", Value::Number(newest.unacked.into())),
        ]
    }));
    found.extend(detections(context, Kind::WriteAfterClose, diagnosed, |newest| {
        let evidence = vec![
            ("errno", errno(newest)),
            ("after_fin_ns", after_fin_ns(newest).into()),
            ("unacked_bytes", Value::Number(newest.unacked().into())),
        ];
        with_peer(newest, evidence)
    }));
    found
}

/// Time from the peer's FIN to the last data sent, in ns.
fn after_fin_ns(incident: &Incident) -> Option<u64> {
    let (reset, since_fin_ns) = incident.reset.zip(incident.in_state_ns)?;
    (incident.state == State::CloseWait).then(|| since_fin_ns.saturating_sub(reset.last_sent_ns))
}

/// Adds evidence about the other end. Its process is named only if it may have sent the RST.
fn with_peer(incident: &Incident, mut evidence: Vec<(&'static str, Value)>) -> Vec<(&'static str, Value)> {
    let sent = incident.peer.sent_reset();
    let peer = incident.peer.owner.filter(|_| sent != Some(false));
    let idle_ns = match incident.cause.1 {
        Cause::KeepaliveRace => incident.idle_before_request_ns(),
        _ => incident.reset.map(|reset| reset.silence_ns()),
    };
    evidence.extend([
        ("idle_ns", idle_ns.into()),
        ("peer_end", Value::Name(incident.peer.end.name())),
        ("peer_sent_rst", sent.map_or(Value::Unknown, Value::Flag)),
        ("peer_pid", peer.map(|owner| owner.pid).into()),
        ("peer_command", peer.map_or(Value::Unknown, |owner| Value::Text(owner.command.to_text().into_owned()))),
    ]);
    evidence
}
