//! Windows that stay closed, since the receiver does not read.

use super::incidents::{judged, other_owner, sightings};
use crate::{
    findings::{
        cause::Cause,
        context::{Group, OtherEnd, View},
        detection::{Sighting, Value},
        incident::{Incident, closed_ns},
        kind::{Kind, Severity},
        rules::readers::{holders_state, is_being_read, is_held_up, is_watched, process_evidence, unread_ns},
    },
    model::{close_reason::CloseReason, errno, event::Owner, socket::UNREAD_NS, state::State},
    table::Connection,
};

/// Which trouble it is that an open connection timed out whose peer's window was closed. Without a retransmission it was the
/// timer of the probes that ended it, by TCP_USER_TIMEOUT (`net/ipv4/tcp_timer.c`, `tcp_probe_timer`).
pub(super) fn kind(incident: &Incident) -> Option<Kind> {
    let is_open = matches!(incident.state, State::Established | State::CloseWait);
    let is_closed = incident.window.is_some() || incident.total_retrans == 0 && incident.timeouts == 0;
    let was_answered = incident.window.is_none_or(|window| window.is_answered);
    let is_it =
        incident.ending == CloseReason::TimedOut && is_open && incident.unacked > 0 && is_closed && was_answered;
    is_it.then_some(Kind::ZeroWindow)
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
    let does_not_read = |known: &Connection| known.stuck_reasons().unread > 0 && !is_being_read(view, known, after_ns);
    let (mut readers, mut alone) = (Vec::new(), Vec::new());
    for sender in senders {
        match view.other_end(sender) {
            OtherEnd::Here(reader) if reader.stuck_reasons().unread > 0 => {
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
    let unread = group.members.iter().map(|known| u64::from(known.stuck_reasons().unread)).reduce(u64::saturating_add);
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
