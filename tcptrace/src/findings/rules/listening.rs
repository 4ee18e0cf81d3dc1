//! Listeners: many half-open connections, unexpected listeners. Their queues are in `accept_queue.rs`.

use crate::{
    findings::{
        cause::Cause,
        context::{RuleContext, SocketGroup},
        detection::{Detection, Processes, Subject, Value},
        kind::{Kind, Severity},
        rules::accept_queue::{is_at, is_full},
    },
    model::state::State,
    table::Connection,
};

pub(super) fn evaluate(context: &RuleContext<'_>) -> Vec<Detection> {
    let mut found = syn_flood(context);
    found.extend(foreign_listener(context));
    found
}

/// Many handshakes that do not finish. A full accept queue causes half-open connections too, and is reported instead. A
/// healthy listener with many clients always has many half-open connections, but hardly any lasts until its SYN-ACK is
/// retransmitted.
fn syn_flood(context: &RuleContext<'_>) -> Vec<Detection> {
    let mut found = Vec::new();
    for row in context.table.half_open() {
        // Without a listener they are remains of one that was closed, and disappear soon.
        let Some(listener) = context.listener_of(Some(row.netns), row.local) else { continue };
        let state = context.namespaces.of(Some(row.netns));
        let settings = state.and_then(|state| state.settings.as_ref());
        let cookies = state.and_then(|state| state.grew(|counters| counters.syncookies_sent));
        // When the SYN queue is full, the kernel answers with SYN cookies and keeps no more requests. A burst of real clients
        // gets cookies too, but finishes its handshakes.
        let sent = row.count.max(cookies.unwrap_or(0));
        if sent < context.thresholds.half_open_requests || 2 * row.retransmitted < row.count {
            continue;
        }
        let alike: Vec<_> =
            context.in_state(State::Listen).iter().copied().filter(|listener| is_at(context, &row, listener)).collect();
        let limits = alike.iter().filter_map(|listener| Some(listener.facts()?.socket.send_queue));
        let backlog = limits.reduce(u32::saturating_add);
        // Cookies are counted per namespace; a listener with room in its queue did not cause them.
        let has_room = backlog.is_some_and(|backlog| row.count < u64::from(backlog / 2));
        if has_room || alike.iter().any(|listener| is_full(listener, context.now_ns)) {
            continue;
        }
        let subject = Subject::Local(listener.local());
        let cause = Cause::HandshakesUnfinished;
        let mut processes = Processes::default();
        processes.add(row.owner, row.count);
        let detection = Detection {
            owner: row.owner,
            processes,
            count: row.count,
            is_shown: context.is_any_at_shown(&alike),
            ..Detection::new(Kind::SynFlood, Severity::Critical, cause, Some(row.netns), subject)
        };
        let evidence = [
            ("half_open", Value::Number(row.count)),
            ("synack_retransmitted", Value::Number(row.retransmitted)),
            ("syn_cookies_sent", cookies.into()),
            ("backlog", backlog.into()),
            ("max_syn_backlog", settings.and_then(|settings| settings.max_syn_backlog).into()),
            ("syncookies", settings.and_then(|settings| settings.syncookies).into()),
        ];
        found.push(detection.with(evidence));
    }
    found
}

fn foreign_listener(context: &RuleContext<'_>) -> Vec<Detection> {
    let is_foreign =
        |listener: &&Connection| !context.thresholds.expects(listener.local().ip(), listener.local().port());
    let foreign = context.in_state(State::Listen).iter().copied().filter(is_foreign);
    let detection = |group: SocketGroup<'_>| {
        let address = group.members.first().map_or(Value::Unknown, |known| Value::Text(known.local().to_string()));
        group
            .detection(context, Kind::ForeignListener, Severity::Warning, Cause::NotExpected)
            .with([("address", address)])
    };
    context.group(foreign, |listener| Subject::Local(listener.local())).into_iter().map(detection).collect()
}
