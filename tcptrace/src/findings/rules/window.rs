//! Windows that stay closed because the receiver does not read.

use super::incidents::{detections, diagnosed, other_owner};
use crate::{
    findings::{
        cause::Cause,
        context::{OtherEnd, RuleContext, SocketGroup},
        detection::{Detection, Value},
        incident::{Incident, closed_ns},
        kind::{Kind, Severity},
        rules::readers::{holders_state, is_being_read, is_held_up, is_watched, process_evidence, unread_ns},
    },
    model::{close_reason::CloseReason, errno, event::Owner, socket::UNREAD_NS, state::State},
    table::Connection,
};

/// The kind of finding for a connection that timed out while its peer's window was closed. If nothing was retransmitted, the
/// probe timer ended it because of TCP_USER_TIMEOUT (`net/ipv4/tcp_timer.c`, `tcp_probe_timer`).
pub(super) fn kind(incident: &Incident) -> Option<Kind> {
    let is_open = matches!(incident.state, State::Established | State::CloseWait);
    let is_closed = incident.window.is_some() || incident.total_retrans == 0 && incident.timeouts == 0;
    let was_answered = incident.window.is_none_or(|window| window.is_answered);
    let is_it =
        incident.ending == CloseReason::TimedOut && is_open && incident.unacked > 0 && is_closed && was_answered;
    is_it.then_some(Kind::ZeroWindow)
}

pub(super) fn evaluate(context: &RuleContext<'_>) -> Vec<Detection> {
    use State::{CloseWait, Closing, Established, FinWait1, FinWait2, LastAck};
    let after_ns = context.thresholds.zero_window_ns;
    let in_states = |states: &'static [State]| states.iter().flat_map(|state| context.in_state(*state)).copied();
    let closed = |known: &Connection| known.facts().map_or(0, |facts| closed_ns(facts, context.now_ns));
    // A slow reader that pauses regularly gets twice its longest pause.
    let is_long = |known: &Connection| closed(known) >= after_ns.max(known.longest_pause_ns().saturating_mul(2));
    let senders = in_states(&[Established, CloseWait, FinWait1, Closing, LastAck])
        .filter(|known| is_held_up(known) && is_long(known));
    // If the sender waited only briefly when it was listed, the data at the other end may not count as unread yet.
    let waited_when_listed =
        |known: &Connection| known.facts().is_some_and(|facts| closed_ns(facts, facts.listed_ns) >= UNREAD_NS);
    // A reader that is merely slow is no problem.
    let does_not_read =
        |known: &Connection| known.stuck_reasons().unread > 0 && !is_being_read(context, known, after_ns);
    let (mut readers, mut alone) = (Vec::new(), Vec::new());
    for sender in senders {
        match context.other_end(sender) {
            OtherEnd::Local(reader) if reader.stuck_reasons().unread > 0 => {
                if does_not_read(reader) {
                    readers.push((reader, Some(sender)));
                }
            }
            OtherEnd::Local(_) if !waited_when_listed(sender) => {}
            _ => alone.push(sender),
        }
    }
    let has_closed = |known: &Connection| {
        known.facts().and_then(|facts| facts.socket.connection?.receive_window) == Some(0)
            && unread_ns(context, known) >= after_ns
    };
    for reader in
        in_states(&[Established, FinWait1, FinWait2]).filter(|known| does_not_read(known) && has_closed(known))
    {
        // A waiting sender on this host is reported together with its reader; a sender without data does not wait.
        if matches!(context.other_end(reader), OtherEnd::NotVisible) {
            readers.push((reader, None));
        }
    }
    let mut found: Vec<_> = context
        .group(readers.iter().map(|(reader, _)| *reader), |known| context.subject_of(known))
        .into_iter()
        .map(|group| of_readers(context, group, &readers))
        .collect();
    let waiting = |group: SocketGroup<'_>| {
        let evidence = waiting_evidence(context, &group.members, group.members.first().and_then(|known| known.owner()));
        let severity = severity(context, group.members.iter().map(|known| closed(known)));
        group.detection(context, Kind::ZeroWindow, severity, Cause::PeerDoesNotRead).with(evidence)
    };
    found.extend(context.group(alone.into_iter(), |known| context.subject_of(known)).into_iter().map(waiting));
    found.extend(detections(context, Kind::ZeroWindow, diagnosed, |newest| {
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

/// Up to twice the threshold the severity is info, because a reader that limits its own rate (`curl --limit-rate`) also pauses
/// for some seconds.
fn severity(context: &RuleContext<'_>, waits_ns: impl Iterator<Item = u64>) -> Severity {
    let longest_ns = waits_ns.max().unwrap_or(0);
    if longest_ns < context.thresholds.zero_window_ns.saturating_mul(2) { Severity::Info } else { Severity::Warning }
}

/// A detection for readers on this host; their waiting senders are evidence.
fn of_readers(
    context: &RuleContext<'_>,
    group: SocketGroup<'_>,
    readers: &[(&Connection, Option<&Connection>)],
) -> Detection {
    let is_here = |reader: &Connection| group.members.iter().any(|member| std::ptr::eq(*member, reader));
    let senders: Vec<_> =
        readers.iter().filter(|(reader, _)| is_here(reader)).filter_map(|(_, sender)| *sender).collect();
    let holders = holders_state(context, &group.members);
    let unread = group.members.iter().map(|known| u64::from(known.stuck_reasons().unread)).reduce(u64::saturating_add);
    let waits_ns = || group.members.iter().map(|known| unread_ns(context, known));
    let unread_ns = waits_ns().max();
    let severity = severity(context, waits_ns());
    let mut evidence = vec![("unread_bytes", unread.into()), ("unread_for_ns", unread_ns.into())];
    evidence.extend(waiting_evidence(context, &senders, senders.first().and_then(|sender| sender.owner())));
    evidence.extend(process_evidence(holders.as_ref()));
    let detection = group.detection(context, Kind::ZeroWindow, severity, Cause::DoesNotRead).with(evidence);
    Detection { is_settled: detection.is_settled && group.members.iter().all(|known| is_watched(known)), ..detection }
}

/// Evidence about the waiting senders; unknown if they are on other hosts.
fn waiting_evidence(
    context: &RuleContext<'_>,
    senders: &[&Connection],
    waiter: Option<Owner>,
) -> [(&'static str, Value); 6] {
    let facts = || senders.iter().filter_map(|sender| sender.facts());
    let unacked = facts().map(|facts| u64::from(facts.socket.send_queue)).reduce(u64::saturating_add);
    let unsent = facts().map(|facts| facts.socket.connection?.unsent.map(u64::from));
    let unsent = unsent.reduce(|sum, one| Some(sum?.saturating_add(one?))).flatten();
    [
        ("window_closed_ns", facts().map(|facts| closed_ns(facts, context.now_ns)).max().into()),
        ("probes_answered", if senders.is_empty() { Value::Unknown } else { Value::Flag(true) }),
        ("unacked_bytes", unacked.into()),
        ("unsent_bytes", unsent.into()),
        ("waiting_pid", waiter.map(|owner| owner.pid).into()),
        ("waiting_command", waiter.map_or(Value::Unknown, |owner| Value::Text(owner.command.to_text().into_owned()))),
    ]
}
