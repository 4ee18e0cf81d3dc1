//! What nobody accepts, and what nobody reads.

use crate::{
    findings::{
        Cause, Detection, Kind, Severity, Subject, Value,
        testing::{Host, LISTENER, MS, PID, S, end, evidence, in_state},
    },
    model::{snapshot::ProcessState, state::State},
};

fn stalled(waits_ns: u64, state: Option<ProcessState>) -> Vec<Detection> {
    let mut host = Host::new();
    host.stalled(waits_ns, state);
    host.detections()
}

#[test]
fn a_process_that_does_not_accept_is_named_from_three_seconds_on() {
    assert_eq!(stalled(3 * S - 1, None), []);
    assert!(!stalled(3 * S, None)[0].is_settled, "what the process does is not known yet");
    let seen = stalled(3 * S, Some(in_state(b'T')));
    let [seen] = &seen[..] else { panic!("{seen:#?}") };
    assert_eq!((seen.kind, seen.severity, seen.count), (Kind::AcceptStalled, Severity::Warning, 2));
    assert_eq!((seen.owner.unwrap().pid, seen.subject), (PID, Subject::Local(end(LISTENER))));
    assert_eq!((seen.cause, seen.oldest.unwrap().ns, seen.is_settled), (Cause::AccepterStopped, 3 * S, true));
    for (name, value) in [
        ("queue", Value::Number(2)),
        ("limit", Value::Number(128)),
        ("waited_ns", Value::Number(3 * S)),
        ("process_state", Value::Name("stopped")),
        ("processes_in_state", Value::Number(1)),
        ("descriptors", Value::Number(9)),
        ("max_descriptors", Value::Number(1024)),
        ("waits_in", Value::Text("do_epoll_wait".to_owned())),
    ] {
        assert_eq!(*evidence(seen, name), value, "{name}");
    }
    let states: Vec<_> = seen.examples.iter().map(|example| example.state).collect();
    assert_eq!(states, [State::Listen, State::Established, State::Established]);
}

#[test]
fn a_full_queue_is_told_of_as_that() {
    let mut host = Host::new();
    let listener = host.listening(LISTENER, 2, 1);
    host.held(listener);
    host.child(State::Established, 1, 10 * S, Some(false));
    host.child(State::Established, 2, 9 * S, Some(false));
    host.processes.push(ProcessState { read_ns: host.now_ns, ..in_state(b'T') });
    let seen = host.only();
    assert_eq!((seen.kind, seen.cause), (Kind::AcceptQueueFull, Cause::AccepterStopped));
    assert_eq!(*evidence(&seen, "waited_ns"), Value::Number(10 * S));
}

#[test]
fn what_nobody_accepted_is_no_leak_of_the_application() {
    let mut host = Host::new();
    let listener = host.listening(LISTENER, 2, 128);
    host.held(listener);
    host.child(State::CloseWait, 1, 90 * S, Some(false));
    host.child(State::CloseWait, 2, 80 * S, Some(false));
    let seen = host.only();
    assert_eq!((seen.kind, seen.count), (Kind::AcceptStalled, 2));
    assert_eq!(*evidence(&seen, "waited_ns"), Value::Number(90 * S));
}

#[test]
fn a_queue_that_moves_is_healthy_and_a_subflow_without_a_file_no_client_that_waits() {
    let mut host = Host::new();
    let listener = host.listening(LISTENER, 1, 128);
    host.held(listener);
    // MPTCP: whether it was accepted is not known.
    host.child(State::Established, 1, 90 * S, None);
    host.child(State::Established, 2, MS, Some(false));
    assert_eq!(host.detections(), []);
    // The queue has room for both: nobody accepted it.
    host.sockets[0].receive_queue = 2;
    assert_eq!(host.only().kind, Kind::AcceptStalled);
    // An empty queue: it is being accepted just now.
    host.sockets[0].receive_queue = 0;
    host.wait(10 * S);
    assert_eq!(host.detections(), []);
}

#[test]
fn an_accept_queue_is_full_beyond_its_limit() {
    let mut host = Host::new();
    let listener = host.listening("0.0.0.0:80", 128, 128);
    assert_eq!(host.detections(), [], "as many as the limit: one more is taken");
    host.sockets[listener].receive_queue = 129;
    host.requests("10.1.0.1:80", 3);
    host.settings.somaxconn = Some(4096);
    (host.counters.listen_overflows, host.counters.listen_drops) = (10, 12);
    let seen = host.only();
    assert_eq!((seen.kind, seen.severity, seen.count), (Kind::AcceptQueueFull, Severity::Critical, 129));
    assert_eq!((seen.owner.unwrap().pid, seen.subject), (PID, Subject::Local(end("0.0.0.0:80"))));
    assert_eq!(seen.oldest, None, "since when it is full is not known");
    for (name, value) in [
        ("queue", 129),
        ("limit", 128),
        ("waiting", 3),
        ("listen_overflows", 10),
        ("listen_drops", 12),
        ("somaxconn", 4096),
    ] {
        assert_eq!(*evidence(&seen, name), Value::Number(value), "{name}");
    }
}

#[test]
fn what_was_seen_of_a_queue_counts_for_a_while() {
    let mut host = Host::new();
    host.listening("0.0.0.0:80", 129, 128);
    host.list();
    host.wait(15 * S - 1);
    assert_eq!(host.unlisted_detections().len(), 1);
    host.wait(1);
    assert_eq!(host.unlisted_detections(), []);
}
