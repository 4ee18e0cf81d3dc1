//! Windows that stay closed.

use crate::{
    findings::{
        Cause, Kind, Severity, Subject, Thresholds, Value,
        testing::{Host, MS, PID, S, end, evidence, process},
    },
    model::{
        close_reason::CloseReason,
        event::{Owner, OwnerSource},
        holders::Holder,
        state::State,
    },
};

const NEAR: &str = "10.1.0.1:40000";
const FAR: &str = "10.9.0.9:80";

#[test]
fn a_sender_waits_for_a_peer_that_does_not_read() {
    let mut host = Host::new();
    host.sender(State::Established, NEAR, FAR, 5 * S - 1);
    assert_eq!(host.detections(), []);
    let mut host = Host::new();
    host.sender(State::Established, NEAR, FAR, 5 * S);
    let seen = host.only();
    assert_eq!((seen.kind, seen.severity, seen.count), (Kind::ZeroWindow, Severity::Info, 1));
    assert_eq!((seen.owner.unwrap().pid, seen.subject), (PID, Subject::Remote(end(FAR))));
    assert_eq!(seen.cause, Cause::PeerDoesNotRead);
    for (name, value) in [
        ("window_closed_ns", Value::Number(5 * S)),
        ("probes_answered", Value::Flag(true)),
        ("unacked_bytes", Value::Number(3000)),
        ("unsent_bytes", Value::Number(2000)),
        ("waiting_pid", Value::Number(PID.into())),
    ] {
        assert_eq!(*evidence(&seen, name), value, "{name}");
    }
    let mut host = Host::new();
    host.sender(State::Established, NEAR, FAR, 10 * S);
    assert_eq!(host.only().severity, Severity::Warning);
}

#[test]
fn a_silence_before_the_data_is_no_wait() {
    let mut host = Host::new();
    let place = host.sender(State::Established, NEAR, FAR, 3600 * S);
    // Two probes at 200 ms: the data came a moment ago.
    host.sockets[place].backoff = Some(1);
    assert_eq!(host.detections(), []);
}

#[test]
fn both_ends_on_one_host_are_one_finding_of_the_reader() {
    let mut host = Host::new();
    let place = host.sender(State::Established, "127.0.0.1:40000", "127.0.0.1:80", 10 * S);
    host.owned_by(place, 900);
    let reader = host.reader("127.0.0.1:80", "127.0.0.1:40000", 10 * S);
    host.add(State::Listen, "127.0.0.1:80", "0.0.0.0:0", 100 * S);
    let seen = host.only();
    assert_eq!((seen.kind, seen.severity, seen.cause), (Kind::ZeroWindow, Severity::Warning, Cause::DoesNotRead));
    assert_eq!((seen.owner.unwrap().pid, seen.subject), (PID, Subject::Local(end("127.0.0.1:80"))));
    for (name, value) in [
        ("unread_bytes", Value::Number(128_000)),
        ("unread_for_ns", Value::Number(10 * S)),
        ("window_closed_ns", Value::Number(10 * S)),
        ("waiting_pid", Value::Number(900)),
        ("unsent_bytes", Value::Number(2000)),
    ] {
        assert_eq!(*evidence(&seen, name), value, "{name}");
    }
    // It reads, if slowly.
    host.sockets[reader].receive_queue -= 1000;
    assert_eq!(host.detections(), []);
}

#[test]
fn what_a_late_listing_showed_too_early_is_not_told_of_the_sender() {
    let mut thresholds = Thresholds::default();
    thresholds.zero_window_ns = 2 * S;
    let mut host = Host::with(thresholds);
    // A listing shows both before what lies at the reader counts as unread.
    let at = "127.0.0.1:80";
    host.sender(State::Established, "127.0.0.1:40000", at, 990 * MS);
    host.reader(at, "127.0.0.1:40000", 990 * MS);
    host.list();
    host.wait(1200 * MS);
    assert_eq!(host.unlisted_detections(), []);
}

#[test]
fn a_reader_whose_window_is_not_listed_has_closed_it_where_a_sender_here_waits() {
    let mut host = Host::new();
    host.sender(State::Established, "127.0.0.1:40000", "127.0.0.1:80", 10 * S);
    let reader = host.reader("127.0.0.1:80", "127.0.0.1:40000", 10 * S);
    host.sockets[reader].connection.as_mut().unwrap().receive_window = None; // before 6.2 by sock_diag
    host.add(State::Listen, "127.0.0.1:80", "0.0.0.0:0", 100 * S);
    let seen = host.only();
    assert_eq!((seen.kind, seen.cause), (Kind::ZeroWindow, Cause::DoesNotRead));
}

#[test]
fn a_reader_of_a_far_sender_shows_itself() {
    let mut host = Host::new();
    host.reader(NEAR, FAR, 5 * S);
    let seen = host.only();
    assert_eq!((seen.kind, seen.cause, seen.owner.unwrap().pid), (Kind::ZeroWindow, Cause::DoesNotRead, PID));
    assert_eq!(*evidence(&seen, "window_closed_ns"), Value::Unknown);
    assert_eq!(*evidence(&seen, "probes_answered"), Value::Unknown);
    assert_eq!(*evidence(&seen, "waiting_pid"), Value::Unknown);
    // With room left nobody waits.
    host.sockets[0].connection.as_mut().unwrap().receive_window = Some(1);
    assert_eq!(host.detections(), []);
}

#[test]
fn probes_without_an_answer_are_a_dead_peer() {
    let mut host = Host::new();
    let place = host.sender(State::Established, NEAR, FAR, 20 * S);
    host.sockets[place].probes = 5;
    host.sockets[place].connection.as_mut().unwrap().last_ack_ns = 20 * S;
    let seen = host.only();
    assert_eq!((seen.kind, seen.cause), (Kind::PeerDead, Cause::DataUnanswered));
    assert_eq!(*evidence(&seen, "timeouts"), Value::Number(5));
    // Each of them was answered.
    host.sockets[place].probes = 0;
    host.sockets[place].connection.as_mut().unwrap().last_ack_ns = S;
    assert_eq!(host.only().kind, Kind::ZeroWindow);
}

#[test]
fn who_waits_for_a_window_has_not_forgotten_to_close_and_its_fin_is_not_lost() {
    for state in [State::CloseWait, State::FinWait1, State::LastAck, State::Closing] {
        let mut host = Host::new();
        host.sender(state, NEAR, FAR, 100 * S);
        assert_eq!(host.only().kind, Kind::ZeroWindow, "{state}");
    }
}

#[test]
fn a_user_timeout_ends_what_the_peer_answered() {
    let ended = |change: fn(&mut crate::model::socket::ListedSocket)| {
        let mut host = Host::new();
        let place = host.sender(State::Established, NEAR, FAR, 4 * S);
        change(&mut host.sockets[place]);
        host.list();
        host.fails(place, CloseReason::TimedOut);
        host.sockets.clear();
        host.only()
    };
    let seen = ended(|_| {});
    assert_eq!((seen.kind, seen.cause, seen.count), (Kind::ZeroWindow, Cause::EndedByUserTimeout, 1));
    assert_eq!(*evidence(&seen, "window_closed_ns"), Value::Number(4 * S));
    assert_eq!(*evidence(&seen, "probes_answered"), Value::Flag(true));
    let dead = ended(|socket| {
        (socket.probes, socket.timeouts) = (5, 5);
        socket.connection.as_mut().unwrap().last_ack_ns = 100 * S;
    });
    assert_eq!(dead.kind, Kind::PeerDead);
    // No poll saw the window: only the timer of the probes ends a connection without a retransmission.
    let unseen = ended(|socket| {
        socket.timer = None;
        socket.connection.as_mut().unwrap().send_window = Some(1);
    });
    assert_eq!((unseen.kind, unseen.cause), (Kind::ZeroWindow, Cause::EndedByUserTimeout));
    assert_eq!(*evidence(&unseen, "probes_answered"), Value::Unknown);
}

#[test]
fn a_reader_that_reads_again_after_each_pause_is_slow_and_not_stuck() {
    let mut host = Host::new();
    let place = host.sender(State::Established, NEAR, FAR, 7 * S);
    host.sockets[place].backoff = Some(7);
    assert_eq!(host.only().kind, Kind::ZeroWindow, "nothing is known of it yet");
    let pause = |host: &mut Host, s: u64| {
        host.wait(s * S);
        host.sockets[place].connection.as_mut().unwrap().last_sent_ns = s * S;
        host.detections().len()
    };
    assert_eq!(pause(&mut host, 1), 0, "it reads");
    assert_eq!(pause(&mut host, 7), 0);
    assert_eq!(pause(&mut host, 13), 0, "less than twice what it needed");
    host.wait(14 * S);
    host.sockets[place].connection.as_mut().unwrap().last_sent_ns = 27 * S;
    assert_eq!(host.only().kind, Kind::ZeroWindow, "now it has stopped");
}

#[test]
fn a_listener_that_has_handed_its_connection_on_is_not_named_before_a_listing() {
    let mut host = Host::new();
    let place = host.sender(State::Established, NEAR, FAR, 6 * S);
    host.sockets[place].owner = Some(Owner { source: OwnerSource::Listener, ..process(PID) });
    let held_by = |pid| Holder {
        handle: 1,
        pid,
        ns_pid: pid,
        fd: 5,
        uid: 0,
        cgroup: None,
        command: process(PID).command,
        start: None,
    };
    host.holders = vec![held_by(PID)];
    assert!(host.only().is_settled);
    host.list_holders(vec![held_by(701)]); // the child that it forked
    assert!(!host.unlisted_detections()[0].is_settled);
    host.holders = vec![held_by(701)];
    let seen = host.only();
    assert_eq!((seen.owner.unwrap().pid, seen.is_settled), (701, true));
}
