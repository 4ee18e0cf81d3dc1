//! Connections that a process does not accept, or does not read.

use crate::{
    findings::{
        cause::Cause,
        context::{Group, View},
        detection::{Example, MAX_EXAMPLES, Sighting, Subject, Value},
        kind::{Kind, Severity},
        process_states::Doing,
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

/// All troubles of this family.
pub(super) fn look(view: &View<'_>) -> Vec<Sighting> {
    let mut found = accept_stalled(view);
    found.extend(read_stalled(view));
    found
}

fn accept_stalled(view: &View<'_>) -> Vec<Sighting> {
    // A full queue is told of as that.
    let has_queue = |listener: &&Connection| {
        let queue = listener.facts().map_or(0, |facts| facts.socket.receive_queue);
        queue > 0 && !queues::is_full(listener, view.now_ns)
    };
    let listeners = view.in_state(State::Listen).iter().copied().filter(has_queue);
    let sighting = |group: Group<'_>| {
        let waiting = waiting(view, &group.members);
        let waited_ns = view.now_ns.saturating_sub(waits_since_ns(waiting.first()?));
        if waited_ns < view.thresholds.accept_stalled_ns {
            return None;
        }
        let holders = holders_state(view, &group.members);
        let queue = group.sum(|facts| facts.socket.receive_queue.into()).unwrap_or(0);
        let mut evidence = vec![
            ("queue", Value::Number(queue)),
            ("limit", group.sum(|facts| facts.socket.send_queue.into()).into()),
            ("waited_ns", Value::Number(waited_ns)),
        ];
        evidence.extend(process_evidence(holders.as_ref()));
        let cause = cause(holders.map(|holders| holders.doing));
        let mut sighting = group.sighting(view, Kind::AcceptStalled, Severity::Warning, cause);
        let room = MAX_EXAMPLES.saturating_sub(sighting.examples.len());
        sighting.examples.extend(waiting.iter().take(room).map(|known| Example::of(known, &[], view.now_ns)));
        let oldest = Some(Age { ns: waited_ns, source: AgeSource::LowerBound });
        let sighting = Sighting { count: queue, oldest, is_settled: holders.is_some(), ..sighting };
        Some(sighting.with(evidence))
    };
    view.group(listeners, |listener| Subject::Local(listener.local())).into_iter().filter_map(sighting).collect()
}

/// A server that has accepted a connection, and does not read what came. Those whose window is closed are `zero-window`, and
/// what the peer has closed is a leak.
fn read_stalled(view: &View<'_>) -> Vec<Sighting> {
    let after_ns = view.thresholds.read_stalled_ns;
    let is_stalled = |known: &&Connection| {
        let stuck_reasons = known.stuck_reasons();
        stuck_reasons.unread > 0
            && !stuck_reasons.not_accepted
            && unread_ns(view, known) >= after_ns
            && !is_being_read(view, known, after_ns)
            && !is_closed_by(view, known)
            && view.listener_of(known.netns(), known.local()).is_some()
    };
    let stalled = view.in_state(State::Established).iter().copied().filter(is_stalled);
    let sighting = |group: Group<'_>| {
        let holders = holders_state(view, &group.members);
        let unread_ns = group.members.iter().map(|known| unread_ns(view, known)).max();
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
        // What a server reads later, when it has done what it does now, waits in vain only where it does nothing at all.
        let (severity, cause) = match holders.map(|holders| holders.doing) {
            Some(Doing::Stopped) => (Severity::Warning, Cause::ReaderStopped),
            _ => (Severity::Info, Cause::RequestsUnread),
        };
        let sighting = group.sighting(view, Kind::ReadStalled, severity, cause).with(evidence);
        Sighting { is_settled: sighting.is_settled && group.members.iter().all(|known| is_watched(known)), ..sighting }
    };
    view.group(stalled, |known| view.subject_of(known)).into_iter().map(sighting).collect()
}
