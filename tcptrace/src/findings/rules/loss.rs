//! Loss on the path.

use crate::{
    findings::{Cause, Group, Kind, Severity, Sighting, Subject, Value, View},
    state::State,
    table::Connection,
};

/// All troubles of this family. Where nothing is answered at all it is another trouble.
pub(super) fn look(view: &View<'_>) -> Vec<Sighting> {
    let is_storm = |known: &&Connection| {
        known.retransmits().lately(view.now_ns).0 >= view.thresholds.storm_retransmits
            && known.retransmits().timeouts < view.thresholds.peer_dead_timeouts
    };
    let open =
        State::ALL.into_iter().filter(|state| !matches!(state, State::Listen | State::SynSent | State::TimeWait));
    let storming = open.flat_map(|state| view.in_state(state).iter().copied()).filter(is_storm);
    let sighting = |group: Group<'_>| {
        let worst = group.members.iter().max_by_key(|known| known.retransmits().lately(view.now_ns).0);
        let lately = worst.map(|known| known.retransmits().lately(view.now_ns));
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
    view.group(storming, |known| Subject::Remote(known.remote())).into_iter().map(sighting).collect()
}
