//! The process responsible: always the right one, or none.

use std::{collections::BTreeMap, os::fd::AsRawFd as _};

use serde_json::Value;

use crate::{
    Test,
    actor::Actor,
    net::{self, LOCALHOST, enter_new_netns, listen, settle},
    tracer::Tracer,
};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("1,500 connections between two processes and a bystander", many_connections),
    ("killed owner", killed_owner),
    ("a child accepts what its parent listens for", prefork),
    ("a descriptor passed to another process", passed_descriptor),
    ("two processes listen on one port", shared_port),
    ("a RST has the owner of its own socket, not of an earlier one at its address", resets),
];

fn many_connections() {
    const COUNT: u32 = 1500;
    let netns = enter_new_netns();
    let tracer = Tracer::json(&["--port", "6001"]);
    let bystander = Actor::start("t-spinner", &["0"]);
    let count = COUNT.to_string();
    let server = Actor::start("t-server", &["6001", &count, "1"]);
    let client = Actor::start("t-client", &["6001", &count, "0"]);
    let (server_pid, client_pid) = (server.pid(), client.pid());
    client.wait();
    server.wait();
    drop(bystander);
    settle();
    let events = tracer.stop().events(netns);
    let mut seen: BTreeMap<(&str, String), u64> = BTreeMap::new();
    for event in &events.0 {
        let is_server = event["local_port"] == 6001;
        let (side, pid, command) =
            if is_server { ("server", server_pid, "t-server") } else { ("client", client_pid, "t-client") };
        let named = match event["pid"].as_u64() {
            None => "unknown".to_owned(),
            Some(named) if named == u64::from(pid) && event["command"] == command => "right".to_owned(),
            Some(_) => panic!("a stranger, not {pid}: {event:#}"),
        };
        *seen.entry((side, named)).or_default() += 1;
    }
    println!("owners of {COUNT} connections: {seen:?}");
    let right = |side| seen.get(&(side, "right".to_owned())).copied().unwrap_or_default();
    assert!(right("client") >= u64::from(COUNT) * 5 && right("server") >= u64::from(COUNT) * 5, "{seen:?}");
    assert!(!seen.keys().any(|(_, named)| named == "unknown"), "all owners can be known here: {seen:?}");
}

fn killed_owner() {
    let netns = enter_new_netns();
    let tracer = Tracer::json(&[]);
    let (listener, to) = listen(LOCALHOST);
    let mut holder = Actor::start("t-holder", &[&to.port().to_string()]);
    let (pid, client_port) = (holder.pid(), holder.says().parse::<u16>().unwrap());
    let (server, _) = listener.accept().unwrap();
    holder.kill();
    net::wait_for_fin(&server);
    drop(server);
    settle();
    let events = tracer.stop().events(netns);
    let life = events.life(client_port, to.port());
    life.assert_owner(pid, "connect", "connect");
    assert_eq!(life.entering("FIN_WAIT1")["command"], "t-holder");
    assert_eq!(life.entering("FIN_WAIT1")["process_exit"], "SIGKILL");
    life.assert_closed_first();
}

fn prefork() {
    let netns = enter_new_netns();
    let tracer = Tracer::json(&["--port", "6002"]);
    let mut parent = Actor::start("t-prefork", &["6002"]);
    parent.go();
    let (parent_pid, child_pid) = (parent.pid(), parent.says().parse::<u32>().unwrap());
    let client = net::socket(LOCALHOST);
    client.connect(&std::net::SocketAddr::new(LOCALHOST, 6002).into()).unwrap();
    let client_port = net::port(&client);
    client.send(b"question").unwrap();
    let mut answer = [std::mem::MaybeUninit::new(0); 16];
    assert_eq!(client.recv(&mut answer).unwrap(), 6);
    drop(client);
    parent.wait();
    settle();
    let events = tracer.stop().events(netns);
    let life = events.life(6002, client_port);
    assert_eq!(life.leaving("LISTEN")["pid"], parent_pid, "{:#?}", life.0);
    assert_eq!(life.leaving("LISTEN")["owner_source"], "listener");
    let changed = life.0.iter().find(|event| event["event"] == "owner").expect("the child is learnt");
    assert_eq!(changed["pid"], child_pid);
    for state in ["CLOSE_WAIT", "LAST_ACK"] {
        assert_eq!(life.entering(state)["pid"], child_pid, "{:#?}", life.0);
        assert!(["io", "accept"].contains(&life.entering(state)["owner_source"].as_str().unwrap()));
    }
}

fn passed_descriptor() {
    let netns = enter_new_netns();
    let tracer = Tracer::json(&[]);
    let (listener, to) = listen(LOCALHOST);
    let (client, server) = net::pair(&listener, to);
    let client_port = net::port(&client);
    let me = std::process::id();
    let mut borrower = Actor::start("t-borrower", &[&me.to_string(), &client.as_raw_fd().to_string()]);
    let borrower_pid = borrower.pid();
    borrower.go();
    assert_eq!(borrower.says(), "taken");
    drop(client);
    server.send(b"for whoever reads").unwrap();
    assert_eq!(borrower.says(), "first");
    drop(server);
    assert_eq!(borrower.says(), "read");
    borrower.go();
    borrower.wait();
    settle();
    let events = tracer.stop().events(netns);
    let life = events.life(client_port, to.port());
    assert_eq!(life.entering("SYN_SENT")["pid"], me);
    assert_eq!(life.entering("CLOSE_WAIT")["pid"], borrower_pid, "it reads now: {:#?}", life.0);
    assert_eq!(life.entering("CLOSE_WAIT")["owner_source"], "io");
    assert_eq!(life.entering("LAST_ACK")["pid"], borrower_pid);
}

fn shared_port() {
    let netns = enter_new_netns();
    // One process listens before the trace begins, another one after: both with SO_REUSEPORT. Which of them the kernel
    // chooses for a connection is known from its first event on.
    let older = Actor::start("t-namer", &["6003"]);
    let tracer = Tracer::json(&["--port", "6003"]);
    let newer = Actor::start("t-namer", &["6003"]);
    let clients: Vec<_> = (0..20).map(|_| net::named_by(6003)).collect();
    settle();
    let events = tracer.stop().events(netns);
    let listener = events.of_kind("transition").find(|event| event["new_state"] == "LISTEN").unwrap();
    assert_eq!(listener["pid"], newer.pid());
    for pid in [older.pid(), newer.pid()] {
        assert!(clients.iter().any(|(_, named)| *named == pid), "a case that tells nothing");
    }
    for (client, pid) in &clients {
        let life = events.life(6003, net::port(client));
        for event in [life.leaving("LISTEN"), life.leaving("SYN_RECV")] {
            assert_eq!(event["pid"], *pid, "{event:#}");
            assert_eq!((&event["owner_source"], &event["owner_candidates"]), (&"listener".into(), &Value::Null));
        }
    }
}

fn resets() {
    const PROCESSES: usize = 8;
    const ROUNDS: usize = 40;
    let netns = enter_new_netns();
    let (listener, to) = listen(LOCALHOST);
    std::thread::spawn(move || while listener.accept().is_ok() {});
    let tracer = Tracer::json(&["--port", &to.port().to_string()]);
    let arguments = [to.port().to_string(), ROUNDS.to_string()];
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let actors: Vec<_> = (0..PROCESSES).map(|_| Actor::start("t-resetter", &arguments)).collect();
    actors.into_iter().for_each(Actor::wait);
    settle();
    let events = tracer.stop().events(netns);
    let mut owners = BTreeMap::new();
    let mut sent = 0;
    for event in events.0.iter().filter(|event| event["remote_port"] == to.port()) {
        let cookie = event["cookie"].as_u64();
        if event["new_state"] == "CLOSE" {
            owners.insert(cookie, event["pid"].clone());
        } else if event["event"] == "reset_sent" {
            assert_eq!(owners.get(&cookie), Some(&event["pid"]), "{event:#}");
            sent += 1;
        }
    }
    assert!(sent >= PROCESSES * ROUNDS, "a case that tells nothing: {sent}");
}
