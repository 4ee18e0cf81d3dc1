//! What makes no events is polled for: mini-sockets and half-open connections.

use std::{fs, net::SocketAddr, time::Duration};

use serde_json::Value;
use socket2::Socket;

use crate::{
    Test,
    net::{
        self, LOCALHOST, begin_connect, enter_new_netns, listen, lose_input, now_ns, pair, port, settle, sysctl,
        wait_until,
    },
    ss,
    tracer::{Tracer, socket_counts},
};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("an orphan's FIN_WAIT2 becomes TIME_WAIT", becomes_time_wait),
    ("an orphan whose peer never closes is forgotten", never_closes),
    ("an orphan that a RST ends", reset),
    ("TIME_WAIT that ends early", time_wait_ends),
    ("--poll off makes none", off),
    ("half-open connections by listener", half_open),
    ("SYN cookies make the time of the handshake unreliable", syn_cookies),
    ("TIME_WAIT that there is no room for", overflow),
];

/// A tracer of this thread's namespace that polls often.
fn tracer(flags: &[&str]) -> Tracer {
    Tracer::here(&[&["--poll", "100ms"], flags].concat())
}

fn is_polled(record: &Value, new: &str, port: u16) -> bool {
    record["new_state_source"] == "polled" && record["new_state"] == new && record["local_port"] == port
}

/// Waits until polls are made: after the listing of the start they rest, on a host with many sockets for seconds.
fn wait_for_poll(tracer: &Tracer, listener: &Socket, to: SocketAddr) {
    let (client, server) = pair(listener, to);
    let port = port(&client);
    client.shutdown(std::net::Shutdown::Write).unwrap();
    net::wait_for_fin(&server);
    drop(server);
    net::wait_for_fin(&client);
    ss::kill(&["state", "time-wait"]);
    tracer.wait_for_record("poll", |record| is_polled(record, "CLOSE", port));
}

/// Asserts that a poll's record was made soon after what it tells of.
fn assert_soon(record: &Value, after_ns: u64) {
    let made = record["mono_ns"].as_u64().unwrap();
    assert!((after_ns..after_ns + 20_000_000_000).contains(&made), "{} ns later: {record:#}", made - after_ns);
}

fn becomes_time_wait() {
    let netns = enter_new_netns();
    for way in [&[][..], &["--no-iter"]] {
        let tracer = tracer(way);
        let (listener, to) = listen(LOCALHOST);
        let (client, server) = pair(&listener, to);
        let client_port = port(&client);
        drop(client);
        tracer
            .wait_for("orphan", |line| line.contains("\"new_state\":\"FIN_WAIT2\",\"new_state_source\":\"inferred\""));
        std::thread::sleep(Duration::from_millis(250)); // a poll or more sees it as it is
        let closed_ns = now_ns();
        drop(server);
        let change = tracer.wait_for_record("change", |record| is_polled(record, "TIME_WAIT", client_port));
        let began_ns = change["mono_ns"].as_u64().unwrap();
        assert!(began_ns.abs_diff(closed_ns) <= 15_000_000, "{began_ns} for {closed_ns}, to a jiffy: {change:#}");
        let shown = ss::list();
        let run = tracer.stop();
        let life = run.events(netns).life(client_port, to.port());
        let orphan = life.transitions().into_iter().find(|event| event["new_state_source"] == "inferred").unwrap();
        let lasted = change["mono_ns"].as_u64().unwrap() - orphan["mono_ns"].as_u64().unwrap();
        assert_eq!((&change["time_in_old_state_ns"], &change["time_source"]), (&lasted.into(), &"timer".into()));
        assert_eq!((&change["old_state"], &change["ending"]), (&"FIN_WAIT2".into(), &"normal".into()), "{change:#}");
        assert_eq!((&change["cookie"], &change["pid"]), (&orphan["cookie"], &std::process::id().into()), "{change:#}");
        assert!(change["sk"].is_null() && change["cpu"].is_null(), "{change:#}");
        let mini = shown.iter().find(|socket| change["cookie"] == socket.cookie).unwrap();
        assert_eq!((mini.state, &mini.timer.as_ref().unwrap().0[..]), ("TIME_WAIT", "timewait"));
        assert_eq!(socket_counts(&run.summary()).get("TIME_WAIT"), Some(&1));
        ss::kill(&["state", "time-wait"]);
    }
}

fn never_closes() {
    enter_new_netns();
    let tracer = tracer(&[]);
    let (listener, to) = listen(LOCALHOST);
    wait_for_poll(&tracer, &listener, to);
    sysctl("tcp_fin_timeout", 2);
    let (client, server) = pair(&listener, to);
    let client_port = port(&client);
    drop(client);
    let is_orphan = |record: &Value| {
        let is_timewait = record["new_state"] == "FIN_WAIT2" && record["new_state_source"] == "inferred";
        is_timewait && record["local_port"] == client_port
    };
    let orphan = tracer.wait_for_record("orphan", is_orphan);
    let shown = ss::list();
    let mini = shown.iter().find(|socket| orphan["cookie"] == socket.cookie);
    if let Some(mini) = mini {
        let (kind, left) = mini.timer.clone().unwrap();
        assert!(mini.state == "FIN_WAIT2" && kind == "timewait" && left <= Duration::from_secs(2), "{mini:?}");
    }
    let end = tracer.wait_for_record("end", |record| is_polled(record, "CLOSE", client_port));
    assert_eq!((&end["old_state"], &end["ending"]), (&"FIN_WAIT2".into(), &"peer_never_closed".into()), "{end:#}");
    assert!(end["time_in_old_state_ns"].as_u64().unwrap() >= 1_900_000_000, "{end:#}");
    assert_soon(&end, orphan["mono_ns"].as_u64().unwrap() + 1_900_000_000);
    let shown = ss::list();
    assert!(shown.iter().all(|socket| end["cookie"] != socket.cookie), "{shown:#?}");
    let run = tracer.stop();
    let counts = socket_counts(&run.summary());
    assert_eq!((counts.get("FIN_WAIT2"), counts["CLOSE_WAIT"]), (None, 1), "{counts:?}");
    drop(server);
}

fn reset() {
    enter_new_netns();
    let tracer = tracer(&[]);
    let (listener, to) = listen(LOCALHOST);
    let (client, server) = pair(&listener, to);
    let client_port = port(&client);
    drop(client);
    tracer.wait_for("orphan", |line| line.contains("\"new_state\":\"FIN_WAIT2\",\"new_state_source\":\"inferred\""));
    std::thread::sleep(Duration::from_millis(250));
    server.set_linger(Some(Duration::ZERO)).unwrap();
    drop(server);
    let end = tracer.wait_for_record("end", |record| is_polled(record, "CLOSE", client_port));
    // That a RST ended it nobody tells; that its time was not over is seen.
    assert_eq!((&end["old_state"], &end["ending"]), (&"FIN_WAIT2".into(), &"unknown".into()), "{end:#}");
    tracer.stop();
}

fn time_wait_ends() {
    enter_new_netns();
    let tracer = tracer(&[]);
    let (listener, to) = listen(LOCALHOST);
    let ports = [(); 2].map(|()| {
        let client = net::socket(LOCALHOST);
        client.set_reuse_address(true).unwrap();
        client.connect(&to.into()).unwrap();
        let (server, _) = listener.accept().unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        net::wait_for_fin(&server);
        drop(server);
        net::wait_for_fin(&client);
        port(&client)
    });
    std::thread::sleep(Duration::from_millis(250));
    // One is destroyed; the other's place is taken by a new connection from the same port.
    ss::kill(&["state", "time-wait", "sport", "=", &format!(":{}", ports[0])]);
    let end = tracer.wait_for_record("end of the first", |record| is_polled(record, "CLOSE", ports[0]));
    assert_eq!((&end["old_state"], &end["ending"]), (&"TIME_WAIT".into(), &Value::Null), "told when it began: {end:#}");
    assert!(end["time_in_old_state_ns"].as_u64().unwrap() < 55_000_000_000, "{end:#}");
    let again = net::socket(LOCALHOST);
    again.set_reuse_address(true).unwrap();
    again.bind(&SocketAddr::new(LOCALHOST, ports[1]).into()).unwrap();
    std::thread::sleep(Duration::from_millis(1100)); // tcp_tw_reuse_delay
    let began_ns = now_ns();
    again.connect(&to.into()).unwrap();
    let end = tracer.wait_for_record("end of the second", |record| {
        record["old_state"] == "TIME_WAIT" && record["new_state"] == "CLOSE" && record["local_port"] == ports[1]
    });
    assert_eq!((&end["new_state_source"], &end["time_source"]), (&"inferred".into(), &"observed".into()), "{end:#}");
    assert!((began_ns..=now_ns()).contains(&end["mono_ns"].as_u64().unwrap()), "{end:#}");
    let run = tracer.stop();
    let counts = socket_counts(&run.summary());
    assert_eq!(counts, [("LISTEN".to_owned(), 1), ("ESTABLISHED".to_owned(), 2)].into());
}

/// How often a tracer's thread that lists has gone to sleep.
fn sleeps_of_lister(tracer: &Tracer) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", tracer.pid())).unwrap();
    let lister = tasks
        .map(|task| task.unwrap().path())
        .find(|task| fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "listing"))
        .expect("a thread that lists");
    let status = fs::read_to_string(lister.join("status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap().trim().parse().unwrap()
}

fn off() {
    let netns = enter_new_netns();
    let off = Tracer::here(&["--poll", "off"]);
    let on = tracer(&[]);
    let (listener, to) = listen(LOCALHOST);
    let (client, server) = pair(&listener, to);
    let client_port = port(&client);
    drop(client);
    settle();
    let [before, polled] = [&off, &on].map(sleeps_of_lister);
    drop(server);
    let change = on.wait_for_record("change", |record| is_polled(record, "TIME_WAIT", client_port));
    std::thread::sleep(Duration::from_millis(1500));
    // It shows that it is alive now and then.
    let (signs, polls) = (sleeps_of_lister(&off) - before, sleeps_of_lister(&on) - polled);
    assert!(signs * 4 < polls, "{signs} against {polls}");
    let stop_ns = now_ns();
    let run = off.stop();
    on.stop();
    // What the listing at the end finds is told of.
    let polled: Vec<_> =
        run.events(netns).0.into_iter().filter(|event| event["new_state_source"] == "polled").collect();
    assert!(polled.iter().all(|event| event["mono_ns"].as_u64().unwrap() > stop_ns), "{polled:#?}");
    assert!(polled.len() <= 1 && change["mono_ns"].as_u64().unwrap() < stop_ns, "{polled:#?}");
}

fn half_open() {
    enter_new_netns();
    let (one, to_one) = listen(LOCALHOST);
    let (two, to_two) = listen(LOCALHOST);
    let tracer = tracer(&["--interval", "200ms"]);
    let clients: Vec<_> = [to_one, to_one, to_one, to_two]
        .map(|to| {
            let client = net::socket(LOCALHOST);
            lose_input(&client); // the SYN-ACK
            begin_connect(&client, to);
            client
        })
        .into();
    let rows = |record: &Value| -> Vec<(u64, u64)> {
        let rows = record["half_open"].as_array().into_iter().flatten();
        rows.map(|row| (row["local_port"].as_u64().unwrap(), row["count"].as_u64().unwrap())).collect()
    };
    let expected = vec![(u64::from(to_one.port()), 3), (u64::from(to_two.port()), 1)];
    let summary = tracer.wait_for_record("half-open connections", |record| rows(record) == expected);
    assert_eq!(ss::counts()["SYN_RECV"], 4);
    for row in summary["half_open"].as_array().unwrap() {
        assert_eq!(row["owner"]["pid"], std::process::id(), "{row:#}");
        assert_eq!(row["local_address"], "127.0.0.1");
        assert!(row["retransmitted"].as_u64().unwrap() <= row["count"].as_u64().unwrap(), "{row:#}");
    }
    // A second later their SYN-ACKs are sent again.
    let all_again = |record: &Value| {
        record["half_open"]
            .as_array()
            .is_some_and(|rows| !rows.is_empty() && rows.iter().all(|row| row["retransmitted"] == row["count"]))
    };
    tracer.wait_for_record("SYN-ACKs that are sent again", all_again);
    drop((one, two, clients));
    wait_until("the end of the requests", || !ss::counts().contains_key("SYN_RECV"));
    let run = tracer.stop();
    assert_eq!(run.summary()["half_open"], Value::Array(Vec::new()), "they are gone");
}

fn syn_cookies() {
    let netns = enter_new_netns();
    for (setting, source) in [(1, "handshake_rtt"), (2, "handshake_rtt_unreliable")] {
        sysctl("tcp_syncookies", setting);
        let tracer = tracer(&[]);
        let (listener, to) = listen(LOCALHOST);
        let (client, server) = pair(&listener, to);
        settle();
        let life = tracer.stop().events(netns).life(to.port(), port(&client));
        let established = life.entering("ESTABLISHED");
        assert_eq!(established["old_state"], "SYN_RECV");
        assert_eq!(established["time_source"], source, "tcp_syncookies={setting}: {established:#}");
        drop((client, server));
    }
}

fn overflow() {
    let netns = enter_new_netns();
    let tracer = tracer(&[]);
    sysctl("tcp_max_tw_buckets", 1);
    let (listener, to) = listen(LOCALHOST);
    for _ in 0..5 {
        let (client, server) = pair(&listener, to);
        client.shutdown(std::net::Shutdown::Write).unwrap();
        net::wait_for_fin(&server);
        drop(server);
        net::wait_for_fin(&client);
    }
    let mut told = 0;
    tracer.wait_for_record("overflow", |record| {
        if record["event"] == "time_wait_overflow" && record["netns"] == netns {
            told += record["count"].as_u64().unwrap();
        }
        told >= 4
    });
    assert_eq!((told, ss::counts()["TIME_WAIT"]), (4, 1));
    // The events look the same for all; a poll finds that most were never there.
    let run = tracer.stop();
    let began = run.events(netns).of_kind("transition").filter(|event| event["new_state"] == "TIME_WAIT").count();
    assert_eq!(began, 5);
    assert_eq!(socket_counts(&run.summary())["TIME_WAIT"], 1);
}
