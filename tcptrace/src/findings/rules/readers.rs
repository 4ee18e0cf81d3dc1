//! Whether the processes behind a service accept and read, and what they do instead.

use crate::{
    findings::{
        cause::Cause,
        context::{OtherEnd, View},
        detection::Value,
        incident::is_answered,
        process_states::{Doing, HoldersState},
    },
    model::state::State,
    table::Connection,
};

/// Is it a connection that waits in the accept queue of its listener?
pub(super) fn is_not_accepted(known: &Connection) -> bool {
    known.stuck_reasons().not_accepted
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
    let may_wait = |known: &&Connection| is_not_accepted(known) || known.stuck_reasons().may_be_not_accepted;
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
pub(super) fn waits_since_ns(known: &Connection) -> u64 {
    known.since_ns.min(known.first_seen_ns)
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
    known.stuck_reasons().window_closed && known.facts().is_some_and(is_answered)
}
