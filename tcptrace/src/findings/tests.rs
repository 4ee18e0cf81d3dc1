//! Findings over time, and what the documentation says of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use super::{
    Cause, Detection, Example, Kind, Phase, Processes, Severity, Subject, Thresholds, Tracker, Value,
    testing::{Host, MS, NETNS, S, START_NS, end, process},
};
use crate::model::{
    age::{Age, AgeSource},
    close_reason::CloseReason,
    event::OwnerSource,
    holders::Holder,
    state::State,
};

fn detection(kind: Kind, count: u64) -> Detection {
    Detection {
        kind,
        severity: Severity::Warning,
        netns: Some(NETNS),
        owner: Some(process(1)),
        subject: Subject::Remote(end("10.9.0.9:80")),
        count,
        oldest: None,
        evidence: vec![("errno", Value::Unknown)],
        examples: Vec::new(),
        processes: Processes::default(),
        cause: Cause::NeverClosed,
        is_settled: true,
        is_shown: true,
    }
}

/// Phases, numbers and counts of what is reported at each time, in ms from the start.
fn reported(times: &[(u64, &[Detection])]) -> Vec<(u64, Phase, u64, u64)> {
    let mut tracker = Tracker::new(&Thresholds::default());
    let mut reported = Vec::new();
    for (ms, detections) in times {
        let now_ns = START_NS + ms * MS;
        for finding in tracker.update(detections.to_vec(), now_ns) {
            assert_eq!(finding.time_ns, now_ns);
            reported.push((*ms, finding.phase, finding.number, finding.detection.count));
        }
    }
    reported
}

use Phase::{Closed, Merged, Opened, Updated};

#[test]
fn a_finding_opens_is_updated_and_closes() {
    let leak = |count| [detection(Kind::CloseWaitLeak, count)];
    let found = reported(&[
        (0, &leak(1)),
        (250, &leak(1)),
        (500, &[]),
        (2250, &[]),
        (2251, &[]),
        (2500, &leak(1)),
        (4501, &[]),
    ]);
    let again = [(0, Opened, 1, 1), (2251, Closed, 1, 1), (2500, Opened, 2, 1), (4501, Closed, 2, 1)];
    assert_eq!(found, again, "the next one is another");
}

#[test]
fn changes_are_told_quickly_at_first_and_then_at_a_bounded_rate() {
    let counts: Vec<_> = (0..600).map(|nth| (nth * 250, [detection(Kind::CloseWaitLeak, 1000 + nth)])).collect();
    let times: Vec<_> = counts.iter().map(|(ms, seen)| (*ms, &seen[..])).collect();
    let found = reported(&times);
    let updates: Vec<_> = found.iter().map(|(ms, ..)| *ms).collect();
    assert_eq!(updates, [0, 1000, 3000, 7000, 15_000, 31_000, 61_000, 91_000, 121_000]);
    assert!(found.iter().all(|(ms, _, _, count)| *count == 1000 + ms / 250), "with the count of that moment");
}

#[test]
fn what_has_doubled_is_told_soon() {
    let leak = |count| [detection(Kind::CloseWaitLeak, count)];
    let found = reported(&[
        (0, &leak(1)),
        (1000, &leak(3)),
        (1500, &leak(7)),
        (2000, &leak(7)),
        (2250, &leak(9)), // waits for the next update
        (5999, &leak(13)),
        (6000, &leak(14)),
        (6999, &leak(14)),
        (7000, &leak(28)),
    ]);
    let updates = [(1000, Updated, 1, 3), (2000, Updated, 1, 7), (6000, Updated, 1, 14), (7000, Updated, 1, 28)];
    assert_eq!(found[0], (0, Opened, 1, 1));
    assert_eq!(found[1..], updates);
}

#[test]
fn counts_only_rise_and_the_last_record_is_exact() {
    let mut tracker = Tracker::new(&Thresholds::default());
    let mut counts = Vec::new();
    for (s, count) in [5, 20, 9, 9, 9, 9, 12, 11].into_iter().enumerate() {
        let reported = tracker.update(vec![detection(Kind::CloseWaitLeak, count)], START_NS + s as u64 * S);
        counts.extend(reported.iter().map(|finding| (s, finding.detection.count, finding.count_now)));
    }
    assert_eq!(counts, [(0, 5, 5), (1, 20, 20), (3, 20, 9), (7, 20, 11)]);
    assert_eq!(tracker.take_final_updates(START_NS + 8 * S), [], "nothing has changed since");
    tracker.update(vec![detection(Kind::CloseWaitLeak, 21)], START_NS + 8 * S);
    let rest = tracker.take_final_updates(START_NS + 8 * S);
    let last: Vec<_> = rest.iter().map(|finding| (finding.phase, finding.detection.count, finding.count_now)).collect();
    assert_eq!(last, [(Updated, 21, 21)]);
    assert_eq!(tracker.take_final_updates(START_NS + 8 * S), []);
}

fn example(cookie: u64) -> Example {
    Example {
        cookie: Some(cookie),
        local: end("10.1.0.1:80"),
        remote: end("10.9.0.9:40000"),
        state: State::CloseWait,
        age: None,
        facts: None,
        holders: Vec::new(),
        peer: None,
    }
}

fn at(subject: Subject, count: u64, cookies: &[u64]) -> Detection {
    let examples = cookies.iter().map(|cookie| example(*cookie)).collect();
    Detection { subject, examples, ..detection(Kind::CloseWaitLeak, count) }
}

fn remote(port: u16) -> Subject {
    Subject::Remote(end(&format!("10.9.0.9:{port}")))
}

#[test]
fn many_that_become_several_ends_merge() {
    let each: Vec<_> = (1..=8).map(|port| at(remote(port), 1, &[port.into()])).collect();
    let several = at(Subject::Several, 9, &[1, 2, 3, 4, 5]);
    let found =
        reported(&[(0, &each), (1000, std::slice::from_ref(&several)), (10_000, std::slice::from_ref(&several))]);
    let opened: Vec<_> = (1..=8).map(|number| (0, Opened, number, 1)).collect();
    assert_eq!(found[..8], opened[..]);
    let mut merged: Vec<_> = (2..=8).map(|number| (1000, Merged(1), number, 1)).collect();
    merged.insert(0, (1000, Updated, 1, 9));
    assert_eq!(found[8..], merged[..], "none closes, and the oldest goes on");
    // And they stay together when there are fewer.
    let fewer = [at(remote(1), 2, &[1]), at(remote(2), 1, &[2])];
    let found = reported(&[(0, std::slice::from_ref(&several)), (1000, &fewer), (60_000, &fewer), (62_001, &[])]);
    assert_eq!(found, [(0, Opened, 1, 9), (1000, Updated, 1, 9), (62_001, Closed, 1, 9)]);
}

#[test]
fn what_moves_keeps_its_number() {
    let local = Subject::Local(end("0.0.0.0:80"));
    let before = [at(remote(1), 2, &[7, 8]), at(remote(2), 1, &[9])];
    let after = [at(local, 3, &[7, 8, 9])];
    let found = reported(&[(0, &before), (1000, &after), (3001, &[])]);
    let want =
        [(0, Opened, 1, 2), (0, Opened, 2, 1), (1000, Updated, 1, 3), (1000, Merged(1), 2, 1), (3001, Closed, 1, 3)];
    assert_eq!(found, want);
    // It belongs to another process now.
    let other = [Detection { owner: Some(process(2)), ..at(local, 3, &[7, 8, 9]) }];
    assert_eq!(reported(&[(0, &after), (1000, &other), (1001, &other)]), [(0, Opened, 1, 3)]);
    // Another socket is another trouble; and what is still seen has not moved.
    let found = reported(&[(0, &[at(remote(1), 1, &[1])]), (250, &[at(remote(2), 1, &[2])])]);
    assert_eq!(found, [(0, Opened, 1, 1), (250, Opened, 2, 1)]);
    let both = [at(remote(1), 1, &[1]), at(remote(2), 1, &[1, 2])];
    assert_eq!(reported(&[(0, &both[..1]), (250, &both)]), [(0, Opened, 1, 1), (250, Opened, 2, 1)]);
}

#[test]
fn a_filter_hides_findings_and_changes_nothing_else() {
    let hidden = |count| Detection { is_shown: false, ..detection(Kind::CloseWaitLeak, count) };
    let shown = |count| detection(Kind::CloseWaitLeak, count);
    assert_eq!(reported(&[(0, &[hidden(1)]), (5000, &[hidden(9)]), (7000, &[])]), []);
    // It is reported when a socket of it is shown for the first time, and to its end.
    let found = reported(&[(0, &[hidden(1)]), (5000, &[shown(9)]), (6000, &[hidden(20)]), (8001, &[])]);
    assert_eq!(found, [(5000, Opened, 1, 9), (6000, Updated, 1, 20), (8001, Closed, 1, 20)]);
    let mut tracker = Tracker::new(&Thresholds::default());
    tracker.update(vec![hidden(1)], START_NS);
    assert_eq!((tracker.open(START_NS), tracker.take_final_updates(START_NS)), (vec![], vec![]));
}

#[test]
fn a_change_of_severity_is_one() {
    let leak = detection(Kind::CloseWaitLeak, 1);
    let critical = Detection { severity: Severity::Critical, ..leak.clone() };
    let times = [(0, &[leak.clone()][..]), (30_000, &[leak][..]), (30_250, &[critical][..])];
    assert_eq!(reported(&times), [(0, Opened, 1, 1), (30_250, Updated, 1, 1)]);
}

#[test]
fn a_change_of_the_evidence_is_one_but_not_of_its_times() {
    let with =
        |evidence: &[(&'static str, Value)]| Detection { evidence: evidence.to_vec(), ..detection(Kind::PeerDead, 1) };
    let (errno, number) = (Value::Name("ETIMEDOUT"), Value::Number);
    let found = reported(&[
        (0, &[with(&[("timeouts", number(5)), ("rto_ns", number(1)), ("growth_per_minute", Value::Ratio(1.0))])]),
        (30_000, &[with(&[("timeouts", number(5)), ("rto_ns", number(2)), ("growth_per_minute", Value::Ratio(2.0))])]),
        (30_250, &[with(&[("timeouts", number(6)), ("rto_ns", number(2))])]),
        (60_250, &[with(&[("timeouts", number(6)), ("errno", errno)])]),
    ]);
    assert_eq!(found, [(0, Opened, 1, 1), (30_250, Updated, 1, 1), (60_250, Updated, 1, 1)]);
}

#[test]
fn what_comes_and_goes_is_held_open() {
    for (kind, hold_ms) in [
        (Kind::AcceptQueueFull, 3000),
        (Kind::SynFlood, 3000),
        (Kind::TimeWaitPressure, 3000),
        (Kind::RetransmitStorm, 2000),
        (Kind::CloseWaitLeak, 2000),
    ] {
        assert_eq!(kind.hold_ns(), hold_ms * MS);
        let seen = [detection(kind, 1)];
        let found = reported(&[(0, &seen), (hold_ms, &[]), (hold_ms + 1, &[])]);
        assert_eq!(found, [(0, Opened, 1, 1), (hold_ms + 1, Closed, 1, 1)], "{kind:?}");
        let again = reported(&[(0, &seen), (hold_ms, &[]), (hold_ms, &seen), (2 * hold_ms, &[])]);
        assert_eq!(again, [(0, Opened, 1, 1)], "{kind:?} came back in time");
    }
}

#[test]
fn evidence_is_waited_for_only_so_long() {
    let mut unsettled = detection(Kind::PeerDead, 1);
    unsettled.is_settled = false;
    let settled = detection(Kind::PeerDead, 2);
    let (unsettled, settled) = ([unsettled], [settled]);
    assert_eq!(reported(&[(0, &unsettled), (250, &unsettled), (500, &settled)]), [(500, Opened, 1, 2)]);
    assert_eq!(reported(&[(0, &unsettled), (899, &unsettled), (900, &unsettled)]), [(900, Opened, 1, 1)]);
    // What was gone meanwhile is waited for anew, and was not reported.
    assert_eq!(reported(&[(0, &unsettled), (500, &[]), (900, &unsettled), (1799, &unsettled)]), []);
    let mut tracker = Tracker::new(&Thresholds::default());
    tracker.update(unsettled.to_vec(), START_NS);
    assert!(tracker.is_waiting() && tracker.open(START_NS).is_empty());
    tracker.update(settled.to_vec(), START_NS + 1);
    assert!(!tracker.is_waiting() && tracker.open(START_NS).len() == 1);
}

#[test]
fn commands_places_and_namespaces_are_told_apart() {
    let first = detection(Kind::CloseWaitLeak, 1);
    let command = crate::model::event::Command::new(*b"other\0\0\0\0\0\0\0\0\0\0\0");
    let all = [
        Detection { owner: Some(crate::model::event::Owner { command, ..process(1) }), ..first.clone() },
        Detection { owner: None, ..first.clone() },
        Detection { netns: None, ..first.clone() },
        Detection { subject: Subject::Local(end("10.9.0.9:80")), ..first.clone() },
        Detection { kind: Kind::LastAckLost, ..first.clone() },
        first.clone(),
    ];
    assert_eq!(reported(&[(0, &all)]).len(), 6);
    // A process that is known in another way is the same.
    let other = process(1);
    let read =
        Detection { owner: Some(crate::model::event::Owner { source: OwnerSource::Io, ..other }), ..first.clone() };
    assert_eq!(reported(&[(0, &[first]), (1, &[read])]), [(0, Opened, 1, 1)]);
}

#[test]
fn sightings_of_one_place_are_one() {
    let waiting = Detection {
        evidence: vec![("timeouts", Value::Number(5)), ("errno", Value::Unknown), ("orphaned", Value::Flag(true))],
        oldest: Some(Age { ns: S, source: AgeSource::Observed }),
        severity: Severity::Info,
        ..detection(Kind::PeerDead, 2)
    };
    let ended = Detection {
        evidence: vec![
            ("timeouts", Value::Number(9)),
            ("errno", Value::Name("ETIMEDOUT")),
            ("orphaned", Value::Flag(false)),
            ("unacked_bytes", Value::Number(7)),
        ],
        oldest: Some(Age { ns: 2 * S, source: AgeSource::LowerBound }),
        cause: Cause::DataUnanswered,
        severity: Severity::Critical,
        ..detection(Kind::PeerDead, 3)
    };
    let mut tracker = Tracker::new(&Thresholds::default());
    let reported = tracker.update(vec![waiting, ended], START_NS);
    assert_eq!(reported.len(), 1);
    let seen = &reported[0].detection;
    assert_eq!((seen.count, seen.severity, seen.cause), (5, Severity::Critical, Cause::DataUnanswered));
    assert_eq!(seen.oldest, Some(Age { ns: 2 * S, source: AgeSource::LowerBound }));
    let evidence = [
        ("timeouts", Value::Number(5)),
        ("errno", Value::Name("ETIMEDOUT")),
        ("orphaned", Value::Unknown),
        ("unacked_bytes", Value::Number(7)),
    ];
    assert_eq!(seen.evidence, evidence);
}

#[test]
fn the_worst_comes_first() {
    let mut tracker = Tracker::new(&Thresholds::default());
    let at = |port, severity, count| Detection {
        subject: Subject::Remote(end(&format!("10.9.0.9:{port}"))),
        severity,
        ..detection(Kind::CloseWaitLeak, count)
    };
    let all = [
        at(1, Severity::Info, 9),
        at(2, Severity::Warning, 2),
        at(3, Severity::Critical, 1),
        at(4, Severity::Warning, 3),
    ];
    tracker.update(all.to_vec(), START_NS);
    let open = tracker.open(START_NS + S);
    let ports: Vec<_> = open.iter().map(|finding| finding.detection.subject.ends().1.unwrap().port()).collect();
    assert_eq!(ports, [3, 4, 2, 1]);
    assert!(open.iter().all(|finding| finding.open_for_ns == S));
}

#[test]
fn a_leak_is_listed_once_and_told_of_with_its_descriptors() {
    let mut host = Host::new();
    host.list();
    let place = host.add(State::Established, "10.1.0.1:80", "10.9.0.9:40000", 0);
    host.enters(place, State::CloseWait, None);
    for _ in 0..240 {
        assert_eq!(host.evaluate(), [], "not beyond its threshold");
        assert!(!host.findings.wants_listing());
        host.wait(250 * MS);
    }
    assert_eq!(host.evaluate(), [], "its evidence is not known yet");
    assert!(host.findings.wants_listing() && host.findings.is_waiting());
    host.wait(20 * MS);
    host.sockets[place].receive_queue = 1;
    let owner = process(700);
    let (pid, command) = (owner.pid, owner.command);
    host.holders = vec![Holder { handle: 1, pid, ns_pid: pid, fd: 9, uid: 33, cgroup: None, start: None, command }];
    host.list();
    let opened = host.evaluate();
    assert_eq!((opened.len(), opened[0].phase, opened[0].open_for_ns), (1, Phase::Opened, 0));
    assert!(!host.findings.wants_listing() && !host.findings.is_waiting());
    let example = &opened[0].detection.examples[0];
    assert_eq!(example.facts.as_ref().unwrap().socket.receive_queue, 1);
    assert_eq!(example.holders.iter().map(|holder| holder.fd).collect::<Vec<_>>(), [9]);
    host.wait(S);
    assert_eq!(host.evaluate(), [], "nothing has changed");
    assert_eq!(host.findings.open(host.now_ns).len(), 1);
    host.wait(9 * S);
    host.enters(place, State::LastAck, None);
    host.enters(place, State::Close, Some(CloseReason::Normal));
    let closed = host.evaluate();
    assert_eq!((closed.len(), closed[0].phase, closed[0].open_for_ns), (1, Phase::Closed, 10 * S));
    assert_eq!(host.findings.open(host.now_ns), []);
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut host = Host::new();
    for number in 0..4100u32 {
        let remote = format!("10.9.{}.{}:443", number / 250, number % 250);
        let place = host.add(State::SynSent, "10.1.0.1:50000", &remote, 0);
        host.wait(1);
        host.enters(place, State::Close, Some(CloseReason::Refused));
        let place = host.add(State::Established, "10.1.0.1:80", &remote, 0);
        host.owned_by(place, 10_000 + number);
        host.enters(place, State::CloseWait, None);
        host.findings.diagnose(&host.table, host.now_ns);
    }
    let seen = host.unlisted_detections();
    assert_eq!((seen.len(), seen[0].count), (1, 4100 - 512), "the first ones are forgotten");
    let growth = |host: &Host, pid| host.findings.history.growth_per_minute(Some(NETNS), pid, host.now_ns);
    host.wait(10 * S);
    assert!(growth(&host, 14_095).is_some_and(|(growth, _)| growth > 0.0));
    assert_eq!(growth(&host, 14_096), None, "there was no room to count");
    // Those that did not change for a minute make room.
    host.wait(70 * S);
    let place = host.add(State::Established, "10.1.0.1:80", "10.9.0.1:444", 0);
    host.owned_by(place, 20_000);
    host.enters(place, State::CloseWait, None);
    assert!(growth(&host, 20_000).is_some_and(|(growth, _)| growth > 0.0));
}

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/findings.md");

#[test]
fn each_finding_has_its_section() {
    let text = fs::read_to_string(DOCS).unwrap();
    let sections: Vec<_> = text.split("\n## ").skip(1).collect();
    let ids: Vec<_> = sections.iter().map(|section| section.lines().next().unwrap()).collect();
    assert_eq!(ids, Kind::ALL.iter().map(|kind| kind.id()).collect::<Vec<_>>(), "in the same order");
    for (kind, section) in Kind::ALL.iter().zip(&sections) {
        assert_eq!(kind.docs(), format!("tcptrace explain {}", kind.id()));
        for part in ["**What it is.** ", "**How TCP gets there.** ", "**How tcptrace knows.** ", "**What to do.** "] {
            assert_eq!(section.matches(part).count(), 1, "{part} of {}", kind.id());
        }
        let (_, how) = section.split_once("**How TCP gets there.**").unwrap();
        let (how, _) = how.split_once("**How tcptrace").unwrap();
        assert!(how.split_whitespace().any(|word| word.trim_start_matches('(') == "RFC"), "{} names no RFC", kind.id());
        assert!(how.contains("()`"), "{} names no function of the kernel", kind.id());
    }
}

#[test]
fn thresholds_and_their_defaults_are_documented() {
    let text = fs::read_to_string(DOCS).unwrap();
    let mut documented = BTreeMap::new();
    let (text, _) = text.split_once("\n# Causes").unwrap();
    for row in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let &[names, default, kinds, why] = &cells[..] else { panic!("{row}") };
        assert!(!why.is_empty(), "{row}");
        for name in names.split(", ") {
            documented.insert(name.trim_matches('`').to_owned(), default.to_owned());
        }
        for kind in kinds.split(", ").filter(|kind| kind.starts_with('`')) {
            assert!(Kind::ALL.iter().any(|known| known.id() == kind.trim_matches('`')), "{row}");
        }
    }
    let time = |text: &str| {
        let (number, unit_ns) = text.split_at(text.len() - 1);
        let unit_ns = match unit_ns {
            "s" => S,
            "h" => 3600 * S,
            _ => return None,
        };
        Some(number.parse::<u64>().ok()? * unit_ns)
    };
    // Set to what is documented, they are as they were.
    let mut set = Thresholds::default();
    let states = State::ALL.into_iter().filter(|state| set.clone().set_stuck(*state, 1).is_ok());
    for state in states.collect::<Vec<_>>() {
        let default = documented.remove(state.name()).unwrap_or_else(|| panic!("{state} is not documented"));
        set.set_stuck(state, time(&default).unwrap()).unwrap();
    }
    for name in Thresholds::NAMES {
        let default = documented.remove(name).unwrap_or_else(|| panic!("{name} is not documented"));
        set.set(name, &default, time).unwrap();
    }
    assert_eq!(set, Thresholds::default());
    assert!(documented.is_empty(), "there are none: {documented:?}");
}

#[test]
fn each_cause_is_documented() {
    let text = fs::read_to_string(DOCS).unwrap();
    let (before, table) = text.split_once(CAUSES_HEAD).unwrap();
    let rows = Cause::ALL
        .iter()
        .map(|cause| format!("| `{}` | {} | {} | {} |\n", cause.name(), cause.proof(), cause.words(), cause.remedy()));
    let expected: String = rows.collect();
    if table != expected && std::env::var_os("TCPTRACE_BLESS").is_some() {
        fs::write(DOCS, format!("{before}{CAUSES_HEAD}{expected}")).unwrap();
        return;
    }
    assert_eq!(table, expected, "TCPTRACE_BLESS=1 writes it");
    let names: BTreeSet<_> = Cause::ALL.iter().map(|cause| cause.name()).collect();
    assert_eq!(names.len(), Cause::ALL.len(), "no name twice");
}

const CAUSES_HEAD: &str = "| cause | what proves it | what it means | what helps |\n| --- | --- | --- | --- |\n";
