//! What the kernel side counts equals what comes of events, of the same traffic.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use serde_json::Value;
use socket2::Socket;

use crate::{
    Test,
    net::{self, LOCALHOST, enter_new_netns, exchange, listen, pair, settle},
    tracer::{Run, Tracer},
};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("summaries equal those of events", equal),
    ("filters let the same pass", filters),
    ("ports of services", ports),
    ("cgroups of owners", cgroups),
    ("keys are bounded", bounded_keys),
    ("intervals add up", intervals),
    ("rows", rows),
];

const IPV6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// One connection, whose client closes first; the server's end stays open for a while.
fn connection(listener: &Socket, to: SocketAddr, open: Duration, left_open: Duration) {
    let (client, server) = pair(listener, to);
    exchange(&client, &server, b"hello");
    std::thread::sleep(open);
    drop(client);
    net::wait_for_fin(&server);
    std::thread::sleep(left_open);
    drop(server);
}

/// Connections with times of all kinds, and with ends of all kinds that need no other host.
fn play(address: IpAddr) {
    let (listener, to) = listen(address);
    for round in 0..20 {
        connection(&listener, to, Duration::from_millis(3 * round), Duration::from_millis(40 - 2 * round));
    }
    let (client, server) = pair(&listener, to);
    client.set_linger(Some(Duration::ZERO)).unwrap();
    drop(client); // resets the server's end
    settle();
    drop(server);
    let (client, server) = pair(&listener, to);
    client.send(b"unread").unwrap();
    net::wait_readable(&server);
    drop(server); // resets the client's
    settle();
    drop(client);
    let (client, server) = pair(&listener, to);
    client.shutdown(std::net::Shutdown::Write).unwrap();
    net::wait_for_fin(&server);
    server.shutdown(std::net::Shutdown::Write).unwrap(); // FIN_WAIT2 is a file's still
    net::wait_for_fin(&client);
    drop((client, server));
    let (client, server) = pair(&listener, to);
    net::lose_input(&server);
    client.send(b"again").unwrap();
    std::thread::sleep(Duration::from_millis(700)); // sent again after 200 ms and 400 ms
    net::receive_again(&server);
    net::wait_readable(&server);
    drop(client);
    settle();
    drop(server);
    drop(listener);
    net::socket(address).connect(&to.into()).unwrap_err(); // refused
    settle();
}

/// What both kinds of runs say of the same traffic in this network namespace: where the kernel side counts, and where it
/// sends events.
fn both(counting: &[&str], sending: &[&str], flags: &[&str], play: impl FnOnce()) -> (Run, Run) {
    let start = |own: &[&str]| Tracer::start(&[&["--netns", "self", "--format", "json"], own, flags].concat());
    let aggregate = start(counting);
    let events = start(sending);
    play();
    settle();
    (aggregate.stop(), events.stop())
}

const SENDING: &[&str] = &["--summary", "--poll", "off"];

fn transitions(of: &Value) -> BTreeMap<(String, String), Value> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let rows = of["transitions"].as_array().unwrap();
    rows.iter().map(|row| ((text(&row["old_state"]), text(&row["new_state"])), row.clone())).collect()
}

/// Asserts that two summaries are of the same events, and gives how many distributions were compared. Each program takes
/// the time for itself, later than the other one by as long as this machine's CPUs are kept from it.
fn assert_equal(counted: &Value, sent: &Value) -> usize {
    assert_eq!(counted["events"], sent["events"], "{counted:#} {sent:#}");
    assert_eq!(counted["endings"], sent["endings"]);
    let bound = counted["percentile_error"].as_f64().unwrap();
    assert_eq!(bound, 1.0 / 64.0);
    let (counted, sent) = (transitions(counted), transitions(sent));
    assert_eq!(counted.keys().collect::<Vec<_>>(), sent.keys().collect::<Vec<_>>());
    let mut compared = 0;
    for (pair, ours) in counted {
        let theirs = &sent[&pair];
        for field in ["count", "timed"] {
            assert_eq!(ours[field], theirs[field], "{field} of {pair:?}");
        }
        for (field, late_ns) in [("p50_ns", 3e5), ("p90_ns", 1e6), ("p99_ns", 1e7), ("max_ns", 1e7)] {
            let (Some(here), Some(there)) = (ours[field].as_f64(), theirs[field].as_f64()) else {
                assert_eq!(ours[field], theirs[field], "{field} of {pair:?}");
                continue;
            };
            compared += 1;
            // The kernel's own measure is one and the same.
            let late_ns = if pair.0 == "SYN_RECV" { 0.0 } else { late_ns };
            assert!((here - there).abs() <= bound * there + late_ns, "{field} of {pair:?}: {here} and {there}");
        }
    }
    compared
}

fn assert_nothing_lost(run: &Run) {
    assert!(run.status.success(), "{}", run.stderr);
    for (place, count) in run.summary()["losses"].as_object().unwrap() {
        assert!(count == 0 || place == "program_busy", "{place}: {count}");
    }
}

fn equal() {
    enter_new_netns();
    let (counted, sent) = both(&["--aggregate"], SENDING, &[], || [LOCALHOST, IPV6].into_iter().for_each(play));
    assert_nothing_lost(&counted);
    let (ours, theirs) = (counted.summary(), sent.summary());
    assert!(assert_equal(&ours, &theirs) >= 4 * 8);
    assert!(ours["events"]["retransmits"].as_u64().unwrap() >= 4, "{ours:#}");
    assert!(ours["events"]["resets_sent"].as_u64().unwrap() >= 6, "{ours:#}");
    assert!(ours["endings"].as_array().unwrap().len() >= 5, "{ours:#}");
    for field in ["processes", "sockets", "half_open", "keys"] {
        assert!(ours[field].is_null(), "{field} is not known, which is not nothing: {ours:#}");
    }
    let end = counted.records().pop().unwrap();
    let events: u64 = ours["events"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!((&end["event"], &end["received"], &end["sent"]), (&"end".into(), &events.into(), &events.into()));
}

fn filters() {
    enter_new_netns();
    let (listener, to) = listen(LOCALHOST);
    let (other, elsewhere) = listen(LOCALHOST);
    let (port, pid) = (to.port().to_string(), std::process::id().to_string());
    let cases: [&[&str]; 7] = [
        &["--port", &port],
        &["--local-port", &port],
        &["--remote-port", &port, "--state", "SYN_SENT,FIN_WAIT1"],
        &["--state", "CLOSE_WAIT"],
        &["--state", "TIME_WAIT"],
        &["-6"],
        &["--pid", &pid, "--remote-port", &port],
    ];
    for flags in cases {
        let (counted, sent) = both(&["--aggregate"], SENDING, flags, || {
            for (listener, to) in [(&listener, to), (&other, elsewhere), (&listener, to)] {
                connection(listener, to, Duration::from_millis(5), Duration::from_millis(10));
                settle();
            }
        });
        assert_nothing_lost(&counted);
        assert_equal(&counted.summary(), &sent.summary());
        let passes = counted.summary()["events"]["transitions"].as_u64().unwrap();
        assert!(if flags == ["-6"] { passes == 0 } else { passes > 0 }, "{flags:?}: {passes}");
        let filtered = |run: &Run| run.records().pop().unwrap()["filtered"].clone();
        assert!(filtered(&counted).as_u64().unwrap() > 0);
    }
    // What a filter keeps back still shows which port is the service's.
    let tracer = Tracer::here(&["--aggregate", "port", "--state", "CLOSE_WAIT"]);
    connection(&listener, to, Duration::from_millis(5), Duration::from_millis(10));
    settle();
    let keys = tracer.stop().summary()["keys"].clone();
    assert_eq!(
        (&keys[0]["port"], &keys[0]["events"]["transitions"], &keys[1]),
        (&to.port().into(), &2.into(), &Value::Null)
    );
}

/// Events of each kind of one port: of a listener's end that is local, of a client's it is remote.
fn of_port(run: &Run, port: u16, kind: &str) -> usize {
    let is_it = |event: &&Value| {
        event["event"] == kind && [&event["local_port"], &event["remote_port"]].contains(&&Value::from(port))
    };
    run.records().iter().filter(is_it).count()
}

fn ports() {
    let netns = enter_new_netns();
    let (before, to_before) = listen(LOCALHOST);
    let (old_client, old_server) = pair(&before, to_before);
    let mut services = Vec::new();
    let (counted, sent) = both(&["--aggregate", "port"], &["--poll", "off", "--findings", "off"], &[], || {
        for (address, connections) in [(LOCALHOST, 3), (IPV6, 5)] {
            let (listener, to) = listen(address);
            for _ in 0..connections {
                connection(&listener, to, Duration::from_millis(5), Duration::from_millis(5));
            }
            let (client, server) = pair(&listener, to);
            client.set_linger(Some(Duration::ZERO)).unwrap();
            drop((client, server));
            services.push(to.port());
        }
        drop(old_client);
        net::wait_for_fin(&old_server);
        drop(old_server);
    });
    assert_nothing_lost(&counted);
    let summary = counted.summary();
    let rows = summary["keys"].as_array().unwrap();
    let row = |port: Value| rows.iter().find(|row| row["port"] == port).unwrap_or_else(|| panic!("{port}: {rows:#?}"));
    for port in services {
        let events = &row(port.into())["events"];
        for (kind, field) in
            [("transition", "transitions"), ("reset_received", "resets_received"), ("reset_sent", "resets_sent")]
        {
            assert_eq!(events[field], of_port(&sent, port, kind), "{kind} of {port}: {rows:#?}");
        }
    }
    assert_eq!(rows.len(), 3, "{rows:#?}");
    // The connection from before the start: nobody saw which end is the service.
    assert_eq!(row(Value::Null)["events"]["transitions"], 6);
    assert_eq!(row(Value::Null)["other"], false);
    assert!(sent.events(netns).0.len() > 80);
    drop(before);
}

fn cgroups() {
    enter_new_netns();
    let (counted, sent) = both(&["--aggregate", "cgroup"], SENDING, &[], || play(LOCALHOST));
    assert_nothing_lost(&counted);
    let ours = counted.summary();
    assert_equal(&ours, &sent.summary());
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
    let rows = ours["keys"].as_array().unwrap();
    let known = rows.iter().find(|row| !row["cgroup_id"].is_null()).unwrap_or_else(|| panic!("{rows:#?}"));
    assert!(known["cgroup"].is_null() || own.is_empty() || known["cgroup"] == own, "{own}: {rows:#?}");
    let sum: u64 = rows.iter().map(|row| row["events"]["transitions"].as_u64().unwrap()).sum();
    assert_eq!(ours["events"]["transitions"], sum);
    let share = known["events"]["transitions"].as_u64().unwrap() as f64 / sum as f64;
    assert!(share > 0.9, "all is ours: {rows:#?}");
}

fn bounded_keys() {
    enter_new_netns();
    let listeners: Vec<_> = (0..4).map(|_| listen(LOCALHOST)).collect();
    let (counted, sent) = both(&["--aggregate", "port", "--aggregate-keys", "2"], SENDING, &[], || {
        for (listener, to) in &listeners {
            connection(listener, *to, Duration::from_millis(5), Duration::from_millis(5));
        }
    });
    let ours = counted.summary();
    assert_equal(&ours, &sent.summary());
    let rows = ours["keys"].as_array().unwrap();
    let ports: Vec<_> = rows.iter().filter_map(|row| row["port"].as_u64()).collect();
    let first: Vec<_> = listeners.iter().take(2).map(|(_, to)| u64::from(to.port())).collect();
    assert!(ports.len() == 2 && first.iter().all(|port| ports.contains(port)), "{rows:#?}");
    let other = rows.iter().find(|row| row["other"] == true).unwrap();
    let others = other["events"]["transitions"].as_u64().unwrap();
    assert!(rows.len() == 3 && others >= 18, "{rows:#?}");
    assert_eq!(ours["losses"]["other_keys"], others, "{ours:#}");
    assert_eq!(ours["losses"]["count_table"], 0);
}

fn intervals() {
    enter_new_netns();
    let (listener, to) = listen(LOCALHOST);
    let tracer = Tracer::start(&["--netns", "self", "--format", "json", "--aggregate", "--interval", "80ms"]);
    for _ in 0..10 {
        connection(&listener, to, Duration::from_millis(30), Duration::from_millis(10));
    }
    settle();
    let run = tracer.stop();
    assert_nothing_lost(&run);
    let records = run.records();
    let (parts, last): (Vec<_>, Vec<_>) =
        records.iter().filter(|record| record["event"] == "summary").partition(|record| record["final"] == false);
    let all = transitions(last[0]);
    assert!(parts.len() >= 3 && all.len() >= 9, "{records:#?}");
    for (pair, row) in &all {
        let parts = parts.iter().filter_map(|part| transitions(part).remove(pair)).collect::<Vec<_>>();
        let sum: u64 = parts.iter().map(|part| part["count"].as_u64().unwrap()).sum();
        assert!(sum <= row["count"].as_u64().unwrap(), "{pair:?}");
        let longest = parts.iter().filter_map(|part| part["max_ns"].as_u64()).max();
        assert!(longest <= row["max_ns"].as_u64(), "{pair:?}");
    }
    let counted = |of: &Value| of["events"]["transitions"].as_u64().unwrap();
    let sum: u64 = parts.iter().map(|part| counted(part)).sum();
    assert!(sum > 0 && sum <= counted(last[0]) && counted(last[0]) >= 90, "{sum}");
}

fn rows() {
    enter_new_netns();
    let (listener, to) = listen(LOCALHOST);
    let run = |format: &str| {
        let tracer = Tracer::start(&["--netns", "self", "--aggregate", "port", "--format", format]);
        connection(&listener, to, Duration::from_millis(5), Duration::from_millis(5));
        settle();
        let run = tracer.stop();
        assert!(run.status.success(), "{}", run.stderr);
        run.lines
    };
    let table = run("csv");
    let names: Vec<_> = table[0].split(',').collect();
    let cell = |row: &str, name: &str| {
        let place = names.iter().position(|column| *column == name).unwrap();
        row.split(',').nth(place).unwrap().to_owned()
    };
    let sum = |by: &str| -> u64 {
        let rows = table[1..].iter().filter(|row| cell(row, "by") == by && cell(row, "what") == "transition");
        rows.map(|row| cell(row, "count").parse::<u64>().unwrap()).sum()
    };
    assert_eq!((sum("all"), sum("port")), (10, 10), "{table:#?}");
    assert!(table.iter().any(|row| cell(row, "port") == to.port().to_string()), "{table:#?}");
    let text = run("text").join("\n");
    assert!(text.contains(&format!("Transitions of port {}", to.port())), "{text}");
    assert!(text.contains("percentiles are at most 1.6 % too high") && text.contains("are unknown"), "{text}");
}
