//! Why a RST ended a connection, from the facts of both its ends.

use super::Cause;
use crate::{
    findings::{
        incident::{Incident, PeerEnd},
        kind::{Kind, Severity},
    },
    model::{
        close_reason::{Abort, CloseReason},
        state::State,
    },
};

/// A request sent within this time of the peer's FIN probably crossed it on the way, in ns.
const CROSSING_NS: u64 = 1_000_000_000;
/// A connection without traffic for this long is idle, in ns.
const IDLE_NS: u64 = 100_000_000;
/// Longest last message that nobody needs (TLS close_notify, QUIT), in bytes.
const LAST_WORDS: u32 = 64;

/// Severity and cause of a RST that was received.
pub(crate) fn of_reset(incident: &Incident) -> (Severity, Cause) {
    use Severity::{Info, Warning};
    let peer = &incident.peer;
    let (ended, ending) = (peer.ended(), peer.ended().and_then(|ended| ended.ending));
    let after_fin = incident.state == State::CloseWait;
    let lost = if is_loss(incident) { Warning } else { Info };
    if peer.is_killed() {
        return (Info, Cause::PeerKilled); // process-killed reports it
    }
    if is_race(incident) {
        return (Warning, Cause::KeepaliveRace);
    }
    match ending {
        Some(CloseReason::Aborted(Abort::ListenerClosed)) => return (Warning, Cause::PeerListenerClosed),
        Some(CloseReason::Aborted(Abort::Destroyed)) => return (Warning, Cause::PeerDestroyed),
        Some(CloseReason::TimedOut) => return (Warning, Cause::PeerGaveUp),
        Some(CloseReason::Aborted(Abort::LingerZero | Abort::UnreadData)) if incident.kind == Kind::IdleReset => {
            return (Warning, Cause::PeerAbortedIdle);
        }
        Some(CloseReason::Aborted(Abort::UnreadData))
            if is_last_words(incident, ended.map_or(0, |ended| ended.unread)) =>
        {
            return (Info, Cause::LastWords);
        }
        Some(CloseReason::Aborted(_)) if incident.active == Some(false) => return (Info, of_client(incident)),
        Some(CloseReason::Aborted(Abort::LingerZero)) => return (lost, Cause::PeerClosedWithLinger),
        Some(CloseReason::Aborted(Abort::UnreadData)) => return (lost, Cause::PeerClosedUnread),
        _ => {}
    }
    let sent = peer.events.reset_sent;
    let has_none = |state| !matches!(state, State::Listen | State::TimeWait | State::FinWait2);
    if incident.state == State::Established
        && ended.is_none()
        && sent.is_some_and(|sent| !sent.by_socket && has_none(sent.state))
    {
        return (Warning, Cause::NoSocketThere);
    }
    if peer.end == PeerEnd::Alive && sent.is_none() {
        return (Warning, Cause::SentOnPath);
    }
    if after_fin {
        return match incident.active {
            Some(false) => (Info, Cause::ReaderCancelled),
            _ if is_last_words(incident, incident.unacked()) => (Info, Cause::LastWords),
            _ => (Warning, Cause::WroteAfterClose),
        };
    }
    // A side that has closed waits for nothing more; its FIN counts as one byte.
    let has_closed = matches!(incident.state, State::FinWait1 | State::Closing | State::LastAck);
    if has_closed && is_last_words(incident, incident.unacked().saturating_sub(1)) {
        return (Info, Cause::LastWords);
    }
    match (incident.kind, incident.active) {
        (Kind::IdleReset, _) => (Warning, Cause::ForgottenOnPath),
        (_, Some(false)) => (Info, of_client(incident)),
        _ if lost == Info => (Info, Cause::NothingLost),
        _ => (Warning, Cause::PeerSentReset),
    }
}

/// The cause if a client ended its connection with a RST.
fn of_client(incident: &Incident) -> Cause {
    let is_nothing = incident.unread() == 0 && incident.unacked() == 0;
    if is_nothing { Cause::ClientLeft } else { Cause::ReaderCancelled }
}

/// Severity and cause of a close of this end with a RST.
pub(crate) fn of_abort(incident: &Incident) -> (Severity, Cause) {
    use Severity::{Info, Warning};
    let is_linger = incident.ending == CloseReason::Aborted(Abort::LingerZero);
    let unread_there = incident.peer.ended().map_or(0, |ended| ended.unread);
    match (is_linger, incident.active) {
        // A client may stop reading.
        (true, _) if incident.unread == 0 && incident.unacked == 0 && unread_there == 0 => {
            (Info, Cause::LingerNothingLost)
        }
        (true, Some(true)) if incident.unacked == 0 && unread_there == 0 => (Info, Cause::StoppedReading),
        (true, _) => (Warning, Cause::ClosedWithLinger),
        (false, Some(true)) => (Info, Cause::StoppedReading),
        (false, _) if is_last_words(incident, incident.unread.max(incident.unacked)) => (Info, Cause::LastWords),
        // If the client is on this host, its own finding reports this.
        (false, _) if had_been_idle(incident) && incident.peer.ended().is_some() => (Info, Cause::KeepaliveRace),
        (false, _) if had_been_idle(incident) => (Warning, Cause::KeepaliveRace),
        (false, _) => (Warning, Cause::ClosedUnread),
    }
}

/// True if data is lost or somebody waits in vain. False if everything was read and acknowledged, and the peer sent last.
fn is_loss(incident: &Incident) -> bool {
    let waits = incident.reset.is_none_or(|reset| reset.last_sent_ns < reset.last_received_ns);
    incident.unread() > 0 || incident.unacked() > 0 || waits || incident.received == 0
}

/// True if a request crossed the peer's close of an idle connection: this side sent it close to the time of the FIN, or the
/// peer closed without reading it.
fn is_race(incident: &Incident) -> bool {
    let Some(reset) = incident.reset.filter(|_| incident.active != Some(false) && incident.received > 1) else {
        return false;
    };
    match (incident.idle_before_fin_ns(), incident.in_state_ns) {
        (Some(idle_ns), Some(since_fin_ns)) => {
            let is_near = reset.last_sent_ns <= since_fin_ns.saturating_add(CROSSING_NS)
                && since_fin_ns.saturating_sub(reset.last_sent_ns) <= CROSSING_NS;
            idle_ns >= IDLE_NS && is_near && incident.kind != Kind::IdleReset
        }
        // The FIN was lost or has not arrived yet, but the peer's end is closed.
        _ => {
            let closed = match incident.peer.ended().and_then(|ended| ended.ending) {
                Some(CloseReason::Aborted(Abort::UnreadData) | CloseReason::ResetAfterClose) => true,
                None => incident.peer.end == PeerEnd::Closed || sent_by_closed(incident),
                _ => false,
            };
            let asked_ns = reset.last_received_ns.saturating_sub(reset.last_sent_ns);
            closed && asked_ns >= IDLE_NS && reset.last_sent_ns <= CROSSING_NS
        }
    }
}

/// True if the kernel sent the RST for the remains of a socket that its process had closed.
fn sent_by_closed(incident: &Incident) -> bool {
    let sent = incident.peer.events.reset_sent;
    sent.is_some_and(|sent| matches!(sent.state, State::TimeWait | State::FinWait1 | State::FinWait2 | State::Closing))
}

/// True if this end had sent nothing for a while when the last request came.
fn had_been_idle(incident: &Incident) -> bool {
    let facts = incident.own.reset_sent.and_then(|sent| sent.facts);
    let quiet_ns = facts.map_or(0, |facts| facts.last_sent_ns.saturating_sub(facts.last_received_ns));
    incident.acked > 1 && quiet_ns >= IDLE_NS
}

/// True if these bytes are the end of a conversation and not a request: data went both ways before, and they are few.
fn is_last_words(incident: &Incident, bytes: u32) -> bool {
    bytes <= LAST_WORDS && incident.received > 1 && incident.acked > 1 && !had_been_idle(incident)
}
