//! Loss on the path.

use crate::{
    findings::{
        cause::Cause,
        context::{Group, View},
        detection::{Processes, Sighting, Subject, Value},
        kind::{Kind, Severity},
        lossy::Loss,
    },
    model::state::State,
    table::{Connection, Retransmits},
};

/// All troubles of this family. Where nothing is answered at all it is another trouble.
pub(super) fn look(view: &View<'_>) -> Vec<Sighting> {
    let is_storm = |known: &&Connection| {
        known.retransmits().recent(view.now_ns).0 >= view.thresholds.storm_retransmits
            && known.retransmits().timeouts < view.thresholds.peer_dead_timeouts
    };
    let open =
        State::ALL.into_iter().filter(|state| !matches!(state, State::Listen | State::SynSent | State::TimeWait));
    let storming = open.flat_map(|state| view.in_state(state).iter().copied()).filter(is_storm);
    let sighting = |group: Group<'_>| {
        let worst = group.members.iter().max_by_key(|known| known.retransmits().recent(view.now_ns).0);
        let lately = worst.map(|known| known.retransmits().recent(view.now_ns));
        let evidence = [
            ("retransmits", lately.map(|(count, _)| count).into()),
            ("window_ns", lately.map(|(_, window_ns)| window_ns).into()),
            ("total_retrans", worst.map(|known| known.retransmits().total).into()),
            ("srtt_us", worst.and_then(|known| known.retransmits().srtt_us).into()),
            ("state", worst.map_or(Value::Unknown, |known| Value::Name(known.state.name()))),
        ];
        let sighting = group.sighting(view, Kind::RetransmitStorm, Severity::Warning, Cause::PathLoses);
        Sighting { is_settled: true, ..sighting }.with(evidence)
    };
    let mut found: Vec<_> = view.group(storming, |known| view.subject_of(known)).into_iter().map(sighting).collect();
    let of_short =
        view.recent.lossy.iter().filter_map(|(netns, subject, loss)| short_connections(view, netns, subject, loss));
    let of_short: Vec<_> = of_short.filter(|sighting| found.iter().all(|long| long.key() != sighting.key())).collect();
    found.extend(of_short);
    found
}

/// So many connections make a share.
const LEAST_CONNECTIONS: u64 = 20;
/// From so many segments sent again for each 100 connections on the path is bad.
const PERCENT: u64 = 2;

/// Loss that is spread over many connections.
fn short_connections(view: &View<'_>, netns: Option<u32>, subject: Subject, loss: Loss) -> Option<Sighting> {
    let (retransmits, connections) = loss.lately(view.now_ns);
    let is_storm = retransmits >= view.thresholds.storm_retransmits.into()
        && connections >= LEAST_CONNECTIONS
        && retransmits * 100 >= connections * PERCENT;
    if !is_storm || is_overflowing(view, netns, subject) {
        return None;
    }
    let service = match subject {
        Subject::Local(local) => view.listener_of(netns, local).and_then(Connection::owner),
        _ => None,
    };
    let owner = service.or(loss.owner);
    let mut processes = Processes::default();
    processes.add(owner, retransmits);
    let sighting = Sighting {
        owner,
        processes,
        count: retransmits,
        is_shown: loss.is_shown,
        ..Sighting::new(Kind::RetransmitStorm, Severity::Warning, Cause::PathLoses, netns, subject)
    };
    let (_, window_ns) = Retransmits::default().recent(view.now_ns);
    Some(sighting.with([
        ("retransmits", Value::Number(retransmits)),
        ("window_ns", Value::Number(window_ns)),
        ("connections", Value::Number(connections)),
    ]))
}

/// Does a listener with a full queue drop what then is sent again? That is told of there.
fn is_overflowing(view: &View<'_>, netns: Option<u32>, subject: Subject) -> bool {
    let (local, remote) = subject.ends();
    let Some(end) = local.or(remote) else { return false };
    let is_full = |listener: &&Connection| {
        listener.local().port() == end.port() && crate::findings::rules::queues::is_full(listener, view.now_ns)
    };
    let grew = view.namespaces.of(netns).and_then(|state| state.grew(|counters| counters.listen_overflows));
    view.in_state(State::Listen).iter().any(is_full) || grew.is_some_and(|grew| grew > 0)
}
