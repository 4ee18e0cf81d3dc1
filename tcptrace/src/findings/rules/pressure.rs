//! TIME_WAIT that takes local ports.

use std::net::{IpAddr, SocketAddr};

use rustc_hash::FxHashMap;

use crate::{
    findings::{Cause, Group, Kind, Severity, Sighting, Subject, Value, View},
    snapshot::NetSettings,
    state::State,
    table::Connection,
};

/// All troubles of this family.
pub(super) fn look(view: &View<'_>) -> Vec<Sighting> {
    let mut by_path: FxHashMap<(Option<u32>, SocketAddr, SocketAddr), Vec<&Connection>> = FxHashMap::default();
    let settings_of = |netns| view.namespaces.of(netns)?.settings.as_ref();
    for known in view.in_state(State::TimeWait) {
        let ports = settings_of(known.netns()).and_then(|settings| settings.local_ports);
        let is_over = known.expires_ns().is_some_and(|end_ns| end_ns <= view.now_ns);
        // Most are a server's, whose own port is not of these, each with another destination.
        if !is_over && ports.is_some_and(|(first, last)| (first..=last).contains(&known.local().port())) {
            let from = SocketAddr::new(known.local().ip(), 0);
            by_path.entry((known.netns(), from, known.remote())).or_default().push(known);
        }
    }
    let mut found = Vec::new();
    for ((netns, from, to), mut members) in by_path {
        let state = view.namespaces.of(netns);
        let Some(settings) = settings_of(netns) else { continue };
        let Some((first, last)) = settings.local_ports else { continue };
        let share = members.len() as f64 / (first..=last).len().max(1) as f64;
        if share < view.thresholds.time_wait_share {
            continue;
        }
        members.sort_by_key(|known| known.since_ns);
        let group = Group::new(view, netns, Subject::Path(from, to), members);
        let (severity, cause) = match share {
            _ if is_reused(settings, from.ip(), to.ip()) => (Severity::Info, Cause::PortsReused),
            NEARLY_ALL.. => (Severity::Critical, Cause::PortsInTimeWait),
            _ => (Severity::Warning, Cause::PortsInTimeWait),
        };
        let evidence = [
            ("ports", Value::Number(group.members.len() as u64)),
            ("port_range", Value::Text(format!("{first}-{last}"))),
            ("share", Value::Ratio(share)),
            ("tw_reuse", settings.tw_reuse.into()),
            ("max_tw_buckets", settings.max_tw_buckets.into()),
            ("overflows", state.and_then(|state| state.grew(|counters| counters.time_wait_overflows)).into()),
        ];
        found.push(group.sighting(view, Kind::TimeWaitPressure, severity, cause).with(evidence));
    }
    found
}

/// May a new connection take over the port of one in TIME_WAIT? `tcp_twsk_unique` of `net/ipv4/tcp_ipv4.c`; by default
/// (2) on loopback.
fn is_reused(settings: &NetSettings, from: IpAddr, to: IpAddr) -> bool {
    match settings.tw_reuse {
        Some(2) => from.is_loopback() || to.is_loopback(),
        reuse => reuse == Some(1),
    }
}

/// Share of the ports from which on connections are about to fail.
const NEARLY_ALL: f64 = 0.9;
