//! Listeners.

use crate::{
    findings::{
        Kind, Severity, Subject, Thresholds, Value,
        testing::{Host, MS, PID, S, end, evidence},
    },
    model::state::State,
};

#[test]
fn half_open_connections_are_a_flood_from_64_and_half_of_the_backlog_on() {
    let cases =
        [(63, 100, false), (64, 128, true), (64, 129, true), (64, 130, false), (100, 200, true), (99, 200, false)];
    for (count, backlog, is_flood) in cases {
        let mut host = Host::new();
        host.listening("0.0.0.0:80", 0, backlog);
        host.requests("10.1.0.1:80", count);
        (host.settings.max_syn_backlog, host.settings.syncookies) = (Some(512), Some(1));
        let seen = host.detections();
        assert_eq!(!seen.is_empty(), is_flood, "{count} with a backlog of {backlog}: {seen:?}");
        let Some(seen) = seen.first() else { continue };
        assert_eq!((seen.kind, seen.severity, seen.count), (Kind::SynFlood, Severity::Critical, count.into()));
        assert_eq!((seen.owner.unwrap().pid, seen.subject), (PID, Subject::Local(end("0.0.0.0:80"))));
        for (name, value) in [
            ("half_open", count.into()),
            ("synack_retransmitted", (count - count.div_ceil(4)).into()),
            ("syn_cookies_sent", 0),
            ("backlog", backlog.into()),
            ("max_syn_backlog", 512),
            ("syncookies", 1),
        ] {
            assert_eq!(*evidence(seen, name), Value::Number(value), "{name}");
        }
    }
}

#[test]
fn a_flood_shows_itself_by_syn_cookies_too() {
    for (cookies, is_old, is_flood) in [(63, true, false), (64, true, true), (64, false, false)] {
        let mut host = Host::new();
        host.listening("0.0.0.0:80", 0, 16);
        host.requests("10.1.0.1:80", 8);
        if !is_old {
            host.sockets.iter_mut().for_each(|socket| socket.timeouts = 0); // a burst of clients
        }
        host.list();
        host.wait(S);
        host.counters.syncookies_sent = cookies;
        let seen = host.detections();
        assert_eq!(!seen.is_empty(), is_flood, "{seen:?}");
        if is_flood {
            assert_eq!(*evidence(&seen[0], "syn_cookies_sent"), Value::Number(cookies));
        }
        host.sockets.truncate(1);
        assert_eq!(host.detections(), [], "no handshake is open any more");
    }
}

#[test]
fn syn_cookies_are_of_the_listener_whose_queue_is_full() {
    let mut host = Host::new();
    for (local, limit) in [("0.0.0.0:80", 16), ("0.0.0.0:81", 4096)] {
        host.listening(local, 0, limit);
        host.requests(&local.replace("0.0.0.0", "10.1.0.1"), 8);
    }
    host.list();
    host.wait(S);
    host.counters.syncookies_sent = 1000;
    assert_eq!(host.only().subject, Subject::Local(end("0.0.0.0:80")));
}

#[test]
fn listeners_of_one_place_are_taken_together() {
    // With SO_REUSEPORT each worker may have its own.
    let workers = |full: usize| {
        let mut host = Host::new();
        for worker in 0..4 {
            let place = host.listening("0.0.0.0:80", if worker == full { 129 } else { 0 }, 128);
            host.owned_by(place, 800 + worker as u32);
        }
        host.requests("10.1.0.1:80", 300);
        host
    };
    for full in 0..4 {
        let seen = workers(full).only();
        assert_eq!((seen.kind, seen.owner.unwrap().pid), (Kind::AcceptQueueFull, 800 + full as u32));
        assert_eq!(*evidence(&seen, "waiting"), Value::Number(300), "whichever the kernel would have chosen");
    }
    let seen = workers(4).only();
    assert_eq!((seen.kind, seen.owner), (Kind::SynFlood, None), "several processes listen there");
    assert_eq!(*evidence(&seen, "backlog"), Value::Number(4 * 128));
}

#[test]
fn counters_are_told_for_the_last_ten_to_twenty_seconds() {
    let mut host = Host::new();
    host.listening("0.0.0.0:80", 129, 128);
    host.counters.listen_overflows = 1000; // before the start
    let mut reported = Vec::new();
    for _ in 0..8 {
        reported.push(evidence(&host.only(), "listen_overflows").clone());
        host.wait(5 * S);
        host.counters.listen_overflows += 1;
    }
    let number = Value::Number;
    assert_eq!(reported, [0, 1, 2, 3, 2, 3, 2, 3].map(number));
}

#[test]
fn a_full_accept_queue_is_no_flood() {
    let mut host = Host::new();
    host.listening("0.0.0.0:80", 9, 8);
    host.requests("10.1.0.1:80", 100);
    assert_eq!(host.only().kind, Kind::AcceptQueueFull);
}

/// Where only these listeners are expected.
fn expecting(expected: &[&str]) -> Host {
    let mut thresholds = Thresholds::default();
    thresholds.expected = Some(expected.iter().map(|text| text.parse().unwrap()).collect());
    Host::with(thresholds)
}

#[test]
fn listeners_are_foreign_where_some_are_expected() {
    let expecting = |expected: &[&str]| {
        let mut host = expecting(expected);
        host.listening("0.0.0.0:22", 0, 8);
        let foreign = host.listening("10.1.0.1:4444", 0, 8);
        host.owned_by(foreign, 701);
        host
    };
    let mut host = Host::new();
    host.listening("0.0.0.0:4444", 0, 8);
    assert_eq!(host.detections(), [], "without a list all are expected");
    for expected in [&["22", "4444"][..], &["0.0.0.0:22", "10.1.0.1:4000-5000"]] {
        assert_eq!(expecting(expected).detections(), [], "{expected:?}");
    }
    for expected in [&["22"][..], &["22", "10.1.0.2:4444"], &["22", "4445-4500"]] {
        let seen = expecting(expected).only();
        assert_eq!((seen.kind, seen.severity, seen.count), (Kind::ForeignListener, Severity::Warning, 1));
        assert_eq!((seen.owner.unwrap().pid, seen.subject), (701, Subject::Local(end("10.1.0.1:4444"))));
        assert_eq!(*evidence(&seen, "address"), Value::Text("10.1.0.1:4444".to_owned()));
        assert!(seen.is_settled);
    }
    assert_eq!(expecting(&[]).detections().len(), 2, "none is expected");
}

#[test]
fn a_listener_that_comes_is_seen_at_once() {
    let mut host = expecting(&[]);
    let place = host.add(State::Close, "10.1.0.1:4444", "0.0.0.0:0", 0);
    host.wait(MS);
    host.enters(place, State::Listen, None);
    assert_eq!(host.unlisted_detections().len(), 1);
    host.enters(place, State::Close, None);
    assert_eq!(host.unlisted_detections(), []);
}
