//! What is counted, how it is told apart, and what the encoders make of it.

use std::{collections::HashMap, net::SocketAddr};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    metrics::v1::{metric::Data, number_data_point},
};
use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model as wire;
use prost::Message as _;
use tcptrace_common::record::socket_flag;

use super::{
    prometheus::{Format, encode},
    *,
};
use crate::{
    event::{Command, Owner, OwnerSource, Retransmit, Socket, StateSource, TimeInState},
    findings::Thresholds,
    snapshot::{Keepalive, Kind as SocketKind, ListedSocket, Namespace, Snapshot as Listing},
    state::StateSet,
};

const S: u64 = 1_000_000_000;
const START_UNIX_NS: u64 = 1_700_000_000 * S;

fn owner(command: &str, cgroup: u64, source: OwnerSource) -> Owner {
    let mut bytes = [0; 16];
    bytes[..command.len()].copy_from_slice(command.as_bytes());
    Owner { pid: 7, uid: 0, cgroup, command: Command::new(bytes), source }
}

fn event(local: &str, owner: Option<Owner>, what: What) -> Event {
    let state = match what {
        What::Transition(change) => change.old,
        _ => State::Established,
    };
    let socket = Socket {
        sk: Some(0xffff_8880_0000_0001),
        cookie: Some(1),
        netns: Some(7),
        ipv6: false,
        state,
        local: local.parse().unwrap(),
        remote: "10.0.0.9:50123".parse().unwrap(),
        flags: 0,
    };
    Event { time_ns: 100 * S, cpu: Some(0), socket, owner, after_gap: false, what }
}

fn change(old: State, new: State) -> Transition {
    Transition {
        old,
        new,
        source: StateSource::Observed,
        time_in_old: None,
        handshake_rtt_ns: None,
        srtt_us: None,
        total_retrans: 0,
        bytes_acked: 0,
        bytes_received: 0,
        receive_queue: 0,
        send_queue: 0,
        ending: None,
        expires_in_ns: None,
    }
}

fn timed(old: State, new: State, ns: u64, source: TimeSource) -> Transition {
    Transition { time_in_old: Some(TimeInState { ns, source }), ..change(old, new) }
}

fn retransmit() -> What {
    What::Retransmit(Retransmit {
        state: State::Established,
        total_retrans: 1,
        timeouts: 1,
        srtt_us: None,
        failed: None,
    })
}

fn sent(reason: Option<u32>) -> What {
    What::ResetSent { reason, facts: None }
}

/// Names of a reason of RSTs, and of cgroups: 5 and 6 have one path, and 99 is gone.
fn names() -> Names {
    let find = |id| match id {
        99 => None,
        5 | 6 => Some("/five".to_owned()),
        id => Some(format!("/{id}")),
    };
    Names::new(HashMap::from([(6, "no_socket".to_owned())]), Box::new(find))
}

fn table() -> Table {
    Table::new(100, StateSet::default(), true)
}

/// The snapshot of `metrics` at this time after the start, with this table.
fn with_table(metrics: &mut Metrics, table: &Table, now_s: u64) -> Snapshot {
    let losses = Losses { received: 12, filtered: 3, ring_by_cpu: vec![1, 4], evicted: 2, ..Losses::default() };
    let outputs = [OutputState {
        name: "file".to_owned(),
        delivered: 9,
        dropped: 8,
        refused: 7,
        retries: 6,
        queued_bytes: 5,
        trouble: Some("disk full".to_owned()),
    }];
    metrics.snapshot(&mut Moment {
        now_ns: now_s * S,
        now_unix_ns: START_UNIX_NS + now_s * S,
        table,
        losses: &losses,
        open: &[],
        outputs: &outputs,
        usage: Usage { cpu_ns: 1_500_000_000, resident_bytes: 4096 },
        names: &mut names(),
    })
}

fn snapshot(metrics: &mut Metrics) -> Snapshot {
    with_table(metrics, &table(), 101)
}

fn metrics(settings: Settings) -> Metrics {
    Metrics::new(settings, START_UNIX_NS)
}

fn all_labels(max_series: usize) -> Settings {
    Settings { by_process: true, by_cgroup: true, by_local_port: true, max_series }
}

fn sum(snapshot: &Snapshot, name: &str, labels: &[(&str, &str)]) -> u64 {
    snapshot.family(name).unwrap().sum(labels)
}

fn distribution<'a>(snapshot: &'a Snapshot, name: &str, value: &str) -> &'a Distribution {
    let series = &snapshot.family(name).unwrap().series;
    let found = series.iter().find(|series| series.labels.iter().any(|(_, is)| is == value)).unwrap();
    let Value::Distribution(times) = &found.value else { panic!("{found:?}") };
    times
}

/// One of each.
fn some() -> Metrics {
    use State::{CloseWait, Established, LastAck, SynRecv, SynSent};
    let mut metrics = metrics(Settings::default());
    let web = Some(owner("web", 5, OwnerSource::Accept));
    let handshake = |old, rtt_ns, total_retrans, source| {
        let timed = timed(old, Established, rtt_ns, source);
        What::Transition(Transition { handshake_rtt_ns: Some(rtt_ns), total_retrans, ..timed })
    };
    let ended = |old, ending| What::Transition(Transition { ending: Some(ending), ..change(old, State::Close) });
    for what in [
        handshake(SynRecv, 250_000, 0, TimeSource::Handshake),
        handshake(SynRecv, 1_000_000, 2, TimeSource::HandshakeLowerBound),
        handshake(SynRecv, 2_000_000, 0, TimeSource::HandshakeUnreliable),
        handshake(SynSent, 40_000_000, 0, TimeSource::Observed),
        handshake(SynSent, 50_000_000, 1, TimeSource::Observed),
        What::Transition(timed(CloseWait, LastAck, 3 * S, TimeSource::Observed)),
        What::Transition(timed(CloseWait, LastAck, 5 * S, TimeSource::LowerBound)),
        ended(SynSent, Ending::Refused),
        ended(SynSent, Ending::Failed(libc::EHOSTUNREACH)),
        ended(SynSent, Ending::Failed(4095)),
        ended(LastAck, Ending::Normal),
        retransmit(),
        retransmit(),
        What::SynAckRetransmit { count: 1 },
        sent(Some(6)),
        sent(Some(77)),
        sent(None),
        What::ResetReceived(None),
        What::OwnerChanged,
    ] {
        metrics.ingest(&event("10.0.0.1:80", web, what));
    }
    metrics
}

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
    let results = ["delivered", "dropped", "refused"];
    let records = results.map(|result| count("tcptrace_output_records", &[("output", "file"), ("result", result)]));
    assert_eq!(records, [9, 8, 7]);
    assert_eq!((count("tcptrace_output_retries", &[]), count("tcptrace_output_queue_bytes", &[])), (6, 5));
    assert_eq!(count("tcptrace_output_up", &[("output", "file")]), 0, "it is in trouble");
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
    ingest("10.0.0.1:40001", Some(OwnerSource::Connect), What::Transition(change(Close, SynSent)));
    ingest("10.0.0.1:40001", None, What::Transition(change(SynSent, Established)));
    ingest("10.0.0.1:40001", Some(OwnerSource::Io), What::Transition(change(Established, FinWait1)));
    ingest("10.0.0.1:40001", Some(OwnerSource::Connect), retransmit());
    // A RST for a port at which nobody listens, as for scanned ones.
    ingest("10.0.0.1:23", None, sent(None));
    // Services: one listens, to another a request comes, of a third one a connection was accepted.
    ingest("0.0.0.0:80", None, What::Transition(change(Close, Listen)));
    ingest("10.0.0.1:80", None, What::ResetReceived(None));
    ingest("10.0.0.1:81", None, What::Transition(change(Listen, SynRecv)));
    ingest("10.0.0.1:82", Some(OwnerSource::Accept), retransmit());
    ingest("10.0.0.1:83", None, What::Transition(change(SynRecv, Established)));
    // Who connects from a port at which another process listens is still a client.
    ingest("10.0.0.1:80", Some(OwnerSource::Connect), What::Transition(change(Established, FinWait1)));
    let attached = What::Transition(change(SynRecv, Established));
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
fn what_finds_no_room_is_counted_as_other() {
    let mut metrics = metrics(all_labels(3));
    let commands = ["a", "b", "c", "d", "e", "a", "d", "e"];
    for command in commands {
        metrics.ingest(&event("10.0.0.1:80", Some(owner(command, 0, OwnerSource::Accept)), retransmit()));
    }
    let told = snapshot(&mut metrics);
    let of = |process| sum(&told, "tcptrace_retransmits", &[("process", process)]);
    assert_eq!(["a", "b", "c", "d", "e", "other"].map(of), [2, 1, 1, 0, 0, 4]);
    assert_eq!(sum(&told, "tcptrace_retransmits", &[("cgroup", "other"), ("local_port", "other")]), 4);
    assert_eq!(sum(&told, "tcptrace_retransmits", &[]), commands.len() as u64, "nothing is lost");
    assert_eq!(sum(&told, "tcptrace_metrics_overflow", &[("metric", "tcptrace_retransmits_total")]), 4);
    assert_eq!(sum(&told, "tcptrace_metrics_overflow", &[]), 4);

    // An hour later those that were idle have made room.
    with_table(&mut metrics, &table(), 100 + 3600);
    metrics.ingest(&event("10.0.0.1:80", Some(owner("d", 0, OwnerSource::Accept)), retransmit()));
    let told = with_table(&mut metrics, &table(), 100 + 3601);
    let series = &told.family("tcptrace_retransmits").unwrap().series;
    assert_eq!(series.len(), 1);
    assert_eq!((series[0].value.clone(), &*series[0].labels[0].1), (Value::Integer(1), "d"));
    assert_eq!(series[0].start_unix_ns, START_UNIX_NS + 3700 * S, "it counts from the moment at which there was room");
}

#[test]
fn no_two_series_have_the_same_labels() {
    let mut metrics = metrics(all_labels(4));
    let odd = |bytes: &[u8]| {
        let mut command = [0; 16];
        command[..bytes.len()].copy_from_slice(bytes);
        Some(Owner { command: Command::new(command), ..owner("", 0, OwnerSource::Io) })
    };
    // A path that two cgroups had, names that are no UTF-8, and a process that is called `other`.
    for owner in
        [Some(owner("a", 5, OwnerSource::Io)), Some(owner("a", 6, OwnerSource::Io)), odd(b"\xff"), odd(b"\xfe")]
    {
        metrics.ingest(&event("10.0.0.1:1", owner, retransmit()));
    }
    for command in ["x", "y"] {
        metrics.ingest(&event("10.0.0.1:1", Some(owner(command, 0, OwnerSource::Io)), retransmit()));
    }
    metrics.ingest(&event("10.0.0.1:1", Some(owner("other", 99, OwnerSource::Io)), What::ResetReceived(None)));
    // A process without a name is not known, as one that is not known.
    metrics.ingest(&event("10.0.0.1:1", Some(owner("", 0, OwnerSource::Io)), What::SynAckRetransmit { count: 1 }));
    metrics.ingest(&event("10.0.0.1:1", None, What::SynAckRetransmit { count: 1 }));
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
        netns: 7,
        ipv6: false,
        state,
        kind,
        local: local.parse().unwrap(),
        remote,
        receive_queue: 0,
        send_queue: 0,
        timer: None,
        timeouts: 0,
        probes: 0,
        rto_ns: None,
        backoff: None,
        keepalive: Keepalive::Unknown,
        user_timeout_ms: None,
        uid: None,
        entered_ns: None,
        owner,
        connection: None,
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
        listed(5, SocketKind::Mini, State::TimeWait, "10.0.0.1:80", None),
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
    let mut findings = crate::findings::Findings::new(Thresholds::default(), false, 0);
    let mut table = table();
    let web = Some(owner("web", 0, OwnerSource::Accept));
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
        findings.look(table, now_s * S).iter().for_each(|finding| metrics.finding(finding));
        let open = findings.open(now_s * S);
        let told = metrics.snapshot(&mut Moment {
            now_ns: now_s * S,
            now_unix_ns: START_UNIX_NS + now_s * S,
            table,
            losses: &Losses::default(),
            open: &open,
            outputs: &[],
            usage: Usage::default(),
            names: &mut names(),
        });
        let is_leak = [("finding", "close-wait-leak")];
        let open = told.family("tcptrace_findings_open").unwrap();
        let opened = told.family("tcptrace_findings_opened").unwrap();
        assert_eq!(opened.series.len(), Kind::ALL.len(), "0 of the others");
        (open.series.len(), open.sum(&is_leak), opened.sum(&is_leak), opened.sum(&[]))
    };
    table.reconcile(&listing(100, vec![leak]), |_, _| true, |_| ());
    assert_eq!(look(&mut table, &mut metrics, 100), (0, 0, 0, 0));
    let mut told = (0, 0, 0, 0);
    for now_s in [10_000, 10_001, 10_002] {
        table.reconcile(&listing(now_s, vec![leak]), |_, _| true, |_| ());
        told = look(&mut table, &mut metrics, now_s);
    }
    assert_eq!(told, (1, 1, 1, 1));
    table.reconcile(&listing(10_010, vec![]), |_, _| true, |_| ());
    assert_eq!(look(&mut table, &mut metrics, 10_011), (1, 0, 1, 1), "closed, and still told of");
}

#[test]
fn texts_are_as_the_formats_want_them() {
    let mut metrics = metrics(Settings::default());
    let hostile = Some(owner("a\"b\\c\nd", 0, OwnerSource::Io));
    metrics.ingest(&event("10.0.0.1:80", hostile, retransmit()));
    let what = What::Transition(timed(State::CloseWait, State::LastAck, 1_500_000_000, TimeSource::Observed));
    metrics.ingest(&event("10.0.0.1:80", None, what));
    let told = snapshot(&mut metrics);
    let text = String::from_utf8(encode(&told, Format::Text)).unwrap();
    let open = String::from_utf8(encode(&told, Format::OpenMetrics)).unwrap();
    for line in [
        r#"tcptrace_retransmits_total{process="a\"b\\c\nd"} 1"#,
        r#"tcptrace_transitions_total{from="CLOSE_WAIT",to="LAST_ACK"} 1"#,
        r#"tcptrace_transition_latency_seconds_bucket{from="CLOSE_WAIT",to="LAST_ACK",le="1.0"} 0"#,
        r#"tcptrace_transition_latency_seconds_bucket{from="CLOSE_WAIT",to="LAST_ACK",le="2.5"} 1"#,
        r#"tcptrace_transition_latency_seconds_bucket{from="CLOSE_WAIT",to="LAST_ACK",le="+Inf"} 1"#,
        r#"tcptrace_transition_latency_seconds_sum{from="CLOSE_WAIT",to="LAST_ACK"} 1.5"#,
        r#"tcptrace_connections{state="SYN_RECV"} 0"#,
        "tcptrace_events_received_total 12",
        "process_cpu_seconds_total 1.5",
    ] {
        assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        assert!(open.lines().any(|other| other == line), "{line}\n{open}");
    }
    assert!(text.contains("# TYPE tcptrace_retransmits_total counter\n") && !text.contains("# EOF"));
    assert!(open.contains("# TYPE tcptrace_retransmits counter\n") && open.ends_with("\n# EOF\n"));
    assert!(open.contains("# UNIT process_cpu_seconds seconds\n"));
    let first = text.lines().find(|line| !line.starts_with('#')).unwrap();
    assert!(text.starts_with("# HELP tcptrace_connections "), "{first}");
}

#[test]
fn protobuf_has_both_kinds_of_histograms() {
    let mut metrics = metrics(Settings::default());
    // Runs of buckets with gaps between them, and a time of 0.
    let times_ns = [0, 1000, 1000, 1100, 5_000_000, 90 * S];
    for ns in times_ns {
        let what = What::Transition(timed(State::CloseWait, State::LastAck, ns, TimeSource::Observed));
        metrics.ingest(&event("10.0.0.1:80", None, what));
    }
    let told = snapshot(&mut metrics);
    let bytes = encode(&told, Format::Protobuf);
    let (mut rest, mut decoded) = (&bytes[..], Vec::new());
    while !rest.is_empty() {
        decoded.push(wire::MetricFamily::decode_length_delimited(&mut rest).unwrap());
    }
    let names: Vec<_> = decoded.iter().map(|family| family.name.clone()).collect();
    let want = told.families.iter().filter(|family| !family.series.is_empty());
    assert_eq!(names, want.map(|family| family.descriptor.sample()).collect::<Vec<_>>());
    let latency = decoded.iter().find(|family| family.name == "tcptrace_transition_latency_seconds").unwrap();
    assert_eq!(latency.r#type(), wire::MetricType::Histogram);
    let histogram = latency.metric[0].histogram.as_ref().unwrap();
    assert_eq!((histogram.sample_count, histogram.schema, histogram.zero_count), (6, SCALE, 1));
    // What a reader makes of it: the middle of each bucket, and how many are in it.
    let (mut index, mut count, mut deltas) = (0, 0, histogram.positive_delta.iter());
    let mut found = Vec::new();
    for span in &histogram.positive_span {
        index += span.offset;
        for _ in 0..span.length {
            count += deltas.next().unwrap();
            found.extend((0..count).map(|_| ((f64::from(index) - 0.5) / 8.0).exp2()));
            index += 1;
        }
    }
    assert_eq!((found.len(), deltas.next()), (5, None));
    for (found, ns) in found.iter().zip(&times_ns[1..]) {
        let error = found / (*ns as f64 / 1e9);
        assert!((0.95..1.05).contains(&error), "{found} for {ns} ns");
    }
    let classic: Vec<_> = histogram.bucket.iter().map(|bucket| bucket.cumulative_count).collect();
    assert_eq!((classic[0], classic.last()), (4, Some(&6)));
}

#[test]
fn the_form_is_agreed_on() {
    let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    let text = "text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    let of_prometheus = format!("{protobuf},application/openmetrics-text;version=1.0.0;q=0.8,{text}");
    for (accept, want) in [
        ("", Format::Text),
        ("*/*", Format::Text),
        ("text/html, */*;q=0.8", Format::Text),
        ("application/json", Format::Text),
        ("application/openmetrics-text; version=1.0.0", Format::OpenMetrics),
        ("Application/OpenMetrics-Text", Format::OpenMetrics),
        ("application/openmetrics-text;q=0", Format::Text),
        ("application/openmetrics-text;q=x", Format::Text),
        ("text/plain;q=0.3,application/openmetrics-text;q=0.4", Format::OpenMetrics),
        ("text/plain,application/openmetrics-text", Format::Text),
        ("application/vnd.google.protobuf", Format::Text),
        (&of_prometheus, Format::Protobuf),
        (&format!("{protobuf};q=0.3,{text}"), Format::Text),
        (";;;,,,=;q", Format::Text),
    ] {
        assert_eq!(Format::negotiate(accept), want, "{accept}");
    }
}

#[test]
fn otlp_has_the_same_values_and_the_conventions_names() {
    let told = snapshot(&mut some());
    let request = ExportMetricsServiceRequest::decode(&otlp::encode(&told, "host-1")[..]).unwrap();
    let of_resource = &request.resource_metrics[0];
    let resource = format!("{:?}", of_resource.resource);
    assert!(
        ["service.name", "tcptrace", "host.name", "host-1"].iter().all(|part| resource.contains(part)),
        "{resource}"
    );
    let metrics = &of_resource.scope_metrics[0].metrics;
    let metric = |name: &str| metrics.iter().find(|metric| metric.name == name).unwrap();
    assert_eq!(metrics.len(), told.families.iter().filter(|family| !family.series.is_empty()).count());

    let Some(Data::Sum(failures)) = &metric("tcptrace.connection.failures").data else { panic!() };
    assert!(failures.is_monotonic && failures.aggregation_temporality == 2, "cumulative");
    let counts: Vec<_> = failures.data_points.iter().map(|point| point.value).collect();
    assert_eq!(counts, [Some(number_data_point::Value::AsInt(1)); 3]);
    let point = &failures.data_points[0];
    assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (START_UNIX_NS, START_UNIX_NS + 101 * S));
    let keys: Vec<_> = point.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
    assert_eq!(keys, ["error.type", "process.executable.name"]);

    let Some(Data::Sum(connections)) = &metric("tcptrace.connections").data else { panic!() };
    assert!(!connections.is_monotonic);
    let states = format!("{:?}", connections.data_points);
    assert!(states.contains("network.connection.state") && states.contains("\"fin_wait_1\""), "{states}");

    let latency = metric("tcptrace.transition.latency");
    let Some(Data::ExponentialHistogram(times)) = &latency.data else { panic!() };
    let point = times.data_points.iter().find(|point| format!("{point:?}").contains("close_wait")).unwrap();
    let buckets = point.positive.as_ref().unwrap();
    assert_eq!((latency.unit.as_str(), point.count, point.sum, &buckets.bucket_counts), ("s", 1, Some(3.0), &vec![1]));
    // A bucket is above 2^(offset/8) and up to 2^((offset+1)/8).
    let end = |index: i32| (f64::from(index) / 8.0).exp2();
    assert!(end(buckets.offset) < 3.0 && 3.0 <= end(buckets.offset + 1), "{}", buckets.offset);
}

#[test]
fn ports_are_numbers_in_otlp() {
    let mut metrics = metrics(all_labels(1000));
    metrics.ingest(&event("10.0.0.1:443", Some(owner("web", 5, OwnerSource::Accept)), retransmit()));
    let request = otlp::encode(&snapshot(&mut metrics), "host-1");
    let text = format!("{:?}", ExportMetricsServiceRequest::decode(&request[..]).unwrap());
    assert!(text.contains("\"server.port\"") && text.contains("IntValue(443)"), "{text}");
    assert!(text.contains("\"process.linux.cgroup\"") && text.contains("\"/five\""), "{text}");
}

#[test]
fn names_follow_the_conventions() {
    for family in families::ALL {
        let name = family.name;
        assert!(name.starts_with("tcptrace_") || name.starts_with("process_"), "{name}");
        assert!(!name.ends_with("_total") && family.help.ends_with(['.', 's']), "{name}: {}", family.help);
        let of_unit = match family.unit {
            "s" => name.ends_with("_seconds"),
            "By" => name.ends_with("_bytes"),
            _ => !name.ends_with("_seconds") && !name.ends_with("_bytes"),
        };
        assert!(of_unit, "{name} in {}", family.unit);
    }
}

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");

fn doc(name: &str) -> String {
    std::fs::read_to_string(format!("{DOCS}/{name}")).unwrap()
}

#[test]
fn the_documentation_has_all_metrics_and_labels() {
    let text = doc("metrics.md");
    let described: Vec<_> =
        text.lines().filter(|line| line.starts_with("| `tcptrace_") || line.starts_with("| `process_")).collect();
    let row = |family: &&families::Descriptor| {
        let mut labels: Vec<_> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        labels.extend(family.by_owner.then(|| "owner".to_owned()));
        let labels = if labels.is_empty() { "–".to_owned() } else { labels.join(", ") };
        format!("| `{}` | {} | {labels} | {} | `{}` |", family.sample(), family.kind, family.help, family.otlp)
    };
    assert_eq!(described, families::ALL.iter().map(row).collect::<Vec<_>>());
    let (_, of_labels) = text.split_once("\n## Labels\n").unwrap();
    let labels = families::ALL.iter().flat_map(|family| family.labels).chain(&families::OWNER_LABELS);
    for label in labels.filter(|label| **label != "version") {
        let row = of_labels.lines().find(|line| line.starts_with("| ") && line.contains(&format!("`{label}`")));
        assert!(row.is_some_and(|row| row.contains(&format!("`{}`", otlp::key(label)))), "{label}: {row:?}");
    }
}

/// The metrics that a file names.
fn named(text: &str) -> Vec<&str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("tcptrace_") || word.starts_with("process_")).collect()
}

#[test]
fn rules_and_the_dashboard_ask_for_what_is_exported() {
    let samples: Vec<_> = families::ALL.iter().map(|family| family.sample()).collect();
    let is_exported = |name: &str| {
        let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        samples.iter().any(|sample| sample == of_histogram.unwrap_or(name))
    };
    let dashboard: serde_json::Value = serde_json::from_str(&doc("pipelines/grafana/tcptrace.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let queries: String = targets.map(|target| target["expr"].as_str().unwrap().to_owned() + "\n").collect();
    let rules = doc("pipelines/prometheus/tcptrace.rules.yml");
    for (text, least) in [(&queries, 15), (&rules, 25)] {
        let names = named(text);
        assert!(names.len() >= least, "{names:?}");
        names.iter().for_each(|name| assert!(is_exported(name), "{name}"));
    }
    for kind in Kind::ALL {
        let expression = format!("expr: tcptrace_findings_open{{finding=\"{}\"}} > 0\n", kind.id());
        assert!(rules.contains(&expression) && rules.contains(kind.docs()), "no alert of {}", kind.id());
    }
}
