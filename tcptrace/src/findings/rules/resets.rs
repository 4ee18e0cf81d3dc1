//! Connections that end with a RST: who sent it, and why.

use super::incidents::{judged, sightings};
use crate::{
    findings::{
        cause::Cause,
        context::View,
        detection::{Sighting, Value},
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

/// Which trouble a connection is that ended with a RST.
pub(super) fn kind(incident: &Incident, thresholds: &Thresholds) -> Option<Kind> {
    match incident.ending {
        // Told of with the process.
        CloseReason::Aborted(_) if incident.exit.is_some_and(Exit::is_killed) => None,
        CloseReason::Aborted(Abort::LingerZero | Abort::UnreadData) => Some(Kind::AbortedClose),
        CloseReason::ResetByPeer(_) if was_answer_after_close(incident) => Some(Kind::WriteAfterClose),
        CloseReason::ResetByPeer(_) if was_answer_after_silence(incident, thresholds) => Some(Kind::IdleReset),
        CloseReason::ResetByPeer(_) if has_lost(incident) => Some(Kind::ResetByPeer),
        _ => None,
    }
}

/// Is anything lost? Not where this side had closed, and all but its FIN was acknowledged.
fn has_lost(incident: &Incident) -> bool {
    let is_open = matches!(incident.state, State::Established | State::CloseWait | State::SynRecv);
    is_open || incident.unacked > 1
}

/// Was data sent after the peer's FIN had come?
fn was_answer_after_close(incident: &Incident) -> bool {
    let Some((reset, in_state_ns)) = incident.reset.zip(incident.in_state_ns) else { return false };
    incident.state == State::CloseWait && reset.last_sent_ns < in_state_ns
}

/// Was nothing heard for so long, and then something sent, or probed by a keepalive, and answered with the RST?
fn was_answer_after_silence(incident: &Incident, thresholds: &Thresholds) -> bool {
    let Some(reset) = incident.reset else { return false };
    // Where the peer was dead, the silence was none of this side's.
    let was_idle = incident.timeouts < thresholds.peer_dead_timeouts;
    was_idle
        && reset.silence_ns() >= thresholds.idle_reset_ns
        && (reset.last_sent_ns < reset.silence_ns() || reset.probes > 0)
}

/// All troubles of this family.
pub(super) fn look(view: &View<'_>) -> Vec<Sighting> {
    let errno = |incident: &Incident| incident.ending.errno().and_then(errno::name).map_or(Value::Unknown, Value::Name);
    let mut found = sightings(view, Kind::ResetByPeer, judged, |newest| {
        let evidence = vec![
            ("errno", errno(newest)),
            ("state", Value::Name(newest.state.name())),
            ("unread_bytes", Value::Number(newest.unread().into())),
            ("unacked_bytes", Value::Number(newest.unacked().into())),
        ];
        with_peer(newest, evidence)
    });
    found.extend(sightings(view, Kind::IdleReset, judged, |newest| {
        with_peer(newest, vec![("keepalive", Value::Flag(newest.keepalive))])
    }));
    found.extend(sightings(view, Kind::AbortedClose, judged, |newest| {
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
    found.extend(sightings(view, Kind::WriteAfterClose, judged, |newest| {
        let evidence = vec![
            ("errno", errno(newest)),
            ("after_fin_ns", after_fin_ns(newest).into()),
            ("unacked_bytes", Value::Number(newest.unacked().into())),
        ];
        with_peer(newest, evidence)
    }));
    found
}

/// How long after the peer's FIN data was sent last, in ns.
fn after_fin_ns(incident: &Incident) -> Option<u64> {
    let (reset, since_fin_ns) = incident.reset.zip(incident.in_state_ns)?;
    (incident.state == State::CloseWait).then(|| since_fin_ns.saturating_sub(reset.last_sent_ns))
}

/// The same with what is known of the other end. Who did not send the RST is not accused of it.
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
