//! The accept queues of listeners: full ones, and connections in them that a process does not accept.

use crate::{
    findings::{
        cause::Cause,
        context::{RuleContext, SocketGroup},
        detection::{Detection, Example, Subject, Value},
        kind::{Kind, Severity},
        process_states::Activity,
        rules::readers::{self, holders_state, process_evidence, waiting, waits_since_ns},
    },
    model::{
        age::{Age, AgeSource},
        state::State,
    },
    table::{Connection, HalfOpen},
};

pub(super) fn evaluate(context: &RuleContext<'_>) -> Vec<Detection> {
    let mut found = accept_queue_full(context);
    found.extend(accept_stalled(context));
    found
}

/// How long a poll of a listener is valid, in ns.
pub(super) const FRESH_NS: u64 = 15_000_000_000;

/// True if a recent poll found the accept queue full.
pub(super) fn is_full(listener: &Connection, now_ns: u64) -> bool {
    let facts = listener.facts().filter(|facts| now_ns.saturating_sub(facts.listed_ns) < FRESH_NS);
    facts.is_some_and(|facts| facts.socket.is_full_listener())
}

fn accept_queue_full(context: &RuleContext<'_>) -> Vec<Detection> {
    let full = context.in_state(State::Listen).iter().copied().filter(|listener| is_full(listener, context.now_ns));
    let rows = context.table.half_open();
    let detection = |group: SocketGroup<'_>| {
        let state = context.namespaces.of(group.netns);
        let settings = state.and_then(|state| state.settings.as_ref());
        let half_open: u64 = rows
            .iter()
            .filter(|row| group.members.iter().any(|listener| is_at(context, row, listener)))
            .map(|row| row.count)
            .sum();
        let evidence = [
            ("queue", group.sum(|facts| facts.socket.receive_queue.into()).into()),
            ("limit", group.sum(|facts| facts.socket.send_queue.into()).into()),
            ("waiting", Value::Number(half_open)),
            ("listen_overflows", state.and_then(|state| state.grew(|counters| counters.listen_overflows)).into()),
            ("listen_drops", state.and_then(|state| state.grew(|counters| counters.listen_drops)).into()),
            ("somaxconn", settings.and_then(|settings| settings.somaxconn).into()),
        ];
        let waited = waiting(context, &group.members);
        let waited_ns =
            waited.first().map(|known| context.now_ns.saturating_sub(known.since_ns.min(known.first_seen_ns)));
        let holders = holders_state(context, &group.members);
        let evidence =
            evidence.into_iter().chain([("waited_ns", waited_ns.into())]).chain(process_evidence(holders.as_ref()));
        let queued = group.sum(|facts| facts.socket.receive_queue.into()).unwrap_or(0);
        let cause = match holders.map(|holders| holders.activity) {
            // A longer backlog does not help.
            Some(activity @ (Activity::Stopped | Activity::OutOfDescriptors)) => readers::cause(Some(activity)),
            _ => Cause::QueueFull,
        };
        let detection = group.detection(context, Kind::AcceptQueueFull, Severity::Critical, cause);
        // How long the queue has been full is not known; the age is that of the listener.
        let is_shown = context.is_any_at_shown(&group.members);
        Detection { count: queued, oldest: None, is_shown, ..detection }.with(evidence)
    };
    context.group(full, |listener| Subject::Local(listener.local())).into_iter().map(detection).collect()
}

/// True if the handshakes go to this listener, or to another one at the same address (SO_REUSEPORT).
pub(super) fn is_at(context: &RuleContext<'_>, row: &HalfOpen, listener: &Connection) -> bool {
    let first = context.listener_of(Some(row.netns), row.local);
    first.is_some_and(|first| (first.netns(), first.local()) == (listener.netns(), listener.local()))
}

fn accept_stalled(context: &RuleContext<'_>) -> Vec<Detection> {
    // A full queue is reported as accept-queue-full.
    let has_queue = |listener: &&Connection| {
        let queue = listener.facts().map_or(0, |facts| facts.socket.receive_queue);
        queue > 0 && !is_full(listener, context.now_ns)
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
        let cause = readers::cause(holders.map(|holders| holders.activity));
        let mut detection = group.detection(context, Kind::AcceptStalled, Severity::Warning, cause);
        let room = context.thresholds.examples.saturating_sub(detection.examples.len());
        // No process has accepted them, so nobody holds them.
        let example =
            |known: &&Connection| Example { holders: Vec::new(), ..Example::of(known, context.table, context.now_ns) };
        detection.examples.extend(waiting.iter().take(room).map(example));
        let oldest = Some(Age { ns: waited_ns, source: AgeSource::LowerBound });
        let detection = Detection { count: queue, oldest, is_settled: holders.is_some(), ..detection };
        Some(detection.with(evidence))
    };
    context.group(listeners, |listener| Subject::Local(listener.local())).into_iter().filter_map(detection).collect()
}
