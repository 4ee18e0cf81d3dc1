//! Network namespaces: all are seen, each under its number and name, and one can be chosen.

use std::{
    collections::BTreeSet,
    fs::File,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    process::Command,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
};

use socket2::Socket;

use crate::{
    Test,
    net::{self, LOCALHOST, enter_new_netns, listen_on, pair, settle},
    tracer::{Run, Tracer, binary, socket_counts, sockets},
};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("all are seen: of threads, and kept by nothing but a socket", all),
    ("names are told, and choose", names),
    ("what is not there is named", unknown),
    ("one that vanishes is no trouble", vanishing),
    ("one that gets the number of the chosen one is not shown for it", number_again),
    ("one that gets name and number of the chosen one is not shown for it", name_again),
    ("counts are of the chosen one alone, whoever gets its number", counted_again),
    ("the chosen one is traced as long as somebody is in it", outlives_its_name),
    ("a name goes with its namespace, not with its number", name_goes),
];

/// Runs something in a thread of its own, with a new network namespace; gives what it gives and the inode number.
fn elsewhere<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> (T, u64) {
    std::thread::spawn(move || {
        let netns = enter_new_netns();
        (run(), netns)
    })
    .join()
    .unwrap()
}

fn listener(port: u16) -> Socket {
    listen_on((LOCALHOST, port).into()).0
}

fn netns_of(rows: &[serde_json::Value]) -> BTreeSet<u64> {
    rows.iter().map(|row| row["netns"].as_u64().unwrap()).collect()
}

fn all() {
    let own = enter_new_netns();
    let here = listener(6551);
    // A thread stays in the second one.
    let (to_test, from_thread) = mpsc::channel();
    let (stay, end) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        let netns = enter_new_netns();
        let listener = listener(6552);
        to_test.send(netns).unwrap();
        end.recv().unwrap_err();
        drop(pair(&listener, (LOCALHOST, 6552).into()));
        to_test.send(netns).unwrap();
    });
    let of_thread = from_thread.recv().unwrap();
    // Nobody is in the third any more when the sockets made there are used.
    let ((there, client), of_socket) = elsewhere(|| (listener(6553), net::socket(LOCALHOST)));
    let every = [own, of_thread, of_socket];

    let ports = ["--port", "6551-6553"];
    let listed = sockets(&ports);
    assert_eq!(netns_of(&listed.rows), every.into(), "{:#?}", listed.rows);
    let visited = |end: &serde_json::Value| -> BTreeSet<u64> {
        end["namespaces"].as_array().unwrap().iter().map(|namespace| namespace["inode"].as_u64().unwrap()).collect()
    };
    assert!(visited(&listed.end).is_superset(&every.into()), "{:#}", listed.end);
    // /proc does not tell in which namespace a process's socket is: what only a socket keeps is not found so.
    let no_iter = sockets(&[&["--no-iter"][..], &ports].concat());
    assert_eq!(netns_of(&no_iter.rows), [own, of_thread].into(), "{:#?}", no_iter.rows);

    for way in [&[][..], &["--no-iter"]] {
        let tracer = Tracer::json(&[way, &ports].concat());
        let (kept, _server) = pair(&here, (LOCALHOST, 6551).into());
        if way.is_empty() {
            client.connect(&std::net::SocketAddr::new(LOCALHOST, 6553).into()).unwrap();
        }
        settle();
        let run = tracer.stop();
        let seen = |netns: u64| run.records().iter().any(|record| record["netns"] == netns && !record["sk"].is_null());
        assert!(seen(own) && (!way.is_empty() || seen(of_socket)), "{:#?}", run.lines);
        let counts = socket_counts(&run.summary());
        let expected = if way.is_empty() { (3, 4) } else { (2, 2) };
        let count = |state: &str| counts.get(state).copied().unwrap_or(0);
        assert_eq!((count("LISTEN"), count("ESTABLISHED")), expected, "{way:?} {:#}", run.summary());
        drop(kept);
        settle();
    }
    let tracer = Tracer::json(&ports);
    drop(stay);
    assert_eq!(from_thread.recv().unwrap(), of_thread);
    thread.join().unwrap();
    settle();
    let run = tracer.stop();
    assert!(run.records().iter().any(|record| record["netns"] == of_thread && record["new_state"] == "SYN_SENT"));
    drop(there);
}

/// A name that no other run of the tests takes.
fn unique(name: &str) -> String {
    format!("tcptrace-{}-{name}", std::process::id())
}

/// A named namespace (ip-netns(8)), gone when this is dropped.
struct Named(String);

impl Named {
    fn add() -> Self {
        Self::called(format!("tcptrace-live-{}", std::process::id()))
    }

    fn called(name: String) -> Self {
        assert!(Command::new("ip").args(["netns", "add", &name]).status().unwrap().success());
        Self(name)
    }

    fn inode(&self) -> u64 {
        std::fs::metadata(format!("/run/netns/{}", self.0)).unwrap().ino()
    }

    /// Another one that has the number of one that is gone, under this name; `None` where somebody else got it. The kernel
    /// takes some time to free the number, and gives the lowest one that is free, so those with lower ones are kept for
    /// a while.
    fn with_number(name: &str, inode: u64) -> Option<Self> {
        let mut others = Vec::new();
        for number in 0..300 {
            if others.len() == 10 {
                others.clear();
            }
            let other = Self::called(unique(&format!("{inode}-{number}")));
            if other.inode() == inode {
                let path = format!("/run/netns/{name}");
                File::create(&path).unwrap();
                let mount = Command::new("mount").args(["--bind", &format!("/run/netns/{}", other.0), &path]).status();
                assert!(mount.unwrap().success());
                return Some(Self(name.to_owned()));
            }
            others.push(other);
        }
        None
    }

    /// A connection in it, opened and closed, with this server's port.
    fn connect(&self, port: u16) {
        self.run(|| {
            assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
            drop(pair(&listener(port), (LOCALHOST, port).into()));
        });
    }

    /// Runs something in it.
    fn run<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        let file = File::open(format!("/run/netns/{}", self.0)).unwrap();
        let inside = move || {
            // SAFETY: takes numbers only; the thread ends with this.
            assert_eq!(unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
            run()
        };
        std::thread::scope(|scope| scope.spawn(inside).join().unwrap())
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.0]).status();
    }
}

fn names() {
    let own = enter_new_netns();
    let here = listener(6554);
    let named = Named::add();
    let (there, inode) = named.run(|| {
        assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
        (listener(6554), std::fs::metadata("/proc/thread-self/ns/net").unwrap().ino())
    });
    let name = named.0.as_str();
    let (inode_text, own_text) = (inode.to_string(), own.to_string());
    for way in [&[][..], &["--no-iter"]] {
        let rows = |choice: &[&str]| sockets(&[way, choice, &["--port", "6554"]].concat()).rows;
        let both = rows(&[]);
        assert_eq!(netns_of(&both), [own, inode].into());
        for row in &both {
            let expected = if row["netns"] == inode { name.into() } else { serde_json::Value::Null };
            assert_eq!(row["netns_name"], expected, "{row:#}");
        }
        for (choice, expected) in [(name, inode), (&inode_text, inode), ("self", own), (&own_text, own)] {
            assert_eq!(netns_of(&rows(&["--netns", choice])), [expected].into(), "{choice} {way:?}");
        }
    }
    for (choice, netns, other) in [(name, inode, own), ("self", own, inode)] {
        let tracer = Tracer::json(&["--netns", choice, "--port", "6554"]);
        named.run(|| drop(pair(&there, (LOCALHOST, 6554).into())));
        drop(pair(&here, (LOCALHOST, 6554).into()));
        settle();
        let run = tracer.stop();
        let events = run.events(netns);
        assert!(events.0.len() >= 8, "{:#?}", events.0);
        let expected = if choice == name { name.into() } else { serde_json::Value::Null };
        assert!(events.0.iter().all(|event| event["netns_name"] == expected), "{:#?}", events.0);
        assert!(run.records().iter().all(|record| record["netns"] != other), "{:#?}", run.lines);
        assert_eq!(socket_counts(&run.summary())["LISTEN"], 1, "the listing is narrowed too");
    }
}

fn unknown() {
    enter_new_netns();
    for (choice, words) in [
        ("no-such-name", "no network namespace is called `no-such-name`"),
        ("12345", "no network namespace has the inode number 12345"),
    ] {
        for command in [&["sockets"][..], &[], &["story", "1.2.3.4"]] {
            let output = Command::new(binary()).args(command).args(["--netns", choice]).output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{stderr}");
            assert!(stderr.contains(words), "{command:?}: {stderr}");
        }
    }
    for wrong in ["", "a/b", ".."] {
        let output = Command::new(binary()).args(["sockets", "--netns", wrong]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Says to a thread that it is over, once it is dropped.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn vanishing() {
    let own = enter_new_netns();
    let here = listener(6555);
    let tracer = Tracer::json(&["--port", "6555", "--poll", "50ms", "--interval", "200ms"]);
    let denied_of = |end: &serde_json::Value| end["skipped"]["namespaces_denied"].as_u64().unwrap();
    let before = denied_of(&sockets(&["--port", "6555"]).end);
    let over = AtomicBool::new(false);
    let made = std::thread::scope(|scope| {
        let maker = scope.spawn(|| {
            let mut made = 0;
            while !over.load(Ordering::Relaxed) {
                elsewhere(|| drop(listener(6555)));
                made += 1;
            }
            made
        });
        // Also where a check fails.
        let end = Over(&over);
        let mut denied = 0;
        for _ in 0..10 {
            for way in [&[][..], &["--no-iter"]] {
                let listed = sockets(&[way, &["--port", "6555"]].concat());
                assert_eq!(listed.rows.iter().filter(|row| row["netns"] == own).count(), 1, "{:#?}", listed.rows);
                let cut = &listed.end["skipped"];
                assert_eq!(cut["cut_short"], 0, "{cut}");
                denied = denied.max(denied_of(&listed.end));
            }
        }
        drop(end);
        // Another test may have one that may not be entered.
        let others = before.max(denied_of(&sockets(&["--port", "6555"]).end));
        assert!(denied <= others, "{denied} denied, and {others} without any that vanishes");
        maker.join().unwrap()
    });
    settle();
    let run = tracer.stop();
    assert!(run.status.success(), "{}", run.stderr);
    assert_eq!(socket_counts(&run.summary()), [("LISTEN".to_owned(), 1)].into(), "of {made} namespaces none is left");
    drop(here);
}

/// Traces a namespace with these flags until it is deleted and another one, called `other`, has its number. Somebody else
/// may get that: then all begins anew.
fn until_used_again(flags: &[&str], chosen: &str, other: &str, port: u16) -> Run {
    for _ in 0..10 {
        let chosen = Named::called(unique(chosen));
        let (name, inode) = (chosen.0.clone(), chosen.inode());
        let tracer = Tracer::start(&[&["--format", "json", "--netns", &name], flags].concat());
        chosen.connect(port);
        tracer.wait_for("the connection", |line| line.contains(&port.to_string()));
        drop(chosen);
        let other = Named::with_number(&unique(other), inode);
        if let Some(other) = &other {
            other.connect(port + 1);
        }
        let run = tracer.wait();
        assert!(run.status.success(), "{}", run.stderr);
        assert!(run.stderr.contains(&format!("the network namespace {name} ({inode}) is gone")), "{}", run.stderr);
        assert_eq!(run.records().pop().unwrap()["reason"], "netns_gone");
        if other.is_some() {
            return run;
        }
    }
    panic!("others took the numbers");
}

fn number_again() {
    let run = until_used_again(&["--findings", "off"], "number", "number-not", 6560);
    for record in run.records() {
        assert!(record["local_port"] != 6561 && record["remote_port"] != 6561, "of another one: {record:#}");
    }
}

fn name_again() {
    let run = until_used_again(&["--findings", "off"], "name", "name", 6562);
    for record in run.records() {
        assert!(record["local_port"] != 6563 && record["remote_port"] != 6563, "of another one: {record:#}");
    }
}

/// What is counted in the kernel is of the chosen one alone, too.
fn counted_again() {
    let run = until_used_again(&["--aggregate", "port", "--interval", "100ms"], "counted", "counted-not", 6570);
    assert!(!run.lines.iter().any(|line| line.contains("6571")), "{:#?}", run.lines);
}

fn outlives_its_name() {
    let named = Named::called(unique("outlives"));
    named.connect(6564);
    let inode = named.inode();
    let tracer = Tracer::json(&["--netns", &named.0, "--poll", "50ms"]);
    let (to_test, inside) = mpsc::channel();
    let (go_on, steps) = mpsc::channel::<u16>();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            named.run(move || {
                to_test.send(()).unwrap();
                while let Ok(port) = steps.recv() {
                    drop(pair(&listener(port), (LOCALHOST, port).into()));
                }
            });
        });
        inside.recv().unwrap();
        assert!(Command::new("ip").args(["netns", "delete", &named.0]).status().unwrap().success());
        go_on.send(6565).unwrap();
        tracer.wait_for_record("connection after the name is gone", |record| {
            record["local_port"] == 6565 && record["netns"] == inode && record["new_state"] == "LISTEN"
        });
        drop(go_on);
    });
    let run = tracer.wait();
    assert_eq!(run.records().pop().unwrap()["reason"], "netns_gone", "{}", run.stderr);
}

fn name_goes() {
    let named = Named::called(unique("goes"));
    let (name, inode) = (named.0.clone(), named.inode());
    let tracer = Tracer::json(&["--port", "6566-6567"]);
    named.connect(6566);
    tracer.wait_for_record("event under its name", |record| record["netns_name"] == *name && record["netns"] == inode);
    drop(named);
    let Some(other) = Named::with_number(&unique("goes-not"), inode) else {
        return name_goes(); // somebody else got it
    };
    other.connect(6567);
    tracer.wait_for_record("event of the other one", |record| record["local_port"] == 6567);
    settle();
    let run = tracer.stop();
    for record in run.records().iter().filter(|record| record["local_port"] == 6567 || record["remote_port"] == 6567) {
        assert_ne!(record["netns_name"], *name, "the name of another one: {record:#}");
    }
    assert!(run.status.success(), "{}", run.stderr);
}
