//! TIME_WAIT that takes ports, and loss.

use crate::{
    findings::{
        Cause, Kind, Severity, Subject, Thresholds, Value,
        testing::{Host, NETNS, PID, S, end, evidence},
    },
    model::state::State,
};

fn over(count: u16) -> Host {
    let mut host = Host::new();
    host.over(count);
    host
}

#[test]
fn time_wait_is_pressure_from_half_of_the_ports_on() {
    assert_eq!(over(4).detections(), []);
    for (count, severity) in
        [(5, Severity::Warning), (8, Severity::Warning), (9, Severity::Critical), (10, Severity::Critical)]
    {
        let mut host = over(count);
        (host.settings.tw_reuse, host.settings.max_tw_buckets) = (Some(2), Some(32_768));
        host.list();
        host.counters.time_wait_overflows = 3;
        let seen = host.only();
        assert_eq!((seen.kind, seen.severity, seen.count), (Kind::TimeWaitPressure, severity, count.into()));
        assert_eq!(seen.subject, Subject::Path(end("10.1.0.1:0"), end("10.9.0.9:80")));
        assert_eq!((seen.netns, seen.is_settled), (Some(NETNS), true));
        for (name, value) in [
            ("ports", Value::Number(count.into())),
            ("port_range", Value::Text("50000-50009".to_owned())),
            ("share", Value::Ratio(f64::from(count) / 10.0)),
            ("tw_reuse", Value::Number(2)),
            ("max_tw_buckets", Value::Number(32_768)),
            ("overflows", Value::Number(3)),
        ] {
            assert_eq!(*evidence(&seen, name), value, "{name}");
        }
    }
}

#[test]
fn ports_that_are_reused_are_only_told_of() {
    for (reuse, local, remote, severity) in [
        (0, "127.0.0.1", "127.0.0.1", Severity::Critical),
        (1, "10.1.0.1", "10.9.0.9", Severity::Info),
        (2, "10.1.0.1", "10.9.0.9", Severity::Critical),
        (2, "127.0.0.1", "127.0.0.1", Severity::Info),
        (2, "[::1]", "[::1]", Severity::Info),
    ] {
        let mut host = over(0);
        (50_000..50_010).for_each(|port| host.time_wait(&format!("{local}:{port}"), &format!("{remote}:80")));
        host.settings.tw_reuse = Some(reuse);
        let seen = host.only();
        assert_eq!((seen.severity, seen.count), (severity, 10), "{reuse} from {local} to {remote}");
        assert_eq!(seen.cause == Cause::PortsInTimeWait, severity == Severity::Critical);
    }
}

#[test]
fn ports_count_by_destination_and_within_the_range() {
    let mut host = over(4);
    host.time_wait("10.1.0.1:50004", "10.9.0.8:80");
    host.time_wait("10.1.0.2:50004", "10.9.0.9:80");
    host.time_wait("10.1.0.1:50010", "10.9.0.9:80");
    host.time_wait("10.1.0.1:80", "10.9.0.9:80");
    assert_eq!(host.detections(), []);
    host.settings.local_ports = None;
    assert_eq!(over(4).detections(), [], "without the range nothing is known");
    host.settings.local_ports = Some((50_000, 50_010));
    assert_eq!(host.detections(), [], "5 of 11");
    host.findings.thresholds.time_wait_share = 5.0 / 11.0;
    assert_eq!(host.only().count, 5);
}

#[test]
fn most_of_the_connections_say_whose_it_is() {
    let mut thresholds = Thresholds::default();
    thresholds.set("time-wait-share", "0.2", |_| None).unwrap();
    let mut host = Host::with(thresholds);
    host.settings.local_ports = Some((50_000, 50_009));
    let places: Vec<_> = (50_000..50_003)
        .map(|port| host.add(State::Established, &format!("10.1.0.1:{port}"), "10.9.0.9:80", S))
        .collect();
    host.owned_by(places[0], 900);
    host.list();
    for place in places {
        host.enters(place, State::FinWait1, None);
        host.enters(place, State::FinWait2, None);
        host.enters_mini(place, State::TimeWait);
    }
    let seen = host.unlisted_detections();
    assert_eq!((seen.len(), seen[0].owner.map(|owner| owner.pid)), (1, Some(PID)));
    assert_eq!(over(5).only().owner, None, "a listing does not know whose mini-sockets were");
}

#[test]
fn twenty_retransmissions_within_some_seconds_are_a_storm() {
    for (count, is_storm) in [(19, false), (20, true)] {
        let mut host = Host::new();
        let place = host.add(State::Established, "10.1.0.1:50000", "10.9.0.9:80", 100 * S);
        host.list();
        for _ in 0..count {
            host.wait(S / 2);
            host.retransmits(place, 1);
        }
        let seen = host.detections();
        assert_eq!(!seen.is_empty(), is_storm, "{seen:?}");
        let Some(seen) = seen.first() else { continue };
        assert_eq!((seen.kind, seen.severity, seen.count), (Kind::RetransmitStorm, Severity::Warning, 1));
        assert_eq!((seen.owner.unwrap().pid, seen.subject), (PID, Subject::Remote(end("10.9.0.9:80"))));
        assert!(seen.is_settled);
        assert_eq!(*evidence(seen, "retransmits"), Value::Number(count));
        assert_eq!(*evidence(seen, "window_ns"), Value::Number(10 * S + host.now_ns % (5 * S)));
        assert_eq!(*evidence(seen, "srtt_us"), Value::Number(409));
        assert_eq!(*evidence(seen, "state"), Value::Name("ESTABLISHED"));
        assert_eq!(*evidence(seen, "total_retrans"), Value::Number(1));
        host.wait(6 * S);
        assert_eq!(host.detections(), [], "it is over: not enough within the last time");
    }
}
