//! Processes that a signal ended.

use crate::findings::{
    Kind, Severity, Subject, Value,
    testing::{Host, PID, S, end, evidence},
};

#[test]
fn a_process_that_is_killed_is_one_finding_with_its_connections() {
    let mut host = Host::new();
    host.killed(libc::SIGKILL, true, 9);
    let seen = host.only();
    assert_eq!((seen.kind, seen.severity, seen.count), (Kind::ProcessKilled, Severity::Warning, 2));
    assert_eq!((seen.owner.unwrap().pid, seen.subject), (PID, Subject::Local(end("10.1.0.1:80"))));
    for (name, value) in
        [("signal", Value::Name("SIGKILL")), ("peers", Value::Number(2)), ("unread_bytes", Value::Number(9))]
    {
        assert_eq!(*evidence(&seen, name), value, "{name}");
    }
    host.wait(60 * S);
    host.evaluate();
    assert!(host.detections().iter().all(|seen| seen.kind != Kind::ProcessKilled), "it is over");
}

#[test]
fn a_client_that_its_user_ends_harms_nobody() {
    for (signal, serves, unread, severity) in [
        (libc::SIGTERM, true, 0, Some(Severity::Warning)),
        (libc::SIGTERM, false, 9, None),
        (libc::SIGQUIT, false, 9, None),
        (libc::SIGKILL, true, 0, Some(Severity::Warning)),
        (libc::SIGKILL, false, 9, Some(Severity::Info)),
        (libc::SIGSEGV, false, 0, Some(Severity::Warning)),
    ] {
        let mut host = Host::new();
        host.killed(signal, serves, unread);
        let seen = host.detections();
        let seen = seen.iter().find(|seen| seen.kind == Kind::ProcessKilled);
        assert_eq!(seen.map(|seen| seen.severity), severity, "{signal} {serves} {unread}");
    }
}
