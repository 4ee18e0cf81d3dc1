//! Names of processes at both ends: the right ones, or none.

use std::{
    ffi::CString,
    fs,
    net::{IpAddr, SocketAddr, UdpSocket},
    ptr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    Test,
    actor::Actor,
    net::{self, LOCALHOST, enter_new_netns, listen, settle},
    tracer::{Removed, Run, Tracer, temporary},
};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("two processes on loopback name each other", each_other),
    ("a process keeps its names after its end, and another one with its PID does not get them", reused),
    ("secrets in arguments are masked", masked),
    ("text has short names and the peer", text),
    ("names of hosts come apart from addresses, and a resolver that hangs delays nothing", resolved),
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
    let tracer = Tracer::json(&[LATENCY]);
    let (listener, to) = listen(LOCALHOST);
    let port = to.port().to_string();
    let mut client = Actor::start("t-holder", &[&port]);
    let (client_pid, client_port) = (client.pid(), client.says().parse::<u16>().unwrap());
    let (server, _) = listener.accept().unwrap();
    tracer.wait_for_record("the server's end", |record| {
        record["local_port"] == to.port() && record["new_state"] == "ESTABLISHED"
    });
    client.kill();
    net::wait_for_fin(&server);
    drop(server);
    settle();
    let events = tracer.stop().events(netns);
    let (of_server, of_client) = (events.life(to.port(), client_port), events.life(client_port, to.port()));
    for event in &of_server.0 {
        let got = [&event["peer_pid"], &event["peer_command"], &event["peer_executable"]];
        assert_eq!(got, [&json!(client_pid), &json!("t-holder"), &json!(executable())], "{event:#}");
        assert!(["socket", "earlier"].contains(&event["peer_source"].as_str().unwrap()), "{event:#}");
    }
    // The server's socket comes after the client's first events.
    for state in ["SYN_SENT", "ESTABLISHED"] {
        assert_eq!(of_client.entering(state)["peer_source"], "unknown");
    }
    let closing = of_client.entering("FIN_WAIT1");
    let got = [&closing["peer_pid"], &closing["peer_executable"], &closing["peer_source"]];
    assert_eq!(got, [&json!(std::process::id()), &json!(executable()), &json!("socket")], "{closing:#}");
    let own = of_client.entering("SYN_SENT");
    assert_eq!(own["executable"], executable(), "even the first event has names: {own:#}");
    assert_eq!(own["args"], json!([executable(), port]));
    assert_eq!((&own["parent_pid"], &own["user"]), (&json!(std::process::id()), &json!("root")));
    assert_eq!(own["ns_pid"], client_pid, "{own:#}");
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
    std::thread::sleep(Duration::from_millis(500)); // a process is read while it lives
    holder.kill();
    net::wait_for_fin(&server);
    drop(server);
    settle();
    let run = tracer.stop();
    let lines: Vec<_> = run.lines.iter().filter(|line| line.contains(&client.to_string())).collect();
    assert!(lines.iter().any(|line| line.contains("peer t-holder[")), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains("cgroup /")), "{lines:#?}");
}

/// Puts a file of this text over another one, for this thread and its children.
fn cover(place: &str, text: &str) -> Removed {
    let file = Removed(temporary("cover"));
    fs::write(&file.0, text).unwrap();
    let [from, to] = [file.0.to_str().unwrap(), place].map(|path| CString::new(path).unwrap());
    // SAFETY: valid texts; a bind mount has neither type nor data.
    let result = unsafe { libc::mount(from.as_ptr(), to.as_ptr(), ptr::null(), libc::MS_BIND, ptr::null()) };
    assert_eq!(result, 0, "{place}: {}", std::io::Error::last_os_error());
    file
}

/// The answer to a question for the name of an address (RFC 1035): a PTR record.
fn dns_answer(question: &[u8], name: &str) -> Vec<u8> {
    let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
    let mut answer = question[..end].to_vec();
    answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
    let labels: Vec<u8> =
        name.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).chain([0]).collect();
    answer.extend([0xc0, 12, 0, 12, 0, 1, 0, 0, 0, 60, 0, labels.len() as u8]);
    answer.extend(labels);
    answer
}

fn resolved() {
    let netns = enter_new_netns();
    // SAFETY: takes numbers and texts that live; affects this thread alone.
    unsafe {
        assert_eq!(libc::unshare(libc::CLONE_NEWNS), 0, "{}", std::io::Error::last_os_error());
        let flags = libc::MS_REC | libc::MS_PRIVATE;
        assert_eq!(libc::mount(c"none".as_ptr(), c"/".as_ptr(), ptr::null(), flags, ptr::null()), 0);
    }
    let mut covers = vec![cover("/etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:25 attempts:1\n")];
    if fs::exists("/etc/nsswitch.conf").unwrap() {
        covers.push(cover("/etc/nsswitch.conf", "hosts: files dns\n"));
    }
    // A name server that knows one address, and never answers for another one.
    let server = UdpSocket::bind("127.0.0.1:53").unwrap();
    let hangs = Arc::new(AtomicBool::new(false));
    let to = Arc::clone(&hangs);
    std::thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((len, from)) = server.recv_from(&mut question) {
            let digits: String =
                question[12..len].iter().filter(|byte| byte.is_ascii_digit()).map(|byte| char::from(*byte)).collect();
            if digits.starts_with("900127") {
                let _ = server.send_to(&dns_answer(&question[..len], "db.example.test"), from);
            } else if digits.starts_with("800127") {
                to.store(true, Ordering::Relaxed);
            }
        }
    });
    let (listener, bound) = listen(IpAddr::from([0, 0, 0, 0]));
    let tracer = Tracer::here(&["--resolve"]);
    let connect = |last: u8| {
        let to = SocketAddr::new(IpAddr::from([127, 0, 0, last]), bound.port());
        drop(net::pair(&listener, to));
    };
    let of_host = |last: u8, is_named: bool| {
        move |record: &Value| {
            record["remote_address"] == format!("127.0.0.{last}") && record["remote_name"].is_string() == is_named
        }
    };
    let named = || tracer.lines_from(0).iter().any(|line| line.contains("db.example.test"));
    net::wait_until("the name", || {
        connect(9);
        named()
    });
    let record = tracer.wait_for_record("the name", of_host(9, true));
    assert_eq!((&record["remote_address"], &record["remote_name"]), (&json!("127.0.0.9"), &json!("db.example.test")));
    connect(8);
    net::wait_until("a question without an answer", || hangs.load(Ordering::Relaxed));
    connect(8);
    for state in ["SYN_SENT", "ESTABLISHED"] {
        let record = tracer.wait_for_record(state, |record| of_host(8, false)(record) && record["new_state"] == state);
        assert_eq!(record["remote_name"], Value::Null);
    }
    let before = tracer.lines_from(0).len();
    connect(9);
    net::wait_until("what was known before", || {
        tracer.lines_from(before).iter().any(|line| line.contains("db.example.test"))
    });
    let run = tracer.stop();
    let events = run.events(netns);
    assert!(events.of_kind("transition").count() > 20);
    assert!(
        !run.lines.iter().any(|line| line.contains("127.0.0.8") && line.contains("db.example")),
        "{:#?}",
        run.lines
    );
}
