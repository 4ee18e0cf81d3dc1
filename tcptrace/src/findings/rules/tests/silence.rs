//! Established connections whose peer does not answer.

use crate::{
    findings::{
        Kind, Phase, Severity, Subject, Value,
        testing::{Host, MS, PID, S, end, evidence},
    },
    model::{
        close_reason::CloseReason,
        socket::{self, ConnectionInfo, Keepalive, Timer, TimerKind},
        state::State,
    },
};

const LOCAL: &str = "10.1.0.1:80";
const REMOTE: &str = "10.9.0.9:40000";
const TWO_HOURS_NS: u64 = 7200 * S;

fn half_open(change: impl FnOnce(&mut Host)) -> Option<crate::findings::Detection> {
    let mut host = Host::new();
    host.idle(LOCAL, REMOTE, TWO_HOURS_NS);
    change(&mut host);
    let seen = host.detections().into_iter().next();
    assert!(seen.as_ref().is_none_or(|seen| seen.kind == Kind::HalfOpen), "{seen:?}");
    seen
}

#[test]
fn an_idle_connection_without_keepalive_may_be_half_open_after_two_hours() {
    let mut host = Host::new();
    host.idle(LOCAL, REMOTE, TWO_HOURS_NS - 1);
    assert_eq!(host.detections(), []);
    let seen = half_open(|host| {
        let settings = &mut host.settings;
        (settings.keepalive_time, settings.keepalive_interval) = (Some(7200), Some(75));
        settings.keepalive_probes = Some(9);
    });
    let seen = seen.unwrap();
    assert_eq!((seen.severity, seen.count, seen.subject), (Severity::Warning, 1, Subject::Remote(end(REMOTE))));
    assert_eq!((seen.owner.unwrap().pid, seen.is_settled), (PID, true));
    for (name, value) in [
        ("idle_ns", Value::Number(TWO_HOURS_NS)),
        ("keepalive", Value::Flag(false)),
        ("keepalive_time_ns", Value::Number(TWO_HOURS_NS)),
        ("keepalive_interval_ns", Value::Number(75 * S)),
        ("keepalive_probes", Value::Number(9)),
        ("peer_end", Value::Name("not_visible")),
    ] {
        assert_eq!(*evidence(&seen, name), value, "{name}");
    }
}

#[test]
fn only_what_was_listed_and_asks_nobody_is_half_open() {
    assert_eq!(half_open(|host| host.sockets[0].keepalive = Keepalive::Unknown), None);
    assert_eq!(half_open(|host| host.sockets[0].timeouts = 1), None, "it is being asked by data");
    let mut host = Host::new();
    host.idle(LOCAL, REMOTE, TWO_HOURS_NS);
    host.list();
    assert_eq!(host.unlisted_detections(), [], "whether a keepalive asks is not known");
}

#[test]
fn a_connection_whose_other_end_is_here_is_never_half_open() {
    let other = |host: &mut Host, state| host.add(state, REMOTE, LOCAL, S);
    for state in [State::Established, State::CloseWait, State::FinWait2] {
        assert_eq!(half_open(|host| _ = other(host, state)), None, "{state}");
    }
    let request = |host: &mut Host| {
        let place = other(host, State::SynRecv);
        host.sockets[place].kind = socket::Kind::Request;
    };
    assert_eq!(half_open(request), None, "the handshake is not over there");
}

#[test]
fn the_other_end_is_gone_where_its_address_is_of_this_host() {
    let peer_end = |local: &str, remote: &str, change: fn(&mut Host)| {
        let mut host = Host::new();
        host.idle(local, remote, TWO_HOURS_NS);
        change(&mut host);
        evidence(&host.only(), "peer_end").clone()
    };
    assert_eq!(peer_end("127.0.0.1:80", "127.0.0.1:40000", |_| {}), Value::Name("gone"));
    let another = |host: &mut Host| _ = host.add(State::Established, "10.9.0.9:22", "10.8.0.1:5000", S);
    assert_eq!(peer_end(LOCAL, REMOTE, another), Value::Name("gone"));
    assert_eq!(peer_end(LOCAL, REMOTE, |_| {}), Value::Name("not_visible"));
    let translated = |host: &mut Host| _ = host.add(State::Established, REMOTE, "10.96.0.1:80", S);
    assert_eq!(peer_end(LOCAL, REMOTE, translated), Value::Name("not_visible"), "it may be this one, through NAT");
}

#[test]
fn a_peer_is_dead_after_five_timeouts_in_a_row() {
    for state in [State::Established, State::CloseWait] {
        let mut host = Host::new();
        let place = host.add(state, LOCAL, REMOTE, S);
        host.list();
        host.wait(S);
        host.retransmits(place, 4);
        host.wait(MS);
        assert_eq!(host.detections(), [], "{state}");
        host.retransmits(place, 5);
        assert!(!host.unlisted_detections()[0].is_settled);
        host.wait(MS);
        let socket = &mut host.sockets[place];
        (socket.rto_ns, socket.backoff, socket.send_queue) = (Some(6_400 * MS), Some(5), 1448);
        socket.timer = Some(Timer { kind: TimerKind::Retransmit, left_ns: 5 * S });
        socket.connection = Some(ConnectionInfo { last_ack_ns: 10 * S, ..ConnectionInfo::default() });
        host.settings.retries2 = Some(15);
        let seen = host.only();
        assert_eq!((seen.kind, seen.severity, seen.count), (Kind::PeerDead, Severity::Warning, 1));
        assert!(seen.is_settled);
        for (name, value) in [
            ("timeouts", Value::Number(5)),
            ("backoff", Value::Number(5)),
            ("rto_ns", Value::Number(6_400 * MS)),
            ("total_retrans", Value::Number(5)),
            ("unacked_bytes", Value::Number(1448)),
            // Documentation/networking/ip-sysctl.rst: 15 retries come to 924.6 s.
            ("gives_up_in_ns", Value::Number(924_600 * MS - 10 * S)),
            ("errno", Value::Unknown),
        ] {
            assert_eq!(*evidence(&seen, name), value, "{name}");
        }
        // A listing shows that an answer came.
        host.wait(MS);
        host.sockets[place].timeouts = 0;
        assert_eq!(host.detections(), []);
    }
}

#[test]
fn giving_up_takes_until_the_timer_runs_out_at_least() {
    let mut host = Host::new();
    let place = host.add(State::Established, LOCAL, REMOTE, 900 * S);
    let socket = &mut host.sockets[place];
    socket.timeouts = 8;
    socket.timer = Some(Timer { kind: TimerKind::Retransmit, left_ns: 30 * S });
    socket.connection = Some(ConnectionInfo { last_ack_ns: 100 * S, ..ConnectionInfo::default() });
    assert_eq!(*evidence(&host.only(), "gives_up_in_ns"), Value::Unknown, "tcp_retries2 is not known");
    host.settings.retries2 = Some(8);
    // 102.2 s by the same document.
    assert_eq!(*evidence(&host.only(), "gives_up_in_ns"), Value::Number(30 * S));
    host.sockets[place].connection = Some(ConnectionInfo { last_ack_ns: 52_200 * MS, ..ConnectionInfo::default() });
    assert_eq!(*evidence(&host.only(), "gives_up_in_ns"), Value::Number(50 * S));
    host.sockets[place].user_timeout_ms = Some(90_000);
    assert_eq!(*evidence(&host.only(), "gives_up_in_ns"), Value::Number(37_800 * MS));
}

#[test]
fn a_timeout_is_of_retransmission_where_data_is_in_flight_and_of_keepalive_else() {
    for (state, unacked, kind) in [
        (State::Established, 1, Some(Kind::PeerDead)),
        (State::CloseWait, 1, Some(Kind::PeerDead)),
        (State::Established, 0, Some(Kind::KeepaliveTimeout)),
        (State::CloseWait, 0, Some(Kind::KeepaliveTimeout)),
        (State::FinWait1, 1, None),
        (State::LastAck, 1, None),
    ] {
        let mut host = Host::new();
        let place = host.add(state, LOCAL, REMOTE, 14 * S);
        (host.sockets[place].send_queue, host.sockets[place].timeouts) = (unacked, 4);
        host.is_given_up(place, 9, 20 * S);
        let seen = host.detections();
        assert_eq!(seen.first().map(|seen| seen.kind), kind, "{state} with {unacked}");
        let Some(seen) = seen.first() else { continue };
        assert_eq!((seen.severity, seen.count), (Severity::Warning, 1));
        assert_eq!(*evidence(seen, "errno"), Value::Name("ETIMEDOUT"));
        if kind == Some(Kind::KeepaliveTimeout) {
            assert_eq!(*evidence(seen, "probes"), Value::Number(9));
            assert_eq!(*evidence(seen, "idle_ns"), Value::Number(20 * S));
        } else {
            assert_eq!(*evidence(seen, "unacked_bytes"), Value::Number(1));
        }
    }
}

#[test]
fn a_dead_peer_is_one_finding_from_the_first_timeouts_to_the_end() {
    let mut host = Host::new();
    let places =
        [40_000, 40_001].map(|port| host.add(State::Established, &format!("10.1.0.1:{port}"), "10.9.0.9:80", S));
    host.list();
    for place in places {
        host.sockets[place].send_queue = 7;
        host.retransmits(place, 5);
    }
    assert_eq!(host.evaluate(), [], "its evidence is not known");
    assert!(host.findings.wants_listing());
    host.wait(MS);
    host.list();
    let opened = host.evaluate();
    assert_eq!((opened.len(), opened[0].phase, opened[0].detection.count), (1, Phase::Opened, 2));
    // One of them ends: the kernel gave up.
    host.wait(30 * S);
    host.fails(places[0], CloseReason::TimedOut);
    let updated = host.evaluate();
    assert_eq!((updated.len(), updated[0].phase, updated[0].detection.count), (1, Phase::Updated, 2));
    assert_eq!(*evidence(&updated[0].detection, "errno"), Value::Name("ETIMEDOUT"));
    assert_eq!(*evidence(&updated[0].detection, "timeouts"), Value::Number(5));
    host.fails(places[1], CloseReason::TimedOut);
    host.evaluate();
    host.wait(60 * S);
    host.evaluate();
    host.wait(2 * S + MS);
    let closed = host.evaluate();
    assert_eq!((closed.len(), closed[0].phase, closed[0].number), (1, Phase::Closed, opened[0].number));
    assert_eq!(closed[0].detection.count, 2);
}
