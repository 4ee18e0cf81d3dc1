//! Connections that a process does not accept, or does not read.

use super::{listening, window::is_closed_by};
use crate::{
    findings::{
        cause::Cause,
        context::{Group, View},
        detection::{Example, MAX_EXAMPLES, Sighting, Subject, Value},
        kind::{Kind, Severity},
        process_states::{Doing, HoldersState},
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

/// Is it a connection that waits in the accept queue of its listener?
pub(super) fn is_not_accepted(known: &Connection) -> bool {
    known.ailments().not_accepted
}

/// The connections that wait in the accept queue of any of these listeners, which are of one address, oldest first. Those of
/// which that is not sure do where the queue has room for all of them.
pub(super) fn waiting<'a>(view: &View<'a>, listeners: &[&Connection]) -> Vec<&'a Connection> {
    let is_theirs = |known: &&Connection| {
        let first = view.listener_of(known.netns(), known.local());
        let place = |known: &Connection| (known.netns(), known.local());
        first.is_some_and(|first| listeners.iter().any(|listener| place(listener) == place(first)))
    };
    let open = [State::Established, State::CloseWait].into_iter().flat_map(|state| view.in_state(state));
    let may_wait = |known: &&Connection| is_not_accepted(known) || known.ailments().may_be_not_accepted;
    let mut waiting: Vec<_> = open.copied().filter(may_wait).filter(is_theirs).collect();
    let queue: u64 =
        listeners.iter().filter_map(|known| known.facts()).map(|facts| u64::from(facts.socket.receive_queue)).sum();
    if waiting.len() as u64 > queue {
        waiting.retain(|known| is_not_accepted(known));
    }
    waiting.sort_by_key(|known| waits_since_ns(known));
    waiting
}

/// CLOCK_MONOTONIC since which a connection waits to be accepted at least, in ns: the peer's FIN may have come later.
fn waits_since_ns(known: &Connection) -> u64 {
    known.since_ns.min(known.first_seen_ns)
}

fn accept_stalled(view: &View<'_>) -> Vec<Sighting> {
    // A full queue is told of as that.
    let has_queue = |listener: &&Connection| {
        let queue = listener.facts().map_or(0, |facts| facts.socket.receive_queue);
        queue > 0 && !listening::is_full(listener, view.now_ns)
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

/// What the processes that hold these sockets do.
pub(super) fn holders_state<'a>(view: &View<'a>, sockets: &[&Connection]) -> Option<HoldersState<'a>> {
    let holders = sockets.iter().filter_map(|known| view.table.holders_of(known)).flatten().copied();
    view.process_states?.state_of(&holders.collect::<Vec<_>>())
}

/// The same as evidence.
pub(super) fn process_evidence(holders: Option<&HoldersState<'_>>) -> [(&'static str, Value); 5] {
    let state = holders.map(|holders| holders.state);
    let waits_in = state.and_then(|state| state.waits_in.clone());
    [
        ("process_state", holders.map_or(Value::Unknown, |holders| Value::Name(holders.doing.name()))),
        ("processes_in_state", holders.map(|holders| holders.count).into()),
        ("descriptors", state.and_then(|state| state.descriptors).into()),
        ("max_descriptors", state.and_then(|state| state.max_descriptors).into()),
        ("waits_in", waits_in.map_or(Value::Unknown, Value::Text)),
    ]
}

/// What keeps connections from being accepted.
pub(super) const fn cause(doing: Option<Doing>) -> Cause {
    match doing {
        Some(Doing::Stopped) => Cause::AccepterStopped,
        Some(Doing::OutOfDescriptors) => Cause::AccepterOutOfDescriptors,
        Some(Doing::Busy) => Cause::AccepterBusy,
        Some(Doing::Running) => Cause::AccepterRuns,
        Some(Doing::Waiting) => Cause::AccepterWaits,
        None => Cause::NotAccepted,
    }
}

/// A server that has accepted a connection, and does not read what came. Those whose window is closed are `zero-window`, and
/// what the peer has closed is a leak.
fn read_stalled(view: &View<'_>) -> Vec<Sighting> {
    let after_ns = view.thresholds.read_stalled_ns;
    let is_stalled = |known: &&Connection| {
        let ailments = known.ailments();
        ailments.unread > 0
            && !ailments.not_accepted
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
                group.members.iter().map(|known| u64::from(known.ailments().unread)).reduce(u64::saturating_add).into(),
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

/// How long data lies unread at least, in ns: since the last of it came.
pub(super) fn unread_ns(view: &View<'_>, known: &Connection) -> u64 {
    known.facts().map_or(0, |facts| {
        let received_ns = facts.socket.connection.map_or(0, |info| info.last_received_ns);
        received_ns.saturating_add(view.now_ns.saturating_sub(facts.listed_ns))
    })
}

/// Was it watched for long enough to see whether it is read?
pub(super) fn is_watched(known: &Connection) -> bool {
    /// In ns.
    const WATCHED_NS: u64 = 500_000_000;
    known.watched_ns().is_some_and(|ns| ns >= WATCHED_NS)
}

/// Was some of the data that lies unread read within this time?
pub(super) fn is_being_read(view: &View<'_>, known: &Connection, within_ns: u64) -> bool {
    known.read_ns().is_some_and(|read_ns| view.now_ns.saturating_sub(read_ns) < within_ns)
}
