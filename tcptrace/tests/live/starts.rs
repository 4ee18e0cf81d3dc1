//! The start: sockets from before it are known, and none is lost, immortal or there twice.

use std::{collections::BTreeMap, net::Shutdown, time::Duration};

use serde_json::Value;

use crate::{
    Test,
    actor::Actor,
    net::{
        self, LOCALHOST, begin_connect, enter_new_netns, exchange, listen, lose_input, now_ns, pair, port, settle,
        sysctl, wait_until,
    },
    ss::{self, Counts},
    tracer::{Tracer, socket_counts},
};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("sockets from before are in the summary, with ages and holders", before),
    ("sockets from before are in the summary (--no-iter)", before_no_iter),
    ("starts while connections come and go", busy),
    ("starts while connections come and go (--no-iter)", busy_no_iter),
    ("the verifier is soon done", verified),
];

/// The verifier takes most of the start. Each branch in a row of branches doubles its paths: where the compiler makes
/// branches of an unrolled loop, a start may take seconds.
fn verified() {
    /// Some 20,000 on 6.18.
    const LIMIT: u64 = 50_000;
    let tracer = Tracer::start(&["--netns", "self"]);
    let fdinfo = std::fs::read_dir(format!("/proc/{}/fdinfo", tracer.pid())).unwrap();
    let field = |text: &str, name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name))?;
        value.trim().parse::<u64>().ok()
    };
    // Of each program, whose links have descriptors too; since 5.16.
    let count = |text: String| Some((field(&text, "prog_id:")?, field(&text, "verified_insns:")?));
    let texts = fdinfo.filter_map(|entry| std::fs::read_to_string(entry.unwrap().path()).ok());
    let by_program: BTreeMap<_, _> = texts.filter_map(count).collect();
    let total: u64 = by_program.values().sum();
    tracer.stop();
    assert!(total <= LIMIT, "{total} instructions were gone through");
}

fn before() {
    sockets_from_before(&[]);
}

fn before_no_iter() {
    sockets_from_before(&["--no-iter"]);
}

fn sockets_from_before(flags: &[&str]) {
    const OLD: Duration = Duration::from_millis(400);
    let netns = enter_new_netns();
    let (listener, to) = listen(LOCALHOST);
    let established = pair(&listener, to);
    exchange(&established.0, &established.1, b"question");
    exchange(&established.1, &established.0, b"the answer");
    let half_closed = pair(&listener, to);
    half_closed.0.shutdown(Shutdown::Write).unwrap();
    net::wait_for_fin(&half_closed.1);
    let (orphan, server_of_orphan) = pair(&listener, to);
    drop(orphan);
    net::wait_for_fin(&server_of_orphan);
    let (waiting, server) = pair(&listener, to);
    waiting.shutdown(Shutdown::Write).unwrap();
    net::wait_for_fin(&server);
    drop(server);
    net::wait_for_fin(&waiting);
    drop(waiting); // its mini-socket is in TIME_WAIT
    let half_open = net::socket(LOCALHOST);
    lose_input(&half_open);
    begin_connect(&half_open, to);
    let holder = Actor::start("t-holder", &[&to.port().to_string()]);
    let (of_holder, _) = listener.accept().unwrap();
    std::thread::sleep(OLD);

    let id = netns.to_string();
    let tracer = Tracer::json(&[flags, &["--netns", &id]].concat());
    let client_port = port(&established.0);
    drop(established.0);
    net::wait_for_fin(&established.1);
    wait_until("the ACK of the FIN", || !ss::counts().contains_key("FIN_WAIT1"));
    settle();
    let run = tracer.stop();
    let (me, summary) = (std::process::id(), run.summary());
    // Those of this process a child has too, that another test starts, until it runs another program.
    let holds = |row: &Value, pid: u32| {
        row["holders"].as_array().is_some_and(|holders| holders.iter().any(|holder| holder["pid"] == pid))
    };
    let row = |state: &str, pid: Option<u32>| {
        let rows = summary["sockets"].as_array().unwrap();
        let is_it = |row: &&Value| {
            let is_his = pid.map_or(row["owner"].is_null(), |pid| row["owner"]["pid"] == pid && holds(row, pid));
            row["state"] == state && is_his
        };
        rows.iter().find(is_it).unwrap_or_else(|| panic!("no {state} of {pid:?} in {summary:#}")).clone()
    };
    for (state, pid, count) in [
        ("LISTEN", me, 1),
        ("SYN_SENT", me, 1),
        ("ESTABLISHED", me, 1),
        ("ESTABLISHED", holder.pid(), 1),
        ("FIN_WAIT2", me, 1), // that is no orphan's
        ("CLOSE_WAIT", me, 3),
    ] {
        let row = row(state, Some(pid));
        assert_eq!(row["count"], count, "{row:#}");
        assert!(["holder", "shared"].contains(&row["owner"]["owner_source"].as_str().unwrap()), "{row:#}");
        // Nothing tells when a listener began to listen, or a SYN was sent, but the start.
        if !["LISTEN", "SYN_SENT"].contains(&state) {
            assert!(row["oldest_ns"].as_u64().unwrap() >= OLD.as_nanos() as u64 * 9 / 10, "{row:#}");
        }
        assert_eq!(row["oldest_source"], "lower_bound", "{row:#}");
    }
    let time_wait = row("TIME_WAIT", None);
    assert_eq!((&time_wait["count"], &time_wait["oldest_source"]), (&1.into(), &"timer".into()), "{time_wait:#}");
    assert!(time_wait["oldest_ns"].as_u64().unwrap() >= OLD.as_nanos() as u64 * 9 / 10, "{time_wait:#}");
    let orphans = row("FIN_WAIT2", None);
    assert_eq!(orphans["count"], 1, "the one from before: {orphans:#}");
    let half_open_rows = summary["half_open"].as_array().unwrap();
    assert_eq!(half_open_rows.len(), 1, "{summary:#}");
    assert_eq!((&half_open_rows[0]["count"], &half_open_rows[0]["local_port"]), (&1.into(), &to.port().into()));
    assert_eq!(half_open_rows[0]["owner"]["pid"], me);
    assert_eq!(socket_counts(&summary), without_requests(ss::counts()), "{summary:#}");

    let events = run.events(netns);
    for life in [events.life(client_port, to.port()), events.life(to.port(), client_port)] {
        let left = life.leaving("ESTABLISHED");
        assert_eq!((&left["time_source"], &left["after_gap"]), (&"lower_bound".into(), &false.into()), "{left:#}");
        assert!(left["time_in_old_state_ns"].as_u64().unwrap() >= OLD.as_nanos() as u64 * 9 / 10, "{left:#}");
        assert_eq!(left["pid"], me, "{left:#}");
    }
    drop((half_closed, server_of_orphan, half_open, of_holder));
}

/// Half-open requests are counted apart.
fn without_requests(mut counts: Counts) -> Counts {
    counts.remove("SYN_RECV");
    counts
}

/// Without polls it is not known when a mini-socket goes from FIN_WAIT2 to TIME_WAIT. All in FIN_WAIT2 are such here.
fn minis_together(mut counts: Counts) -> Counts {
    let orphans = counts.remove("FIN_WAIT2").unwrap_or(0);
    *counts.entry("TIME_WAIT".to_owned()).or_default() += orphans;
    counts
}

fn busy() {
    starts_while_busy("6521", &[]);
}

fn busy_no_iter() {
    starts_while_busy("6522", &["--no-iter"]);
}

/// Several starts while an actor opens and closes connections as fast as it can. When it is quiet, the table is to be the
/// truth without any further listing (polls are off, and a listing rests after the one of the start), and so it is to be
/// at the end.
fn starts_while_busy(port: &str, flags: &[&str]) {
    let netns = enter_new_netns().to_string();
    sysctl("tcp_tw_reuse", 0); // its end would make no event
    let (quiet_listener, to) = listen(LOCALHOST);
    let quiet = pair(&quiet_listener, to);
    let mut churn = Actor::start("t-churn", &[port]);
    let common = ["--netns", &netns, "--summary", "--interval", "250ms", "--poll", "off", "--ring-size", "64MiB"];
    for start in 0..4 {
        let tracer = Tracer::json(&[flags, &common].concat());
        std::thread::sleep(Duration::from_millis(20 * start));
        churn.go();
        assert_eq!(churn.says(), "quiet");
        // What the churn's last RSTs do is done at once; what was read of it, within --latency.
        let (quiet_ns, truth) = (now_ns(), ss::counts());
        let has_read_all = |record: &Value| {
            record["event"] == "summary" && record["mono_ns"].as_u64().unwrap() > quiet_ns + 300_000_000
        };
        let summary = tracer.wait_for_record("summary of the quiet", has_read_all);
        let unlost = summary["losses"].as_object().unwrap().values().all(|count| count == 0);
        let again = ss::counts();
        if unlost {
            let [told, before, after] = [socket_counts(&summary), truth.clone(), again].map(minis_together);
            ss::assert_between(&told, &before, &after);
        }
        println!("start {start} {flags:?}: {truth:?}, losses {}", summary["losses"]);
        let before = ss::counts();
        let run = tracer.stop();
        assert!(run.status.success(), "{}", run.stderr);
        ss::assert_between(&socket_counts(&run.summary()), &before, &ss::counts());
        assert!(truth["ESTABLISHED"] > 70 && truth["LISTEN"] == 2, "{truth:?}");
        churn.go();
        assert_eq!(churn.says(), "busy");
        std::thread::sleep(Duration::from_millis(100));
    }
    churn.kill();
    drop(quiet);
}
