//! Processes that a signal ended.

use crate::{
    ending::{Abort, Ending},
    event::Exit,
    findings::{
        Kind, Severity, Subject, Value,
        testing::{Host, PID, S, end, evidence},
    },
    state::State,
};

/// A process that is ended by `signal`, with a connection without and one with unread data.
fn killed(signal: i32, serves: bool, unread: u32) -> Host {
    let mut host = Host::new();
    if serves {
        host.add(State::Listen, "10.1.0.1:80", "0.0.0.0:0", 100 * S);
    }
    let exit = Some(Exit { signal: signal as u8 });
    let one = host.add(State::Established, "10.1.0.1:80", "10.9.0.9:40000", S);
    let other = host.add(State::Established, "10.1.0.1:80", "10.9.0.8:40000", S);
    host.sockets[other].receive_queue = unread;
    host.list();
    host.exits(one, State::FinWait1, None, exit);
    let (new, ending) =
        if unread > 0 { (State::Close, Some(Ending::Aborted(Abort::UnreadData))) } else { (State::FinWait1, None) };
    host.exits(other, new, ending, exit);
    host
}

#[test]
fn a_process_that_is_killed_is_one_finding_with_its_connections() {
    let mut host = killed(libc::SIGKILL, true, 9);
    let seen = host.only();
    assert_eq!((seen.kind, seen.severity, seen.count), (Kind::ProcessKilled, Severity::Warning, 2));
    assert_eq!((seen.owner.unwrap().pid, seen.subject), (PID, Subject::Local(end("10.1.0.1:80"))));
    for (name, value) in
        [("signal", Value::Name("SIGKILL")), ("peers", Value::Number(2)), ("unread_bytes", Value::Number(9))]
    {
        assert_eq!(*evidence(&seen, name), value, "{name}");
    }
    host.wait(60 * S);
    host.look();
    assert!(host.sightings().iter().all(|seen| seen.kind != Kind::ProcessKilled), "it is over");
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
        let seen = killed(signal, serves, unread).sightings();
        let seen = seen.iter().find(|seen| seen.kind == Kind::ProcessKilled);
        assert_eq!(seen.map(|seen| seen.severity), severity, "{signal} {serves} {unread}");
    }
}

#[test]
fn a_process_that_exits_is_not_killed() {
    let seen = killed(0, true, 9).sightings();
    assert_eq!(seen.iter().map(|seen| seen.kind).collect::<Vec<_>>(), [Kind::AbortedClose]);
}
