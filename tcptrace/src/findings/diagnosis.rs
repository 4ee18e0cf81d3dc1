//! Finds the cause of each failed connection, once everything about both its ends has arrived.

use std::net::SocketAddr;

use super::{
    cause,
    incident::{Peer, PeerEnd},
    rules,
};
use crate::{
    findings::{
        cause::Cause,
        context::{OtherEnd, RuleContext},
        history::History,
        incident::Incident,
        kind::{Kind, Severity},
        namespaces::Namespaces,
        thresholds::Thresholds,
    },
    model::{
        close_reason::CloseReason,
        event::{Event, Owner, OwnerSource},
        socket::listener_addresses,
        state::{State, StateSet},
    },
    table::{Connection, Table},
};

/// Fills in the cause of an incident and the facts of its ends; `None` if another finding reports it.
pub(super) fn diagnose(context: &RuleContext<'_>, mut incident: Incident) -> Option<Incident> {
    let (netns, local, remote) = (incident.netns, incident.local, incident.remote);
    incident.own = context.history.paths.at(netns, local, remote);
    incident.peer = peer(context, &incident);
    incident.active = incident.active.or_else(|| context.is_active(netns, (local, remote)));
    incident.is_pair_used = matches!(context.end_at(netns, local, remote), OtherEnd::Local(_));
    if incident.active == Some(false) && incident.owner.is_none() {
        // All connections of a service are one problem, whichever of its processes had them.
        let listener = context.listener_of(netns, local).and_then(Connection::owner);
        incident.owner = listener.map(|owner| Owner { source: OwnerSource::Listener, ..owner });
    }
    incident.cause = match incident.kind {
        Kind::ResetByPeer | Kind::IdleReset | Kind::WriteAfterClose => cause::reset::of_reset(&incident),
        Kind::AbortedClose => match cause::reset::of_abort(&incident) {
            // The other end is on this host, and its own incident reports this.
            (Severity::Info, _) if incident.peer.ended().is_some() => return None,
            cause => cause,
        },
        Kind::SynSentUnanswered | Kind::ConnectFailed
            if is_silent(&incident) && rules::connecting::is_listener_full(context, &incident) =>
        {
            return None;
        }
        Kind::ConnectRefused | Kind::ConnectFailed => cause::connect::of_connect(&incident),
        Kind::SynSentUnanswered => (Severity::Warning, cause::connect::of_given_up(&incident)),
        Kind::PeerDead => (Severity::Warning, Cause::DataUnanswered),
        Kind::KeepaliveTimeout => (Severity::Warning, Cause::ProbesUnanswered),
        Kind::ZeroWindow => (Severity::Warning, Cause::EndedByUserTimeout),
        _ => incident.cause,
    };
    if incident.cause.1 == Cause::KeepaliveRace && incident.kind != Kind::AbortedClose {
        incident.kind = Kind::WriteAfterClose; // whichever came first, the FIN or the request
    }
    if incident.cause.1 == Cause::PeerKilled {
        incident.kind = Kind::ResetByPeer; // whatever this side did
    }
    Some(incident)
}

/// True if a connect ended without an answer.
fn is_silent(incident: &Incident) -> bool {
    incident.is_given_up() || incident.ending == CloseReason::TimedOut
}

/// The causes of a connection's failures from its own events (of one or both ends, in time order), each cause once. Used by
/// stories, which have no table and no listings.
#[must_use]
pub fn causes_of<'a>(events: impl Iterator<Item = &'a Event>) -> Vec<Cause> {
    const SOCKETS: usize = 16;
    let (thresholds, namespaces) = (Thresholds::default(), Namespaces::default());
    let mut table = Table::new(SOCKETS, StateSet::default(), false);
    let mut history = History::default();
    let mut until_ns = 0;
    for mut event in events.cloned() {
        until_ns = event.time_ns;
        let left = table.ingest(&mut event);
        let incident = rules::incident(&event, left.as_ref(), &thresholds);
        history.ingest(&event, left.as_ref(), incident, &thresholds, true);
    }
    let due = history.due(u64::MAX, |_| true);
    let mut context = RuleContext::new(&table, &history, &namespaces, &thresholds, until_ns);
    context.ask(&due);
    let mut causes = Vec::new();
    for cause in due.into_iter().filter_map(|incident| diagnose(&context, incident)).map(|incident| incident.cause.1) {
        if !causes.contains(&cause) {
            causes.push(cause);
        }
    }
    causes
}

fn peer(context: &RuleContext<'_>, incident: &Incident) -> Peer {
    let (netns, local, remote) = (incident.netns, incident.local, incident.remote);
    let events = context.history.paths.at(netns, remote, local);
    let (end, owner) = match context.end_at(netns, remote, local) {
        OtherEnd::Local(known) => (if is_closed(known) { PeerEnd::Closed } else { PeerEnd::Alive }, known.owner()),
        OtherEnd::Request => (PeerEnd::Alive, None),
        OtherEnd::Gone => (PeerEnd::Gone, None),
        OtherEnd::NotVisible => (PeerEnd::NotVisible, None),
    };
    let owner = events.ended.and_then(|ended| ended.owner).or(owner);
    let listens_at = (incident.kind == Kind::ConnectRefused).then(|| listens_elsewhere(context, incident)).flatten();
    Peer { end, owner, events, listens_at }
}

/// True if the process has closed the socket; its remains answer with a RST.
fn is_closed(known: &Connection) -> bool {
    let is_closing = matches!(known.state, State::TimeWait | State::LastAck | State::Closing);
    known.is_timewait() || is_closing || known.orphan == Some(true)
}

/// A listener on the refused port at another address of the destination's host.
fn listens_elsewhere(context: &RuleContext<'_>, incident: &Incident) -> Option<(SocketAddr, Option<Owner>)> {
    let remote = incident.remote;
    // The destination's namespace: the one that sent the RST, or this one.
    let answered =
        context.history.paths.at(incident.netns, remote, incident.local).reset_sent.and_then(|sent| sent.netns);
    let netns = answered.or(incident.netns.filter(|_| remote.ip().is_loopback() || remote.ip() == incident.local.ip()));
    let is_there = |listener: &&&Connection| {
        let is_near = netns.is_some() && listener.netns() == netns;
        let is_same = listener_addresses(remote).any(|end| end == listener.local());
        listener.local().port() == remote.port() && is_near && !is_same
    };
    let mut found: Vec<_> = context.in_state(State::Listen).iter().filter(is_there).collect();
    found.sort_by_key(|listener| listener.local());
    found.first().map(|listener| (listener.local(), listener.owner()))
}
