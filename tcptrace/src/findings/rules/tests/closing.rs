//! Connections that are being closed.

use crate::{
    findings::{
        Cause, Kind, Severity, Subject, Thresholds, Value,
        testing::{Host, MS, NETNS, PID, S, end, evidence},
    },
    model::{
        age::AgeSource,
        close_reason::CloseReason,
        socket::{self, ConnectionInfo, Timer, TimerKind},
        state::State,
    },
};

const LOCAL: &str = "10.1.0.1:80";
const REMOTE: &str = "10.1.0.9:40000";

#[test]
fn each_state_has_its_time() {
    let cases = [
        (State::SynSent, 5, Kind::SynSentUnanswered),
        (State::CloseWait, 60, Kind::CloseWaitLeak),
        (State::FinWait1, 15, Kind::FinWait1Stuck),
        (State::FinWait2, 45, Kind::FinWait2Stuck),
        (State::Closing, 15, Kind::FinWait1Stuck),
        (State::LastAck, 15, Kind::LastAckLost),
    ];
    for (state, s, kind) in cases {
        let mut host = Host::new();
        host.add(state, LOCAL, REMOTE, s * S - 1);
        assert_eq!(host.detections(), [], "{state} for less");
        host.wait(1);
        let seen = host.only();
        assert_eq!((seen.kind, seen.severity, seen.count), (kind, Severity::Warning, 1));
        assert_eq!((seen.netns, seen.owner.unwrap().pid), (Some(NETNS), PID));
        assert_eq!(seen.subject, Subject::Remote(end(REMOTE)));
        let oldest = seen.oldest.unwrap();
        assert_eq!((oldest.ns, oldest.source), (s * S, AgeSource::Observed));
        assert_eq!((seen.examples.len(), seen.examples[0].cookie, seen.examples[0].state), (1, Some(1), state));
        assert!(seen.is_settled, "a listing has shown it");
        for never in [State::Listen, State::SynRecv, State::Established, State::TimeWait] {
            let mut host = Host::new();
            host.add(never, LOCAL, REMOTE, 60 * S);
            assert_eq!(host.detections(), [], "{never} may last");
        }
    }
}

#[test]
fn thresholds_may_be_set_and_turned_off() {
    for (ns, found) in [(0, 0), (2 * S, 1), (3 * S, 0)] {
        let mut thresholds = Thresholds::default();
        thresholds.set_stuck(State::LastAck, ns).unwrap();
        let mut host = Host::with(thresholds);
        host.add(State::LastAck, LOCAL, REMOTE, 2 * S);
        assert_eq!(host.detections().len(), found, "{ns}");
    }
}

#[test]
fn what_is_ignored_is_not_told() {
    let reported = |ignored: &[Kind]| {
        let mut thresholds = Thresholds::default();
        thresholds.ignored = ignored.to_vec();
        let mut host = Host::with(thresholds);
        host.add(State::LastAck, LOCAL, REMOTE, 20 * S);
        host.list();
        host.evaluate(); // waits for its evidence
        host.list();
        host.evaluate().len()
    };
    assert_eq!((reported(&[]), reported(&[Kind::CloseWaitLeak]), reported(&[Kind::LastAckLost])), (1, 1, 0));
}

#[test]
fn what_is_not_listed_yet_is_not_settled() {
    let mut host = Host::new();
    host.add(State::CloseWait, LOCAL, REMOTE, 70 * S);
    host.list(); // nothing was suspected then
    assert!(!host.unlisted_detections()[0].is_settled);
    assert!(host.only().is_settled);
}

#[test]
fn a_leak_counts_what_was_not_read_without_the_fin() {
    let mut host = Host::new();
    for (port, queue) in [(40_000, 1), (40_001, 6), (40_002, 0)] {
        let place = host.add(State::CloseWait, LOCAL, &format!("10.1.0.9:{port}"), 61 * S);
        host.sockets[place].receive_queue = queue;
    }
    host.add(State::Listen, LOCAL, "0.0.0.0:0", 100 * S);
    let seen = host.only();
    assert_eq!((seen.count, seen.subject), (3, Subject::Local(end(LOCAL))));
    assert_eq!(*evidence(&seen, "unread_bytes"), Value::Number(5));
    assert_eq!(*evidence(&seen, "growth_per_minute"), Value::Unknown, "it was not watched for long enough");
    assert_eq!(*evidence(&seen, "closes_after_ns"), Value::Unknown);
}

#[test]
fn a_thousand_leaked_sockets_are_critical() {
    for (count, severity) in [(999, Severity::Warning), (1000, Severity::Critical)] {
        let mut host = Host::new();
        host.add(State::Listen, LOCAL, "0.0.0.0:0", 0);
        for port in 0..count {
            host.add(State::CloseWait, LOCAL, &format!("10.1.0.9:{}", 40_000 + port), 61 * S);
        }
        let seen = host.only();
        assert_eq!((seen.severity, seen.count, seen.examples.len()), (severity, count, 5));
    }
}

/// Sockets that come to CLOSE_WAIT, `closed` of which leave it again, within a minute.
fn growing(opened: u32, closed: u32) -> Host {
    let mut thresholds = Thresholds::default();
    thresholds.set_stuck(State::CloseWait, S).unwrap();
    let mut host = Host::with(thresholds);
    host.add(State::Listen, LOCAL, "0.0.0.0:0", 0);
    for port in 0..opened {
        host.add(State::Established, LOCAL, &format!("10.1.0.9:{}", 40_000 + port), 0);
    }
    host.list();
    host.wait(15 * S);
    for place in 1..=opened as usize {
        host.enters(place, State::CloseWait, None);
    }
    host.wait(5 * S);
    for place in 1..=closed as usize {
        host.enters(place, State::LastAck, None);
        host.enters(place, State::Close, Some(CloseReason::Normal));
    }
    host.wait(40 * S);
    host
}

#[test]
fn growth_is_what_came_less_what_left_within_the_last_minute() {
    let mut host = growing(12, 3);
    let seen = host.only();
    assert_eq!((seen.count, seen.severity), (9, Severity::Warning));
    assert_eq!(*evidence(&seen, "growth_per_minute"), Value::Ratio(9.0));
    host.wait(60 * S);
    assert_eq!(*evidence(&host.only(), "growth_per_minute"), Value::Ratio(0.0), "no more came");
    assert_eq!(growing(100, 0).only().severity, Severity::Critical);
    assert_eq!(growing(99, 0).only().severity, Severity::Warning);
    assert_eq!(*evidence(&growing(1, 0).only(), "growth_window_ns"), Value::Number(60 * S));
}

#[test]
fn growth_is_unknown_in_the_first_second_and_not_critical_in_the_first_half_minute() {
    let mut thresholds = Thresholds::default();
    thresholds.set_stuck(State::CloseWait, MS).unwrap();
    let mut host = Host::with(thresholds);
    let places = [LOCAL, "10.1.0.1:81"].map(|local| host.add(State::Established, local, REMOTE, 0));
    host.list();
    places.into_iter().for_each(|place| host.enters(place, State::CloseWait, None));
    host.wait(S - 1);
    assert_eq!(*evidence(&host.only(), "growth_per_minute"), Value::Unknown);
    host.wait(1);
    let seen = host.only();
    assert_eq!(*evidence(&seen, "growth_per_minute"), Value::Ratio(120.0), "two within a second");
    assert_eq!((evidence(&seen, "growth_window_ns"), seen.severity), (&Value::Number(S), Severity::Warning));
    for (watched_ns, severity) in [(30 * S - 1, Severity::Warning), (30 * S, Severity::Critical)] {
        let mut host = Host::with(host.findings.thresholds.clone());
        host.add(State::Listen, LOCAL, "0.0.0.0:0", 0);
        let places: Vec<_> = (0..50)
            .map(|port| host.add(State::Established, LOCAL, &format!("10.1.0.9:{}", 40_000 + port), 0))
            .collect();
        host.list();
        places.into_iter().for_each(|place| host.enters(place, State::CloseWait, None));
        host.wait(watched_ns);
        assert_eq!(host.only().severity, severity);
    }
}

#[test]
fn a_slow_server_is_given_twice_its_usual_time() {
    let mut host = Host::new();
    let places: Vec<_> =
        (0..4).map(|port| host.add(State::Established, LOCAL, &format!("10.1.0.9:{}", 40_000 + port), 0)).collect();
    host.list();
    places.iter().for_each(|place| host.enters(*place, State::CloseWait, None));
    // It closes three of them after 39, 40 and 50 s.
    for (place, after_ns) in places.iter().zip([39 * S, S, 10 * S]) {
        host.wait(after_ns);
        host.enters(*place, State::LastAck, None);
        host.enters(*place, State::Close, Some(CloseReason::Normal));
    }
    host.wait(30 * S);
    assert_eq!(host.detections(), [], "80 s are twice the usual 40 s");
    host.wait(1);
    let seen = host.only();
    assert_eq!((seen.kind, seen.count), (Kind::CloseWaitLeak, 1));
    assert_eq!(*evidence(&seen, "closes_after_ns"), Value::Number(40 * S));
    // Another process is not known to be slow.
    let other = host.add(State::CloseWait, LOCAL, "10.1.0.9:41000", 60 * S);
    host.owned_by(other, 701);
    assert_eq!(host.only().count, 2, "the service is the same");
}

#[test]
fn sockets_are_grouped_by_command_and_service_or_destination() {
    let mut host = Host::new();
    host.add(State::Listen, "0.0.0.0:80", "0.0.0.0:0", 0);
    for port in [40_000, 40_001] {
        host.add(State::CloseWait, LOCAL, &format!("10.1.0.9:{port}"), 70 * S); // through the listener
    }
    let other = host.add(State::CloseWait, LOCAL, "10.1.0.9:40002", 70 * S);
    host.owned_by(other, 701);
    for port in [50_000, 50_001] {
        host.add(State::CloseWait, &format!("10.1.0.1:{port}"), "10.1.0.7:5432", 70 * S); // to a destination
    }
    let third = host.add(State::CloseWait, LOCAL, "10.1.0.9:40003", 70 * S);
    let command = crate::model::event::Command::new(*b"other\0\0\0\0\0\0\0\0\0\0\0");
    host.sockets[third].owner =
        host.sockets[third].owner.map(|owner| crate::model::event::Owner { command, pid: 702, ..owner });
    let seen: Vec<_> = host
        .detections()
        .iter()
        .map(|seen| (seen.owner.unwrap().pid, seen.processes.len(), seen.subject, seen.count))
        .collect();
    let (listener, destination) = (Subject::Local(end("0.0.0.0:80")), Subject::Remote(end("10.1.0.7:5432")));
    assert_eq!(seen.len(), 3);
    for expected in [(PID, 2, listener, 3), (702, 1, listener, 1), (PID, 1, destination, 2)] {
        assert!(seen.contains(&expected), "{seen:?}");
    }
}

#[test]
fn the_subject_of_a_service_stays_when_its_listener_is_gone() {
    let mut host = Host::new();
    let listener = host.add(State::Listen, "0.0.0.0:80", "0.0.0.0:0", 0);
    host.add(State::CloseWait, LOCAL, "10.1.0.9:40000", 70 * S);
    let service = Subject::Local(end("0.0.0.0:80"));
    assert_eq!(host.only().subject, service);
    host.enters(listener, State::Close, None);
    host.sockets.remove(listener);
    assert_eq!(host.only().subject, service, "it was there");
}

#[test]
fn what_came_to_a_listener_that_nobody_saw_has_its_local_end_in_common() {
    let mut host = Host::new();
    host.add(State::CloseWait, LOCAL, "10.1.0.9:40000", 70 * S);
    assert_eq!(host.only().subject, Subject::Remote(end("10.1.0.9:40000")), "which end is the service is not known");
    for port in 40_001..40_012 {
        host.add(State::CloseWait, LOCAL, &format!("10.1.0.9:{port}"), 70 * S);
    }
    let seen = host.only();
    assert_eq!((seen.subject, seen.count), (Subject::Local(end(LOCAL)), 12));
    // Connections to one destination, which share no local end.
    let mut host = Host::new();
    for port in 50_000..50_012 {
        host.add(State::CloseWait, &format!("10.1.0.1:{port}"), "10.1.0.7:5432", 70 * S);
    }
    assert_eq!(host.only().subject, Subject::Remote(end("10.1.0.7:5432")));
}

#[test]
fn an_orphan_in_fin_wait2_is_only_told_of() {
    let mut host = Host::new();
    let place = host.add(State::FinWait2, LOCAL, REMOTE, 50 * S);
    let left = |ns| Some(Timer { kind: TimerKind::TimeWait, left_ns: ns });
    (host.sockets[place].kind, host.sockets[place].timer) = (socket::Kind::TimeWait, left(10 * S));
    (host.sockets[place].connection, host.sockets[place].uid) = (None, None);
    let seen = host.only();
    assert_eq!((seen.severity, seen.is_settled), (Severity::Info, true));
    assert_eq!(*evidence(&seen, "orphaned"), Value::Flag(true));
    assert_eq!(*evidence(&seen, "closed_by"), Value::Unknown);
    assert_eq!(*evidence(&seen, "time_left_ns"), Value::Number(10 * S));
    // Where the kernel's timer holds the full socket for a while.
    let place = host.add(State::FinWait2, "10.1.0.1:81", "10.1.0.9:40001", 50 * S);
    host.sockets[place].uid = None;
    host.sockets[place].timer = Some(Timer { kind: TimerKind::Keepalive, left_ns: 7 * S });
    let seen = host.detections();
    assert_eq!((seen.len(), seen[1].severity), (2, Severity::Info));
    assert_eq!(*evidence(&seen[1], "time_left_ns"), Value::Number(7 * S));
}

#[test]
fn a_mini_socket_that_no_poll_has_seen_may_be_gone() {
    let mut host = Host::new();
    let place = host.add(State::FinWait2, LOCAL, REMOTE, 50 * S);
    host.sockets[place].kind = socket::Kind::TimeWait;
    assert_eq!(host.detections(), [], "no timer of it is known");
}

#[test]
fn who_shut_a_socket_down_and_keeps_it_is_named() {
    let mut host = Host::new();
    let place = host.add(State::Established, LOCAL, REMOTE, 0);
    host.list();
    host.enters(place, State::FinWait1, None);
    host.wait(MS);
    host.enters(place, State::FinWait2, None);
    host.wait(45 * S);
    let seen = host.only();
    assert_eq!((seen.kind, seen.severity), (Kind::FinWait2Stuck, Severity::Warning));
    assert_eq!(*evidence(&seen, "orphaned"), Value::Flag(false));
    assert_eq!(*evidence(&seen, "closed_by"), Value::Number(PID.into()));
    assert_eq!(*evidence(&seen, "time_left_ns"), Value::Unknown, "no timer runs");
}

#[test]
fn fins_that_were_sent_again_are_counted() {
    for (state, kind) in [(State::FinWait1, Kind::FinWait1Stuck), (State::LastAck, Kind::LastAckLost)] {
        let mut host = Host::new();
        let place = host.add(State::CloseWait, LOCAL, REMOTE, 0);
        host.list();
        host.enters(place, state, None);
        host.sockets[place].uid = None;
        host.wait(15 * S);
        host.retransmits(place, 6);
        let seen = host.only();
        assert_eq!((seen.kind, seen.severity), (kind, Severity::Warning));
        assert_eq!(*evidence(&seen, "fin_retransmits"), Value::Number(6));
        assert_eq!(*evidence(&seen, "orphaned"), Value::Flag(true));
        assert_eq!(*evidence(&seen, "closed_by"), Value::Number(PID.into()));
    }
}

#[test]
fn what_goes_out_slowly_is_not_stuck() {
    for (timeouts, probes, backoff, last_ack_s, is_stuck) in [
        (0, 0, Some(0), 19, false),
        (0, 0, Some(0), 20, true), // that was before the close
        (1, 0, Some(0), 19, true),
        (0, 1, Some(0), 19, true),
        (0, 0, Some(1), 19, true),
        (0, 0, None, 19, true),
    ] {
        for state in [State::FinWait1, State::Closing, State::LastAck] {
            let mut host = Host::new();
            let place = host.add(state, LOCAL, REMOTE, 20 * S);
            let socket = &mut host.sockets[place];
            (socket.timeouts, socket.probes, socket.backoff, socket.send_queue) = (timeouts, probes, backoff, 99_999);
            let info = ConnectionInfo { last_ack_ns: last_ack_s * S, ..ConnectionInfo::default() };
            socket.connection = Some(info);
            assert_eq!(host.detections().len(), usize::from(is_stuck), "{timeouts} {probes} {backoff:?}");
        }
    }
}

#[test]
fn half_of_a_connection_may_go_on() {
    for (state, sent_ns, received_ns) in [
        (State::CloseWait, 100 * MS, 300 * S),
        (State::FinWait2, 300 * S, 100 * MS),
        (State::CloseWait, 50 * S, 300 * S),
    ] {
        let mut host = Host::new();
        let place = host.add(state, LOCAL, REMOTE, 300 * S);
        let info = ConnectionInfo { last_sent_ns: sent_ns, last_received_ns: received_ns, ..ConnectionInfo::default() };
        host.sockets[place].connection = Some(info);
        let after_ns = if state == State::CloseWait { 60 * S } else { 45 * S };
        let is_active = sent_ns.min(received_ns) < after_ns;
        assert!(is_active && host.detections().is_empty(), "{state}");
        // A peer that only answers keepalives keeps nothing going.
        let info = ConnectionInfo { last_sent_ns: 300 * S, last_received_ns: 300 * S, last_ack_ns: S, ..info };
        host.sockets[place].connection = Some(info);
        host.wait(after_ns);
        assert_eq!(host.detections().len(), 1, "{state}");
    }
}

#[test]
fn a_proxy_that_passed_the_fin_on_waits_for_its_other_side() {
    let mut host = Host::new();
    host.add(State::Listen, LOCAL, "0.0.0.0:0", 100 * S);
    for port in [1, 2] {
        host.add(State::CloseWait, LOCAL, &format!("10.1.0.9:{port}"), 90 * S);
        let place = host.add(State::FinWait2, &format!("10.1.0.1:4000{port}"), "10.2.0.1:8080", 90 * S);
        host.sockets[place].owner = host.sockets[0].owner;
    }
    let seen = host.detections();
    let found: Vec<_> = seen.iter().map(|seen| (seen.kind, seen.severity, seen.cause)).collect();
    let waits = (Kind::CloseWaitLeak, Severity::Info, Cause::WaitsForOtherSide);
    assert_eq!(found, [waits, (Kind::FinWait2Stuck, Severity::Warning, Cause::OnlyShutDown)], "{seen:#?}");
}

#[test]
fn what_was_leaked_stays_so_when_the_process_closes_others_late() {
    let mut thresholds = Thresholds::default();
    thresholds.set_stuck(State::CloseWait, 2 * S).unwrap();
    let mut host = Host::with(thresholds);
    host.add(State::Listen, LOCAL, "0.0.0.0:0", 0);
    for port in 0..9 {
        host.add(State::Established, LOCAL, &format!("10.1.0.9:{}", 40_000 + port), 0);
    }
    host.list();
    for place in 1..=9 {
        host.enters(place, State::CloseWait, None);
    }
    host.wait(5 * S);
    assert_eq!(host.only().count, 9);
    for place in 1..=3 {
        host.enters(place, State::LastAck, None); // after 5 s: the others are not yet twice as old
        host.enters(place, State::Close, Some(CloseReason::Normal));
    }
    host.wait(S);
    let seen = host.only();
    assert_eq!((seen.count, evidence(&seen, "closes_after_ns")), (6, &Value::Number(5 * S)));
    // What comes now is given that time.
    host.add(State::Established, LOCAL, "10.1.0.9:41000", 0);
    host.list();
    host.enters(10, State::CloseWait, None);
    host.wait(9 * S);
    assert_eq!(host.only().count, 6);
    host.wait(2 * S);
    assert_eq!(host.only().count, 7);
}

#[test]
fn a_fin_that_nothing_was_seen_of_since_is_not_said_to_be_lost() {
    // Without a listing: its namespace may be gone. The FIN waits behind data that a closed window holds up.
    let mut host = Host::new();
    let place = host.add(State::Established, LOCAL, REMOTE, 0);
    host.list();
    host.enters(place, State::FinWait1, None);
    host.wait(60 * S);
    assert_eq!(host.unlisted_detections(), []);
    host.retransmits(place, 6);
    assert_eq!(host.unlisted_detections()[0].kind, Kind::FinWait1Stuck);
}

#[test]
fn a_pool_that_does_not_grow_stays_harmless_whatever_the_time() {
    let mut thresholds = Thresholds::default();
    thresholds.set_stuck(State::CloseWait, 2 * S).unwrap();
    let mut host = Host::with(thresholds);
    host.settings.local_ports = Some((32_768, 60_999));
    for port in 0..3 {
        host.add(State::SynSent, &format!("10.1.0.1:{}", 40_000 + port), "10.1.0.9:80", 0);
    }
    host.list();
    host.wait(S);
    for place in 0..3 {
        host.enters(place, State::Established, None);
        host.enters(place, State::CloseWait, None);
    }
    host.wait(2 * S);
    for _ in 0..100 {
        host.wait(777 * MS + 1); // the growth of three sockets per minute is no even number
        let seen = host.only();
        assert_eq!((seen.severity, seen.cause, seen.count), (Severity::Info, Cause::IdlePooled, 3));
    }
}
