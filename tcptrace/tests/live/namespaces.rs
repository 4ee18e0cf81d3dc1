//! Network namespaces: all are seen, each under its number and name, and one can be chosen.

use std::{
    collections::BTreeSet,
    fs::File,
    os::fd::AsRawFd as _,
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
    tracer::{Tracer, binary, socket_counts, sockets},
};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("all are seen: of threads, and kept by nothing but a socket", all),
    ("names are told, and choose", names),
    ("what is not there is named", unknown),
    ("one that vanishes is no trouble", vanishing),
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

/// A named namespace (ip-netns(8)), gone when this is dropped.
struct Named(String);

impl Named {
    fn add() -> Self {
        let named = Self(format!("tcptrace-live-{}", std::process::id()));
        assert!(Command::new("ip").args(["netns", "add", &named.0]).status().unwrap().success());
        named
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
        let metadata = std::fs::metadata("/proc/thread-self/ns/net").unwrap();
        (listener(6554), std::os::unix::fs::MetadataExt::ino(&metadata))
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

fn vanishing() {
    let own = enter_new_netns();
    let here = listener(6555);
    let tracer = Tracer::json(&["--port", "6555", "--poll", "50ms", "--interval", "200ms"]);
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
        for _ in 0..10 {
            for way in [&[][..], &["--no-iter"]] {
                let listed = sockets(&[way, &["--port", "6555"]].concat());
                assert_eq!(listed.rows.iter().filter(|row| row["netns"] == own).count(), 1, "{:#?}", listed.rows);
                let cut = &listed.end["skipped"];
                assert_eq!((&cut["namespaces_denied"], &cut["cut_short"]), (&0.into(), &0.into()), "{cut}");
            }
        }
        over.store(true, Ordering::Relaxed);
        maker.join().unwrap()
    });
    settle();
    let run = tracer.stop();
    assert!(run.status.success(), "{}", run.stderr);
    assert_eq!(socket_counts(&run.summary()), [("LISTEN".to_owned(), 1)].into(), "of {made} namespaces none is left");
    drop(here);
}
