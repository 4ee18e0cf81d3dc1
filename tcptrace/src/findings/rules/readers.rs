//! Whether the processes of a service accept and read, and what they do instead. Several families use these checks.

use crate::{
    findings::{
        cause::Cause,
        context::{OtherEnd, RuleContext},
        detection::Value,
        incident::is_answered,
        process_states::{Activity, HoldersState},
    },
    model::state::State,
    table::Connection,
};

/// True if the connection waits in its listener's accept queue.
pub(super) fn is_not_accepted(known: &Connection) -> bool {
    known.stuck_reasons().not_accepted
}

/// The connections in the accept queues of these listeners, which share an address, oldest first. Connections that may or may
/// not be accepted are included only if the queues are long enough for all.
pub(super) fn waiting<'a>(context: &RuleContext<'a>, listeners: &[&Connection]) -> Vec<&'a Connection> {
    let is_theirs = |known: &&Connection| {
        let first = context.listener_of(known.netns(), known.local());
        let place = |known: &Connection| (known.netns(), known.local());
        first.is_some_and(|first| listeners.iter().any(|listener| place(listener) == place(first)))
    };
    let open = [State::Established, State::CloseWait].into_iter().flat_map(|state| context.in_state(state));
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

/// Since when a connection has at least been waiting to be accepted, CLOCK_MONOTONIC in ns. It was seen before it entered
/// CLOSE_WAIT if the peer's FIN came later.
pub(super) fn waits_since_ns(known: &Connection) -> u64 {
    known.since_ns.min(known.first_seen_ns)
}

pub(super) fn holders_state<'a>(context: &RuleContext<'a>, sockets: &[&Connection]) -> Option<HoldersState<'a>> {
    let holders = sockets.iter().filter_map(|known| context.table.holders_of(known)).flatten().copied();
    context.process_states?.state_of(&holders.collect::<Vec<_>>())
}

/// The evidence about what the holders are doing.
pub(super) fn process_evidence(holders: Option<&HoldersState<'_>>) -> [(&'static str, Value); 5] {
    let state = holders.map(|holders| holders.state);
    let waits_in = state.and_then(|state| state.waits_in.clone());
    [
        ("process_state", holders.map_or(Value::Unknown, |holders| Value::Name(holders.activity.name()))),
        ("processes_in_state", holders.map(|holders| holders.count).into()),
        ("descriptors", state.and_then(|state| state.descriptors).into()),
        ("max_descriptors", state.and_then(|state| state.max_descriptors).into()),
        ("waits_in", waits_in.map_or(Value::Unknown, Value::Text)),
    ]
}

/// The cause of connections not being accepted.
pub(super) const fn cause(activity: Option<Activity>) -> Cause {
    match activity {
        Some(Activity::Stopped) => Cause::AccepterStopped,
        Some(Activity::OutOfDescriptors) => Cause::AccepterOutOfDescriptors,
        Some(Activity::Busy) => Cause::AccepterBusy,
        Some(Activity::Running) => Cause::AccepterRuns,
        Some(Activity::Waiting) => Cause::AccepterWaits,
        None => Cause::NotAccepted,
    }
}

/// How long data has at least been unread, in ns: the time since the last of it arrived.
pub(super) fn unread_ns(context: &RuleContext<'_>, known: &Connection) -> u64 {
    known.facts().map_or(0, |facts| {
        let received_ns = facts.socket.connection.map_or(0, |info| info.last_received_ns);
        received_ns.saturating_add(context.now_ns.saturating_sub(facts.listed_ns))
    })
}

/// True if the socket was watched long enough to see whether its data is read.
pub(super) fn is_watched(known: &Connection) -> bool {
    /// In ns.
    const WATCHED_NS: u64 = 500_000_000;
    known.watched_ns().is_some_and(|ns| ns >= WATCHED_NS)
}

/// True if some of the unread data was read within this time.
pub(super) fn is_being_read(context: &RuleContext<'_>, known: &Connection, within_ns: u64) -> bool {
    known.read_ns().is_some_and(|read_ns| context.now_ns.saturating_sub(read_ns) < within_ns)
}

/// True if the reader has closed its window. If the listing does not have it (sock_diag before Linux 6.2), a sender on this
/// host that waits for the window proves it.
pub(super) fn is_closed_by(context: &RuleContext<'_>, reader: &Connection) -> bool {
    let Some(info) = reader.facts().and_then(|facts| facts.socket.connection) else { return false };
    match info.receive_window {
        Some(bytes) => bytes == 0,
        None => matches!(context.other_end(reader), OtherEnd::Local(sender) if is_held_up(sender)),
    }
}

/// True if the sender waits for the peer's window while the peer answers.
pub(super) fn is_held_up(known: &Connection) -> bool {
    known.stuck_reasons().window_closed && known.facts().is_some_and(is_answered)
}
