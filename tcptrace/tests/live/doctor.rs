//! `tcptrace doctor`: the settings of the namespace, what is missing without rights, files, hooks and the exit code.

use std::{
    collections::BTreeMap,
    fs,
    process::{Command, Output},
    thread,
    time::Instant,
};

use serde_json::Value;

use crate::{
    Test,
    net::{LOCALHOST, enter_new_netns, listen, lose_input, pair, socket, sysctl, wait_for_fin},
    tracer::{Removed, binary, public_binary, temporary},
};

#[path = "../support/schema.rs"]
#[allow(dead_code, reason = "only lines are looked at here")]
mod schema;

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("settings of the namespace, and what they come to", settings),
    ("the times that it tells are those of the kernel", times),
    ("a harmful setting is found, and put right is not", harmful),
    ("of another namespace with --netns", netns),
    ("all hooks attach that a trace attaches, and are free again", hooks),
    ("without rights it says what is missing, and goes on", no_rights),
    ("two capabilities are enough to trace", two_capabilities),
    ("TIME_WAIT near its limit is told of", pressure),
    ("lines of sysctl files that are harmful or without effect", files),
    ("text, CSV, a file, and a reader that has seen enough", forms),
    ("a namespace that is not there is named", no_namespace),
];

/// What a check-up told.
struct Told {
    code: i32,
    checks: BTreeMap<String, Value>,
    end: Value,
}

impl Told {
    fn of(output: &Output) -> Self {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let stdout = std::str::from_utf8(&output.stdout).unwrap();
        assert_eq!(stderr, "", "{stdout}");
        let validator = schema::validator();
        let mut records: Vec<Value> =
            stdout.lines().map(|line| schema::valid_record(&validator, line).into()).collect();
        let end = records.pop().unwrap();
        assert_eq!(end["event"], "checks_end");
        for (status, count) in [("ok", "ok"), ("warning", "warnings"), ("failed", "failed"), ("unknown", "unknown")] {
            let counted = records.iter().filter(|record| record["status"] == status).count();
            assert_eq!(end[count].as_u64(), Some(counted as u64), "{stdout}");
        }
        let found = end["warnings"].as_u64().unwrap() + end["failed"].as_u64().unwrap() > 0;
        assert_eq!(output.status.code(), Some(if found { 3 } else { 0 }), "{stdout}");
        for record in &records {
            let finding = record["status"] == "warning" || record["status"] == "failed";
            assert_eq!(record["remedy"].is_string(), finding, "{record}");
        }
        let checks = records.into_iter().map(|record| (record["id"].as_str().unwrap().to_owned(), record)).collect();
        Self { code: output.status.code().unwrap(), checks, end }
    }

    fn check(&self, id: &str) -> &Value {
        self.checks.get(id).unwrap_or_else(|| panic!("no check `{id}` in {:#?}", self.checks))
    }

    fn status(&self, id: &str) -> &str {
        self.check(id)["status"].as_str().unwrap()
    }

    fn consequence(&self, id: &str) -> &str {
        self.check(id)["consequence"].as_str().unwrap()
    }

    /// Ids of checks that found something.
    fn findings(&self) -> Vec<&str> {
        let found = self.checks.iter().filter(|(_, check)| check["remedy"].is_string());
        found.map(|(id, _)| id.as_str()).collect()
    }
}

fn doctor(arguments: &[&str]) -> Told {
    Told::of(&Command::new(binary()).args(["doctor", "--json"]).args(arguments).output().unwrap())
}

fn settings() {
    let netns = enter_new_netns();
    let told = doctor(&["settings"]);
    assert_eq!((told.code, told.end["netns"].as_u64()), (0, Some(netns)), "{:#?}", told.findings());
    // These are host-wide, and not to be seen in this namespace.
    for id in ["tcp_max_orphans", "tcp_mem"] {
        assert_eq!(told.status(id), "unknown");
    }
    for (name, value, id, words) in [
        ("tcp_keepalive_time", 60, "tcp_keepalive", "a dead peer is noticed after 12 min 15 s"),
        ("tcp_keepalive_intvl", 10, "tcp_keepalive", "a dead peer is noticed after 2 min 30 s"),
        ("tcp_fin_timeout", 7, "tcp_fin_timeout", "dropped after 7 s"),
        ("tcp_retries2", 8, "tcp_retries2", "fails 1 min 42 s after"),
        ("tcp_orphan_retries", 4, "tcp_orphan_retries", "given up after 6.2 s"),
        ("tcp_synack_retries", 1, "tcp_synack_retries", "dropped after 3 s"),
        ("tcp_tw_reuse", 1, "ip_local_port_range", "28232 ports: a port in TIME_WAIT is reused after"),
    ] {
        sysctl(name, value);
        let told = doctor(&["settings"]);
        assert!(told.consequence(id).contains(words), "{name} {value}: {}", told.consequence(id));
        assert_eq!((told.code, told.status(id)), (0, "ok"), "{name} {value}");
    }
}

/// Does what waits for the kernel to give up, in a new namespace with these settings, and compares the time with what the
/// check-up tells; the kernel may take `late` more.
fn gives_up(values: &[(&str, u32)], id: &str, told: &str, seconds: f64, late: f64, wait: fn()) {
    enter_new_netns();
    values.iter().for_each(|(name, value)| sysctl(name, *value));
    let check_up = doctor(&["settings"]);
    assert!(check_up.consequence(id).contains(told), "{told}: {}", check_up.consequence(id));
    let start = Instant::now();
    wait();
    let took = start.elapsed().as_secs_f64();
    assert!((seconds - 0.1..seconds + late).contains(&took), "{told}: {took} s");
}

/// Connects to a listener that gets no SYN.
fn connect_in_vain() {
    let (listener, to) = listen(LOCALHOST);
    lose_input(&listener);
    assert_eq!(socket(LOCALHOST).connect(&to.into()).unwrap_err().raw_os_error(), Some(libc::ETIMEDOUT));
}

/// Waits for a peer that gets nothing any more, with keepalive or with data that it does not acknowledge.
fn wait_in_vain(keepalive: bool) {
    let (listener, to) = listen(LOCALHOST);
    let (client, server) = pair(&listener, to);
    client.set_keepalive(keepalive).unwrap();
    lose_input(&server);
    if !keepalive {
        client.send(b"data").unwrap();
    }
    let error = client.recv(&mut [std::mem::MaybeUninit::new(0); 1]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ETIMEDOUT));
}

fn times() {
    let keepalive = [("tcp_keepalive_time", 2), ("tcp_keepalive_intvl", 1), ("tcp_keepalive_probes", 3)];
    thread::scope(|scope| {
        let linear = fs::exists("/proc/sys/net/ipv4/tcp_syn_linear_timeouts").unwrap(); // 6.5 and later
        for (retries, timeouts, seconds) in [(2, 1, 8), (1, 4, 3)].into_iter().filter(|_| linear) {
            scope.spawn(move || {
                let values = [("tcp_syn_retries", retries), ("tcp_syn_linear_timeouts", timeouts)];
                let told = format!("fails after {seconds} s");
                gives_up(&values, "tcp_syn_retries", &told, f64::from(seconds), 1.0, connect_in_vain);
            });
        }
        scope.spawn(|| {
            let told = "noticed after 5 s";
            gives_up(&keepalive, "tcp_keepalive", told, 5.0, 1.0, || wait_in_vain(true));
        });
        scope.spawn(|| {
            // Timeouts come 0.2, 0.6, 1.4, 3 and 6.2 s after the data: the last one is the first that is late enough.
            gives_up(&[("tcp_retries2", 3)], "tcp_retries2", "fails 3 s after", 3.0, 4.5, || wait_in_vain(false));
        });
    });
}

fn harmful() {
    enter_new_netns();
    for (name, bad, good, id) in [
        ("tcp_syncookies", 0, 1, "tcp_syncookies"),
        ("tcp_timestamps", 0, 1, "tcp_timestamps"),
        ("tcp_abort_on_overflow", 1, 0, "tcp_abort_on_overflow"),
        ("tcp_max_tw_buckets", 5, 1 << 20, "tcp_max_tw_buckets"),
        ("tcp_retries2", 3, 15, "tcp_retries2"),
        ("tcp_keepalive_probes", 1, 9, "tcp_keepalive"),
        ("tcp_sack", 0, 1, "tcp_sack"),
    ] {
        sysctl(name, bad);
        let told = doctor(&["settings"]);
        assert_eq!((told.code, told.findings()), (3, vec![id]));
        let remedy = told.check(id)["remedy"].as_str().unwrap();
        assert!(remedy.contains(&format!("net.ipv4.{name}")), "{remedy}");
        sysctl(name, good);
        assert_eq!(doctor(&["settings"]).code, 0, "{name}");
    }
    fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40999").unwrap();
    let told = doctor(&["settings"]);
    assert_eq!(told.findings(), ["ip_local_port_range"]);
    assert!(told.consequence("ip_local_port_range").starts_with("1000 ports: at most 16 connections per second"));
    fs::write("/proc/sys/net/core/somaxconn", "128").unwrap();
    assert_eq!(doctor(&["settings"]).findings(), ["ip_local_port_range", "somaxconn"]);
}

fn netns() {
    let (to_test, inode) = std::sync::mpsc::channel();
    let (end, to_thread) = std::sync::mpsc::channel::<()>();
    let other = thread::spawn(move || {
        let inode = enter_new_netns();
        sysctl("tcp_fin_timeout", 33);
        to_test.send(inode).unwrap();
        to_thread.recv().unwrap_err();
    });
    let inode = inode.recv().unwrap();
    let here = enter_new_netns();
    let value = |told: &Told| told.check("tcp_fin_timeout")["value"].as_str().unwrap().to_owned();
    let there = doctor(&["settings", "pressure", "--netns", &inode.to_string()]);
    assert_eq!((there.end["netns"].as_u64(), value(&there)), (Some(inode), "33".to_owned()));
    let own = doctor(&["settings", "--netns", "self"]);
    assert_eq!((own.end["netns"].as_u64(), value(&own)), (Some(here), "60".to_owned()));
    drop(end);
    other.join().unwrap();
}

fn hooks() {
    let told = doctor(&["hooks"]);
    assert_eq!(told.check("inet_sock_set_state")["value"], "attached");
    // What a trace does without is what the check-up finds.
    let traced = Command::new(binary()).args(["--duration", "100ms", "--summary"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&traced.stderr);
    let missing: Vec<_> = stderr
        .lines()
        .filter_map(|line| line.strip_prefix("tcptrace: not attached: ")?.split_once(' '))
        .map(|(hook, _)| hook)
        .collect();
    let found: Vec<_> = told.findings().into_iter().filter(|id| !id.starts_with("iter/")).collect();
    assert_eq!(found, missing, "{stderr}");
    assert_eq!(told.findings().iter().any(|id| id.starts_with("iter/")), stderr.contains("through sock_diag"));
}

/// Runs it as nobody with these capabilities alone.
fn with_capabilities(names: &[&str], arguments: &[&str]) -> Told {
    let copy = public_binary();
    let set = ["-all".to_owned()].into_iter().chain(names.iter().map(|name| format!("+{name}")));
    let set = set.collect::<Vec<_>>().join(",");
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command.args(["--inh-caps", "--ambient-caps", "--bounding-set"].map(|option| format!("{option}={set}")));
    let told = Told::of(&command.arg(&copy.0).args(["doctor", "--json"]).args(arguments).output().unwrap());
    if let Some(check) = told.checks.get("cap_bpf").filter(|check| check["status"] == "failed") {
        let remedy = check["remedy"].as_str().unwrap();
        assert!(remedy.contains(&format!("setcap cap_bpf,cap_perfmon+ep {}", copy.0.display())), "{remedy}");
    }
    told
}

fn no_rights() {
    enter_new_netns();
    let told = with_capabilities(&[], &[]);
    assert_eq!(told.code, 3);
    assert_eq!((told.status("cap_bpf"), told.status("programs")), ("failed", "failed"));
    for id in ["cap_sys_admin", "cap_sys_ptrace", "cap_net_admin"] {
        assert_eq!(told.status(id), "warning");
    }
    // All that everybody may read is judged as ever.
    for id in ["kernel", "btf", "tcp_keepalive", "tcp_retries2", "time_wait"] {
        assert_eq!(told.status(id), "ok", "{id}");
    }
    assert_eq!(with_capabilities(&[], &["settings"]).code, 0);
}

fn two_capabilities() {
    let told = with_capabilities(&["bpf", "perfmon"], &["machine", "hooks"]);
    assert_eq!((told.status("cap_bpf"), told.status("cap_sys_admin")), ("ok", "warning"));
    assert_eq!(told.check("inet_sock_set_state")["value"], "attached");
    assert!(!told.checks.contains_key("programs"));
    let told = with_capabilities(&["sys_ptrace", "sys_admin", "net_admin"], &["machine"]);
    for id in ["cap_bpf", "cap_sys_admin", "cap_sys_ptrace", "cap_net_admin"] {
        assert_eq!(told.status(id), "ok");
    }
}

fn pressure() {
    enter_new_netns();
    sysctl("tcp_max_tw_buckets", 10);
    let (listener, to) = listen(LOCALHOST);
    let mut closed = 0;
    for (until, status, share) in [(7, "ok", "70 %"), (8, "warning", "80 %"), (10, "failed", "100 %")] {
        while closed < until {
            let (client, server) = pair(&listener, to);
            drop(client);
            wait_for_fin(&server);
            closed += 1;
        }
        let told = doctor(&["pressure"]);
        assert_eq!(told.check("time_wait")["value"], until.to_string());
        assert_eq!(told.status("time_wait"), status);
        assert!(told.consequence("time_wait").starts_with(&format!("{share} of tcp_max_tw_buckets (10")));
    }
}

/// Runs a check-up of files with nothing in `/etc/sysctl.d` but a file of these lines.
fn with_file(lines: &str) -> Told {
    let text = Removed(temporary("sysctl"));
    fs::write(&text.0, lines).unwrap();
    let script =
        "mount -t tmpfs none /etc/sysctl.d && cp \"$1\" /etc/sysctl.d/50-test.conf && exec \"$0\" doctor files --json";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(binary()).arg(&text.0);
    Told::of(&command.output().unwrap())
}

fn files() {
    let told = with_file("net.ipv4.tcp_fin_timeout = 30\n# net.ipv4.tcp_tw_recycle = 1\n");
    let ours: Vec<_> =
        told.checks.values().filter(|check| check["title"].as_str().unwrap().contains("50-test")).collect();
    assert!(ours.is_empty(), "{ours:#?}");
    let told = with_file("# of an old guide\nnet.ipv4.tcp_tw_recycle = 1\n");
    let check = told.check("sysctl_missing");
    assert_eq!(check["title"], "/etc/sysctl.d/50-test.conf:2");
    assert_eq!((told.code, &check["value"]), (3, &"tcp_tw_recycle = 1".into()));
    assert!(check["consequence"].as_str().unwrap().contains("Linux 4.12 removed it"));
    let told = with_file("net.ipv4.tcp_syncookies=0\nnet.ipv4.tcp_mem = 8388608 8388608 8388608000\n");
    let check = told.check("sysctl_harmful");
    assert_eq!(check["title"], "/etc/sysctl.d/50-test.conf:2", "the last of them");
    assert!(check["consequence"].as_str().unwrap().contains("pages, not bytes"));
}

fn forms() {
    enter_new_netns();
    let run = |arguments: &[&str]| {
        let output = Command::new(binary()).arg("doctor").args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let text = run(&["settings"]);
    assert!(text.starts_with("Settings of network namespace ") && text.contains("2 h 11 min 15 s"), "{text}");
    assert!(
        !text.contains("tcp_timer.c") && run(&["settings", "--verbose"]).contains("tcp_timer.c, tcp_keepalive_timer")
    );
    assert!(run(&["settings", "--format", "csv"]).starts_with("event,time,mono_ns,id,area,status,title,value,"));
    let file = Removed(temporary("doctor"));
    assert_eq!(run(&["settings", "--output", file.0.to_str().unwrap()]), "");
    assert_eq!(fs::read_to_string(&file.0).unwrap(), text);
    let script = "\"$0\" doctor settings | head -n 1; exit 0";
    let output = Command::new("sh").args(["-c", script]).arg(binary()).output().unwrap();
    assert_eq!(output.stderr, b"", "a closed pipe is a normal end");
    let output = Command::new(binary()).args(["doctor", "--output", "/dev/full"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.starts_with("tcptrace: cannot write to /dev/full: "), "{stderr}");
}

fn no_namespace() {
    let output = Command::new(binary()).args(["doctor", "--netns", "tcptrace-no-such"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    assert!(stderr.contains("no network namespace is called `tcptrace-no-such`"), "{stderr}");
}
