//! What is counted, and whose it is.

use std::{net::SocketAddr, sync::Arc};

use tcptrace_common::record::socket_flag;

use super::*;
use crate::{
    findings::Thresholds,
    model::{
        namespace::Namespace,
        place::{Place, PlaceSource, Sourced},
        processes::{ProcessAnswer, ProcessQuestion},
        snapshot::Snapshot as Listing,
        socket::{Kind as SocketKind, ListedSocket},
    },
};

#[test]
fn everything_is_counted_once() {
    let told = snapshot(&mut some());
    assert_eq!(told.families.iter().map(|family| family.descriptor).collect::<Vec<_>>(), families::ALL);
    let count = |name, labels: &[(&str, &str)]| sum(&told, name, labels);
    assert_eq!(count("tcptrace_transitions", &[]), 11);
    assert_eq!(count("tcptrace_transitions", &[("from", "SYN_RECV"), ("to", "ESTABLISHED"), ("process", "web")]), 3);
    assert_eq!(count("tcptrace_transition_latency_seconds", &[]), 4, "of measured times alone");
    assert_eq!(distribution(&told, "tcptrace_transition_latency_seconds", "CLOSE_WAIT").sum, 3.0);
    assert_eq!(count("tcptrace_handshake_rtt_seconds", &[]), 2, "of those without a retransmission or cookie");
    assert_eq!(distribution(&told, "tcptrace_handshake_rtt_seconds", "client").sum, 0.04);
    assert_eq!(distribution(&told, "tcptrace_handshake_rtt_seconds", "server").sum, 0.000_25);
    assert_eq!((count("tcptrace_retransmits", &[]), count("tcptrace_synack_retransmits", &[])), (2, 1));
    assert_eq!(count("tcptrace_resets", &[("direction", "sent")]), 3);
    assert_eq!(count("tcptrace_resets", &[("reason", "no_socket")]), 1);
    assert_eq!(count("tcptrace_resets", &[("reason", "77")]), 1, "a reason without a name");
    assert_eq!(count("tcptrace_resets", &[("direction", "received")]), 1);
    assert_eq!(count("tcptrace_connection_failures", &[]), 3);
    for errno in ["ECONNREFUSED", "EHOSTUNREACH", "4095"] {
        assert_eq!(count("tcptrace_connection_failures", &[("errno", errno)]), 1);
    }
    assert_eq!(count("tcptrace_connection_endings", &[("ending", "failed")]), 2, "of two errnos");
    assert_eq!(count("tcptrace_connection_endings", &[("ending", "normal")]), 1);
    assert_eq!((count("tcptrace_losses", &[]), count("tcptrace_losses", &[("place", "ring_buffer")])), (7, 5));
    assert_eq!((count("tcptrace_events_received", &[]), count("tcptrace_events_filtered", &[])), (12, 3));
    let results = ["delivered", "dropped", "refused", "suppressed"];
    let records = results.map(|result| count("tcptrace_output_records", &[("output", "file"), ("result", result)]));
    assert_eq!(records, [9, 8, 7, 3]);
    assert_eq!((count("tcptrace_output_retries", &[]), count("tcptrace_output_queue_bytes", &[])), (6, 5));
    assert_eq!(count("tcptrace_output_up", &[("output", "file")]), 0, "it is in trouble");
    assert_eq!(count("tcptrace_worker_up", &[("worker", "listing")]), 1);
    assert_eq!(count("tcptrace_worker_up", &[("worker", "http")]), 0, "it hangs");
    assert_eq!(count("tcptrace_metrics_overflow", &[]), 0);
    assert_eq!(told.family("process_cpu_seconds").unwrap().series[0].value, Value::Float(1.5));
}

#[test]
fn only_ports_of_services_have_series() {
    use State::{Close, Established, FinWait1, Listen, SynRecv, SynSent};
    let mut metrics = metrics(all_labels(1000));
    let mut ingest = |local: &str, source: Option<OwnerSource>, what| {
        metrics.ingest(&event(local, source.map(|source| owner("a", 0, source)), what));
    };
    // A client that comes to an ephemeral port, and leaves it; known by its connect, by SYN_SENT, or not at all.
    ingest("10.0.0.1:40001", Some(OwnerSource::Connect), EventKind::Transition(change(Close, SynSent)));
    ingest("10.0.0.1:40001", None, EventKind::Transition(change(SynSent, Established)));
    ingest("10.0.0.1:40001", Some(OwnerSource::Io), EventKind::Transition(change(Established, FinWait1)));
    ingest("10.0.0.1:40001", Some(OwnerSource::Connect), retransmit());
    // A RST for a port at which nobody listens, as for scanned ones.
    ingest("10.0.0.1:23", None, sent(None));
    // Services: one listens, to another a request comes, of a third one a connection was accepted.
    ingest("0.0.0.0:80", None, EventKind::Transition(change(Close, Listen)));
    ingest("10.0.0.1:80", None, EventKind::ResetReceived(None));
    ingest("10.0.0.1:81", None, EventKind::Transition(change(Listen, SynRecv)));
    ingest("10.0.0.1:82", Some(OwnerSource::Accept), retransmit());
    ingest("10.0.0.1:83", None, EventKind::Transition(change(SynRecv, Established)));
    // Who connects from a port at which another process listens is still a client.
    ingest("10.0.0.1:80", Some(OwnerSource::Connect), EventKind::Transition(change(Established, FinWait1)));
    let attached = EventKind::Transition(change(SynRecv, Established));
    let mut both_open = event("10.0.0.1:40002", None, attached);
    both_open.socket.flags = socket_flag::ATTACHED;
    metrics.ingest(&both_open);
    let told = snapshot(&mut metrics);
    let mut ports: Vec<_> =
        told.families.iter().flat_map(|family| &family.series).flat_map(|series| &series.labels).collect();
    ports.retain(|(name, _)| *name == "local_port");
    ports.sort();
    ports.dedup();
    assert_eq!(ports.iter().map(|(_, port)| port.as_ref()).collect::<Vec<_>>(), ["80", "81", "82", "83"]);
    assert_eq!(sum(&told, "tcptrace_transitions", &[("local_port", "80")]), 1, "the listener's own");
    assert_eq!(sum(&told, "tcptrace_transitions", &[]), 8);
}

#[test]
fn the_least_recently_used_name_makes_room() {
    let mut metrics = metrics(all_labels(3));
    let commands = ["a", "b", "c", "d", "e", "a", "d", "e"];
    let at = |time_ns, command| {
        let event = event("10.0.0.1:80", Some(owner(command, 0, OwnerSource::Accept)), retransmit());
        Event { time_ns, ..event }
    };
    let later = |command| at(u64::MAX / 2, command);
    for (time_ns, command) in (1..).zip(commands) {
        metrics.ingest(&at(time_ns, command));
    }
    let told = snapshot(&mut metrics);
    let of = |process| sum(&told, "tcptrace_retransmits", &[("process", process)]);
    assert_eq!(["a", "b", "c", "d", "e", "other"].map(of), [1, 0, 0, 2, 2, 3]);
    assert_eq!(sum(&told, "tcptrace_retransmits", &[("cgroup", "other"), ("local_port", "other")]), 3);
    assert_eq!(sum(&told, "tcptrace_retransmits", &[]), commands.len() as u64, "nothing is lost");
    assert_eq!(sum(&told, "tcptrace_metrics_overflow", &[("metric", "tcptrace_retransmits_total")]), 3);
    assert_eq!(sum(&told, "tcptrace_metrics_overflow", &[]), 3);

    // What comes back counts from 0, and from the last snapshot on: before, it was counted as `other`.
    with_table(&mut metrics, &table(), 200);
    metrics.ingest(&later("b"));
    let told = with_table(&mut metrics, &table(), 201);
    let series = &told.family("tcptrace_retransmits").unwrap().series;
    let of_b = series.iter().find(|series| series.labels.contains(&("process", "b".into()))).unwrap();
    assert_eq!((of_b.value.clone(), of_b.start_unix_ns), (Value::Integer(1), START_UNIX_NS + 200 * S));
}

#[test]
fn a_thousand_names_that_are_gone_hide_no_service() {
    let mut metrics = metrics(Settings::default());
    for process in 0..20_000 {
        let mut event =
            event("10.0.0.1:1", Some(owner(&format!("job-{process}"), 0, OwnerSource::Connect)), retransmit());
        event.time_ns += process;
        metrics.ingest(&event);
    }
    let service = event("10.0.0.1:80", Some(owner("service", 0, OwnerSource::Accept)), retransmit());
    metrics.ingest(&Event { time_ns: u64::MAX / 2, ..service });
    let told = snapshot(&mut metrics);
    assert_eq!(sum(&told, "tcptrace_retransmits", &[("process", "service")]), 1);
    assert_eq!(sum(&told, "tcptrace_retransmits", &[]), 20_001, "nothing is lost");
    let series = told.family("tcptrace_retransmits").unwrap().series.len();
    assert!((900..=1001).contains(&series), "{series}");
}

#[test]
fn what_was_not_sent_is_no_retransmit() {
    let mut metrics = metrics(Settings::default());
    let EventKind::Retransmit(sent) = retransmit() else { unreachable!() };
    metrics.ingest(&event("10.0.0.1:1", None, EventKind::Retransmit(Retransmit { failed: Some(libc::EBUSY), ..sent })));
    assert_eq!(sum(&snapshot(&mut metrics), "tcptrace_retransmits", &[]), 0);
}

#[test]
fn no_two_series_have_the_same_labels() {
    let mut metrics = metrics(all_labels(4));
    let odd = |bytes: &[u8]| {
        let mut command = [0; 16];
        command[..bytes.len()].copy_from_slice(bytes);
        Some(Owner { command: Command::new(command), ..owner("", 0, OwnerSource::Io) })
    };
    // Two that make room, a path that two cgroups had, names that are no UTF-8, and a process that is called `other`.
    let named = |command, cgroup| Some(owner(command, cgroup, OwnerSource::Io));
    let owners = [named("x", 0), named("y", 0), named("a", 5), named("a", 6), odd(b"\xff"), odd(b"\xfe")];
    for (time_ns, owner) in (1..).zip(owners) {
        metrics.ingest(&Event { time_ns, ..event("10.0.0.1:1", owner, retransmit()) });
    }
    metrics.ingest(&event("10.0.0.1:1", Some(owner("other", 99, OwnerSource::Io)), EventKind::ResetReceived(None)));
    // A process without a name is not known, as one that is not known.
    metrics.ingest(&event("10.0.0.1:1", Some(owner("", 0, OwnerSource::Io)), EventKind::SynAckRetransmit { count: 1 }));
    metrics.ingest(&event("10.0.0.1:1", None, EventKind::SynAckRetransmit { count: 1 }));
    let told = snapshot(&mut metrics);
    let retransmits = told.family("tcptrace_retransmits").unwrap();
    assert_eq!(retransmits.sum(&[("cgroup", "/five")]), 2);
    assert_eq!(retransmits.sum(&[("process", "\u{fffd}")]), 2);
    assert_eq!(retransmits.series.len(), 3, "{retransmits:?}");
    assert_eq!(sum(&told, "tcptrace_resets", &[("cgroup", "id:99")]), 1, "a path that is not known");
    assert_eq!(told.family("tcptrace_synack_retransmits").unwrap().series.len(), 1);
    assert!(
        told.families
            .iter()
            .flat_map(|family| &family.series)
            .all(|one| one.labels.iter().all(|(_, is)| !is.is_empty()))
    );
    for family in &told.families {
        let mut labels: Vec<_> = family.series.iter().map(|series| &series.labels).collect();
        let before = labels.len();
        labels.dedup(); // they are sorted
        assert_eq!(labels.len(), before, "{}", family.descriptor.name);
    }
}

#[test]
fn without_labels_of_owners_there_are_none() {
    let mut metrics = metrics(Settings { by_process: false, ..Settings::default() });
    for command in ["a", "b"] {
        metrics.ingest(&event("10.0.0.1:80", Some(owner(command, 5, OwnerSource::Accept)), retransmit()));
    }
    let told = snapshot(&mut metrics);
    let series = &told.family("tcptrace_retransmits").unwrap().series;
    assert_eq!((series.len(), series[0].labels.len()), (1, 0));
    assert_eq!(series[0].value, Value::Integer(2));
}

fn listed(cookie: u64, kind: SocketKind, state: State, local: &str, owner: Option<Owner>) -> ListedSocket {
    let remote: SocketAddr = format!("10.0.0.9:{}", 40_000 + cookie).parse().unwrap();
    ListedSocket {
        sk: Some(cookie),
        cookie: Some(cookie),
        handle: cookie,
        owner,
        ..ListedSocket::new(kind, state, 7, local.parse().unwrap(), remote)
    }
}

#[test]
fn connections_are_those_of_the_table_in_all_states() {
    let web = Some(owner("web", 0, OwnerSource::Listen));
    let client = Some(owner("curl", 0, OwnerSource::Connect));
    let full = |cookie, state, local, owner| listed(cookie, SocketKind::Full, state, local, owner);
    let mut sockets = vec![
        full(1, State::Listen, "0.0.0.0:80", web),
        full(2, State::CloseWait, "10.0.0.1:80", web),
        full(3, State::CloseWait, "10.0.0.1:80", web),
        full(4, State::Established, "10.0.0.1:40004", client),
        listed(5, SocketKind::TimeWait, State::TimeWait, "10.0.0.1:80", None),
    ];
    sockets.extend((6..9).map(|cookie| listed(cookie, SocketKind::Request, State::SynRecv, "10.0.0.1:80", None)));
    let namespaces = vec![Namespace { inode: 7, ..Namespace::default() }];
    let listing = Listing { started_ns: 90 * S, ended_ns: 91 * S, sockets, namespaces, ..Listing::default() };
    let mut table = table();
    table.reconcile(&listing, |_, _| true, |_| ());

    let told = with_table(&mut metrics(all_labels(1000)), &table, 100);
    let in_state = |state: State| sum(&told, "tcptrace_connections", &[("state", state.name())]);
    assert_eq!(State::ALL.map(in_state), [1, 0, 3, 1, 0, 0, 0, 1, 2, 0, 0]);
    let family = told.family("tcptrace_connections").unwrap();
    for state in State::ALL {
        assert!(family.series.iter().any(|series| series.labels[0] == ("state", state.name().into())), "{state}");
    }
    let of_web = [("process", "web"), ("local_port", "80")];
    assert_eq!(family.sum(&[&of_web[..], &[("state", "SYN_RECV")]].concat()), 3, "the listener's");
    assert_eq!(family.sum(&[&of_web[..], &[("state", "CLOSE_WAIT")]].concat()), 2);
    assert_eq!(family.sum(&[("process", "curl")]), 1);
    assert_eq!(family.sum(&[("local_port", "40004")]), 0, "no service's");

    // The largest groups stay.
    let mut bounded = metrics(all_labels(2));
    let told = with_table(&mut bounded, &table, 100);
    let family = told.family("tcptrace_connections").unwrap();
    assert_eq!((family.sum(&[]), family.sum(&[("process", "web")]), family.sum(&[("process", "other")])), (8, 5, 3));
    assert_eq!(sum(&told, "tcptrace_metrics_overflow", &[("metric", "tcptrace_connections")]), 3);
}

#[test]
fn findings_are_counted_and_stay_when_they_close() {
    let mut findings = crate::findings::Findings::new(Thresholds::default(), 0);
    let mut table = table();
    let web = Some(owner("web", 0, OwnerSource::Accept));
    let listener = listed(1, SocketKind::Full, State::Listen, "10.0.0.1:80", web);
    let leak = listed(2, SocketKind::Full, State::CloseWait, "10.0.0.1:80", web);
    let listing = |ended_s: u64, sockets| Listing {
        started_ns: ended_s * S - S,
        ended_ns: ended_s * S,
        sockets,
        namespaces: vec![Namespace { inode: 7, ..Namespace::default() }],
        ..Listing::default()
    };
    let mut metrics = metrics(Settings::default());
    let mut look = |table: &mut Table, metrics: &mut Metrics, now_s: u64| {
        findings.evaluate(table, now_s * S, None).iter().for_each(|finding| metrics.finding(finding));
        let open = findings.open(now_s * S);
        let told = metrics.snapshot(&mut Moment {
            now_ns: now_s * S,
            now_unix_ns: START_UNIX_NS + now_s * S,
            table,
            losses: &Losses::default(),
            open: &open,
            outputs: &[],
            workers: &[],
            usage: Usage::default(),
            names: &mut names(),
        });
        let is_leak = [("finding", "close-wait-leak")];
        let open = told.family("tcptrace_findings_open").unwrap();
        let labels = open.series.iter().map(|series| {
            series.labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        });
        labels.for_each(|labels| {
            assert_eq!(labels, "finding=close-wait-leak severity=warning process=web local_port=80");
        });
        let opened = told.family("tcptrace_findings_opened").unwrap();
        assert_eq!(opened.series.len(), Kind::ALL.len(), "0 of the others");
        (open.series.len(), open.sum(&is_leak), opened.sum(&is_leak), opened.sum(&[]))
    };
    table.reconcile(&listing(100, vec![listener, leak]), |_, _| true, |_| ());
    assert_eq!(look(&mut table, &mut metrics, 100), (0, 0, 0, 0));
    let mut told = (0, 0, 0, 0);
    for now_s in [10_000, 10_001, 10_002] {
        table.reconcile(&listing(now_s, vec![listener, leak]), |_, _| true, |_| ());
        told = look(&mut table, &mut metrics, now_s);
    }
    assert_eq!(told, (1, 1, 1, 1));
    table.reconcile(&listing(10_010, vec![listener]), |_, _| true, |_| ());
    assert_eq!(look(&mut table, &mut metrics, 10_011), (1, 0, 1, 1), "closed, and still told of");
}

#[test]
fn series_are_separated_by_where_owners_run() {
    let settings =
        Settings { by_process: false, by_unit: true, by_container: true, by_pod: true, ..Settings::default() };
    let mut metrics = metrics(settings);
    let place = |path: &str| Arc::new(Place::from_cgroup(path));
    let id = "0123456789abcdef".repeat(4);
    let mut pod = Place::from_cgroup(&format!("/kubepods/pod4a1b2c3d-0e5f-6789-abcd-ef0123456789/{id}"));
    let fact = |text: &str| Some(Sourced::new(text.into(), PlaceSource::ContainerdTask));
    pod.container.as_mut().unwrap().name = fact("web");
    (pod.pod.as_mut().unwrap().name, pod.pod.as_mut().unwrap().namespace) = (fact("web-1"), fact("shop"));
    let places = [
        (5, place("/system.slice/nginx.service")),
        (6, place("/system.slice/nginx.service/worker")),
        (7, place(&format!("/system.slice/docker-{id}.scope"))),
        (8, Arc::new(pod)),
    ];
    let paths = HashMap::from(places.clone().map(|(cgroup, place)| (cgroup, place.cgroup.to_string())));
    let mut names = Names::new(HashMap::new(), Box::new(move |id| paths.get(&id).cloned()));
    for (cgroup, place) in places {
        let question = ProcessQuestion { id: (cgroup as u32, None), cgroup };
        names.learn(question, ProcessAnswer { names: None, place: Some(place) });
    }
    for cgroup in [5, 6, 7, 8, 9] {
        let whose = owner("web", cgroup, OwnerSource::Accept);
        metrics.ingest(&event("10.0.0.1:80", Some(whose), retransmit()));
    }
    let table = table();
    let losses = Losses::default();
    let shown = metrics.snapshot(&mut Moment {
        now_ns: 101 * S,
        now_unix_ns: START_UNIX_NS,
        table: &table,
        losses: &losses,
        open: &[],
        outputs: &[],
        workers: &[],
        usage: Usage::default(),
        names: &mut names,
    });
    let count = |labels: &[(&str, &str)]| sum(&shown, "tcptrace_retransmits", labels);
    assert_eq!(count(&[("unit", "nginx.service")]), 2, "two cgroups of one unit");
    assert_eq!(count(&[("container", "0123456789ab")]), 1, "its name is not known");
    assert_eq!(count(&[("container", "web"), ("namespace", "shop"), ("pod", "web-1")]), 1);
    assert_eq!(count(&[]), 5);
}
