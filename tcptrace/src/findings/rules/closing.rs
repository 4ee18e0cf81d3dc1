//! Connections that are being closed, and do not come to an end.

use crate::{
    event::Owner,
    findings::{Cause, Group, Kind, Severity, Sighting, Subject, Value, View},
    snapshot::{ConnectionInfo, TimerKind},
    state::State,
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

/// A process that is only slow closes sockets after some time. What is older than twice the usual time is leaked.
fn close_wait_leak(view: &View<'_>) -> Vec<Sighting> {
    let usual_ns = |known: &Connection| view.recent.flow(known.netns(), known.owner()?.pid)?.usual_ns();
    let is_leaked =
        |known: &&Connection| usual_ns(known).is_none_or(|usual_ns| view.age_ns(known) > usual_ns.saturating_mul(2));
    let groups = view.group(view.stuck_in(State::CloseWait).filter(is_leaked), |known| view.subject_of(known));
    let sighting = |group: Group<'_>| {
        let of = |(owner, _): &(Owner, u64)| view.recent.growth_per_minute(group.netns, owner.pid, view.now_ns);
        let each: Option<Vec<_>> = group.processes.most().iter().map(of).collect();
        let growth =
            each.and_then(|each| each.into_iter().reduce(|(sum, span_ns), (growth, _)| (sum + growth, span_ns)));
        let is_growing = growth.is_some_and(|(growth, span_ns)| growth >= FAST_GROWTH && span_ns >= SURE_NS);
        let is_many = group.members.len() >= MANY_LEAKED || is_growing;
        let (severity, cause) = match growth {
            _ if is_many => (Severity::Critical, Cause::NeverClosed),
            _ if is_idle_pool(&group, growth) => (Severity::Info, Cause::IdlePooled),
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

/// So many connections of a client to one destination lie idle in a pool at most.
const POOLED: usize = 8;

/// Are these a client's, few, and no more than came within the last minute?
fn is_idle_pool(group: &Group<'_>, growth: Option<(f64, u64)>) -> bool {
    group.members.len() <= POOLED
        && group.subject != Subject::Several
        && group.members.iter().all(|known| known.is_active() == Some(true))
        && growth.is_some_and(|(growth, span_ns)| {
            growth * (span_ns as f64 / MINUTE_NS) <= group.members.len() as f64 // what waits is among these
        })
}

const MINUTE_NS: f64 = 60e9;

fn fin_wait2_stuck(view: &View<'_>) -> Vec<Sighting> {
    // A mini-socket may have gone to TIME_WAIT, or with its namespace, without an event: only a timer that a poll saw tells
    // that it is there.
    let is_there =
        |known: &&Connection| !known.is_mini() || known.expires_ns().is_some_and(|end_ns| end_ns > view.now_ns);
    let (orphaned, owned): (Vec<_>, Vec<_>) =
        view.stuck_in(State::FinWait2).filter(is_there).partition(|known| known.orphan == Some(true));
    let mut found = Vec::new();
    for (members, severity, cause) in
        [(orphaned, Severity::Info, Cause::PeerKeepsOpen), (owned, Severity::Warning, Cause::OnlyShutDown)]
    {
        for group in view.group(members.into_iter(), |known| view.subject_of(known)) {
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
/// `tcp_send_probe0`).
fn is_on_its_way(known: &Connection) -> bool {
    let is_answered = |facts: &Facts| {
        let is_acknowledged = |info: ConnectionInfo| facts.listed_ns.saturating_sub(info.last_ack_ns) > known.since_ns;
        facts.socket.probes == 0
            && facts.socket.backoff == Some(0)
            && facts.socket.connection.is_some_and(is_acknowledged)
    };
    known.retransmits().timeouts == 0 && known.facts().is_some_and(is_answered)
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
    let unanswered = stuck.filter(|known| !is_on_its_way(known));
    view.group(unanswered, |known| view.subject_of(known)).into_iter().map(sighting).collect()
}
