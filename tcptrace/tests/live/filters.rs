//! Filters work in the kernel, and break neither durations nor lives.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    Test,
    actor::Actor,
    net::{self, LOCALHOST, enter_new_netns, exchange, listen, listen_on, pair, port, settle},
    tracer::{Events, Removed, Tracer, temporary},
};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("state keeps durations", state_keeps_durations),
    ("TIME_WAIT as a state", time_wait),
    ("local port keeps the event before the port is chosen", local_port),
    ("remote port and ranges", remote_port),
    ("address", address),
    ("IPv4 and IPv6", family),
    ("PID is the owner's", pid),
    ("PID of a process that listens shows its service", pid_of_listener),
    ("PID's sockets are let go with their owner", pid_lets_go),
    ("cgroup", cgroup),
    ("expressions select the same in the kernel and after it", expressions),
    ("times of expressions are measured and right", expression_times),
    ("excluded networks", excluded_networks),
    ("executable and unit, whose names are read elsewhere", by_names),
];

/// One connection from a client to `to`, with a short exchange, closed by the client first.
fn connection(listener: &socket2::Socket, to: SocketAddr) -> u16 {
    let (client, server) = pair(listener, to);
    let client_port = port(&client);
    exchange(&client, &server, b"hello");
    drop(client);
    net::wait_for_fin(&server);
    drop(server);
    client_port
}

fn traced(flags: &[&str], play: impl FnOnce()) -> Vec<serde_json::Value> {
    let tracer = Tracer::json(flags);
    play();
    settle();
    let run = tracer.stop();
    assert!(run.status.success(), "{}", run.stderr);
    run.records().into_iter().filter(|record| !record["netns"].is_null()).collect()
}

fn transitions(events: &[serde_json::Value]) -> usize {
    events.iter().filter(|event| event["event"] == "transition").count()
}

fn state_keeps_durations() {
    let netns = enter_new_netns();
    let (listener, to) = listen(LOCALHOST);
    let tracer = Tracer::json(&["--state", "close-wait", "--port", &to.port().to_string()]);
    let (client, server) = pair(&listener, to);
    let start = Instant::now();
    std::thread::sleep(Duration::from_millis(70));
    let established = start.elapsed();
    drop(client);
    net::wait_for_fin(&server);
    let start = Instant::now();
    std::thread::sleep(Duration::from_millis(50));
    let waited = start.elapsed();
    drop(server);
    settle();
    let run = tracer.stop();
    let Events(events) = run.events(netns);
    let pairs: Vec<_> = events.iter().map(|event| (event["old_state"].as_str(), event["new_state"].as_str())).collect();
    assert_eq!(
        pairs,
        [(Some("ESTABLISHED"), Some("CLOSE_WAIT")), (Some("CLOSE_WAIT"), Some("LAST_ACK"))],
        "{events:#?}"
    );
    let ns = |event: &serde_json::Value| Duration::from_nanos(event["time_in_old_state_ns"].as_u64().unwrap());
    assert!(ns(&events[0]) >= established, "its beginning was filtered, but not forgotten");
    assert!(ns(&events[1]) >= waited);
    let end = run.records().pop().unwrap();
    assert!(end["filtered"].as_u64().unwrap() >= 6, "{end:#}");
    assert_eq!((&end["sent"], &end["received"]), (&2.into(), &2.into()));
}

fn time_wait() {
    let netns = enter_new_netns();
    let (listener, to) = listen(LOCALHOST);
    let mut client_port = 0;
    let events = traced(&["--state", "TIME_WAIT", "--port", &to.port().to_string()], || {
        let (client, server) = pair(&listener, to);
        client_port = port(&client);
        client.shutdown(std::net::Shutdown::Write).unwrap();
        net::wait_for_fin(&server);
        drop(server);
        net::wait_for_fin(&client);
        drop(client);
    });
    // The port may be another test's too, whose namespace ends with all its TIME_WAIT.
    let events: Vec<_> = events.into_iter().filter(|event| event["netns"] == netns).collect();
    assert_eq!(events.len(), 1, "{events:#?}");
    assert_eq!((&events[0]["new_state"], &events[0]["local_port"]), (&"TIME_WAIT".into(), &client_port.into()));
}

fn local_port() {
    let netns = enter_new_netns();
    let (listener, to) = listen(LOCALHOST);
    // All ports but the server's: the client's, which is chosen after its first event.
    let ports = format!("1-{},{}-65535", to.port() - 1, to.port() + 1);
    let mut client_port = 0;
    let events = traced(&["--local-port", &ports, "--remote-port", &to.port().to_string()], || {
        client_port = connection(&listener, to);
    });
    let life = Events(events).life(client_port, to.port());
    life.assert_closed_first();
    assert_eq!(life.entering("SYN_SENT")["local_port"], client_port, "told once the port was known");
    let time = |state: &str| life.entering(state)["mono_ns"].as_u64().unwrap();
    assert!(time("SYN_SENT") < time("ESTABLISHED"), "with its own time");
    assert_eq!(life.0[0]["netns"], netns);
    // And the other way round: the server's port alone, whose client's first event must not pass.
    let events = traced(&["--local-port", &to.port().to_string()], || {
        client_port = connection(&listener, to);
    });
    assert!(events.iter().all(|event| event["local_port"] == to.port()), "{events:#?}");
    Events(events).life(to.port(), client_port).assert_path("LISTEN SYN_RECV ESTABLISHED CLOSE_WAIT LAST_ACK CLOSE");
}

fn remote_port() {
    enter_new_netns();
    let listeners: Vec<_> =
        [6401, 6402, 6403].into_iter().map(|port| listen_on(SocketAddr::new(LOCALHOST, port))).collect();
    let events = traced(&["--remote-port", "6401,6403-6410"], || {
        for (listener, to) in &listeners {
            connection(listener, *to);
        }
    });
    let lives = |port: u16| events.iter().filter(|event| event["remote_port"] == port).count();
    assert_eq!((lives(6401), lives(6403), events.len()), (5, 5, 10), "{events:#?}");
}

fn address() {
    enter_new_netns();
    let (listener, bound) = listen(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    let to = |address: IpAddr| SocketAddr::new(address, bound.port());
    let v4 = |last: u8| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
    let play = || {
        for address in [v4(1), v4(2), v4(3), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            connection(&listener, to(address));
        }
    };
    let remotes = |events: &[serde_json::Value]| -> Vec<String> {
        let mut all: Vec<_> = events.iter().map(|event| event["remote_address"].as_str().unwrap().to_owned()).collect();
        all.sort();
        all.dedup();
        all
    };
    let events = traced(&["--remote-address", "127.0.0.2/31,::1"], play);
    assert_eq!(remotes(&events), ["127.0.0.2", "127.0.0.3", "::1"], "{events:#?}");
    let events = traced(&["--local-address", "127.0.0.2"], play);
    assert!(!events.is_empty() && events.iter().all(|event| event["local_address"] == "127.0.0.2"));
    let events = traced(&["--address", "127.0.0.3"], play);
    assert_eq!(transitions(&events), 10, "both ends: {events:#?}");
}

fn family() {
    enter_new_netns();
    let (listener, bound) = listen(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    let play = || {
        for address in [LOCALHOST, IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            connection(&listener, SocketAddr::new(address, bound.port()));
        }
    };
    let ports = bound.port().to_string();
    for (flag, address) in [("-4", "127.0.0.1"), ("-6", "::1")] {
        let events = traced(&[flag, "--port", &ports], play);
        assert_eq!(transitions(&events), 10, "{flag}: {events:#?}");
        assert!(events.iter().all(|event| event["remote_address"] == address), "{flag}: {events:#?}");
    }
}

fn pid() {
    enter_new_netns();
    let server = Actor::start("t-server", &["6404", "30", "0"]);
    // The server's listener is older than the tracer: its owner is learnt when it reads.
    let pid = server.pid();
    let events = traced(&["--pid", &pid.to_string()], || {
        Actor::start("t-client", &["6404", "30", "1"]).wait();
    });
    server.wait();
    assert!(events.len() >= 60, "{}", events.len());
    for event in &events {
        assert_eq!((&event["pid"], &event["local_port"]), (&pid.into(), &6404.into()), "{event:#}");
    }
    assert!(events.iter().any(|event| event["new_state"] == "CLOSE_WAIT"), "softirqs run on others, and still pass");
}

fn pid_of_listener() {
    enter_new_netns();
    // The parent listens, and the child accepts, reads and closes.
    let mut parent = Actor::start("t-prefork", &["6406"]);
    let parent_pid = parent.pid();
    let tracer = Tracer::json(&["--pid", &parent_pid.to_string()]);
    parent.go();
    let child_pid: u32 = parent.says().parse().unwrap();
    let client = net::socket(LOCALHOST);
    client.connect(&SocketAddr::new(LOCALHOST, 6406).into()).unwrap();
    client.send(b"question").unwrap();
    let mut answer = [std::mem::MaybeUninit::new(0); 16];
    assert_eq!(client.recv(&mut answer).unwrap(), 6);
    drop(client);
    parent.wait();
    let records = tracer.stop().records();
    let entering = |state| records.iter().find(|event| event["new_state"] == state && event["local_port"] == 6406);
    assert_eq!(entering("ESTABLISHED").unwrap()["pid"], parent_pid, "{records:#?}");
    for state in ["CLOSE_WAIT", "LAST_ACK"] {
        assert_eq!(entering(state).unwrap()["pid"], child_pid, "all of the service is shown: {records:#?}");
    }
}

fn pid_lets_go() {
    enter_new_netns();
    let (listener, to) = listen(LOCALHOST);
    let me = std::process::id();
    let tracer = Tracer::here(&["--pid", &me.to_string(), "--remote-port", &to.port().to_string()]);
    let (client, server) = pair(&listener, to);
    let mut borrower = Actor::start("t-borrower", &[&me.to_string(), &client.as_raw_fd().to_string()]);
    borrower.go();
    assert_eq!(borrower.says(), "taken");
    drop(client);
    server.send(b"for whoever reads").unwrap();
    assert_eq!(borrower.says(), "first");
    let run = tracer.stop();
    let records = run.records();
    for event in records.iter().filter(|event| !event["netns"].is_null() && event["event"] != "summary") {
        assert_eq!(event["pid"], me, "{event:#}");
    }
    assert!(records.iter().any(|event| event["new_state"] == "ESTABLISHED"), "{records:#?}");
    let summary = records.iter().find(|record| record["event"] == "summary").unwrap();
    // The connection became another process's, whose events are filtered: nothing of it may stay behind.
    assert_eq!(summary["sockets"], serde_json::json!([]), "{summary:#}");
}

/// A cgroup that goes when it is dropped.
struct Cgroup(PathBuf);

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

fn cgroup() {
    enter_new_netns();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).expect("cgroup v2 is mounted");
    let top = Cgroup(PathBuf::from(mount.split(' ').nth(1).unwrap()).join(format!("tcptrace-{}", std::process::id())));
    fs::create_dir(&top.0).unwrap();
    let below = Cgroup(top.0.join("below"));
    fs::create_dir(&below.0).unwrap();
    let server = Actor::start("t-server", &["6405", "20", "0"]);
    let procs = below.0.join("cgroup.procs");
    let mut pid = 0;
    let events = traced(&["--cgroup", top.0.to_str().unwrap(), "--port", "6405"], || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        // SAFETY: writes a file, which is safe after fork.
        unsafe { command.pre_exec(move || fs::write(&procs, "0")) };
        let client = Actor::start_as(command, "t-client", &["6405", "20", "1"]);
        pid = client.pid();
        client.wait();
    });
    server.wait();
    assert_eq!(events.len(), 100, "the client's side of 20 connections");
    let name = top.0.file_name().unwrap().to_str().unwrap();
    for event in &events {
        assert_eq!(event["pid"], pid, "{event:#}");
        assert_eq!(event["cgroup"], format!("/{name}/below"), "{event:#}");
    }
}

/// An expression, and what it selects among all events.
type Case = (&'static str, fn(&Value) -> bool);

const CASES: &[Case] = &[
    ("state == CLOSE_WAIT && lport == 6407", |event| {
        event["local_port"] == 6407 && (event["old_state"] == "CLOSE_WAIT" || event["new_state"] == "CLOSE_WAIT")
    }),
    ("event == transition && (rport == 6407 || lport == 6408 && new != ESTABLISHED)", |event| {
        event["event"] == "transition"
            && (event["remote_port"] == 6407 || event["local_port"] == 6408 && event["new_state"] != "ESTABLISHED")
    }),
    ("port != 6408 && new == ESTABLISHED && uid == 0 && comm != nobody", |event| {
        event["local_port"] != 6408
            && event["remote_port"] != 6408
            && event["new_state"] == "ESTABLISHED"
            && event["uid"] == 0
    }),
    ("raddr == 127.0.0.2:6407 || laddr == 127.0.0.3:6408", |event| {
        event["remote_address"] == "127.0.0.2" && event["remote_port"] == 6407
            || event["local_address"] == "127.0.0.3" && event["local_port"] == 6408
    }),
    ("addr != 127.0.0.2 && port in {6407, 6408}", |event| {
        event["local_address"] != "127.0.0.2" && event["remote_address"] != "127.0.0.2"
    }),
];

/// What identifies an event in the output of every tracer that saw it, and how its duration is known.
fn identity(event: &Value) -> String {
    let names = ["cookie", "event", "old_state", "new_state", "local_port", "remote_port", "pid", "time_source"];
    names.map(|name| event[name].to_string()).join(" ")
}

fn expressions() {
    let netns = enter_new_netns();
    let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let listeners = [6407, 6408].map(|port| listen_on(SocketAddr::new(any, port)).0);
    let all = Tracer::here(&["--poll", "off"]);
    let tracers: Vec<_> = CASES
        .iter()
        .map(|(text, _)| {
            let flags = ["--netns", "self", "--poll", "off", "--where", text, "--format", "json"];
            [&["--findings", "off"][..], &[]].map(|off| Tracer::start(&[&flags[..], off].concat()))
        })
        .collect();
    for (listener, port) in listeners.iter().zip([6407, 6408]) {
        for last in 1..4 {
            connection(listener, SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), port));
        }
    }
    settle();
    let of_life = |run: crate::tracer::Run| -> Vec<Value> {
        let Events(events) = run.events(netns);
        events.into_iter().filter(|event| event["event"] == "transition").collect()
    };
    let all = of_life(all.stop());
    assert!(all.len() >= 60, "{}", all.len());
    for ((text, is_it), tracers) in CASES.iter().zip(tracers) {
        let mut want: Vec<_> = all.iter().filter(|event| is_it(event)).map(identity).collect();
        want.sort();
        assert!(!want.is_empty() && want.len() < all.len(), "{text}");
        for (place, tracer) in ["in the kernel", "in tcptrace"].iter().zip(tracers) {
            let events = of_life(tracer.stop());
            let mut got: Vec<_> = events.iter().map(identity).collect();
            got.sort();
            assert_eq!(got, want, "{text}, {place}");
        }
    }
}

fn expression_times() {
    let netns = enter_new_netns();
    let (listener, to) = listen(LOCALHOST);
    let port = to.port();
    let text = format!("lport == {port} && age >= 150ms && new in {{CLOSE_WAIT, LAST_ACK}}");
    let tracers = [&["--findings", "off"][..], &[]]
        .map(|off| Tracer::start(&[&["--netns", "self", "--format", "json", "--where", &text][..], off].concat()));
    let (slow, slow_server) = pair(&listener, to);
    let begun = Instant::now();
    std::thread::sleep(Duration::from_millis(200));
    let established = begun.elapsed();
    let slow_port = self::port(&slow);
    drop(slow);
    net::wait_for_fin(&slow_server);
    let begun = Instant::now();
    std::thread::sleep(Duration::from_millis(180));
    let waited = begun.elapsed();
    drop(slow_server);
    for _ in 0..5 {
        connection(&listener, to);
    }
    settle();
    for tracer in tracers {
        let Events(events) = tracer.stop().events(netns);
        let ns = |event: &Value| Duration::from_nanos(event["time_in_old_state_ns"].as_u64().unwrap());
        for event in events.iter().filter(|event| event["event"] == "transition") {
            assert!(ns(event) >= Duration::from_millis(150), "{event:#}");
        }
        let life = Events(events).life(port, slow_port);
        assert!(ns(life.entering("CLOSE_WAIT")) >= established, "{:#?}", life.0);
        assert!(ns(life.entering("LAST_ACK")) >= waited, "{:#?}", life.0);
        assert_eq!(life.0.len(), 2, "{:#?}", life.0);
    }
}

fn excluded_networks() {
    let netns = enter_new_netns();
    let (listener, bound) = listen(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    let to = |last: u8| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), bound.port());
    let run = |flags: &[&str]| {
        let tracer = Tracer::here(flags);
        for last in 1..4 {
            connection(&listener, to(last));
        }
        connection(&listener, SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), bound.port()));
        settle();
        let run = tracer.stop();
        let filtered = run.records().last().unwrap()["filtered"].as_u64().unwrap();
        let Events(events) = run.events(netns);
        (transitions(&events), events, filtered)
    };
    let (count, events, filtered) = run(&["--address", "!127.0.0.0/8"]);
    assert_eq!(count, 10, "{events:#?}");
    assert!(events.iter().all(|event| event["remote_address"] == "::1" || event["event"] == "summary"), "{events:#?}");
    assert!(filtered >= 30, "in the kernel: {filtered}");
    let (count, events, _) = run(&["--address", "!127.0.0.2,!::1"]);
    assert_eq!(count, 20, "{events:#?}");
    let (count, events, _) = run(&["--remote-address", "127.0.0.0/8,!127.0.0.3"]);
    assert!(events.iter().all(|event| event["remote_address"] != "127.0.0.3"), "{events:#?}");
    // The client's ends of two, and the server's of all three.
    assert_eq!(count, 25, "{events:#?}");
}

fn by_names() {
    let netns = enter_new_netns();
    let (listener, to) = listen(LOCALHOST);
    let port = to.port().to_string();
    let copy = Removed(temporary("t-exe"));
    fs::copy(std::env::current_exe().unwrap(), &copy.0).unwrap();
    let exe = copy.0.display().to_string();
    let tracers = [
        Tracer::here(&["--latency=2s", "--exe", &exe]),
        Tracer::start(&[
            "--netns",
            "self",
            "--format",
            "json",
            "--latency=2s",
            "--where",
            &format!("exe == \"{exe}\""),
        ]),
        Tracer::here(&["--latency=2s", "--where", &format!("exe != \"{exe}\" && unit !~ \"^no-such\"")]),
    ];
    let mut holder = Actor::start_as(Command::new(&copy.0), "t-holder", &[&port]);
    let (pid, client_port) = (holder.pid(), holder.says().parse::<u16>().unwrap());
    let (server, _) = listener.accept().unwrap();
    // Its names stay known.
    tracers[0].wait_for_record("the connection", |record| record["pid"] == pid);
    holder.kill();
    net::wait_for_fin(&server);
    drop(server);
    settle();
    let [by_flag, by_expression, others] = tracers.map(|tracer| tracer.stop().events(netns));
    for events in [by_flag, by_expression] {
        let life = events.life(client_port, to.port());
        assert_eq!(life.entering("SYN_SENT")["executable"], exe, "{:#?}", life.0);
        life.assert_closed_first();
        assert!(events.of_kind("transition").all(|event| event["pid"] == pid), "{:#?}", events.0);
    }
    let of_server = others.life(to.port(), client_port);
    of_server.assert_path("LISTEN SYN_RECV ESTABLISHED CLOSE_WAIT LAST_ACK CLOSE");
    assert!(others.of_kind("transition").all(|event| event["pid"] != pid), "{:#?}", others.0);
}
