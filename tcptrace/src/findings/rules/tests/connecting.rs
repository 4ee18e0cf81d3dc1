//! Connections that this host tries to open.

use crate::{
    findings::{
        Cause, Kind, Severity, Subject, Value,
        testing::{Host, MS, NETNS, PID, S, end, evidence},
    },
    model::{
        close_reason::{Abort, CloseReason},
        snapshot::NextHop,
        state::State,
    },
};

#[test]
fn syns_without_an_answer_are_grouped_by_destination() {
    let mut host = Host::new();
    for port in [50_000, 50_001] {
        host.connecting(port, "10.9.0.1:443", 5 * S);
    }
    let seen = host.only();
    assert_eq!((seen.kind, seen.count), (Kind::SynSentUnanswered, 2));
    assert_eq!(seen.subject, Subject::Remote(end("10.9.0.1:443")));
    assert_eq!(*evidence(&seen, "syn_retransmits"), Value::Number(0));
    host.retransmits(0, 3);
    host.retransmits(1, 2);
    let seen = host.only();
    assert_eq!(*evidence(&seen, "syn_retransmits"), Value::Number(3), "the most of any");
    assert_eq!(*evidence(&seen, "destinations"), Value::Number(1));
    assert_eq!(*evidence(&seen, "scan_like"), Value::Flag(false));
}

#[test]
fn many_destinations_are_told_of_together_and_more_are_a_scan() {
    for (count, groups, is_scan) in [(8, 8, false), (9, 1, false), (10, 1, true)] {
        let mut host = Host::new();
        for number in 0..count {
            host.connecting(50_000 + number, &format!("10.9.0.{number}:443"), 6 * S);
        }
        let seen = host.detections();
        assert_eq!(seen.len(), groups, "{count}");
        if groups == 1 {
            assert_eq!((seen[0].subject, seen[0].count), (Subject::Several, u64::from(count)));
            assert_eq!(*evidence(&seen[0], "destinations"), Value::Number(count.into()));
            assert_eq!(*evidence(&seen[0], "scan_like"), Value::Flag(is_scan));
            assert_eq!(seen[0].examples.len(), 5);
        }
    }
}

#[test]
fn who_waits_for_a_full_listener_of_this_host_is_not_told_of_twice() {
    let mut host = Host::new();
    host.connecting(50_000, "10.1.0.1:80", 6 * S);
    let listener = host.add(State::Listen, "0.0.0.0:80", "0.0.0.0:0", 100 * S);
    (host.sockets[listener].receive_queue, host.sockets[listener].send_queue) = (2, 2);
    assert_eq!(host.only().kind, Kind::SynSentUnanswered, "there is room for one more");
    host.sockets[listener].receive_queue = 3;
    assert_eq!(host.only().kind, Kind::AcceptQueueFull);
    host.connecting(50_001, "10.1.0.1:81", 6 * S);
    let kinds: Vec<_> = host.detections().iter().map(|seen| seen.kind).collect();
    assert_eq!(kinds, [Kind::SynSentUnanswered, Kind::AcceptQueueFull], "another port");
}

#[test]
fn after_a_full_queue_the_next_syn_takes_its_time() {
    let mut host = Host::new();
    let place = host.connecting(50_000, "10.1.0.1:80", 20 * S);
    host.sockets[place].timeouts = 4;
    let listener = host.add(State::Listen, "0.0.0.0:80", "0.0.0.0:0", 100 * S);
    (host.sockets[listener].receive_queue, host.sockets[listener].send_queue) = (3, 2);
    assert_eq!(host.only().kind, Kind::AcceptQueueFull);
    // 16 s from the fourth repetition to the fifth.
    host.sockets[listener].receive_queue = 0;
    host.wait(16 * S);
    assert_eq!(host.detections(), []);
    host.wait(S);
    assert_eq!(host.only().kind, Kind::SynSentUnanswered, "that was not the cause");
}

#[test]
fn refused_connections_are_counted_by_destination() {
    let mut host = Host::new();
    for port in 50_000..50_007 {
        let place = host.connecting(port, "10.9.0.1:443", 3 * MS);
        host.fails(place, CloseReason::Refused);
        host.wait(MS);
    }
    let seen = host.only();
    assert_eq!((seen.kind, seen.severity, seen.count), (Kind::ConnectRefused, Severity::Warning, 7));
    assert_eq!((seen.owner.unwrap().pid, seen.subject), (PID, Subject::Remote(end("10.9.0.1:443"))));
    assert_eq!(*evidence(&seen, "errno"), Value::Name("ECONNREFUSED"));
    assert_eq!(*evidence(&seen, "latency_ns"), Value::Number(3 * MS));
    assert_eq!((seen.examples.len(), seen.oldest), (5, None));
    assert_eq!(seen.examples[0].local, end("10.1.0.1:50006"), "the last one first");
    assert!(seen.is_settled && seen.examples.iter().all(|example| example.age.is_none()));
}

#[test]
fn connects_that_fail_otherwise_are_told_by_their_error() {
    let cases = [
        (CloseReason::TimedOut, "ETIMEDOUT"),
        (CloseReason::Failed(libc::EHOSTUNREACH), "EHOSTUNREACH"),
        (CloseReason::Failed(libc::ENETUNREACH), "ENETUNREACH"),
        (CloseReason::Aborted(Abort::NeverSent), "EADDRNOTAVAIL"),
    ];
    for (ending, errno) in cases {
        let mut host = Host::new();
        let port = if ending == CloseReason::Aborted(Abort::NeverSent) { 0 } else { 50_000 };
        let place = host.connecting(port, "10.9.0.1:443", 2 * S);
        host.sockets[place].timeouts = 1;
        host.fails(place, ending);
        if errno == "EHOSTUNREACH" {
            assert_eq!(host.detections(), [], "no poll has looked the next hop up");
            host.wait(2500 * MS);
        }
        let seen = host.only();
        assert_eq!((seen.kind, seen.count), (Kind::ConnectFailed, 1));
        assert_eq!(*evidence(&seen, "errno"), Value::Name(errno));
        assert_eq!(*evidence(&seen, "latency_ns"), Value::Number(2 * S));
        assert_eq!(*evidence(&seen, "syn_retransmits"), Value::Number(1));
    }
    // The process changed its mind.
    for abort in [Abort::BeforeEstablished, Abort::Disconnect] {
        let mut host = Host::new();
        let place = host.connecting(50_000, "10.9.0.1:443", 2 * S);
        host.fails(place, CloseReason::Aborted(abort));
        assert_eq!(host.detections(), []);
    }
}

#[test]
fn a_neighbour_that_does_not_answer_is_told_from_what_a_router_reports() {
    for (answers, cause) in [(Some(false), Cause::NeighbourSilent), (Some(true), Cause::Unreachable)] {
        let mut host = Host::new();
        let place = host.connecting(50_000, "10.9.0.1:443", 3 * S);
        host.fails(place, CloseReason::Failed(libc::EHOSTUNREACH));
        let (remote, hop) = ([10, 9, 0, 1].into(), [10, 1, 0, 9].into());
        let other = NextHop { netns: NETNS, remote: hop, hop, answers: Some(true), read_ns: host.now_ns };
        host.next_hops = vec![other, NextHop { remote, answers, ..other }];
        let seen = host.only();
        assert_eq!((seen.kind, seen.cause), (Kind::ConnectFailed, cause));
        assert_eq!(*evidence(&seen, "next_hop"), Value::Text("10.1.0.9".to_owned()));
        assert_eq!(*evidence(&seen, "next_hop_answers"), Value::Flag(answers == Some(true)));
    }
}

#[test]
fn failures_toward_many_destinations_are_told_of_together() {
    for (count, groups) in [(8, 8), (9, 1)] {
        let mut host = Host::new();
        for number in 0..count {
            let place = host.connecting(50_000 + number, &format!("10.9.0.{number}:443"), MS);
            host.fails(place, CloseReason::Refused);
            host.wait(MS);
        }
        let seen = host.detections();
        assert_eq!(seen.len(), groups);
        if groups == 1 {
            assert_eq!((seen[0].subject, seen[0].count), (Subject::Several, 9));
            assert_eq!(seen[0].examples[0].remote, end("10.9.0.8:443"), "the last one first");
        }
    }
}

#[test]
fn failures_are_forgotten_after_the_quiet_time() {
    let mut host = Host::new();
    let place = host.connecting(50_000, "10.9.0.1:443", MS);
    host.fails(place, CloseReason::Refused);
    host.evaluate();
    host.wait(60 * S - 1);
    host.evaluate();
    assert_eq!(host.detections().len(), 1);
    host.wait(1);
    host.evaluate();
    assert_eq!(host.detections(), []);
}
