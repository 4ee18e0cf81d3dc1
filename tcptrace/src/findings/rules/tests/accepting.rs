//! What nobody accepts, and what nobody reads.

use crate::{
    event::Command,
    findings::{
        Cause, Kind, Severity, Sighting, Subject, Value,
        testing::{Host, MS, PID, S, end, evidence},
    },
    snapshot::{ConnectionInfo, Holder, ProcessState},
    state::State,
};

const LISTENER: &str = "0.0.0.0:80";
const SERVER: &str = "10.1.0.1:80";

/// A listener of [`PID`] with so many connections in its queue, and room for `limit`.
fn listener(host: &mut Host, queue: u32, limit: u32) -> usize {
    let place = host.add(State::Listen, LISTENER, "0.0.0.0:0", 100 * S);
    (host.sockets[place].receive_queue, host.sockets[place].send_queue) = (queue, limit);
    let handle = host.sockets[place].handle;
    let command = Command::new(*b"server\0\0\0\0\0\0\0\0\0\0");
    host.holders.push(Holder { handle, pid: PID, ns_pid: PID, fd: 3, uid: 33, cgroup: None, command, start: None });
    place
}

/// A connection that came so long ago, and was accepted or not.
fn child(host: &mut Host, state: State, port: u16, age_ns: u64, is_accepted: Option<bool>) -> usize {
    let place = host.add(state, SERVER, &format!("10.1.0.9:{port}"), age_ns);
    let times = ConnectionInfo {
        last_sent_ns: age_ns,
        last_received_ns: age_ns,
        bytes_received: 1000,
        ..ConnectionInfo::default()
    };
    host.sockets[place].connection = Some(ConnectionInfo { is_accepted, receive_window: Some(65_535), ..times });
    if is_accepted != Some(true) {
        host.sockets[place].handle = 0;
    }
    place
}

fn process(letter: u8) -> ProcessState {
    let (descriptors, max_descriptors) = (Some(9), Some(1024));
    let waits_in = Some("do_epoll_wait".to_owned());
    ProcessState { pid: PID, read_ns: 0, letter, cpu_ns: 0, descriptors, max_descriptors, waits_in }
}

/// What is seen where the oldest of two connections waits for so long, and the process is read like this.
fn stalled(waits_ns: u64, state: Option<ProcessState>) -> Vec<Sighting> {
    let mut host = Host::new();
    listener(&mut host, 2, 128);
    child(&mut host, State::Established, 1, waits_ns, Some(false));
    child(&mut host, State::Established, 2, MS, Some(false));
    host.processes.extend(state.map(|state| ProcessState { read_ns: host.now_ns, ..state }));
    host.sightings()
}

#[test]
fn a_process_that_does_not_accept_is_named_from_three_seconds_on() {
    assert_eq!(stalled(3 * S - 1, None), []);
    let seen = stalled(3 * S, Some(process(b'T')));
    let [seen] = &seen[..] else { panic!("{seen:#?}") };
    assert_eq!((seen.kind, seen.severity, seen.count), (Kind::AcceptStalled, Severity::Warning, 2));
    assert_eq!((seen.owner.unwrap().pid, seen.subject), (PID, Subject::Local(end(LISTENER))));
    assert_eq!((seen.cause, seen.oldest.unwrap().ns), (Cause::AccepterStopped, 3 * S));
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
fn what_the_process_does_is_the_cause() {
    let full = ProcessState { descriptors: Some(1024), ..process(b'S') };
    for (state, cause) in [
        (Some(process(b'S')), Cause::AccepterWaits),
        (Some(process(b'R')), Cause::AccepterRuns),
        (Some(full), Cause::AccepterOutOfDescriptors),
        (None, Cause::NotAccepted),
    ] {
        let is_known = state.is_some();
        let seen = stalled(10 * S, state);
        assert_eq!((seen.len(), seen[0].cause, seen[0].is_settled), (1, cause, is_known));
    }
}

#[test]
fn a_full_queue_is_told_of_as_that() {
    let mut host = Host::new();
    listener(&mut host, 2, 1);
    child(&mut host, State::Established, 1, 10 * S, Some(false));
    child(&mut host, State::Established, 2, 9 * S, Some(false));
    host.processes.push(ProcessState { read_ns: host.now_ns, ..process(b'T') });
    let seen = host.only();
    assert_eq!((seen.kind, seen.cause), (Kind::AcceptQueueFull, Cause::AccepterStopped));
    assert_eq!(*evidence(&seen, "waited_ns"), Value::Number(10 * S));
}

#[test]
fn what_nobody_accepted_is_no_leak_of_the_application() {
    let mut host = Host::new();
    listener(&mut host, 2, 128);
    child(&mut host, State::CloseWait, 1, 90 * S, Some(false));
    child(&mut host, State::CloseWait, 2, 80 * S, Some(false));
    let seen = host.only();
    assert_eq!((seen.kind, seen.count), (Kind::AcceptStalled, 2));
    assert_eq!(*evidence(&seen, "waited_ns"), Value::Number(90 * S));
}

#[test]
fn a_queue_that_moves_is_healthy_and_a_subflow_without_a_file_no_client_that_waits() {
    let mut host = Host::new();
    listener(&mut host, 1, 128);
    // MPTCP: whether it was accepted cannot be told.
    child(&mut host, State::Established, 1, 90 * S, None);
    child(&mut host, State::Established, 2, MS, Some(false));
    assert_eq!(host.sightings(), []);
    // The queue has room for both: nobody accepted it.
    host.sockets[0].receive_queue = 2;
    assert_eq!(host.only().kind, Kind::AcceptStalled);
    // An empty queue: it is being accepted just now.
    host.sockets[0].receive_queue = 0;
    host.wait(10 * S);
    assert_eq!(host.sightings(), []);
}

/// A server's connection with unread data that came so long ago.
fn unread(host: &mut Host, age_ns: u64) -> usize {
    listener(host, 0, 128);
    let place = child(host, State::Established, 1, age_ns, Some(true));
    host.sockets[place].receive_queue = 18;
    place
}

#[test]
fn requests_that_lie_unread_are_good_to_know_and_a_trouble_where_the_process_is_stopped() {
    for (letter, severity, cause) in
        [(b'S', Severity::Info, Cause::RequestsUnread), (b'T', Severity::Warning, Cause::ReaderStopped)]
    {
        let mut host = Host::new();
        let place = unread(&mut host, 5 * S - 1);
        let handle = host.sockets[place].handle;
        host.holders.push(Holder { handle, fd: 7, ..host.holders[0] });
        host.processes.push(ProcessState { read_ns: host.now_ns, ..process(letter) });
        assert_eq!(host.sightings(), []);
        host.wait(1);
        host.sockets[place].connection.as_mut().unwrap().last_received_ns += 1;
        let seen = host.only();
        assert_eq!((seen.kind, seen.severity, seen.cause), (Kind::ReadStalled, severity, cause));
        assert_eq!((seen.owner.unwrap().pid, seen.subject), (PID, Subject::Local(end(LISTENER))));
        assert_eq!(*evidence(&seen, "unread_bytes"), Value::Number(18));
        assert_eq!(*evidence(&seen, "unread_for_ns"), Value::Number(5 * S));
    }
}

#[test]
fn who_reads_slowly_or_waits_for_an_answer_is_healthy() {
    let mut host = Host::new();
    let place = unread(&mut host, 60 * S);
    assert_eq!(host.sightings().len(), 1);
    // A byte less.
    host.sockets[place].receive_queue -= 1;
    assert_eq!(host.sightings(), []);
    host.wait(5 * S);
    assert_eq!(host.sightings().len(), 1, "and no more since then");
    // A long poll: all was read.
    host.sockets[place].receive_queue = 0;
    assert_eq!(host.sightings(), []);
    // A client's.
    let mut host = Host::new();
    let place = unread(&mut host, 60 * S);
    host.sockets.swap_remove(place - 1);
    assert_eq!(host.sightings(), []);
}
