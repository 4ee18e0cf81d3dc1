//! Connections that end with a RST: who sent it, and why.

use super::incidents::{counterpart, other_owner, sightings, warning};
use crate::{
    ending::{Abort, Ending},
    errno,
    findings::{Cause, Incident, Kind, Severity, Sighting, Thresholds, Value, View, view::OtherEnd},
    state::State,
};

/// Which trouble a connection is that ended with a RST.
pub(super) fn kind(incident: &Incident, thresholds: &Thresholds) -> Option<Kind> {
    match incident.ending {
        Ending::Aborted(Abort::LingerZero | Abort::UnreadData) => Some(Kind::AbortedClose),
        Ending::ResetByPeer(_) if was_answer_after_close(incident) => Some(Kind::WriteAfterClose),
        Ending::ResetByPeer(_) if was_answer_after_silence(incident, thresholds) => Some(Kind::IdleReset),
        Ending::ResetByPeer(_) if has_lost(incident) => Some(Kind::ResetByPeer),
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

/// Bytes that were not read when the RST came, or else when the connection ended.
fn unread(incident: &Incident) -> u32 {
    incident.reset.map_or(incident.unread, |facts| facts.receive_queue)
}

/// The same for bytes that were not acknowledged.
fn unacked(incident: &Incident) -> u32 {
    incident.reset.map_or(incident.unacked, |facts| facts.send_queue)
}

/// All troubles of this family.
pub(super) fn look(view: &View<'_>) -> Vec<Sighting> {
    let errno = |incident: &Incident| incident.ending.errno().and_then(errno::name).map_or(Value::Unknown, Value::Name);
    let mut found = sightings(view, Kind::ResetByPeer, reset_meaning, |newest| {
        let peer = other_owner(view, newest);
        vec![
            ("errno", errno(newest)),
            ("state", Value::Name(newest.state.name())),
            ("unread_bytes", Value::Number(unread(newest).into())),
            ("unacked_bytes", Value::Number(unacked(newest).into())),
            ("idle_ns", newest.reset.map(|reset| reset.silence_ns()).into()),
            ("peer_pid", peer.map(|owner| owner.pid).into()),
            ("peer_command", peer.map_or(Value::Unknown, |owner| Value::Text(owner.command.to_text().into_owned()))),
        ]
    });
    found.extend(sightings(view, Kind::IdleReset, warning(Cause::ForgottenOnPath), |newest| {
        let other = view.end_at(newest.netns, newest.remote, newest.local);
        // It is still there, or ended by another hand than its own.
        let sent = match other {
            OtherEnd::Here(_) | OtherEnd::Request => Value::Flag(false),
            _ => {
                counterpart(view, newest).map_or(Value::Unknown, |other| Value::Flag(other.kind == Kind::AbortedClose))
            }
        };
        vec![
            ("idle_ns", newest.reset.map(|reset| reset.silence_ns()).into()),
            ("keepalive", Value::Flag(newest.keepalive)),
            ("peer_end", Value::Name(other.name())),
            ("peer_sent_rst", sent),
        ]
    }));
    found.extend(sightings(view, Kind::AbortedClose, aborted, |newest| {
        let cause = match newest.ending {
            Ending::Aborted(Abort::LingerZero) => Value::Name("linger_zero"),
            _ => Value::Name("unread_data"),
        };
        vec![
            ("cause", cause),
            ("unread_bytes", Value::Number(newest.unread.into())),
            ("unsent_bytes", Value::Number(newest.unacked.into())),
        ]
    }));
    found.extend(sightings(view, Kind::WriteAfterClose, warning(Cause::WroteAfterClose), |newest| {
        vec![("errno", errno(newest)), ("after_fin_ns", newest.in_state_ns.into())]
    }));
    found
}

/// A client that leaves by a RST harms nobody where all was read and acknowledged.
fn reset_meaning(last: &[&Incident]) -> (Severity, Cause) {
    if last.iter().all(|incident| incident.active == Some(false) && unread(incident) == 0 && unacked(incident) == 0) {
        (Severity::Info, Cause::ClientLeft)
    } else {
        (Severity::Warning, Cause::PeerSentReset)
    }
}

/// How the last one closed.
fn aborted(last: &[&Incident]) -> (Severity, Cause) {
    let cause = match last.first().map(|newest| newest.ending) {
        Some(Ending::Aborted(Abort::LingerZero)) => Cause::ClosedWithLinger,
        _ => Cause::ClosedUnread,
    };
    (Severity::Warning, cause)
}
