//! Against `tcpstates` of libbpf-tools, at the same time on the same connections: the same transitions, and the same
//! durations where it has true ones.

use std::{
    ffi::CString,
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    Test,
    net::{self, LOCALHOST, enter_new_netns, exchange, listen_on, pair, settle},
    tracer::Tracer,
};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[("tcpstates", tcpstates)];

const PEER: &str = "/usr/sbin/tcpstates";

/// Why a suite's tests cannot be run for lack of the other tool.
pub(crate) fn missing_peer(suite: &str) -> Option<String> {
    (suite == "compare" && !Path::new(PEER).exists()).then(|| format!("{PEER} (package libbpf-tools) is not installed"))
}

/// Starts the other tool in a mount namespace of its own, with the tracefs that it needs.
fn start_peer() -> std::process::Child {
    let mut command = Command::new("stdbuf");
    command.args(["-oL", PEER]).stdout(Stdio::piped()).stderr(Stdio::null());
    let (root, kind, place) =
        (CString::new("/").unwrap(), CString::new("tracefs").unwrap(), CString::new("/sys/kernel/tracing").unwrap());
    // SAFETY: system calls only, with strings that live as long as the closure.
    unsafe {
        command.pre_exec(move || {
            let null = std::ptr::null();
            let ok = libc::unshare(libc::CLONE_NEWNS) == 0
                && libc::mount(null, root.as_ptr(), null, libc::MS_REC | libc::MS_PRIVATE, null.cast()) == 0;
            libc::mount(kind.as_ptr(), place.as_ptr(), kind.as_ptr(), 0, null.cast()); // it may be there already
            if ok { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        });
    }
    command.spawn().unwrap()
}

/// It prints its heading before it is attached: waits until it shows connections that are made for that.
fn wait_until_attached(lines: &mut impl Iterator<Item = std::io::Result<String>>) {
    let (listener, to) = listen_on(std::net::SocketAddr::new(LOCALHOST, 6302));
    let shown = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !shown.load(std::sync::atomic::Ordering::Relaxed) {
                drop(pair(&listener, to));
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("6302"))).unwrap().unwrap();
        shown.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    std::thread::sleep(Duration::from_millis(500)); // its programs are attached one after another
}

fn tcpstates() {
    let netns = enter_new_netns();
    let (listener, to) = listen_on(std::net::SocketAddr::new(LOCALHOST, 6301));
    let tracer = Tracer::json(&["--port", "6301", "--kernel-addresses"]);
    let mut peer = start_peer();
    let mut lines = BufReader::new(peer.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("SKADDR"));
    wait_until_attached(&mut lines);
    for round in 0..20 {
        let (client, server) = pair(&listener, to);
        exchange(&client, &server, b"question");
        std::thread::sleep(Duration::from_millis(round));
        drop(client);
        net::wait_for_fin(&server);
        std::thread::sleep(Duration::from_millis(2 * round));
        drop(server);
        settle();
    }
    drop(listener);
    // It loses events where the machine is loaded, the last one too: it is not waited for for ever.
    let (peer_is_done, watched) = std::sync::mpsc::channel::<()>();
    let id = peer.id() as libc::pid_t;
    let watchdog = std::thread::spawn(move || {
        if watched.recv_timeout(Duration::from_secs(20)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            // SAFETY: takes numbers only; the process is this one's child, and not waited for yet.
            unsafe { libc::kill(id, libc::SIGKILL) };
        }
    });
    let theirs: Vec<Row> = {
        // The listener's end comes last.
        let mut rows = Vec::new();
        for line in lines {
            let row = Row::parse(&line.unwrap());
            if row.ports.contains(&6301) {
                let is_last = row.old == "LISTEN" && row.new == "CLOSE";
                rows.push(row);
                if is_last {
                    break;
                }
            }
        }
        rows
    };
    drop(peer_is_done);
    watchdog.join().unwrap();
    peer.kill().unwrap();
    peer.wait().unwrap();
    let events = tracer.stop().events(netns);
    // What polls find no tracepoint shows.
    let ours: Vec<_> = events.of_kind("transition").filter(|event| event["new_state_source"] != "polled").collect();
    assert_eq!(ours.len(), 20 * 10 + 1);
    // Where the machine is loaded the other tool loses events, and does not say so in its rows.
    assert!(theirs.len() >= ours.len() / 4, "tcpstates shows {} of {} transitions", theirs.len(), ours.len());
    // Each CPU has a buffer of its own there: the order between sockets may differ, but not within one.
    let mut unmatched = ours;
    let (mut compared, mut apart) = (0, 0);
    for row in &theirs {
        let is_it = |event: &&serde_json::Value| {
            let new = match event["new_state_source"].as_str().unwrap() {
                "inferred" => "CLOSE",
                _ => event["new_state"].as_str().unwrap(),
            };
            let sk = event["sk"].as_str().unwrap().trim_start_matches("0x");
            sk == row.sk && event["old_state"] == row.old.as_str() && new == row.new
        };
        let found = unmatched.iter().position(is_it);
        let event = unmatched.remove(found.unwrap_or_else(|| panic!("only tcpstates shows {row:?}")));
        // It has no truth to compare with for the first state, and none for SYN_RECV.
        let ns = event["time_in_old_state_ns"].as_u64().filter(|_| row.old != "SYN_RECV" && row.ms > 0.0);
        if let Some(ns) = ns {
            let ms = ns as f64 / 1e6;
            let difference = (ms - row.ms).abs();
            compared += 1;
            if difference > 1.0 && difference > 0.05 * row.ms {
                println!("{ms} ms here, {} there: {event:#}", row.ms);
                apart += 1;
            }
        }
    }
    assert!(compared * 2 >= theirs.len(), "{compared} durations compared of {}", theirs.len());
    // Each takes the time in a program of its own: where a virtual CPU is stopped between the two, they are apart.
    assert!(apart * 20 <= compared, "{apart} of {compared} durations apart");
    println!(
        "{} of 201 transitions alike, {} of {compared} durations within 1 ms or 5 %",
        theirs.len(),
        compared - apart
    );
}

/// A line of tcpstates.
#[derive(Debug)]
struct Row {
    sk: String,
    ports: [u16; 2],
    old: String,
    new: String,
    ms: f64,
}

impl Row {
    fn parse(line: &str) -> Self {
        // The command name may hold spaces: count from the end.
        let words: Vec<_> = line.split_whitespace().collect();
        let from_end = |index: usize| words[words.len() - index];
        Self {
            sk: words[0].to_owned(),
            ports: [from_end(7).parse().unwrap(), from_end(5).parse().unwrap()],
            old: from_end(4).to_owned(),
            new: from_end(2).to_owned(),
            ms: from_end(1).parse().unwrap(),
        }
    }
}
