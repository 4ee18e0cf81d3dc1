//! Connections that a process does not accept or does not read.

use crate::{
    findings::{
        cause::Cause,
        context::{RuleContext, SocketGroup},
        detection::{Detection, Example, Subject, Value},
        kind::{Kind, Severity},
        process_states::Activity,
        rules::{
            queues,
            readers::{
                cause, holders_state, is_being_read, is_closed_by, is_watched, process_evidence, unread_ns, waiting,
                waits_since_ns,
            },
        },
    },
    model::{
        age::{Age, AgeSource},
        state::State,
    },
    table::Connection,
};

pub(super) fn evaluate(context: &RuleContext<'_>) -> Vec<Detection> {
    let mut found = accept_stalled(context);
    found.extend(read_stalled(context));
    found
}

fn accept_stalled(context: &RuleContext<'_>) -> Vec<Detection> {
    // A full queue is reported as accept-queue-full.
    let has_queue = |listener: &&Connection| {
        let queue = listener.facts().map_or(0, |facts| facts.socket.receive_queue);
        queue > 0 && !queues::is_full(listener, context.now_ns)
    };
    let listeners = context.in_state(State::Listen).iter().copied().filter(has_queue);
    let detection = |group: SocketGroup<'_>| {
        let waiting = waiting(context, &group.members);
        let waited_ns = context.now_ns.saturating_sub(waits_since_ns(waiting.first()?));
        if waited_ns < context.thresholds.accept_stalled_ns {
            return None;
        }
        let holders = holders_state(context, &group.members);
        let queue = group.sum(|facts| facts.socket.receive_queue.into()).unwrap_or(0);
        let mut evidence = vec![
            ("queue", Value::Number(queue)),
            ("limit", group.sum(|facts| facts.socket.send_queue.into()).into()),
            ("waited_ns", Value::Number(waited_ns)),
        ];
        evidence.extend(process_evidence(holders.as_ref()));
        let cause = cause(holders.map(|holders| holders.activity));
        let mut detection = group.detection(context, Kind::AcceptStalled, Severity::Warning, cause);
        let room = context.thresholds.examples.saturating_sub(detection.examples.len());
        detection.examples.extend(waiting.iter().take(room).map(|known| Example::of(known, &[], context.now_ns)));
        let oldest = Some(Age { ns: waited_ns, source: AgeSource::LowerBound });
        let detection = Detection { count: queue, oldest, is_settled: holders.is_some(), ..detection };
        Some(detection.with(evidence))
    };
    context.group(listeners, |listener| Subject::Local(listener.local())).into_iter().filter_map(detection).collect()
}

/// A server accepted connections but does not read their data. If the window is closed, `zero-window` reports it; if the peer
/// has closed, `close-wait-leak` does.
fn read_stalled(context: &RuleContext<'_>) -> Vec<Detection> {
    let after_ns = context.thresholds.read_stalled_ns;
    let is_stalled = |known: &&Connection| {
        let stuck_reasons = known.stuck_reasons();
        stuck_reasons.unread > 0
            && !stuck_reasons.not_accepted
            && unread_ns(context, known) >= after_ns
            && !is_being_read(context, known, after_ns)
            && !is_closed_by(context, known)
            && context.listener_of(known.netns(), known.local()).is_some()
    };
    let stalled = context.in_state(State::Established).iter().copied().filter(is_stalled);
    let detection = |group: SocketGroup<'_>| {
        let holders = holders_state(context, &group.members);
        let unread_ns = group.members.iter().map(|known| unread_ns(context, known)).max();
        let mut evidence = vec![
            (
                "unread_bytes",
                group
                    .members
                    .iter()
                    .map(|known| u64::from(known.stuck_reasons().unread))
                    .reduce(u64::saturating_add)
                    .into(),
            ),
            ("unread_for_ns", unread_ns.into()),
        ];
        evidence.extend(process_evidence(holders.as_ref()));
        // A server that works on something else may read the data later; one that is stopped will not.
        let (severity, cause) = match holders.map(|holders| holders.activity) {
            Some(Activity::Stopped) => (Severity::Warning, Cause::ReaderStopped),
            _ => (Severity::Info, Cause::RequestsUnread),
        };
        let detection = group.detection(context, Kind::ReadStalled, severity, cause).with(evidence);
        Detection {
            is_settled: detection.is_settled && group.members.iter().all(|known| is_watched(known)),
            ..detection
        }
    };
    context.group(stalled, |known| context.subject_of(known)).into_iter().map(detection).collect()
}
