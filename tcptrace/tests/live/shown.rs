//! Filters choose what is shown, and change nothing of what findings say; with findings and without them they show the
//! same events.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use socket2::Socket;

use crate::{
    Test,
    actor::Actor,
    net::{self, LOCALHOST, begin_connect, enter_new_netns, exchange, listen, lose_input, pair, port, settle},
    tracer::{Run, Tracer, binary},
};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("a leak is the same finding under any filter", leak_under_filters),
    ("failures are the same finding under any filter", failures_under_filters),
    ("the same events with findings and without", same_events),
    ("the same events of a service with children", same_events_of_a_service),
    ("counts are exact at the end of a run", final_counts),
    ("findings alone are counted", findings_are_counted),
    ("a SYN from before the start has waited", syn_from_before),
    ("stuck as a table of chosen columns, in a chosen order", stuck_columns),
];

const CLIENTS: usize = 12;

/// The findings of a run by what does not depend on when tcptrace looked: of each the phases without updates, and the
/// last record without times, numbers and phase.
fn findings(run: &Run) -> Vec<(Vec<String>, Value)> {
    let mut by_number: BTreeMap<u64, (Vec<String>, Value)> = BTreeMap::new();
    for mut record in run.records() {
        if record["event"] != "finding" {
            continue;
        }
        let (phases, last) = by_number.entry(record["number"].as_u64().unwrap()).or_default();
        let phase = record["phase"].as_str().unwrap();
        if phase != "updated" {
            phases.push(phase.to_owned());
        }
        let fields = record.as_object_mut().unwrap();
        fields.retain(|name, _| {
            !name.ends_with("_ns")
                && !["time", "number", "into", "phase", "examples", "age_source"].contains(&name.as_str())
        });
        let evidence = fields["evidence"].as_object_mut().unwrap();
        evidence.retain(|name, _| !name.ends_with("_ns") && name != "growth_per_minute");
        *last = record;
    }
    let mut found: Vec<_> = by_number.into_values().collect();
    found.sort_by_key(|(phases, last)| (phases.clone(), last.to_string()));
    found
}

/// Runs a tracer with each of these filters beside one without, and gives what the first one found; that all others found
/// the same.
fn under_each(filters: &[&[&str]], flags: &[&str], play: impl FnOnce()) -> Vec<(Vec<String>, Value)> {
    let start = |filter: &&[&str]| {
        let only: &[&str] = &["--findings", "only"];
        (filter.join(" "), Tracer::here(&[only, flags, filter].concat()))
    };
    let tracers: Vec<_> = [&[][..]].iter().chain(filters).map(start).collect();
    play();
    let mut found = tracers.into_iter().map(|(filter, tracer)| (filter, findings(&tracer.stop())));
    let (_, all) = found.next().unwrap();
    assert!(!all.is_empty(), "nothing was found");
    for (filter, found) in found {
        assert_eq!(found, all, "{filter}");
    }
    all
}

fn leak_under_filters() {
    enter_new_netns();
    let pid = std::process::id().to_string();
    // A wildcard address, and more clients than are told of one by one where the listener is not known.
    let (listener, bound) = listen(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let to = SocketAddr::new(LOCALHOST, bound.port());
    let pairs: Vec<_> = (0..CLIENTS).map(|_| pair(&listener, to)).collect();
    // Of the last one, which is no example.
    let client_port = port(&pairs[CLIENTS - 1].0).to_string();
    let filters: [&[&str]; 7] = [
        &["--state", "CLOSE_WAIT"],
        &["--address", "127.0.0.1"],
        &["--port", &client_port],
        &["--remote-port", &client_port, "--state", "CLOSE_WAIT"],
        &["--pid", &pid],
        &["--local-port", &bound.port().to_string(), "-4"],
        &["--cgroup", "/"],
    ];
    let flags = ["--stuck-after", "CLOSE_WAIT=1s,FIN_WAIT2=never"];
    let mut ends = None;
    let found = under_each(&filters, &flags, || {
        let (clients, servers): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        drop(clients);
        std::thread::sleep(Duration::from_millis(2500));
        drop(listener);
        std::thread::sleep(Duration::from_millis(3500));
        ends = Some(servers);
    });
    drop(ends);
    assert_eq!(found.len(), 1, "{found:#?}");
    let (phases, last) = &found[0];
    assert_eq!(*phases, ["opened"], "{last:#}");
    assert_eq!((&last["finding"], &last["count"]), (&json!("close-wait-leak"), &json!(CLIENTS)), "{last:#}");
    let (address, port) = (&last["local_address"], &last["local_port"]);
    assert_eq!((address, port), (&json!("0.0.0.0"), &json!(bound.port())), "the service, also when it is gone");
    assert_eq!(last["owner"]["pid"].to_string(), pid);

    // And with a filter that shows none of it nothing is told.
    let (listener, to) = listen(LOCALHOST);
    let pair = pair(&listener, to);
    let tracer = Tracer::here(&["--findings", "only", "--stuck-after", "CLOSE_WAIT=500ms", "--port", "1"]);
    drop(pair.0);
    std::thread::sleep(Duration::from_millis(2000));
    assert_eq!(findings(&tracer.stop()), []);
}

fn failures_under_filters() {
    enter_new_netns();
    let (listener, closed) = listen(LOCALHOST);
    drop(listener);
    let pid = std::process::id().to_string();
    let filters: [&[&str]; 4] = [
        &["--state", "SYN_SENT"],
        &["--remote-port", &closed.port().to_string()],
        &["--pid", &pid],
        &["--remote-address", "127.0.0.0/8"],
    ];
    let found = under_each(&filters, &[], || {
        for _ in 0..20 {
            net::socket(LOCALHOST).connect(&closed.into()).unwrap_err();
        }
        settle();
    });
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!((&found[0].1["finding"], &found[0].1["count"]), (&json!("connect-refused"), &json!(20)));
}

/// What an event says, without times and what else is this tracer's own.
fn said(event: &Value) -> String {
    let names = [
        "event",
        "old_state",
        "new_state",
        "state",
        "local_address",
        "local_port",
        "remote_address",
        "remote_port",
        "pid",
        "ending",
    ];
    names.map(|name| event[name].to_string()).join(" ")
}

fn same_events() {
    enter_new_netns();
    net::sysctl("tcp_fin_timeout", 1);
    let (listener, bound) = listen(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    let (gone, closed) = listen(LOCALHOST);
    drop(gone);
    let own = SocketAddr::new(LOCALHOST, 6411);
    let to = |address: IpAddr| SocketAddr::new(address, bound.port());
    let pid = std::process::id().to_string();
    let service = bound.port().to_string();
    let others = format!("1-{},{}-65535", bound.port() - 1, bound.port() + 1);
    let filters: [&[&str]; 11] = [
        &[],
        &["--state", "TIME_WAIT"],
        &["--state", "FIN_WAIT2"],
        &["--state", "SYN_SENT,SYN_RECV"],
        &["--state", "CLOSE_WAIT"],
        &["--port", &service, "--state", "LISTEN"],
        &["--local-port", &others],
        &["--local-port", "6411"],
        &["--port", &closed.port().to_string()],
        &["--remote-address", "::1", "-6"],
        &["--pid", &pid, "--local-address", "127.0.0.1"],
    ];
    let start = |mode, filter: &[&str]| Tracer::here(&[&["--findings", mode], filter].concat());
    let tracers: Vec<_> =
        filters.into_iter().map(|filter| (filter.join(" "), start("on", filter), start("off", filter))).collect();
    for address in [LOCALHOST, IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        net::close(pair(&listener, to(address)));
        // The other way round, and a half-closed one that goes by an orphan's FIN_WAIT2.
        let (client, server) = pair(&listener, to(address));
        exchange(&client, &server, b"hello");
        server.shutdown(Shutdown::Write).unwrap();
        net::wait_for_fin(&client);
        drop(server);
        settle();
        drop(client);
    }
    let bound_client = net::socket(LOCALHOST);
    bound_client.set_reuse_address(true).unwrap();
    bound_client.bind(&own.into()).unwrap();
    bound_client.connect(&to(LOCALHOST).into()).unwrap();
    drop((listener.accept().unwrap(), bound_client));
    net::socket(LOCALHOST).connect(&closed.into()).unwrap_err();
    // A SYN that is sent again before its answer comes, and one without a port.
    lose_input(&listener);
    let waiting = net::socket(LOCALHOST);
    begin_connect(&waiting, to(LOCALHOST));
    std::thread::sleep(Duration::from_millis(1200));
    net::receive_again(&listener);
    let (_server, _) = listener.accept().unwrap();
    let unbound = net::socket(LOCALHOST);
    unbound.listen(1).unwrap();
    drop((unbound, waiting));
    settle();
    for (filter, on, off) in tracers {
        assert_same(&filter, on, off);
    }
}

/// That both showed the same events, and some; gives how many.
fn assert_same(filter: &str, on: Tracer, off: Tracer) -> usize {
    let events = |tracer: Tracer| {
        let records = tracer.stop().records();
        let is_event = |record: &&Value| record["mono_ns"].is_u64() && !record["cpu"].is_null();
        let mut said: Vec<_> = records.iter().filter(is_event).map(said).collect();
        said.sort();
        said
    };
    let (on, off) = (events(on), events(off));
    assert!(!off.is_empty(), "{filter}");
    let only = |these: &[String], those: &[String]| {
        these.iter().filter(|event| !those.contains(event)).cloned().collect::<Vec<_>>()
    };
    assert_eq!(on, off, "{filter}: with findings {:#?}, without {:#?}", only(&on, &off), only(&off, &on));
    on.len()
}

fn same_events_of_a_service() {
    enter_new_netns();
    // The parent listens, and its child takes the connections and reads.
    let mut parent = Actor::start("t-prefork", &["6412"]);
    let pid = parent.pid().to_string();
    let start = |mode| Tracer::here(&["--findings", mode, "--pid", &pid]);
    let (on, off) = (start("on"), start("off"));
    parent.go();
    parent.says();
    let client = net::socket(LOCALHOST);
    client.connect(&SocketAddr::new(LOCALHOST, 6412).into()).unwrap();
    client.send(b"question").unwrap();
    let mut answer = [std::mem::MaybeUninit::new(0); 16];
    assert_eq!(client.recv(&mut answer).unwrap(), 6);
    drop(client);
    parent.wait();
    settle();
    assert!(assert_same("--pid of the parent", on, off) >= 4, "all that its service does");
}

/// Ends a connection by RST, while the other end has something to read.
fn reset((client, server): (Socket, Socket)) {
    client.send(b"unread").unwrap();
    net::wait_readable(&server);
    client.set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
}

fn final_counts() {
    enter_new_netns();
    let (listener, to) = listen(LOCALHOST);
    let tracer = Tracer::here(&["--findings", "only"]);
    for _ in 0..20 {
        reset(pair(&listener, to));
        std::thread::sleep(Duration::from_millis(40));
    }
    let run = tracer.stop();
    let found = findings(&run);
    let aborted: Vec<_> = found.iter().filter(|(_, last)| last["finding"] == "aborted-close").collect();
    assert_eq!(aborted.len(), 1, "{found:#?}");
    assert!(found.iter().all(|(_, last)| last["count"] == 20), "{found:#?}");
    let counts = run.records();
    let counts = counts.iter().filter(|record| record["finding"] == "aborted-close");
    let counts: Vec<_> = counts.map(|record| record["count"].as_u64().unwrap()).collect();
    assert!(counts.is_sorted() && counts.len() >= 2, "{counts:?}");

    // For people, at the end.
    let tracer = Tracer::start(&["--netns", "self", "--color", "never"]);
    for _ in 0..3 {
        reset(pair(&listener, to));
    }
    settle();
    let printed = tracer.stop().lines.join("\n");
    let (_, end) = printed.split_once("Findings still open at the end\n").unwrap_or_else(|| panic!("{printed}"));
    assert!(end.lines().any(|line| line.contains(" aborted-close #") && line.ends_with(": 3")), "{end}");
}

fn findings_are_counted() {
    enter_new_netns();
    let ports: Vec<_> = (0..3).map(|_| listen(LOCALHOST)).collect();
    let closed: Vec<_> = ports.into_iter().map(|(_, to)| to).collect();
    let tracer = Tracer::here(&["--findings", "only", "-c", "2"]);
    for to in closed {
        net::socket(LOCALHOST).connect(&to.into()).unwrap_err();
    }
    let run = tracer.wait();
    let records = run.records();
    assert_eq!(records.last().unwrap()["reason"], "count");
    let findings = |records: &[Value]| records.iter().filter(|record| record["event"] == "finding").count();
    assert_eq!(findings(&records), 2, "{records:#?}");
    // What is printed counts, also where one finding changes again and again.
    let (listener, to) = listen(LOCALHOST);
    let tracer = Tracer::here(&["--findings", "only", "-c", "3", "--threshold", "update-every=10ms"]);
    let is_over = AtomicBool::new(false);
    let records = std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in (0..1000).take_while(|_| !is_over.load(Ordering::Relaxed)) {
                reset(pair(&listener, to));
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let records = tracer.wait().records();
        is_over.store(true, Ordering::Relaxed);
        records
    });
    assert_eq!((findings(&records), &records.last().unwrap()["reason"]), (3, &"count".into()), "{records:#?}");
    assert!(records.iter().any(|record| record["phase"] == "updated"), "{records:#?}");
}

fn syn_from_before() {
    enter_new_netns();
    let (listener, to) = listen(LOCALHOST);
    lose_input(&listener);
    let client = net::socket(LOCALHOST);
    begin_connect(&client, to);
    std::thread::sleep(Duration::from_millis(3300));
    for list in [&[][..], &["--no-iter"]] {
        let once = |flags: &[&str]| {
            let mut command = Command::new(binary());
            command.args(["stuck", "--once", "--netns", "self", "--color", "never"]).args(list).args(flags);
            let output = command.output().unwrap();
            (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
        };
        let (code, told) = once(&["--stuck-after", "SYN_SENT=3s", "--format", "json"]);
        assert_eq!(code, 3, "{list:?}: {told}");
        let records = told.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let found: Vec<_> = records.filter(|record| record["finding"] == "syn-sent-unanswered").collect();
        assert!(found[0]["age_ns"].as_u64().unwrap() >= 3_000_000_000, "{found:#?}");
        assert_eq!(found[0]["age_source"], "lower_bound");
        assert_eq!(once(&["--stuck-after", "SYN_SENT=3s", "--fail-on", "critical"]).0, 0);
        // Below the threshold, and said so.
        let (code, told) = once(&["--stuck-after", "SYN_SENT=1h"]);
        assert_eq!(code, 0, "{told}");
        assert!(told.contains("nothing is beyond its threshold after checking 2 sockets for "), "{told}");
        assert!(told.contains("; 1 SYN_SENT, oldest ≥"), "{told}");
    }
}

fn stuck_columns() {
    enter_new_netns();
    let mut held = Vec::new();
    let mut leak = |count: usize| {
        let (listener, to) = listen(LOCALHOST);
        for _ in 0..count {
            let (client, server) = pair(&listener, to);
            drop(client);
            net::wait_for_fin(&server);
            held.push(server);
        }
        held.push(listener);
        to.port()
    };
    let (few, many) = (leak(2), leak(5));
    std::thread::sleep(Duration::from_millis(1500));
    let stuck = |flags: &[&str]| {
        let common = ["stuck", "--once", "--netns", "self", "--stuck-after", "CLOSE_WAIT=1s"];
        let output = Command::new(binary()).args(common).args(flags).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let columns = ["--columns", "severity,finding,local-port,count,age"];
    for (sort, ports) in
        [("count", [few, many]), ("-count", [many, few]), ("severity,local-port:desc", [few.max(many), few.min(many)])]
    {
        let text = stuck(&[&columns[..], &["--sort", sort]].concat());
        let rows: Vec<Vec<&str>> = text.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
        assert!(text.lines().next().unwrap().contains("2 findings"), "{text}");
        assert_eq!(rows[0], ["severity", "finding", "local_port", "count", "age_ns"], "{text}");
        assert_eq!(rows.len(), 3, "{text}");
        assert_eq!(
            [rows[1][2], rows[2][2]],
            ports.map(|port| port.to_string()).each_ref().map(String::as_str),
            "{text}"
        );
        assert!(rows[1][1] == "close-wait-leak" && rows[1][4].contains('s'), "{text}");
    }
    let csv = stuck(&[&columns[..], &["--format", "csv"]].concat());
    assert!(csv.starts_with("severity,finding,local_port,count,age_ns\n"), "{csv}");
    let json = stuck(&[&columns[..], &["--json"]].concat());
    let records: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let finding = records.iter().find(|record| record["event"] == "finding").unwrap();
    let names: Vec<_> = finding.as_object().unwrap().keys().map(String::as_str).collect();
    let want = ["schema", "event", "time", "mono_ns", "severity", "finding", "local_port", "count", "age_ns"];
    assert_eq!(names, want, "{finding:#}");
    // Sentences may be sorted as well.
    let text = stuck(&["--sort", "-count"]);
    let position = |port: u16| text.find(&format!(":{port}")).unwrap();
    assert!(position(many) < position(few), "{text}");
}
