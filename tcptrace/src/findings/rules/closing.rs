//! Connections that are being closed, and do not come to an end.

use rustc_hash::FxHashSet;

use crate::{
    findings::{
        cause::Cause,
        context::{Group, View},
        detection::{Sighting, Subject, Value},
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

/// All troubles of this family.
pub(super) fn look(view: &View<'_>) -> Vec<Sighting> {
    let mut found = close_wait_leak(view);
    found.extend(fin_wait2_stuck(view));
    let stuck = [State::FinWait1, State::Closing].into_iter().flat_map(|state| view.stuck_in(state));
    found.extend(fin_unanswered(view, stuck, Kind::FinWait1Stuck, Cause::FinUnanswered));
    found.extend(fin_unanswered(view, view.stuck_in(State::LastAck), Kind::LastAckLost, Cause::LastAckMissing));
    found
}

/// From so many sockets on that do not get fewer, a leak is critical: descriptors run out.
const MANY_LEAKED: usize = 1000;
/// The same for growth per minute, if it was watched for [`SURE_NS`].
const FAST_GROWTH: f64 = 100.0;
const SURE_NS: u64 = 30_000_000_000;

/// Does nothing come or go on a connection that is half closed? `None` until a listing has shown it since it is suspected.
fn is_inactive(view: &View<'_>, known: &Connection) -> Option<bool> {
    if known.is_timewait() {
        return Some(true); // it gets nothing but a FIN
    }
    let after_ns = view.thresholds.stuck_after(known.state)?;
    let is_quiet = view.now_ns.saturating_sub(known.active_ns()) >= after_ns;
    let suspected_ns = known.suspected_ns().filter(|_| is_quiet);
    let is_shown = known.facts().is_some_and(|facts| Some(facts.at_ns.saturating_add(after_ns / 4)) >= suspected_ns);
    if is_quiet && !is_shown { None } else { Some(is_quiet) }
}

/// What is not known to be inactive yet counts only where nothing is known, and the group waits for its evidence.
fn drop_unknown(view: &View<'_>, group: &mut Group<'_>) {
    let is_known = |known: &&Connection| is_inactive(view, known).is_some();
    if group.members.iter().any(&is_known) {
        group.members.retain(is_known);
    }
}

/// A process that is only slow closes sockets after some time. What is older than twice the usual time is leaked. Data may
/// flow on to the peer; and nobody can close what nobody accepted.
fn close_wait_leak(view: &View<'_>) -> Vec<Sighting> {
    let flow = |known: &Connection| view.recent.flow(known.netns(), known.owner()?.pid);
    let usual_ns = |known: &Connection| flow(known)?.usual_ns();
    let is_leaked = |known: &&Connection| {
        usual_ns(known).is_none_or(|usual_ns| view.age_ns(known) > usual_ns.saturating_mul(2))
            || flow(known).is_some_and(|flow| flow.was_leaked(known.since_ns))
    };
    let is_leaked = |known: &&Connection| {
        is_leaked(known)
            && !is_not_accepted(known)
            && !known.stuck_reasons().window_closed
            && is_inactive(view, known) != Some(false)
    };
    let groups = view.group(view.stuck_in(State::CloseWait).filter(is_leaked), |known| view.subject_of(known));
    let passed_on = |group: &Group<'_>| {
        let is_its = |known: &&&Connection| {
            let command = |owner: Option<Owner>| owner.map(|owner| owner.command);
            known.orphan == Some(false) && command(known.owner()) == command(group.owner)
        };
        // Those that came last may not be suspected yet.
        group.owner.is_some() && 2 * view.in_state(State::FinWait2).iter().filter(is_its).count() >= group.members.len()
    };
    let sighting = |mut group: Group<'_>| {
        drop_unknown(view, &mut group);
        let each: Option<Vec<_>> = pids_of(view, &group)
            .into_iter()
            .map(|pid| view.recent.growth_per_minute(group.netns, pid, view.now_ns))
            .collect();
        let growth =
            each.and_then(|each| each.into_iter().reduce(|(sum, span_ns), (growth, _)| (sum + growth, span_ns)));
        let is_growing = growth.is_some_and(|(growth, span_ns)| growth >= FAST_GROWTH && span_ns >= SURE_NS);
        let is_many = group.members.len() >= MANY_LEAKED || is_growing;
        let (severity, cause) = match growth {
            _ if passed_on(&group) => (Severity::Info, Cause::WaitsForOtherSide),
            _ if is_many => (Severity::Critical, Cause::NeverClosed),
            _ if is_idle_pool(view, &group, growth) => (Severity::Info, Cause::IdlePooled),
            _ => (Severity::Warning, Cause::NeverClosed),
        };
        // The FIN counts as a byte that was not read.
        let unread = group.sum(|facts| facts.socket.receive_queue.saturating_sub(1).into());
        let evidence = [
            ("unread_bytes", unread.into()),
            ("growth_per_minute", growth.map_or(Value::Unknown, |(growth, _)| Value::Ratio(growth))),
            ("growth_window_ns", growth.map(|(_, span_ns)| span_ns).into()),
            ("closes_after_ns", group.members.first().and_then(|known| usual_ns(known)).into()),
        ];
        group.sighting(view, Kind::CloseWaitLeak, severity, cause).with(evidence)
    };
    groups.into_iter().map(sighting).collect()
}

/// The processes of a group, and those that hold its listener: a connection counts for that until its own process is known.
fn pids_of(view: &View<'_>, group: &Group<'_>) -> FxHashSet<u32> {
    let mut pids: FxHashSet<_> = group.processes.most().iter().map(|(owner, _)| owner.pid).collect();
    if let Subject::Local(local) = group.subject
        && let Some(listener) = view.listener_of(group.netns, local)
    {
        pids.extend(listener.owner().map(|owner| owner.pid));
        pids.extend(view.table.holders_of(listener).into_iter().flatten().map(|holder| holder.pid));
    }
    pids
}

/// So many connections of a client to one destination lie idle in a pool at most.
const POOLED: usize = 8;

/// Are these a client's, few, and no more than came within the last minute?
fn is_idle_pool(view: &View<'_>, group: &Group<'_>, growth: Option<(f64, u64)>) -> bool {
    let is_active = |known: &Connection| {
        known.is_active().or_else(|| view.is_active(known.netns(), (known.local(), known.remote())))
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

fn fin_wait2_stuck(view: &View<'_>) -> Vec<Sighting> {
    // A mini-socket may have gone to TIME_WAIT, or with its namespace, without an event: only a timer that a poll saw tells
    // that it is there.
    let is_there =
        |known: &&Connection| !known.is_timewait() || known.expires_ns().is_some_and(|end_ns| end_ns > view.now_ns);
    let stuck = view.stuck_in(State::FinWait2).filter(|known| is_inactive(view, known) != Some(false));
    let (orphaned, owned): (Vec<_>, Vec<_>) = stuck.filter(is_there).partition(|known| known.orphan == Some(true));
    let mut found = Vec::new();
    for (members, severity, cause) in
        [(orphaned, Severity::Info, Cause::PeerKeepsOpen), (owned, Severity::Warning, Cause::OnlyShutDown)]
    {
        for mut group in view.group(members.into_iter(), |known| view.subject_of(known)) {
            drop_unknown(view, &mut group);
            let left = group.members.iter().filter_map(|known| time_left_ns(known, view.now_ns)).min();
            let evidence = [
                ("orphaned", group.is_orphaned().map_or(Value::Unknown, Value::Flag)),
                ("closed_by", group.closed_by()),
                ("time_left_ns", left.into()),
            ];
            found.push(group.sighting(view, Kind::FinWait2Stuck, severity, cause).with(evidence));
        }
    }
    found
}

/// Time until the kernel drops what is left of a connection in FIN_WAIT2, where it will.
fn time_left_ns(known: &Connection, now_ns: u64) -> Option<u64> {
    if let Some(end_ns) = known.expires_ns() {
        return Some(end_ns.saturating_sub(now_ns));
    }
    let facts = known.facts().filter(|_| known.orphan == Some(true))?;
    let timer = facts.socket.timer.filter(|timer| timer.kind == TimerKind::Keepalive)?;
    Some(timer.left_ns.saturating_sub(now_ns.saturating_sub(facts.listed_ns)))
}

/// What was written before the close may take long to go out, to a client that is slow: then acknowledgements come, and
/// nothing waits for one in vain. A window that is closed makes the timeout double too (`net/ipv4/tcp_output.c`,
/// `tcp_send_probe0`). On a path that loses segments, one is just being sent again.
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
    // A FIN that is not answered is sent again: without that, and without a listing, nothing shows that it is not.
    known.facts().map_or(timeouts == 0, is_answered)
}

fn fin_unanswered<'a>(
    view: &View<'a>,
    stuck: impl Iterator<Item = &'a Connection>,
    kind: Kind,
    cause: Cause,
) -> Vec<Sighting> {
    let sighting = |group: Group<'_>| {
        let evidence = [
            ("fin_retransmits", Value::Number(group.timeouts().into())),
            ("orphaned", group.is_orphaned().map_or(Value::Unknown, Value::Flag)),
            ("closed_by", group.closed_by()),
        ];
        group.sighting(view, kind, Severity::Warning, cause).with(evidence)
    };
    // Where the window is closed and the peer answers, that is told of.
    let unanswered = stuck.filter(|known| !is_on_its_way(known) && !is_held_up(known));
    view.group(unanswered, |known| view.subject_of(known)).into_iter().map(sighting).collect()
}
