//! Names of processes at both ends: the right ones, or none.

use std::{fs, net::SocketAddr};

use serde_json::{Value, json};

use crate::{
    Test,
    actor::Actor,
    net::{self, LOCALHOST, enter_new_netns, listen, settle},
    tracer::{Run, Tracer},
};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("two processes on loopback name each other", each_other),
    ("a process keeps its names after its end, and another one with its PID does not get them", reused),
    ("secrets in arguments are masked", masked),
    ("text has short names and the peer", text),
];

/// Events wait for names for half of this, so that a busy machine has the time to read them.
const LATENCY: &str = "--latency=2s";

fn executable() -> String {
    std::env::current_exe().unwrap().display().to_string()
}

/// The events of a process, by PID.
fn of_pid(run: &Run, pid: u32) -> Vec<Value> {
    let events: Vec<_> = run.records().into_iter().filter(|record| record["pid"] == pid).collect();
    assert!(!events.is_empty(), "no event of {pid}");
    events
}

fn each_other() {
    let netns = enter_new_netns();
    let tracer = Tracer::json(&["--port", "6061", LATENCY]);
    let server = Actor::start("t-server", &["6061", "1", "1"]);
    let client = Actor::start("t-client", &["6061", "1", "0"]);
    let (server_pid, client_pid) = (server.pid(), client.pid());
    client.wait();
    server.wait();
    settle();
    let run = tracer.stop();
    let events = run.events(netns);
    let client_port = events.0.iter().find(|event| event["pid"] == client_pid && !event["local_port"].is_null());
    let client_port = client_port.unwrap()["local_port"].as_u64().unwrap() as u16;
    let (of_server, of_client) = (events.life(6061, client_port), events.life(client_port, 6061));
    for event in &of_server.0 {
        let got = [&event["peer_pid"], &event["peer_command"], &event["peer_executable"]];
        assert_eq!(got, [&json!(client_pid), &json!("t-client"), &json!(executable())], "{event:#}");
        assert!(["socket", "earlier"].contains(&event["peer_source"].as_str().unwrap()), "{event:#}");
    }
    // The server's socket comes after the client's first events.
    let named: Vec<_> = of_client.0.iter().filter(|event| event["peer_source"] != "unknown").collect();
    assert!(named.iter().all(|event| event["peer_pid"] == server_pid), "{named:#?}");
    for state in ["CLOSE_WAIT", "LAST_ACK", "FIN_WAIT1"] {
        let entering = of_client.transitions().into_iter().find(|event| event["new_state"] == state);
        if let Some(event) = entering {
            assert_eq!((&event["peer_pid"], &event["peer_command"]), (&json!(server_pid), &json!("t-server")));
        }
    }
    assert!(of_client.transitions().iter().any(|event| event["peer_pid"] == server_pid), "{:#?}", of_client.0);
    let own = of_client.entering("SYN_SENT");
    assert_eq!(own["executable"], executable(), "even the first event has names: {own:#}");
    assert_eq!(own["args"], json!([executable(), "6061", "1", "0"]));
    assert_eq!((&own["parent_pid"], &own["user"]), (&json!(std::process::id()), &json!("root")));
    assert!(own["ns_pid"].is_u64(), "{own:#}");
}

fn reused() {
    let netns = enter_new_netns();
    let tracer = Tracer::json(&[LATENCY]);
    let (listener, to) = listen(LOCALHOST);
    let port = to.port().to_string();
    let mut first = Actor::start("t-holder", &[&port, "first"]);
    let (pid, client_port) = (first.pid(), first.says().parse::<u16>().unwrap());
    let (server, _) = listener.accept().unwrap();
    tracer.wait_for_record("the connection", |record| record["pid"] == pid);
    first.kill();
    net::wait_for_fin(&server);
    // The kernel gives PIDs in order, after the last one.
    let mut second = None;
    for _ in 0..20 {
        if fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).is_err() {
            break;
        }
        let again = Actor::start("t-holder", &[&port, "second"]);
        if again.pid() == pid {
            second = Some(again);
            break;
        }
    }
    let second = second.map(|mut actor| (actor.says().parse::<u16>().unwrap(), actor));
    drop(server);
    settle();
    let run = tracer.stop();
    let events = run.events(netns);
    for event in &events.life(client_port, to.port()).0 {
        assert_eq!(event["args"], json!([executable(), port, "first"]), "{event:#}");
    }
    let Some((client_port, _actor)) = second else {
        return println!("skipped: no other process could get the PID {pid}");
    };
    let life = events.life(client_port, to.port());
    assert!(life.0.iter().all(|event| event["pid"] == pid), "{:#?}", life.0);
    for event in &life.0 {
        assert_eq!(event["args"], json!([executable(), port, "second"]), "{event:#}");
    }
}

fn masked() {
    enter_new_netns();
    let (_listener, to) = listen(LOCALHOST);
    let play = |flags: &[&str]| {
        let tracer = Tracer::json(&[&[LATENCY], flags].concat());
        let mut holder =
            Actor::start("t-holder", &[&to.port().to_string(), "--password=hunter2", "https://me:x@host/"]);
        holder.says();
        let pid = holder.pid();
        tracer.wait_for_record("the connection", |record| record["pid"] == pid);
        holder.kill();
        settle();
        of_pid(&tracer.stop(), pid)
    };
    for event in play(&[]) {
        let args = event["args"].as_array().unwrap();
        assert_eq!(args[2..], [json!("--password=***"), json!("https://me:***@host/")], "{event:#}");
    }
    for event in play(&["--no-args"]) {
        assert_eq!((&event["args"], &event["executable"]), (&Value::Null, &json!(executable())), "{event:#}");
    }
}

fn text() {
    enter_new_netns();
    let tracer = Tracer::start(&["--pid", "--findings", "off"]);
    let (listener, to) = listen(LOCALHOST);
    let mut holder = Actor::start("t-holder", &[&to.port().to_string()]);
    let client = SocketAddr::new(LOCALHOST, holder.says().parse::<u16>().unwrap());
    let (server, _) = listener.accept().unwrap();
    holder.kill();
    net::wait_for_fin(&server);
    drop(server);
    settle();
    let run = tracer.stop();
    let lines: Vec<_> = run.lines.iter().filter(|line| line.contains(&client.to_string())).collect();
    assert!(lines.iter().any(|line| line.contains("peer t-holder[")), "{lines:#?}");
    assert!(lines.iter().all(|line| line.chars().count() < 220 && !line.contains("cgroup /")), "{lines:#?}");
}
