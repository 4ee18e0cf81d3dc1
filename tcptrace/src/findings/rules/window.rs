//! Windows that stay closed, since the receiver does not read.

use super::{
    accepting::{holders_state, is_being_read, is_watched, process_evidence, unread_ns},
    incidents::{judged, other_owner, sightings},
};
use crate::{
    findings::{
        cause::Cause,
        context::{Group, OtherEnd, View},
        detection::{Sighting, Value},
        incident::Incident,
        kind::{Kind, Severity},
    },
    model::{
        close_reason::Ending,
        errno,
        event::Owner,
        socket::{ListedSocket, TimerKind, UNREAD_NS},
        state::State,
    },
    table::{Connection, Facts},
};

/// Which trouble it is that an open connection timed out whose peer's window was closed. Without a retransmission it was the
/// timer of the probes that ended it, by TCP_USER_TIMEOUT (`net/ipv4/tcp_timer.c`, `tcp_probe_timer`).
pub(super) fn kind(incident: &Incident) -> Option<Kind> {
    let is_open = matches!(incident.state, State::Established | State::CloseWait);
    let is_closed = incident.window.is_some() || incident.total_retrans == 0 && incident.timeouts == 0;
    let was_answered = incident.window.is_none_or(|window| window.is_answered);
    let is_it = incident.ending == Ending::TimedOut && is_open && incident.unacked > 0 && is_closed && was_answered;
    is_it.then_some(Kind::ZeroWindow)
}

/// What was known of a closed window when the connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedWindow {
    /// Time since data was sent last, in ns.
    pub closed_ns: u64,
    /// Did the peer answer what was sent last?
    pub is_answered: bool,
}

impl ClosedWindow {
    /// Of a connection that ends at `now_ns`; `None` where the window was not closed, or that is not known.
    #[must_use]
    pub fn of(left: &Connection, now_ns: u64) -> Option<Self> {
        let facts = left.facts().filter(|_| left.ailments().window_closed)?;
        Some(Self { closed_ns: closed_ns(facts, now_ns), is_answered: is_answered(facts) })
    }
}

/// Has the reader closed its window? Where no listing tells (before 6.2 by sock_diag), by a sender of this host that waits.
pub(super) fn is_closed_by(view: &View<'_>, reader: &Connection) -> bool {
    let Some(info) = reader.facts().and_then(|facts| facts.socket.connection) else { return false };
    match info.receive_window {
        Some(bytes) => bytes == 0,
        None => matches!(view.other_end(reader), OtherEnd::Here(sender) if is_held_up(sender)),
    }
}

/// Does the sender wait for the window of its peer, which answers?
pub(super) fn is_held_up(known: &Connection) -> bool {
    known.ailments().window_closed && known.facts().is_some_and(is_answered)
}

/// Did an ACK come since the last probe, or the last retransmission, which may be on its way? An answer sets the count of
/// probes to 0 (`net/ipv4/tcp_input.c`, `tcp_ack`).
fn is_answered(facts: &Facts) -> bool {
    /// In ns.
    const ROUND_TRIP_NS: u64 = 1_000_000_000;
    let socket = &facts.socket;
    let Some(info) = socket.connection else { return false };
    // Retransmissions double the timeout itself, probes only what is made of it.
    let doublings = socket.timer.filter(|timer| timer.kind == TimerKind::Probe).and(socket.backoff).unwrap_or(0);
    let interval_ns = socket.rto_ns.map(|rto_ns| rto_ns.saturating_mul(1 << doublings.min(16)).min(RTO_MAX_NS));
    socket.probes <= 1 && interval_ns.is_none_or(|ns| info.last_ack_ns <= ns.saturating_add(ROUND_TRIP_NS))
}

/// `TCP_RTO_MAX` of `include/net/tcp.h`, in ns.
const RTO_MAX_NS: u64 = 120_000_000_000;

/// How long a window has been closed at `now_ns`, in ns: since data was sent last. Not for longer than the probes took that
/// were sent since, where more data came to be sent after a silence.
fn closed_ns(facts: &Facts, now_ns: u64) -> u64 {
    /// Above that the time between two probes may be limited otherwise.
    const SURE_BACKOFF: u8 = 8;
    let passed_ns = now_ns.saturating_sub(facts.listed_ns);
    let Some(info) = facts.socket.connection else { return 0 };
    let probed_ns = |socket: &ListedSocket| {
        let backoff = socket.backoff.filter(|backoff| *backoff <= SURE_BACKOFF)?;
        Some(socket.rto_ns?.saturating_mul(2 << backoff))
    };
    info.last_sent_ns.min(probed_ns(&facts.socket).unwrap_or(u64::MAX)).saturating_add(passed_ns)
}

/// All troubles of this family.
pub(super) fn look(view: &View<'_>) -> Vec<Sighting> {
    use State::{CloseWait, Closing, Established, FinWait1, FinWait2, LastAck};
    let after_ns = view.thresholds.zero_window_ns;
    let in_states = |states: &'static [State]| states.iter().flat_map(|state| view.in_state(*state)).copied();
    let closed = |known: &Connection| known.facts().map_or(0, |facts| closed_ns(facts, view.now_ns));
    // A reader that is slow, and reads again after some time each, is given twice that.
    let is_long = |known: &Connection| closed(known) >= after_ns.max(known.longest_pause_ns().saturating_mul(2));
    let senders = in_states(&[Established, CloseWait, FinWait1, Closing, LastAck])
        .filter(|known| is_held_up(known) && is_long(known));
    // What lies at the other end may not count as unread yet, where the listing is older than the wait is long.
    let waited_when_listed =
        |known: &Connection| known.facts().is_some_and(|facts| closed_ns(facts, facts.listed_ns) >= UNREAD_NS);
    // One that reads, if slowly, keeps nobody waiting in vain.
    let does_not_read = |known: &Connection| known.ailments().unread > 0 && !is_being_read(view, known, after_ns);
    let (mut readers, mut alone) = (Vec::new(), Vec::new());
    for sender in senders {
        match view.other_end(sender) {
            OtherEnd::Here(reader) if reader.ailments().unread > 0 => {
                if does_not_read(reader) {
                    readers.push((reader, Some(sender)));
                }
            }
            OtherEnd::Here(_) if !waited_when_listed(sender) => {}
            _ => alone.push(sender),
        }
    }
    let has_closed = |known: &Connection| {
        known.facts().and_then(|facts| facts.socket.connection?.receive_window) == Some(0)
            && unread_ns(view, known) >= after_ns
    };
    for reader in
        in_states(&[Established, FinWait1, FinWait2]).filter(|known| does_not_read(known) && has_closed(known))
    {
        // A sender of this host that waits is told of with it; one that has nothing to send does not wait.
        if matches!(view.other_end(reader), OtherEnd::NotVisible) {
            readers.push((reader, None));
        }
    }
    let mut found: Vec<_> = view
        .group(readers.iter().map(|(reader, _)| *reader), |known| view.subject_of(known))
        .into_iter()
        .map(|group| of_readers(view, group, &readers))
        .collect();
    let waiting = |group: Group<'_>| {
        let evidence = waiting_evidence(view, &group.members, group.members.first().and_then(|known| known.owner()));
        let severity = severity(view, group.members.iter().map(|known| closed(known)));
        group.sighting(view, Kind::ZeroWindow, severity, Cause::PeerDoesNotRead).with(evidence)
    };
    found.extend(view.group(alone.into_iter(), |known| view.subject_of(known)).into_iter().map(waiting));
    found.extend(sightings(view, Kind::ZeroWindow, judged, |newest| {
        let peer = other_owner(newest);
        vec![
            ("window_closed_ns", newest.window.map(|window| window.closed_ns).into()),
            ("probes_answered", newest.window.map_or(Value::Unknown, |window| Value::Flag(window.is_answered))),
            ("unacked_bytes", Value::Number(newest.unacked.into())),
            ("errno", newest.ending.errno().and_then(errno::name).map_or(Value::Unknown, Value::Name)),
            ("peer_pid", peer.map(|owner| owner.pid).into()),
            ("peer_command", peer.map_or(Value::Unknown, |owner| Value::Text(owner.command.to_text().into_owned()))),
        ]
    }));
    found
}

/// A reader that limits its own rate (`curl --limit-rate`) pauses for some seconds too: up to twice the threshold, none of
/// these waits in vain.
fn severity(view: &View<'_>, waits_ns: impl Iterator<Item = u64>) -> Severity {
    let longest_ns = waits_ns.max().unwrap_or(0);
    if longest_ns < view.thresholds.zero_window_ns.saturating_mul(2) { Severity::Info } else { Severity::Warning }
}

/// Those that do not read are of this host; who waits is evidence.
fn of_readers(view: &View<'_>, group: Group<'_>, readers: &[(&Connection, Option<&Connection>)]) -> Sighting {
    let is_here = |reader: &Connection| group.members.iter().any(|member| std::ptr::eq(*member, reader));
    let senders: Vec<_> =
        readers.iter().filter(|(reader, _)| is_here(reader)).filter_map(|(_, sender)| *sender).collect();
    let holders = holders_state(view, &group.members);
    let unread = group.members.iter().map(|known| u64::from(known.ailments().unread)).reduce(u64::saturating_add);
    let waits_ns = || group.members.iter().map(|known| unread_ns(view, known));
    let unread_ns = waits_ns().max();
    let severity = severity(view, waits_ns());
    let mut evidence = vec![("unread_bytes", unread.into()), ("unread_for_ns", unread_ns.into())];
    evidence.extend(waiting_evidence(view, &senders, senders.first().and_then(|sender| sender.owner())));
    evidence.extend(process_evidence(holders.as_ref()));
    let sighting = group.sighting(view, Kind::ZeroWindow, severity, Cause::DoesNotRead).with(evidence);
    Sighting { is_settled: sighting.is_settled && group.members.iter().all(|known| is_watched(known)), ..sighting }
}

/// What is known of those that wait; unknown where they are on another host.
fn waiting_evidence(view: &View<'_>, senders: &[&Connection], waiter: Option<Owner>) -> [(&'static str, Value); 6] {
    let facts = || senders.iter().filter_map(|sender| sender.facts());
    let unacked = facts().map(|facts| u64::from(facts.socket.send_queue)).reduce(u64::saturating_add);
    let unsent = facts().map(|facts| facts.socket.connection?.unsent.map(u64::from));
    let unsent = unsent.reduce(|sum, one| Some(sum?.saturating_add(one?))).flatten();
    [
        ("window_closed_ns", facts().map(|facts| closed_ns(facts, view.now_ns)).max().into()),
        ("probes_answered", if senders.is_empty() { Value::Unknown } else { Value::Flag(true) }),
        ("unacked_bytes", unacked.into()),
        ("unsent_bytes", unsent.into()),
        ("waiting_pid", waiter.map(|owner| owner.pid).into()),
        ("waiting_command", waiter.map_or(Value::Unknown, |owner| Value::Text(owner.command.to_text().into_owned()))),
    ]
}
