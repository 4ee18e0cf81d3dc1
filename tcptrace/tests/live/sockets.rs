//! `tcptrace sockets` against ss(8), in all states, by both ways, and where not all can be seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
    net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde_json::Value;

use crate::{
    Test,
    actor::Actor,
    net::{self, LOCALHOST, begin_connect, enter_new_netns, listen, lose_input, pair, port, sysctl},
    ss,
    tracer::{self, Listed, binary, holders, public_binary, sockets},
};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("the same sockets as ss, in all states", same_as_ss),
    ("iterators and --no-iter tell the same", both_ways),
    ("filters and counts", filters),
    ("text and CSV", forms),
    ("processes and sockets that go meanwhile are no trouble", churn),
    ("without rights it lists its own namespace, and says what it cannot see", no_rights),
    ("what hidepid hides is counted", hidepid),
    ("both ends on this host name each other's processes", peers),
];

const WAYS: [&[&str]; 2] = [&[], &["--no-iter"]];

/// A process with sockets in all states, which stay as they are for a minute, and others that hold some too. They are not
/// this process's, whose sockets all children have that other tests start, until they run another program.
struct Crowd {
    pid: u32,
    /// The listeners' addresses, IPv4 and IPv6.
    to: [SocketAddr; 2],
    _actors: [Actor; 3],
}

impl Crowd {
    /// Some of each kind, and `many` of the common ones. The thread is to be in a namespace of its own.
    fn gather(many: usize) -> Self {
        let mut crowd = Actor::start("t-crowd", &[&many.to_string()]);
        let to: [SocketAddr; 2] = [(); 2].map(|()| crowd.says().parse().unwrap());
        let holder = Actor::start("t-holder", &[&to[0].port().to_string()]);
        let sharer = Actor::start("t-sharer", &["6511"]);
        Self { pid: crowd.pid(), to, _actors: [crowd, holder, sharer] }
    }
}

/// The role of the actor in [`Crowd`]: prints `ready` and the addresses of its listeners, and waits for a word.
pub(crate) fn crowd(many: usize) {
    let (v4, to_v4) = listen(LOCALHOST);
    let (v6, to_v6) = listen(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    let to = [to_v4, SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), to_v6.port())];
    let mut kept = Vec::new();
    let mut next = 0;
    let mut pair = || {
        next += 1;
        let (listener, to) = [(&v4, to[0]), (&v6, to[1]), (&v6, to_v4_mapped(to[1]))][next % 3];
        pair(listener, to)
    };
    for _ in 0..many {
        let (client, server) = pair();
        kept.extend([client, server]); // ESTABLISHED
        let (client, server) = pair();
        drop(client);
        kept.push(server); // CLOSE_WAIT, and a mini-socket in FIN_WAIT2
        let (client, server) = pair();
        client.shutdown(Shutdown::Write).unwrap();
        net::wait_for_fin(&server);
        drop(server);
        net::wait_for_fin(&client); // TIME_WAIT
    }
    for round in 0..20 {
        let (client, server) = pair();
        client.send(&[7; 1000][..100 + round]).unwrap();
        net::wait_readable(&server);
        client.set_keepalive(true).unwrap();
        kept.extend([client, server]); // unread data, and a keepalive timer

        let (client, server) = pair();
        lose_input(&server);
        client.send(b"into the void").unwrap();
        kept.extend([client, server]); // unacknowledged data, and retransmissions

        let (client, server) = pair();
        client.shutdown(Shutdown::Write).unwrap();
        net::wait_for_fin(&server);
        kept.extend([client, server]); // FIN_WAIT2 that is no orphan's

        let (client, server) = pair();
        lose_input(&server);
        client.shutdown(Shutdown::Write).unwrap();
        kept.extend([client, server]); // FIN_WAIT1

        let (client, server) = pair();
        client.shutdown(Shutdown::Write).unwrap();
        net::wait_for_fin(&server);
        lose_input(&client);
        drop(server);
        kept.push(client); // LAST_ACK
    }
    sysctl("tcp_fin_timeout", 200); // longer than a mini-socket lives: the orphan stays a full socket
    for _ in 0..5 {
        let (client, server) = pair();
        drop(client);
        kept.push(server);
    }
    let mut closing = Vec::new();
    for _ in 0..5 {
        let (client, server) = pair();
        lose_input(&client);
        lose_input(&server);
        client.shutdown(Shutdown::Write).unwrap();
        server.shutdown(Shutdown::Write).unwrap();
        net::receive_again(&client); // it gets the FIN that is sent again, and its own is not acknowledged
        closing.extend([client, server]);
    }
    closing.iter().step_by(2).for_each(net::wait_for_fin);
    kept.extend(closing);
    let (deaf, to_deaf) = listen(LOCALHOST);
    lose_input(&deaf);
    for _ in 0..20 {
        let client = net::socket(LOCALHOST);
        begin_connect(&client, to_deaf); // SYN_SENT
        kept.push(client);
        let client = net::socket(LOCALHOST);
        lose_input(&client);
        begin_connect(&client, to[0]); // SYN_RECV
        kept.push(client);
        let client = net::socket(LOCALHOST);
        client.connect(&to[0].into()).unwrap(); // waits to be accepted
        kept.push(client);
    }
    kept.extend([v4, v6, deaf]);
    println!("ready\n{}\n{}", to[0], to[1]);
    let _ = std::io::stdin().read(&mut [0]);
}

/// The IPv4 address by which an IPv6 listener on any address is reached as well.
fn to_v4_mapped(to: SocketAddr) -> SocketAddr {
    SocketAddr::new(LOCALHOST, to.port())
}

fn text<'a>(row: &'a Value, field: &str) -> &'a str {
    row[field].as_str().unwrap_or_else(|| panic!("no {field} in {row:#}"))
}

fn end(row: &Value, side: &str) -> SocketAddr {
    let port = row[format!("{side}_port")].as_u64().unwrap_or(0) as u16;
    SocketAddr::new(text(row, &format!("{side}_address")).parse().unwrap(), port)
}

/// A listed socket as ss would tell of it.
fn as_ss(row: &Value) -> ss::Socket {
    let queue = |field: &str| row[field].as_u64().unwrap_or_else(|| panic!("no {field} in {row:#}"));
    let state = text(row, "state").parse::<tcptrace::model::state::State>().unwrap().name();
    let queues = match state {
        "LISTEN" => (queue("accept_queue"), queue("accept_limit")),
        _ => (queue("receive_queue"), queue("send_queue")),
    };
    let timer = row["timer"].as_str().map(|kind| {
        // Names of iproute2, `ss.c`, `timer_name`.
        let name = match kind {
            "retransmit" => "on",
            "time_wait" | "fin_timeout" => "timewait",
            "probe" => "persist",
            other => other,
        };
        (name.to_owned(), Duration::from_nanos(row["timer_left_ns"].as_u64().unwrap()))
    });
    let cookie = row["cookie"].as_u64().unwrap();
    ss::Socket {
        state,
        queues,
        local: end(row, "local"),
        remote: end(row, "remote"),
        cookie,
        holders: holders(row),
        timer,
    }
}

/// Compares all but the time that is left on timers, which goes on: that is to be within 2 s. Retransmissions begin
/// anew at any time, and theirs is not compared.
fn assert_same(ours: &Listed, theirs: &[ss::Socket], took: Duration) {
    let mut unmatched: BTreeMap<u64, &ss::Socket> = theirs.iter().map(|socket| (socket.cookie, socket)).collect();
    assert_eq!(unmatched.len(), theirs.len());
    for row in &ours.rows {
        let ours = as_ss(row);
        let Some(&theirs) = unmatched.get(&ours.cookie) else { panic!("ss does not show {row:#}") };
        unmatched.remove(&ours.cookie);
        let without_time = |socket: &ss::Socket| {
            let timer = socket.timer.as_ref().map(|(kind, _)| (kind.clone(), Duration::ZERO));
            ss::Socket { timer, ..socket.clone() }
        };
        assert_eq!(without_time(&ours), without_time(theirs), "{row:#}");
        if let (Some((kind, left)), Some((_, other))) = (&ours.timer, &theirs.timer)
            && kind != "on"
        {
            // From ten minutes on ss leaves the seconds out.
            let coarse = Duration::from_secs(if other.as_secs() < 600 { 2 } else { 60 });
            assert!(left.abs_diff(*other) <= took + coarse, "{left:?} is left here, {other:?} there: {row:#}");
        }
    }
    assert!(unmatched.is_empty(), "only ss shows {unmatched:#?}");
}

fn same_as_ss() {
    enter_new_netns();
    let crowd = Crowd::gather(600);
    for way in WAYS {
        let start = std::time::Instant::now();
        let ours = sockets(&[way, &["--netns", "self"]].concat());
        let theirs = ss::list();
        assert_same(&ours, &theirs, start.elapsed());
        assert_eq!(ours.counts(), ss::counts());
        assert!(ours.rows.len() >= 3000, "{:?}", ours.counts());
        let expected: BTreeSet<_> = [
            "LISTEN",
            "SYN_SENT",
            "SYN_RECV",
            "ESTABLISHED",
            "FIN_WAIT1",
            "FIN_WAIT2",
            "CLOSING",
            "TIME_WAIT",
            "CLOSE_WAIT",
            "LAST_ACK",
        ]
        .map(str::to_owned)
        .into();
        assert_eq!(ours.counts().into_keys().collect::<BTreeSet<_>>(), expected);
        let timers: BTreeSet<_> = ours.rows.iter().filter_map(|row| row["timer"].as_str()).collect();
        assert_eq!(timers, ["fin_timeout", "keepalive", "retransmit", "time_wait"].into());
        for row in &ours.rows {
            let (state, kind) = (text(row, "state"), text(row, "kind"));
            let possible: &[&str] = match state {
                "TIME_WAIT" => &["mini"],
                "FIN_WAIT2" => &["mini", "full"],
                "SYN_RECV" => &["request"],
                _ => &["full"],
            };
            assert!(possible.contains(&kind), "{row:#}");
            // What only connections know; before the handshake is over its times say nothing.
            let is_connection = kind == "full" && !["LISTEN", "SYN_SENT"].contains(&state);
            assert_eq!(row["total_retrans"].is_u64(), is_connection, "{row:#}");
            assert_eq!(row["last_ack_ns"].is_u64(), is_connection, "{row:#}");
            if state == "TIME_WAIT" {
                assert_eq!(row["age_source"], "timer");
                let sum = row["age_ns"].as_u64().unwrap() + row["timer_left_ns"].as_u64().unwrap();
                assert_eq!(sum, 60_000_000_000, "{row:#}");
            }
        }
        let listener = ours.row(crowd.to[0].port(), 0);
        assert_eq!((&listener["accept_queue"], &listener["half_open"]), (&21.into(), &20.into()), "{listener:#}");
    }
    drop(crowd);
}

/// A row without what is different by nature: `sk`, which sock_diag does not tell, times that go on, and what each timeout
/// changes.
pub(crate) fn comparable(row: &Value) -> Value {
    let mut row = row.clone();
    let fields = row.as_object_mut().unwrap();
    let is_resent = fields["timer"] == "retransmit";
    for (name, value) in fields.iter_mut() {
        let is_time = name == "time" || name.ends_with("_ns");
        let goes_on = is_resent && ["timeouts", "total_retrans", "age_ns", "age_source"].contains(&name.as_str());
        if name == "sk" || goes_on {
            *value = Value::Null;
        } else if is_time && !value.is_null() {
            *value = "some time".into();
        }
    }
    row
}

fn both_ways() {
    enter_new_netns();
    let crowd = Crowd::gather(30);
    let [iterators, no_iter] = WAYS.map(|way| sockets(&[way, &["--netns", "self"]].concat()));
    assert_eq!((&iterators.end["path"], &no_iter.end["path"]), (&"iterators".into(), &"sock_diag".into()));
    let by_cookie = |listed: &Listed| -> BTreeMap<u64, Value> {
        listed.rows.iter().map(|row| (row["cookie"].as_u64().unwrap(), row.clone())).collect()
    };
    let (ours, theirs) = (by_cookie(&iterators), by_cookie(&no_iter));
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    for (cookie, one) in &ours {
        let other = &theirs[cookie];
        assert_eq!(comparable(one), comparable(other));
        for field in ["age_ns", "timer_left_ns", "last_sent_ns", "last_received_ns", "last_ack_ns"] {
            if let (Some(one_ns), Some(other_ns)) = (one[field].as_u64(), other[field].as_u64())
                && one["timer"] != "retransmit"
            {
                let later = no_iter.end["mono_ns"].as_u64().unwrap() - iterators.end["mono_ns"].as_u64().unwrap();
                assert!(one_ns.abs_diff(other_ns) <= later + 1_000_000_000, "{field}: {one:#} {other:#}");
            }
        }
    }
    drop(crowd);
}

fn filters() {
    for way in WAYS {
        enter_new_netns();
        let crowd = Crowd::gather(10);
        let me = crowd.pid;
        let port = crowd.to[0].port();
        let (port_text, me_text) = (port.to_string(), me.to_string());
        let is_at = |row: &Value, side: &str| row[format!("{side}_port")] == port;
        let is_mine = |row: &Value| holders(row).iter().any(|(holder, _)| *holder == me);
        let is_v6 = |row: &Value| text(row, "local_address").contains(':');
        type Condition<'a> = &'a dyn Fn(&Value) -> bool;
        let cases: [(&[&str], Condition<'_>); 7] = [
            (&["--state", "time-wait,SYN_RECV"], &|row| ["TIME_WAIT", "SYN_RECV"].contains(&text(row, "state"))),
            (&["--state", "fin-wait-2"], &|row| row["state"] == "FIN_WAIT2"),
            (&["--port", &port_text], &|row| is_at(row, "local") || is_at(row, "remote")),
            (&["-L", &port_text, "-4"], &|row| is_at(row, "local") && !is_v6(row)),
            (&["--remote-address", "::1"], &|row| row["remote_address"] == "::1"),
            (&["--address", "127.0.0.0/8,::1", "-6"], &|row| row["local_address"] == "::1"),
            (&["--pid", &me_text], &is_mine),
        ];
        let all = sockets(&[way, &["--netns", "self"]].concat());
        for (flags, condition) in cases {
            let some = sockets(&[way, flags, &["--netns", "self"]].concat());
            let cookie = |row: &Value| row["cookie"].as_u64().unwrap();
            let expected: BTreeSet<_> = all.rows.iter().filter(|row| condition(row)).map(cookie).collect();
            assert!(!expected.is_empty() && expected.len() < all.rows.len(), "{flags:?}");
            assert_eq!(some.rows.iter().map(cookie).collect::<BTreeSet<_>>(), expected, "{flags:?} {way:?}");
        }
        let count = |condition: Condition<'_>| all.rows.iter().filter(|row| condition(row)).count() as u64;
        for by in ["state", "pid", "port", "remote", "cgroup"] {
            let counted = sockets(&[way, &["--by", by, "--netns", "self"]].concat());
            assert_eq!(counted.end["states"], all.end["states"], "{by}");
            let group = |row: &Value| (text(row, "group").to_owned(), row["sockets"].as_u64().unwrap());
            let groups: BTreeMap<String, u64> = counted.rows.iter().map(group).collect();
            match by {
                "state" => assert_eq!(groups, all.counts()),
                "pid" => {
                    assert_eq!(groups[&me_text], count(&is_mine));
                    assert_eq!(groups["kernel"], count(&|row| row["held_by"] == "kernel"));
                }
                "port" => assert_eq!(groups[&port_text], count(&|row| is_at(row, "local"))),
                "remote" => assert_eq!(groups["::1"], count(&|row| row["remote_address"] == "::1")),
                // Once for each cgroup of its holders, which here is one.
                _ => assert_eq!(groups.values().sum::<u64>(), all.rows.len() as u64, "{groups:?}"),
            }
        }
        drop(crowd);
    }
}

fn forms() {
    enter_new_netns();
    let crowd = Crowd::gather(3);
    let count = sockets(&["--netns", "self"]).rows.len();
    let lines = |flags: &[&str]| {
        let output = Command::new(binary()).args(["sockets", "--netns", "self"]).args(flags).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let text = lines(&[]);
    assert!(text.last().unwrap().starts_with(&format!("Total {count}: ")), "{text:#?}");
    assert_eq!(text.iter().filter(|line| line.starts_with("SYN_RECV")).count(), 20, "{text:#?}");
    let csv = lines(&["--format", "csv"]);
    assert_eq!(csv.len(), 1 + count);
    assert!(csv[0].starts_with("event,time,mono_ns,sk,cookie,netns"), "{}", csv[0]);
    assert!(lines(&["--format", "csv", "--by", "state"]).iter().any(|line| line.contains(",SYN_RECV,")));
    assert!(lines(&["--by", "pid"]).iter().any(|line| line.contains(&crowd.pid.to_string())));
    drop(crowd);
}

fn churn() {
    enter_new_netns();
    let (listener, to) = listen(LOCALHOST);
    let (kept, _server) = pair(&listener, to);
    let kept_port = port(&kept);
    let over = AtomicBool::new(false);
    let churner = Actor::start("t-churn", &["6501"]);
    std::thread::scope(|scope| {
        // Processes that hold a socket come and go.
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let stdin = std::process::Stdio::from(std::os::fd::OwnedFd::from(kept.try_clone().unwrap()));
                Command::new("true").stdin(stdin).status().unwrap();
            }
        });
        for _ in 0..10 {
            for way in WAYS {
                let listed = sockets(&[way, &["--netns", "self"]].concat());
                let row = listed.row(kept_port, to.port());
                assert_eq!((&row["state"], &row["held_by"]), (&"ESTABLISHED".into(), &"processes".into()), "{row:#}");
                assert!(holders(row).iter().any(|(pid, _)| *pid == std::process::id()), "{row:#}");
                assert_eq!(listed.row(6501, 0)["state"], "LISTEN");
                let mut cookies = BTreeSet::new();
                for row in &listed.rows {
                    assert!(cookies.insert(row["cookie"].as_u64().unwrap()), "twice: {row:#}");
                }
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    churner.kill();
}

/// `tcptrace sockets` as "nobody" of Debian, who may run nothing but a copy.
fn as_nobody(copy: &tracer::Removed, flags: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy.0);
    command.args(["sockets", "--format", "json"]).args(flags);
    command
}

fn no_rights() {
    let netns = enter_new_netns();
    let copy = public_binary();
    let (listener, to) = listen(LOCALHOST);
    let (client, _server) = pair(&listener, to);
    let elsewhere = Actor::start_as(in_new_netns(), "t-sharer", &["6502"]);
    for way in WAYS {
        let listed = tracer::listed(as_nobody(&copy, way));
        assert_eq!(listed.end["path"], "sock_diag");
        let namespaces = listed.end["namespaces"].as_array().unwrap();
        assert_eq!(namespaces.len(), 1, "{:#}", listed.end);
        assert_eq!(namespaces[0]["inode"], netns);
        assert!(listed.rows.iter().all(|row| row["local_port"] != 6502), "of another namespace");
        let row = listed.row(port(&client), to.port());
        // A file refers to it, of a process that may not be read.
        assert_eq!((&row["state"], &row["held_by"]), (&"ESTABLISHED".into(), &"unknown".into()), "{row:#}");
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let is_process = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().parse::<u32>().is_ok();
        let processes = processes.filter(is_process).count() as u64;
        let denied = listed.end["skipped"]["processes_denied"].as_u64().unwrap();
        assert!((1..=processes + processes / 2).contains(&denied), "each once: {denied} of about {processes}");
        assert!(listed.stderr.contains(&format!("not read: {denied} process")), "{}", listed.stderr);
    }
    let own = tracer::listed(as_nobody(&copy, &["--netns", "self"]));
    assert_eq!(own.row(port(&client), to.port())["state"], "ESTABLISHED");
    let there = std::fs::metadata(format!("/proc/{}/ns/net", elsewhere.pid())).unwrap();
    let inode = std::os::unix::fs::MetadataExt::ino(&there).to_string();
    let output = as_nobody(&copy, &["--netns", &inode]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("no network namespace has the inode number") && stderr.contains("could not be read"),
        "{stderr}"
    );
}

/// This program in a network namespace of its own, where loopback is down.
fn in_new_netns() -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--net", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap());
    command
}

fn hidepid() {
    enter_new_netns();
    let copy = public_binary();
    let (listener, to) = listen(LOCALHOST);
    let (client, _server) = pair(&listener, to);
    for way in WAYS {
        let inner = as_nobody(&copy, way);
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", "mount -t proc -o hidepid=2 proc /proc && exec \"$0\" \"$@\""]);
        command.arg(inner.get_program()).args(inner.get_args());
        let listed = tracer::listed(command);
        let row = listed.row(port(&client), to.port());
        assert_eq!((&row["state"], &row["held_by"]), (&"ESTABLISHED".into(), &"unknown".into()), "{row:#}");
        assert!(listed.end["skipped"]["processes_denied"].as_u64().unwrap() >= 1, "{:#}", listed.end);
        assert!(listed.stderr.contains("not read: "), "{}", listed.stderr);
    }
}

fn peers() {
    enter_new_netns();
    let (listener, to) = listen(LOCALHOST);
    let port = to.port().to_string();
    let mut holder = Actor::start("t-holder", &[&port]);
    let (pid, client_port) = (holder.pid(), holder.says().parse::<u16>().unwrap());
    let (server, _) = listener.accept().unwrap();
    let pids = |row: &Value| -> Vec<u64> {
        let peers = row["peer_holders"].as_array().unwrap();
        peers.iter().map(|peer| peer["pid"].as_u64().unwrap()).collect()
    };
    let executable = std::env::current_exe().unwrap().display().to_string();
    for way in WAYS {
        let listed = sockets(&[way, &["--netns", "self", "--state", "ESTABLISHED"]].concat());
        let (of_server, of_client) = (listed.row(to.port(), client_port), listed.row(client_port, to.port()));
        assert_eq!(pids(of_server), [u64::from(pid)], "{of_server:#}");
        let peer = &of_server["peer_holders"][0];
        assert_eq!((&peer["command"], &peer["executable"]), (&"t-holder".into(), &executable.as_str().into()));
        assert!(pids(of_client).contains(&u64::from(std::process::id())), "{of_client:#}");
    }
    // The other end may be in a state that is not wanted, and without a process.
    drop(server);
    net::wait_until("CLOSE_WAIT", || !sockets(&["--netns", "self", "--state", "CLOSE_WAIT"]).rows.is_empty());
    let listed = sockets(&["--netns", "self", "--state", "CLOSE_WAIT"]);
    assert_eq!(listed.rows.len(), 1, "{:#?}", listed.rows);
    // Children of other tests may hold it until they run another program.
    assert!(!listed.row(client_port, to.port())["peer_holders"].is_null(), "{:#?}", listed.rows);
    let text = |flags: &[&str]| {
        let output =
            Command::new(binary()).args(["sockets", "--netns", "self", "-L", &port]).args(flags).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let (again, _) = (Actor::start("t-holder", &[&port]), listener.accept().unwrap());
    for flags in [&["--columns", "local,peer"][..], &["--pid"]] {
        let text = text(flags);
        assert!(text.contains("PEER") && text.contains(&format!("t-holder/{}", again.pid())), "{text}");
    }
    assert!(!text(&[]).contains("PEER"));
}
