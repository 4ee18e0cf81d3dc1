//! Whether each BPF program could be attached to its hook.

use crate::{
    cli::args::Area,
    commands::doctor::check::{Check, Subject, Verdict},
};

/// A hook, and whether a program could be attached to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Name of the tracepoint, function or iterator.
    pub name: &'static str,
    /// The reason why the program is not attached, and what tcptrace does not see because of it.
    pub missing: Option<(String, &'static str)>,
}

/// All hooks, or why none could be attached.
pub type Hooks = Result<Vec<Hook>, String>;

const SUBJECT: Subject = Subject {
    id: "programs",
    area: Area::Hooks,
    meaning: "loads and attaches all of tcptrace's BPF programs, and detaches them again",
    source: "tcptrace-ebpf/src/probes",
};

/// Checks the result of attaching.
pub(super) fn checks(hooks: Option<&Hooks>) -> Vec<Check> {
    match hooks {
        None => vec![SUBJECT.check("BPF programs", None, Verdict::unknown("not tried"))],
        Some(Err(error)) => {
            let verdict = Verdict::failed(format!("tracing is not possible: {error}"), "see the checks of the machine");
            vec![SUBJECT.check("BPF programs", Some("not attached".to_owned()), verdict)]
        }
        Some(Ok(hooks)) => hooks.iter().map(check).collect(),
    }
}

fn check(hook: &Hook) -> Check {
    let subject = Subject { id: hook.name, ..SUBJECT };
    let (value, verdict) = match &hook.missing {
        None => ("attached", Verdict::ok("nothing is lost")),
        Some((reason, effect)) => (
            "not attached",
            Verdict::warning(
                format!("{effect}; {reason}"),
                "another kernel, or another build of this one, may allow it; everything else is traced",
            ),
        ),
    };
    subject.check(hook.name, Some(value.to_owned()), verdict)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::check::Status;

    #[test]
    fn each_hook_is_told_with_what_is_lost() {
        let hooks = Ok(vec![
            Hook { name: "tcp_send_reset", missing: None },
            Hook { name: "inet_csk_accept", missing: Some(("not supported".to_owned(), "owners are not seen")) },
        ]);
        let checks = super::checks(Some(&hooks));
        assert_eq!((checks[0].id, checks[0].status), ("tcp_send_reset", Status::Ok));
        assert_eq!((checks[1].id, checks[1].status), ("inet_csk_accept", Status::Warning));
        assert_eq!(checks[1].consequence, "owners are not seen; not supported");
        let failed = &super::checks(Some(&Err("Operation not permitted".to_owned())))[0];
        assert!(failed.status == Status::Failed && failed.consequence.contains("Operation not permitted"));
        assert_eq!(super::checks(None)[0].status, Status::Unknown);
    }
}
