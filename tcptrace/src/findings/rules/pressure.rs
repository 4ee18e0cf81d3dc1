//! TIME_WAIT that uses up local ports.

use std::net::{IpAddr, SocketAddr};

use crate::{
    findings::{
        cause::Cause,
        context::{RuleContext, SocketGroup},
        detection::{Detection, Subject, Value},
        kind::{Kind, Severity},
    },
    model::{keyed::KeyedMap, namespace::NetSettings, state::State},
    table::Connection,
};

pub(super) fn evaluate(context: &RuleContext<'_>) -> Vec<Detection> {
    let mut by_path: KeyedMap<(Option<u32>, SocketAddr, SocketAddr), Vec<&Connection>> = KeyedMap::default();
    let settings_of = |netns| context.namespaces.of(netns)?.settings.as_ref();
    for known in context.in_state(State::TimeWait) {
        let ports = settings_of(known.netns()).and_then(|settings| settings.local_ports);
        let is_over = known.expires_ns().is_some_and(|end_ns| end_ns <= context.now_ns);
        // Most sockets in TIME_WAIT belong to servers: their local port is not in the range, and destinations differ.
        if !is_over && ports.is_some_and(|(first, last)| (first..=last).contains(&known.local().port())) {
            let from = SocketAddr::new(known.local().ip(), 0);
            by_path.entry((known.netns(), from, known.remote())).or_default().push(known);
        }
    }
    let mut found = Vec::new();
    for ((netns, from, to), mut members) in by_path {
        let state = context.namespaces.of(netns);
        let Some(settings) = settings_of(netns) else { continue };
        let Some((first, last)) = settings.local_ports else { continue };
        // connect() does not choose reserved ports.
        let ports = (first..=last).len() as u64 - settings.reserved_ports.unwrap_or(0).min((first..=last).len() as u64);
        let share = members.len() as f64 / ports.max(1) as f64;
        if share < context.thresholds.time_wait_share {
            continue;
        }
        members.sort_by_key(|known| known.since_ns);
        let group = SocketGroup::new(context, netns, Subject::Path(from, to), members);
        let wants_reuse = is_reused(settings, from.ip(), to.ip());
        let cause = match settings.timestamps {
            Some(0) if wants_reuse => Cause::PortsNotReused,
            _ if wants_reuse => Cause::PortsReused,
            _ => Cause::PortsInTimeWait,
        };
        let severity = match share {
            _ if cause == Cause::PortsReused => Severity::Info,
            NEARLY_ALL.. => Severity::Critical,
            _ => Severity::Warning,
        };
        let evidence = [
            ("ports", Value::Number(group.members.len() as u64)),
            ("port_range", Value::Text(format!("{first}-{last}"))),
            ("ports_reserved", settings.reserved_ports.into()),
            ("share", Value::Ratio(share)),
            ("timestamps", settings.timestamps.into()),
            ("tw_reuse", settings.tw_reuse.into()),
            ("max_tw_buckets", settings.max_tw_buckets.into()),
            ("overflows", state.and_then(|state| state.grew(|counters| counters.time_wait_overflows)).into()),
        ];
        found.push(group.detection(context, Kind::TimeWaitPressure, severity, cause).with(evidence));
    }
    found
}

/// Adds evidence about who holds the local ports for the destination of a `connect` that found none.
pub(super) fn add_port_holders(context: &RuleContext<'_>, detection: &mut Detection) {
    let (_, Some(remote)) = detection.subject.ends() else { return };
    let (mut time_wait, mut open) = (0_u64, 0_u64);
    let toward = |known: &&Connection| known.remote() == remote && known.netns() == detection.netns;
    for known in context.table.connections().filter(toward) {
        // Closing connections will be in TIME_WAIT soon.
        let is_open = matches!(known.state, State::SynSent | State::Established | State::CloseWait);
        *(if is_open { &mut open } else { &mut time_wait }) += 1;
    }
    let settings = context.namespaces.of(detection.netns).and_then(|state| state.settings.as_ref());
    let reserved = settings.and_then(|settings| settings.reserved_ports);
    let range = settings.and_then(|settings| settings.local_ports);
    if let Some((first, last)) = range {
        let (ports, reserved) = ((first..=last).len() as u64, reserved.unwrap_or(0));
        detection.cause = match detection.cause {
            _ if reserved > ports / 2 => Cause::PortsReserved,
            _ if open > ports.saturating_sub(reserved) / 2 => Cause::PortsHeldOpen,
            cause => cause, // sockets that are bound but not connected hold ports too
        };
    }
    let range = range.map_or(Value::Unknown, |(first, last)| Value::Text(format!("{first}-{last}")));
    detection.evidence.extend([
        ("port_range", range),
        ("ports_reserved", reserved.into()),
        ("ports_in_time_wait", Value::Number(time_wait)),
        ("ports_held_open", Value::Number(open)),
    ]);
}

/// True if a new connection may take over the port of one in TIME_WAIT (`tcp_twsk_unique` of `net/ipv4/tcp_ipv4.c`); the
/// default (2) allows it on loopback.
fn is_reused(settings: &NetSettings, from: IpAddr, to: IpAddr) -> bool {
    match settings.tw_reuse {
        Some(2) => from.is_loopback() || to.is_loopback(),
        reuse => reuse == Some(1),
    }
}

/// Share of the ports from which connections will soon fail.
const NEARLY_ALL: f64 = 0.9;
