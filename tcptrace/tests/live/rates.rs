//! `tcptrace rates`: the counts are those of what was done, in the namespaces where it was done.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::{
    Test,
    net::{LOCALHOST, enter_new_netns, listen, lose_input, pair, settle, socket, wait_for_fin, wait_readable},
    tracer::{Run, Tracer, binary},
};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("the counts are exactly what was done", exact_counts),
    ("the namespaces of threads are found, and those that come later", all_namespaces),
    ("orphans are of the whole host", orphans),
    ("a namespace that is not there is named", no_namespace),
    ("a namespace is not kept alive, and its end is told", namespace_goes),
    ("it ends by itself, by signals and with its reader", endings),
];

/// Starts it with JSON output and these flags, and waits until it has looked for the first time.
fn rates(flags: &[&str]) -> Tracer {
    let tracer = Tracer::spawn(&[&["rates", "--format", "json", "--interval", "200ms"], flags].concat());
    tracer.wait_for("line", |line| line.contains("\"rates\""));
    tracer
}

/// Sum of a count over all lines.
fn sum(run: &Run, field: &str) -> u64 {
    assert!(run.status.success(), "{}: {}", run.status, run.stderr);
    run.records().iter().map(|record| record[field].as_u64().unwrap_or_else(|| panic!("{field}: {record}"))).sum()
}

/// Connections that are closed by both ends, the client first.
fn connect_and_close(count: u64) {
    let (listener, to) = listen(LOCALHOST);
    for _ in 0..count {
        let (client, server) = pair(&listener, to);
        drop(client);
        wait_for_fin(&server);
    }
}

fn exact_counts() {
    const CLOSED: u64 = 23;
    const REFUSED: u64 = 7;
    const RESET: u64 = 5;
    let netns = enter_new_netns().to_string();
    let tracer = rates(&["--netns", &netns]);
    connect_and_close(CLOSED);
    let (listener, to) = listen(LOCALHOST);
    for _ in 0..RESET {
        let (client, server) = pair(&listener, to);
        client.set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        wait_readable(&server);
    }
    drop(listener);
    for _ in 0..REFUSED {
        let refused = socket(LOCALHOST).connect(&to.into());
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::ECONNREFUSED));
    }
    settle();
    let run = tracer.stop();
    for (field, count) in [
        ("active_opens", CLOSED + REFUSED + RESET),
        ("passive_opens", CLOSED + RESET),
        ("attempt_fails", REFUSED),
        ("estab_resets", 2 * RESET), // at both ends
        ("out_rsts", REFUSED + RESET),
        ("retrans_segs", 0),
        ("listen_drops", 0),
        ("syncookies_sent", 0),
        ("namespaces_new", 0),
        ("namespaces_gone", 0),
    ] {
        assert_eq!(sum(&run, field), count, "{field}: {:#?}", run.lines);
    }
    assert_eq!(sum(&run, "in_segs"), sum(&run, "out_segs"), "all of it is on loopback");
    let records = run.records();
    let (first, last) = (records.first().unwrap(), records.last().unwrap());
    assert_eq!((&last["namespaces"], &last["curr_estab"], &last["time_wait"]), (&1.into(), &0.into(), &CLOSED.into()));
    let mono = |record: &Value| record["mono_ns"].as_u64().unwrap();
    let before_first = mono(first) - first["span_ns"].as_u64().unwrap();
    assert_eq!(sum(&run, "span_ns"), mono(last) - before_first);
    assert!(first["span_ns"].as_u64().unwrap() >= 200_000_000 * 9 / 10, "{first}");
}

fn all_namespaces() {
    enter_new_netns();
    let tracer = rates(&[]);
    connect_and_close(20);
    // The namespace of a thread that comes after the start.
    let (stay, left) = std::sync::mpsc::channel::<()>();
    let other = std::thread::spawn(move || {
        enter_new_netns();
        left.recv().unwrap_err();
    });
    tracer.wait_for("new namespace", |line| !line.contains("\"namespaces_new\":0"));
    drop(stay);
    other.join().unwrap();
    tracer.wait_for("namespace that went", |line| !line.contains("\"namespaces_gone\":0"));
    let run = tracer.stop();
    // Other tests may do more.
    assert!(sum(&run, "active_opens") >= 20 && sum(&run, "passive_opens") >= 20, "{:#?}", run.lines);
    assert!(run.records().iter().all(|record| record["namespaces"].as_u64().unwrap() >= 2), "{:#?}", run.lines);
}

fn orphans() {
    enter_new_netns();
    let (listener, to) = listen(LOCALHOST);
    let (client, server) = pair(&listener, to);
    lose_input(&client); // the server's FIN is not acknowledged
    drop(server);
    let elsewhere = std::thread::spawn(|| {
        enter_new_netns();
        rates(&["--netns", "self"]).stop()
    });
    let run = elsewhere.join().unwrap();
    let record = &run.records()[0];
    assert!(record["host_orphans"].as_u64().unwrap() >= 1, "{record}");
    assert_eq!((&record["in_use_ipv4"], &record["curr_estab"]), (&0.into(), &0.into()));
}

fn no_namespace() {
    for (choice, words) in [
        ("no-such-name", "no network namespace is called `no-such-name`"),
        ("12345", "no network namespace has the inode number 12345"),
    ] {
        let run = Tracer::spawn(&["rates", "--netns", choice]).wait();
        assert_eq!((run.status.code(), run.lines.len()), (Some(1), 0), "{}", run.stderr);
        assert!(run.stderr.contains(words), "{}", run.stderr);
    }
}

fn namespace_goes() {
    let tracer = std::thread::spawn(|| {
        let netns = enter_new_netns().to_string();
        // Started outside of it, so that nothing but this thread is in it.
        std::thread::scope(|scope| {
            let outside = || {
                let own = std::fs::File::open("/proc/self/ns/net").unwrap();
                // SAFETY: `own` is open, and setns(2) takes numbers only.
                assert_eq!(unsafe { libc::setns(std::os::fd::AsRawFd::as_raw_fd(&own), libc::CLONE_NEWNET) }, 0);
                rates(&["--netns", &netns])
            };
            (netns.clone(), scope.spawn(outside).join().unwrap())
        })
    });
    let (netns, tracer) = tracer.join().unwrap();
    let run = tracer.wait();
    assert_eq!(run.status.code(), Some(1), "{}", run.stderr);
    assert!(run.stderr.contains(&format!("the network namespace {netns} is gone")), "{}", run.stderr);
    assert!(run.records().iter().all(|record| record["namespaces"] == 1), "what was told is written");
}

fn endings() {
    let run = Tracer::spawn(&["rates", "--netns", "self", "--interval", "10ms", "--count", "3"]).wait();
    assert_eq!((run.status.code(), run.lines.len()), (Some(0), 1 + 3), "{:#?}", run.lines);
    let run = Tracer::spawn(&["rates", "--interval", "60s", "--duration", "100ms", "--format", "csv"]).wait();
    assert_eq!((run.status.code(), run.lines.len()), (Some(0), 1 + 1), "{:#?}", run.lines);
    let tracer = rates(&[]);
    tracer.signal(libc::SIGTERM);
    assert!(tracer.wait().status.success());
    let mut child = Command::new(binary())
        .args(["rates", "--interval", "10ms"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !stderr.contains("Broken pipe"), "{} {stderr}", output.status);
}
