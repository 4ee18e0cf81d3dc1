//! Whose a connection is before any process has taken it, and whose it is when processes end: by those that hold it now.

use std::{collections::BTreeSet, io::Write as _, net::SocketAddr, time::Duration};

use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    Test,
    actor::Actor,
    net::{self, LOCALHOST, enter_new_netns, settle},
    tracer::{Life, Tracer, holders, sockets},
};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("a pre-fork server from before the start is one of its processes", older_prefork),
    ("a pre-fork server that starts later, before its first accept", newer_prefork),
    ("PID of a worker, and of the process that listens", by_pid),
    ("a listener whose process ended is its heir's", inherited),
    ("a process that is killed, and one that exits", exits),
    ("an MPTCP listener has a holder", mptcp),
];

fn connect(port: u16) -> Socket {
    let client = net::socket(LOCALHOST);
    client.connect(&SocketAddr::new(LOCALHOST, port).into()).unwrap();
    client
}

/// A server that listens, and has `children` that accept; with the PIDs of all.
fn sharer(port: u16, children: u32) -> (Actor, BTreeSet<u32>) {
    let mut server = Actor::start("t-sharer", &[&port.to_string(), &children.to_string()]);
    let pids = (0..=children).map(|_| server.says().parse().unwrap()).collect();
    (server, pids)
}

fn candidates(event: &Value) -> BTreeSet<u32> {
    let pids = event["owner_candidates"].as_array().unwrap_or_else(|| panic!("no candidates: {event:#}"));
    pids.iter().map(|pid| pid.as_u64().unwrap() as u32).collect()
}

/// The handshake names the server's first process as one of all.
fn assert_shared(life: &Life, server: &Actor, all: &BTreeSet<u32>) {
    for state in ["LISTEN", "SYN_RECV"] {
        let event = life.leaving(state);
        assert_eq!((&event["pid"], &event["owner_source"]), (&server.pid().into(), &"shared".into()), "{event:#}");
        assert_eq!(event["command"], "t-sharer", "{event:#}");
        assert_eq!(candidates(event), *all, "{event:#}");
    }
}

fn older_prefork() {
    for way in [&[][..], &["--no-iter"]] {
        let netns = enter_new_netns();
        let (server, all) = sharer(6701, 2);
        let tracer = Tracer::here(way);
        let client = connect(6701);
        net::wait_readable(&client);
        settle();
        let events = tracer.stop().events(netns);
        assert_shared(&events.life(6701, net::port(&client)), &server, &all);
    }
}

fn newer_prefork() {
    let netns = enter_new_netns();
    let tracer = Tracer::here(&[]);
    let (server, all) = sharer(6702, 2);
    std::thread::sleep(Duration::from_secs(3)); // its listener is looked at
    let client = connect(6702);
    net::wait_readable(&client);
    settle();
    let events = tracer.stop().events(netns);
    assert_shared(&events.life(6702, net::port(&client)), &server, &all);
}

fn by_pid() {
    let netns = enter_new_netns();
    let (server, all) = sharer(6703, 2);
    let child = *all.iter().find(|pid| **pid != server.pid()).unwrap();
    for findings in ["off", "on"] {
        let tracers = [server.pid(), child, std::process::id()]
            .map(|pid| Tracer::here(&["--findings", findings, "--pid", &pid.to_string()]));
        let client = connect(6703);
        let client_port = net::port(&client);
        net::wait_readable(&client);
        (&client).write_all(b"question").unwrap();
        settle();
        let [by_server, by_child, by_client] = tracers.map(|tracer| tracer.stop().events(netns));
        for events in [by_server, by_child] {
            assert_shared(&events.life(6703, client_port), &server, &all);
            assert!(events.0.iter().all(|event| event["local_port"] == 6703), "{:#?}", events.0);
        }
        assert!(by_client.0.iter().all(|event| event["remote_port"] == 6703), "{:#?}", by_client.0);
    }
}

fn inherited() {
    let netns = enter_new_netns();
    let tracer = Tracer::here(&[]);
    let mut parent = Actor::start("t-activator", &["6704"]);
    let parent_pid = parent.pid();
    parent.go();
    let heir: u32 = parent.says().parse().unwrap();
    std::thread::sleep(Duration::from_secs(3)); // its listener is looked at
    let client = connect(6704);
    settle();
    let events = tracer.stop().events(netns);
    assert_eq!(events.life(6704, 0).entering("LISTEN")["pid"], parent_pid);
    let life = events.life(6704, net::port(&client));
    for event in [life.leaving("LISTEN"), life.leaving("SYN_RECV")] {
        assert_eq!((&event["pid"], &event["command"]), (&heir.into(), &"t-activated".into()), "{event:#}");
        assert_eq!((&event["owner_source"], &event["owner_candidates"]), (&"listener".into(), &Value::Null));
    }
    // SAFETY: takes numbers only; it was started for this test.
    unsafe { libc::kill(heir as i32, libc::SIGKILL) };
}

fn exits() {
    for (port, is_killed) in [(6705, false), (6706, true)] {
        let netns = enter_new_netns();
        let tracer = Tracer::here(&[]);
        let mut server = Actor::start("t-quitter", &[&port.to_string()]);
        let client = connect(port);
        let client_port = net::port(&client);
        (&client).write_all(b"unread").unwrap();
        assert_eq!(server.says(), "accepted");
        if is_killed {
            server.kill();
        } else {
            server.go();
            server.wait();
        }
        settle();
        let events = tracer.stop().events(netns);
        let exit = if is_killed { "SIGKILL" } else { "exit" };
        let life = events.life(port, client_port);
        let aborted = life.leaving("ESTABLISHED");
        assert_eq!((&aborted["new_state"], &aborted["process_exit"]), (&"CLOSE".into(), &exit.into()), "{aborted:#}");
        let listener = events.life(port, 0);
        assert_eq!(listener.entering("CLOSE")["process_exit"], exit, "{:#?}", listener.0);
        let client = events.life(client_port, port);
        assert!(client.0.iter().all(|event| event["process_exit"].is_null()), "{:#?}", client.0);
    }
}

fn mptcp() {
    const IPPROTO_MPTCP: i32 = 262;
    enter_new_netns();
    let Ok(listener) = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::from(IPPROTO_MPTCP))) else {
        return println!("no MPTCP here");
    };
    listener.bind(&SocketAddr::new(LOCALHOST, 6707).into()).unwrap();
    listener.listen(16).unwrap();
    let plain = connect(6707);
    let client = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::from(IPPROTO_MPTCP))).unwrap();
    client.connect(&SocketAddr::new(LOCALHOST, 6707).into()).unwrap();
    let servers: Vec<_> = (0..2).map(|_| listener.accept().unwrap()).collect();
    let me = std::process::id();
    for way in [&[][..], &["--no-iter"]] {
        let listed = sockets(&[way, &["--netns", "self", "--port", "6707", "--pid", &me.to_string()]].concat());
        assert_eq!(listed.rows.len(), 5, "{:#?}", listed.rows);
        for row in &listed.rows {
            let pids: BTreeSet<_> = holders(row).into_iter().map(|(pid, _)| pid).collect();
            assert_eq!((pids, &row["held_by"]), ([me].into(), &"processes".into()), "{row:#}");
        }
    }
    drop((plain, servers));
}
