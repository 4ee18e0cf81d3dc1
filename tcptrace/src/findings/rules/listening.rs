//! Listeners.

use crate::{
    findings::{
        cause::Cause,
        context::{Group, View},
        detection::{Processes, Sighting, Subject, Value},
        kind::{Kind, Severity},
        process_states::Doing,
        rules::{queues::is_full, readers},
    },
    model::state::State,
    table::{Connection, HalfOpen},
};

/// All troubles of this family.
pub(super) fn look(view: &View<'_>) -> Vec<Sighting> {
    let mut found = accept_queue_full(view);
    found.extend(syn_flood(view));
    found.extend(foreign_listener(view));
    found
}

fn accept_queue_full(view: &View<'_>) -> Vec<Sighting> {
    let full = view.in_state(State::Listen).iter().copied().filter(|listener| is_full(listener, view.now_ns));
    let rows = view.table.half_open();
    let sighting = |group: Group<'_>| {
        let state = view.namespaces.of(group.netns);
        let settings = state.and_then(|state| state.settings.as_ref());
        let waiting: u64 = rows
            .iter()
            .filter(|row| group.members.iter().any(|listener| is_at(view, row, listener)))
            .map(|row| row.count)
            .sum();
        let evidence = [
            ("queue", group.sum(|facts| facts.socket.receive_queue.into()).into()),
            ("limit", group.sum(|facts| facts.socket.send_queue.into()).into()),
            ("waiting", Value::Number(waiting)),
            ("listen_overflows", state.and_then(|state| state.grew(|counters| counters.listen_overflows)).into()),
            ("listen_drops", state.and_then(|state| state.grew(|counters| counters.listen_drops)).into()),
            ("somaxconn", settings.and_then(|settings| settings.somaxconn).into()),
        ];
        let waited = readers::waiting(view, &group.members);
        let waited_ns = waited.first().map(|known| view.now_ns.saturating_sub(known.since_ns.min(known.first_seen_ns)));
        let holders = readers::holders_state(view, &group.members);
        let evidence = evidence
            .into_iter()
            .chain([("waited_ns", waited_ns.into())])
            .chain(readers::process_evidence(holders.as_ref()));
        let queued = group.sum(|facts| facts.socket.receive_queue.into()).unwrap_or(0);
        let cause = match holders.map(|holders| holders.doing) {
            // No backlog helps.
            Some(doing @ (Doing::Stopped | Doing::OutOfDescriptors)) => readers::cause(Some(doing)),
            _ => Cause::QueueFull,
        };
        let sighting = group.sighting(view, Kind::AcceptQueueFull, Severity::Critical, cause);
        // How long it has been full is not known, only that it listens.
        let is_shown = view.is_any_at_shown(&group.members);
        Sighting { count: queued, oldest: None, is_shown, ..sighting }.with(evidence)
    };
    view.group(full, |listener| Subject::Local(listener.local())).into_iter().map(sighting).collect()
}

/// Do the handshakes go to the listener, or to another one at its place (SO_REUSEPORT)?
fn is_at(view: &View<'_>, row: &HalfOpen, listener: &Connection) -> bool {
    let first = view.listener_of(Some(row.netns), row.local);
    first.is_some_and(|first| (first.netns(), first.local()) == (listener.netns(), listener.local()))
}

/// Half-open connections are what a full accept queue looks like from outside, too: then that is told of. A listener with
/// many clients has many of them at any time, but hardly one for so long that its SYN-ACK is sent again.
fn syn_flood(view: &View<'_>) -> Vec<Sighting> {
    let mut found = Vec::new();
    for row in view.table.half_open() {
        // Without a listener they are what is left of one that is gone, and die out.
        let Some(listener) = view.listener_of(Some(row.netns), row.local) else { continue };
        let state = view.namespaces.of(Some(row.netns));
        let settings = state.and_then(|state| state.settings.as_ref());
        let cookies = state.and_then(|state| state.grew(|counters| counters.syncookies_sent));
        // With the queue of requests full, the kernel answers by cookies, and keeps no more requests. A burst of clients
        // gets cookies too, but finishes its handshakes.
        let sent = row.count.max(cookies.unwrap_or(0));
        if sent < view.thresholds.half_open_requests || 2 * row.retransmitted < row.count {
            continue;
        }
        let alike: Vec<_> =
            view.in_state(State::Listen).iter().copied().filter(|listener| is_at(view, &row, listener)).collect();
        let limits = alike.iter().filter_map(|listener| Some(listener.facts()?.socket.send_queue));
        let backlog = limits.reduce(u32::saturating_add);
        // The cookies are of the whole namespace: they were not for a listener that has room.
        let has_room = backlog.is_some_and(|backlog| row.count < u64::from(backlog / 2));
        if has_room || alike.iter().any(|listener| is_full(listener, view.now_ns)) {
            continue;
        }
        let subject = Subject::Local(listener.local());
        let cause = Cause::HandshakesUnfinished;
        let mut processes = Processes::default();
        processes.add(row.owner, row.count);
        let sighting = Sighting {
            owner: row.owner,
            processes,
            count: row.count,
            is_shown: view.is_any_at_shown(&alike),
            ..Sighting::new(Kind::SynFlood, Severity::Critical, cause, Some(row.netns), subject)
        };
        let evidence = [
            ("half_open", Value::Number(row.count)),
            ("synack_retransmitted", Value::Number(row.retransmitted)),
            ("syn_cookies_sent", cookies.into()),
            ("backlog", backlog.into()),
            ("max_syn_backlog", settings.and_then(|settings| settings.max_syn_backlog).into()),
            ("syncookies", settings.and_then(|settings| settings.syncookies).into()),
        ];
        found.push(sighting.with(evidence));
    }
    found
}

fn foreign_listener(view: &View<'_>) -> Vec<Sighting> {
    let is_foreign = |listener: &&Connection| !view.thresholds.expects(listener.local().ip(), listener.local().port());
    let foreign = view.in_state(State::Listen).iter().copied().filter(is_foreign);
    let sighting = |group: Group<'_>| {
        let address = group.members.first().map_or(Value::Unknown, |known| Value::Text(known.local().to_string()));
        group.sighting(view, Kind::ForeignListener, Severity::Warning, Cause::NotExpected).with([("address", address)])
    };
    view.group(foreign, |listener| Subject::Local(listener.local())).into_iter().map(sighting).collect()
}
