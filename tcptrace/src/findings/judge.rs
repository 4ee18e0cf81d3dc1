//! Finds the cause of each connection that failed, once both of its ends are known as far as they will be.

use std::net::SocketAddr;

use super::{
    cause,
    incident::{Peer, PeerEnd},
    rules,
};
use crate::{
    findings::{
        cause::Cause,
        context::{OtherEnd, View},
        history::Recent,
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

/// The incident with its cause, and with what is known of its ends; `None` where it is told of elsewhere.
pub(super) fn judge(view: &View<'_>, mut incident: Incident) -> Option<Incident> {
    let (netns, local, remote) = (incident.netns, incident.local, incident.remote);
    incident.own = view.recent.paths.at(netns, local, remote);
    incident.peer = peer(view, &incident);
    incident.active = incident.active.or_else(|| view.is_active(netns, (local, remote)));
    incident.is_pair_used = matches!(view.end_at(netns, local, remote), OtherEnd::Here(_));
    if incident.active == Some(false) && incident.owner.is_none() {
        // All connections of a service are one trouble, whoever of its processes had them.
        let listener = view.listener_of(netns, local).and_then(Connection::owner);
        incident.owner = listener.map(|owner| Owner { source: OwnerSource::Listener, ..owner });
    }
    incident.cause = match incident.kind {
        Kind::ResetByPeer | Kind::IdleReset | Kind::WriteAfterClose => cause::reset::of_reset(&incident),
        Kind::AbortedClose => match cause::reset::of_abort(&incident) {
            // The other end, which is on this host, tells of it.
            (Severity::Info, _) if incident.peer.ended().is_some() => return None,
            cause => cause,
        },
        Kind::SynSentUnanswered | Kind::ConnectFailed
            if is_silent(&incident) && rules::connecting::is_listener_full(view, &incident) =>
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
        incident.kind = Kind::WriteAfterClose; // whether the FIN or the request came first
    }
    if incident.cause.1 == Cause::PeerKilled {
        incident.kind = Kind::ResetByPeer; // whatever this side did
    }
    Some(incident)
}

/// Did an attempt to connect end without an answer?
fn is_silent(incident: &Incident) -> bool {
    incident.is_given_up() || incident.ending == CloseReason::TimedOut
}

/// Why a connection failed, by its events alone, in the order of time: the causes that findings would name of its ends, each
/// once.
#[must_use]
pub fn causes_of<'a>(events: impl Iterator<Item = &'a Event>) -> Vec<Cause> {
    const SOCKETS: usize = 16;
    let (thresholds, namespaces) = (Thresholds::default(), Namespaces::default());
    let mut table = Table::new(SOCKETS, StateSet::default(), false);
    let mut recent = Recent::default();
    let mut until_ns = 0;
    for mut event in events.cloned() {
        until_ns = event.time_ns;
        let left = table.ingest(&mut event);
        let incident = rules::incident(&event, left.as_ref(), &thresholds);
        recent.ingest(&event, left.as_ref(), incident, &thresholds, true);
    }
    let due = recent.due(u64::MAX, |_| true);
    let mut view = View::new(&table, &recent, &namespaces, &thresholds, until_ns);
    view.ask(&due);
    let mut causes = Vec::new();
    for cause in due.into_iter().filter_map(|incident| judge(&view, incident)).map(|incident| incident.cause.1) {
        if !causes.contains(&cause) {
            causes.push(cause);
        }
    }
    causes
}

fn peer(view: &View<'_>, incident: &Incident) -> Peer {
    let (netns, local, remote) = (incident.netns, incident.local, incident.remote);
    let lately = view.recent.paths.at(netns, remote, local);
    let (end, owner) = match view.end_at(netns, remote, local) {
        OtherEnd::Here(known) => (if is_closed(known) { PeerEnd::Closed } else { PeerEnd::Alive }, known.owner()),
        OtherEnd::Request => (PeerEnd::Alive, None),
        OtherEnd::Gone => (PeerEnd::Gone, None),
        OtherEnd::NotVisible => (PeerEnd::NotVisible, None),
    };
    let owner = lately.ended.and_then(|ended| ended.owner).or(owner);
    let listens_at = (incident.kind == Kind::ConnectRefused).then(|| listens_elsewhere(view, incident)).flatten();
    Peer { end, owner, lately, listens_at }
}

/// Has its process closed it? What is left of it answers with a RST.
fn is_closed(known: &Connection) -> bool {
    let is_closing = matches!(known.state, State::TimeWait | State::LastAck | State::Closing);
    known.is_timewait() || is_closing || known.orphan == Some(true)
}

/// Another address of the destination's host at which a process listens on the port.
fn listens_elsewhere(view: &View<'_>, incident: &Incident) -> Option<(SocketAddr, Option<Owner>)> {
    let remote = incident.remote;
    // The namespace that the destination is in: that of the RST, or this one.
    let answered = view.recent.paths.at(incident.netns, remote, incident.local).reset_sent.and_then(|sent| sent.netns);
    let netns = answered.or(incident.netns.filter(|_| remote.ip().is_loopback() || remote.ip() == incident.local.ip()));
    let is_there = |listener: &&&Connection| {
        let is_near = netns.is_some() && listener.netns() == netns;
        let is_same = listener_addresses(remote).any(|end| end == listener.local());
        listener.local().port() == remote.port() && is_near && !is_same
    };
    let mut found: Vec<_> = view.in_state(State::Listen).iter().filter(is_there).collect();
    found.sort_by_key(|listener| listener.local());
    found.first().map(|listener| (listener.local(), listener.owner()))
}
