//! Warnings about what a listing could not read.

use std::{fs, io};

use crate::{model::skipped::Skipped, sys::capabilities::Capabilities};

/// Warnings about what a listing could not read, one sentence for each kind: which process, why, and the consequence.
/// Namespaces and processes that ended in the meantime have no sockets, and are left out.
#[must_use]
pub fn warnings(skipped: &Skipped) -> Vec<String> {
    let name = |pid: u32| fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|name| name.trim_end().to_owned());
    sentences(skipped, Capabilities::own(), name)
}

/// One sentence for each kind; `name` returns the name of a process.
fn sentences(skipped: &Skipped, has: Option<Capabilities>, name: impl Fn(u32) -> Option<String>) -> Vec<String> {
    let cause = |capability: u32, text: &str| match has {
        Some(has) if has.has(capability) => {
            format!("refused although {text} is in effect (a security module or a sandbox)")
        }
        Some(_) => format!("{text} is missing (run it with sudo)"),
        None => format!("it requires {text}"),
    };
    let mut sentences = Vec::new();
    if skipped.namespaces_denied > 0 {
        let count = counted(skipped.namespaces_denied, "network namespace", "network namespaces");
        let cause = cause(Capabilities::SYS_ADMIN, "CAP_SYS_ADMIN");
        sentences.push(format!("not listed: {count}: {cause}"));
    }
    if skipped.processes_denied > 0 {
        let error = io::Error::from_raw_os_error(skipped.denied.errno);
        let why = match skipped.denied.errno {
            0 => "hidden by the mount option hidepid of /proc".to_owned(),
            libc::EACCES | libc::EPERM => cause(Capabilities::SYS_PTRACE, "CAP_SYS_PTRACE"),
            _ => error.to_string(),
        };
        let count = counted(skipped.processes_denied, "process", "processes");
        let who = skipped.denied.pids.into_iter().filter(|pid| *pid != 0);
        let mut who: Vec<_> =
            who.map(|pid| name(pid).map_or_else(|| pid.to_string(), |name| format!("{pid} {name}"))).collect();
        if skipped.processes_denied > who.len() as u64 && !who.is_empty() {
            who.push("…".to_owned());
        }
        let who = if who.is_empty() { String::new() } else { format!(" ({})", who.join(", ")) };
        sentences
            .push(format!("not read: {count}{who}: {why}; sockets and namespaces that only they hold are missing"));
    }
    if skipped.cut_short > 0 {
        sentences.push(format!("malformed: {} of the kernel", counted(skipped.cut_short, "reply", "replies")));
    }
    sentences
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::skipped::Denied;

    fn said(skipped: Skipped, has: &[u32]) -> String {
        sentences(&skipped, Some(Capabilities::of(has)), |pid| (pid == 1).then(|| "init".to_owned())).join("\n")
    }

    #[test]
    fn what_is_missing_is_said_and_nothing_that_is_there() {
        let denied = Denied { pids: [1, 0, 0], errno: libc::EACCES };
        let one = Skipped { processes_denied: 1, denied, ..Skipped::default() };
        let text = said(one, &[]);
        assert!(text.contains("1 process (1 init): CAP_SYS_PTRACE is missing (run it with sudo);"), "{text}");
        let text = said(one, &[Capabilities::SYS_PTRACE]);
        assert!(text.contains("refused although CAP_SYS_PTRACE is in effect") && !text.contains("sudo"), "{text}");
        let denied = Denied { pids: [1, 7, 9], errno: libc::EMFILE };
        let text = said(Skipped { processes_denied: 5, denied, ..Skipped::default() }, &[]);
        assert!(text.contains("5 processes (1 init, 7, 9, …): Too many open files"), "{text}");
        let text = said(Skipped { namespaces_denied: 2, ..Skipped::default() }, &[Capabilities::SYS_PTRACE]);
        assert!(text.contains("2 network namespaces: CAP_SYS_ADMIN is missing"), "{text}");
        let text = said(Skipped { processes_denied: 1, ..Skipped::default() }, &[]);
        assert!(text.contains("1 process: hidden by the mount option hidepid"), "{text}");
    }

    #[test]
    fn what_is_gone_is_not_missed() {
        assert_eq!(said(Skipped { namespaces_gone: 3, processes_gone: 9, ..Skipped::default() }, &[]), "");
    }
}
