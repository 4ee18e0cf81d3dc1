//! Processes that a signal ended.

use crate::findings::{Cause, Kind, Severity, Sighting, Value, View, kills::Kill};

/// All troubles of this family.
pub(super) fn look(view: &View<'_>) -> Vec<Sighting> {
    view.recent.kills.iter().map(|(netns, kill)| sighting(netns, kill)).collect()
}

fn sighting(netns: Option<u32>, kill: &Kill) -> Sighting {
    let evidence = [
        ("signal", Value::Name(kill.exit.name())),
        ("peers", Value::Number(kill.peers.len() as u64)),
        ("unread_bytes", Value::Number(kill.unread)),
        ("unsent_bytes", Value::Number(kill.unsent)),
    ];
    let sighting = Sighting {
        owner: Some(kill.owner),
        processes: kill.processes.clone(),
        count: kill.cut,
        examples: kill.examples.clone(),
        is_shown: kill.is_shown,
        ..Sighting::new(Kind::ProcessKilled, severity(kill), Cause::KilledBySignal, netns, kill.subject())
    };
    sighting.with(evidence)
}

/// A client that its user ends, or that had nothing on its way, harms nobody else. A crash is one in any case.
fn severity(kill: &Kill) -> Severity {
    const BY_USER: [u8; 4] = [libc::SIGHUP as u8, libc::SIGINT as u8, libc::SIGPIPE as u8, libc::SIGTERM as u8];
    let signal = kill.exit.signal;
    let is_harmless = BY_USER.contains(&signal) || signal == libc::SIGKILL as u8 && kill.unread + kill.unsent == 0;
    if kill.served == 0 && is_harmless { Severity::Info } else { Severity::Warning }
}
