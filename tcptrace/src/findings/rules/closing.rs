//! Connections whose close does not finish.

use rustc_hash::FxHashSet;

use crate::{
    findings::{
        cause::Cause,
        context::{RuleContext, SocketGroup},
        detection::{Detection, Subject, Value},
        kind::{Kind, Severity},
        rules::readers::{is_held_up, is_not_accepted},
    },
    model::{
        event::Owner,
        socket::{ConnectionInfo, TimerKind},
        state::State,
    },
    table::{Connection, Facts},
};

pub(super) fn evaluate(context: &RuleContext<'_>) -> Vec<Detection> {
    let mut found = close_wait_leak(context);
    found.extend(fin_wait2_stuck(context));
    let stuck = [State::FinWait1, State::Closing].into_iter().flat_map(|state| context.stuck_in(state));
    found.extend(fin_unanswered(context, stuck, Kind::FinWait1Stuck, Cause::FinUnanswered));
    found.extend(fin_unanswered(context, context.stuck_in(State::LastAck), Kind::LastAckLost, Cause::LastAckMissing));
    found
}

/// A leak of this many sockets is critical: the process will run out of descriptors.
const MANY_LEAKED: usize = 1000;
/// Growth per minute from which a leak is critical, if it was measured over [`SURE_NS`].
const FAST_GROWTH: f64 = 100.0;
const SURE_NS: u64 = 30_000_000_000;

/// Whether a half-closed connection carries no data. `None` until a listing has shown the socket since it became suspicious.
fn is_inactive(context: &RuleContext<'_>, known: &Connection) -> Option<bool> {
    if known.is_timewait() {
        return Some(true); // it can receive nothing but a FIN
    }
    let after_ns = context.thresholds.stuck_after(known.state)?;
    let is_quiet = context.now_ns.saturating_sub(known.active_ns()) >= after_ns;
    let suspected_ns = known.suspected_ns().filter(|_| is_quiet);
    let is_shown = known.facts().is_some_and(|facts| Some(facts.at_ns.saturating_add(after_ns / 4)) >= suspected_ns);
    if is_quiet && !is_shown { None } else { Some(is_quiet) }
}

/// Removes sockets whose activity is not known, unless it is known of none; then the group waits for evidence.
fn drop_unknown(context: &RuleContext<'_>, group: &mut SocketGroup<'_>) {
    let is_known = |known: &&Connection| is_inactive(context, known).is_some();
    if group.members.iter().any(&is_known) {
        group.members.retain(is_known);
    }
}

/// Sockets in CLOSE_WAIT that their process does not close. A slow process does close its sockets, so a socket is leaked only
/// after twice the process's usual time. Not leaked are half-closed connections that still send data, and connections that
/// were never accepted.
fn close_wait_leak(context: &RuleContext<'_>) -> Vec<Detection> {
    let flow = |known: &Connection| context.history.flow(known.netns(), known.owner()?.pid);
    let usual_ns = |known: &Connection| flow(known)?.usual_ns();
    let is_leaked = |known: &&Connection| {
        usual_ns(known).is_none_or(|usual_ns| context.age_ns(known) > usual_ns.saturating_mul(2))
            || flow(known).is_some_and(|flow| flow.was_leaked(known.since_ns))
    };
    let is_leaked = |known: &&Connection| {
        is_leaked(known)
            && !is_not_accepted(known)
            && !known.stuck_reasons().window_closed
            && is_inactive(context, known) != Some(false)
    };
    let groups = context.group(context.stuck_in(State::CloseWait).filter(is_leaked), |known| context.subject_of(known));
    let passed_on = |group: &SocketGroup<'_>| {
        let is_its = |known: &&&Connection| {
            let command = |owner: Option<Owner>| owner.map(|owner| owner.command);
            known.orphan == Some(false) && command(known.owner()) == command(group.owner)
        };
        // Half are enough: the newest may not be suspicious yet.
        group.owner.is_some()
            && 2 * context.in_state(State::FinWait2).iter().filter(is_its).count() >= group.members.len()
    };
    let detection = |mut group: SocketGroup<'_>| {
        drop_unknown(context, &mut group);
        let each: Option<Vec<_>> = pids_of(context, &group)
            .into_iter()
            .map(|pid| context.history.growth_per_minute(group.netns, pid, context.now_ns))
            .collect();
        let growth =
            each.and_then(|each| each.into_iter().reduce(|(sum, span_ns), (growth, _)| (sum + growth, span_ns)));
        let is_growing = growth.is_some_and(|(growth, span_ns)| growth >= FAST_GROWTH && span_ns >= SURE_NS);
        let is_many = group.members.len() >= MANY_LEAKED || is_growing;
        let (severity, cause) = match growth {
            _ if passed_on(&group) => (Severity::Info, Cause::WaitsForOtherSide),
            _ if is_many => (Severity::Critical, Cause::NeverClosed),
            _ if is_idle_pool(context, &group, growth) => (Severity::Info, Cause::IdlePooled),
            _ => (Severity::Warning, Cause::NeverClosed),
        };
        // The FIN counts as one unread byte.
        let unread = group.sum(|facts| facts.socket.receive_queue.saturating_sub(1).into());
        let evidence = [
            ("unread_bytes", unread.into()),
            ("growth_per_minute", growth.map_or(Value::Unknown, |(growth, _)| Value::Ratio(growth))),
            ("growth_window_ns", growth.map(|(_, span_ns)| span_ns).into()),
            ("closes_after_ns", group.members.first().and_then(|known| usual_ns(known)).into()),
        ];
        group.detection(context, Kind::CloseWaitLeak, severity, cause).with(evidence)
    };
    groups.into_iter().map(detection).collect()
}

/// The processes of a group and the holders of its listener, who count as owners until the connection's own process is known.
fn pids_of(context: &RuleContext<'_>, group: &SocketGroup<'_>) -> FxHashSet<u32> {
    let mut pids: FxHashSet<_> = group.processes.most().iter().map(|(owner, _)| owner.pid).collect();
    if let Subject::Local(local) = group.subject
        && let Some(listener) = context.listener_of(group.netns, local)
    {
        pids.extend(listener.owner().map(|owner| owner.pid));
        pids.extend(context.table.holders_of(listener).into_iter().flatten().map(|holder| holder.pid));
    }
    pids
}

/// Most idle connections to one destination that still look like a client's pool.
const POOLED: usize = 8;

/// True if these are a client's connections, few, and their number is not growing beyond those of the last minute.
fn is_idle_pool(context: &RuleContext<'_>, group: &SocketGroup<'_>, growth: Option<(f64, u64)>) -> bool {
    let is_active = |known: &Connection| {
        known.is_active().or_else(|| context.is_active(known.netns(), (known.local(), known.remote())))
    };
    group.members.len() <= POOLED
        && group.subject != Subject::Several
        && group.members.iter().all(|known| is_active(known) == Some(true))
        && growth.is_none_or(|(growth, span_ns)| {
            let came = (growth * (span_ns as f64 / MINUTE_NS)).round(); // a number of sockets
            came <= group.members.len() as f64 // what waits is among these
        })
}

const MINUTE_NS: f64 = 60e9;

fn fin_wait2_stuck(context: &RuleContext<'_>) -> Vec<Detection> {
    // A mini-socket may go to TIME_WAIT, or vanish with its namespace, without an event. Only a running timer, seen by a poll,
    // proves that it still exists.
    let is_there =
        |known: &&Connection| !known.is_timewait() || known.expires_ns().is_some_and(|end_ns| end_ns > context.now_ns);
    let stuck = context.stuck_in(State::FinWait2).filter(|known| is_inactive(context, known) != Some(false));
    let (orphaned, owned): (Vec<_>, Vec<_>) = stuck.filter(is_there).partition(|known| known.orphan == Some(true));
    let mut found = Vec::new();
    for (members, severity, cause) in
        [(orphaned, Severity::Info, Cause::PeerKeepsOpen), (owned, Severity::Warning, Cause::OnlyShutDown)]
    {
        for mut group in context.group(members.into_iter(), |known| context.subject_of(known)) {
            drop_unknown(context, &mut group);
            let left = group.members.iter().filter_map(|known| time_left_ns(known, context.now_ns)).min();
            let evidence = [
                ("orphaned", group.is_orphaned().map_or(Value::Unknown, Value::Flag)),
                ("closed_by", group.closed_by()),
                ("time_left_ns", left.into()),
            ];
            found.push(group.detection(context, Kind::FinWait2Stuck, severity, cause).with(evidence));
        }
    }
    found
}

/// Time until the kernel drops a socket in FIN_WAIT2, if a timer will, in ns.
fn time_left_ns(known: &Connection, now_ns: u64) -> Option<u64> {
    if let Some(end_ns) = known.expires_ns() {
        return Some(end_ns.saturating_sub(now_ns));
    }
    let facts = known.facts().filter(|_| known.orphan == Some(true))?;
    let timer = facts.socket.timer.filter(|timer| timer.kind == TimerKind::Keepalive)?;
    Some(timer.left_ns.saturating_sub(now_ns.saturating_sub(facts.listed_ns)))
}

/// True if data written before the close is still on its way to a slow client: acknowledgements arrive, and no segment
/// waits in vain. A closed window doubles the timeout too (`net/ipv4/tcp_output.c`, `tcp_send_probe0`); on a lossy path one
/// retransmission may be in flight.
fn is_on_its_way(known: &Connection) -> bool {
    /// In ns.
    const ANSWERS_NS: u64 = 5_000_000_000;
    let timeouts = known.retransmits().timeouts;
    let is_answered = |facts: &Facts| {
        let is_acknowledged = |info: ConnectionInfo| {
            let is_since_close = facts.listed_ns.saturating_sub(info.last_ack_ns) > known.since_ns;
            let is_quiet = timeouts == 0 && facts.socket.probes == 0 && facts.socket.backoff == Some(0);
            is_since_close && (is_quiet || timeouts <= 1 && info.last_ack_ns < ANSWERS_NS)
        };
        timeouts == facts.socket.timeouts && facts.socket.connection.is_some_and(is_acknowledged)
    };
    // An unanswered FIN is retransmitted. Without a retransmission and without a listing, nothing shows that it is unanswered.
    known.facts().map_or(timeouts == 0, is_answered)
}

fn fin_unanswered<'a>(
    context: &RuleContext<'a>,
    stuck: impl Iterator<Item = &'a Connection>,
    kind: Kind,
    cause: Cause,
) -> Vec<Detection> {
    let detection = |group: SocketGroup<'_>| {
        let evidence = [
            ("fin_retransmits", Value::Number(group.timeouts().into())),
            ("orphaned", group.is_orphaned().map_or(Value::Unknown, Value::Flag)),
            ("closed_by", group.closed_by()),
        ];
        group.detection(context, kind, Severity::Warning, cause).with(evidence)
    };
    // Where the window is closed and the peer answers, zero-window reports that.
    let unanswered = stuck.filter(|known| !is_on_its_way(known) && !is_held_up(known));
    context.group(unanswered, |known| context.subject_of(known)).into_iter().map(detection).collect()
}
