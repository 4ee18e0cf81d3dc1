//! Processes that a signal ended.

use crate::findings::{
    cause::Cause,
    context::View,
    detection::{Sighting, Value},
    kills::Kill,
    kind::{Kind, Severity},
};

/// All troubles of this family. A client that its user or its supervisor ends is none.
pub(super) fn look(view: &View<'_>) -> Vec<Sighting> {
    let is_trouble = |kill: &Kill| kill.served > 0 || is_crash(kill) || is_by_force(kill);
    let killed = view.recent.kills.iter().filter(|(_, kill)| is_trouble(kill));
    killed.map(|(netns, kill)| sighting(netns, kill)).collect()
}

fn is_crash(kill: &Kill) -> bool {
    const CRASHES: [i32; 9] = [
        libc::SIGILL,
        libc::SIGTRAP,
        libc::SIGABRT,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGSEGV,
        libc::SIGXCPU,
        libc::SIGXFSZ,
        libc::SIGSYS,
    ];
    CRASHES.contains(&kill.exit.signal.into())
}

fn is_by_force(kill: &Kill) -> bool {
    kill.exit.signal == libc::SIGKILL as u8
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

/// A client that is killed harms nobody else, unless it had sent what then was lost. A crash is one in any case.
fn severity(kill: &Kill) -> Severity {
    let is_harmless = kill.served == 0 && kill.unsent == 0 && !is_crash(kill);
    if is_harmless { Severity::Info } else { Severity::Warning }
}
