//! Processes killed by a signal.

use crate::findings::{
    cause::Cause,
    context::RuleContext,
    detection::{Detection, Value},
    kills::Kill,
    kind::{Kind, Severity},
};

/// A client that its user or supervisor ends with SIGTERM, SIGINT or the like is no problem.
pub(super) fn evaluate(context: &RuleContext<'_>) -> Vec<Detection> {
    let is_trouble = |kill: &Kill| kill.served > 0 || is_crash(kill) || is_by_force(kill);
    let killed = context.history.kills.iter().filter(|(_, kill)| is_trouble(kill));
    killed.map(|(netns, kill)| detection(netns, kill)).collect()
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

fn detection(netns: Option<u32>, kill: &Kill) -> Detection {
    let evidence = [
        ("signal", Value::Name(kill.exit.name())),
        ("peers", Value::Number(kill.peers.len() as u64)),
        ("unread_bytes", Value::Number(kill.unread)),
        ("unsent_bytes", Value::Number(kill.unsent)),
    ];
    let detection = Detection {
        owner: Some(kill.owner),
        processes: kill.processes.clone(),
        count: kill.cut,
        examples: kill.examples.clone(),
        is_shown: kill.is_shown,
        ..Detection::new(Kind::ProcessKilled, severity(kill), Cause::KilledBySignal, netns, kill.subject())
    };
    detection.with(evidence)
}

/// A killed client harms nobody unless data that it had sent was lost. A crash is always a warning.
fn severity(kill: &Kill) -> Severity {
    let is_harmless = kill.served == 0 && kill.unsent == 0 && !is_crash(kill);
    if is_harmless { Severity::Info } else { Severity::Warning }
}
