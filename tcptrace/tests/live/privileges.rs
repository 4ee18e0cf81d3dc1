//! What tcptrace says and does where it may do less, or sees less, than root on a host.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    Test,
    net::{LOCALHOST, enter_new_netns, listen, pair},
    tracer::{self, Tracer, binary, public_binary, temporary},
};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("CAP_BPF and CAP_PERFMON are enough for iterators", iterators),
    ("few descriptors are a message, and no panic", descriptors),
    ("without /proc all else is judged", no_proc),
    ("root of a user namespace is told that it is not root", own_users),
    ("in a PID namespace of its own it says so, and takes nobody for itself", own_pids),
    ("in a PID namespace with the host's /proc holders are found", host_proc),
    ("the host's /proc is found where it is mounted", host_proc_elsewhere),
    ("every command that names processes says that it sees only its own", own_pids_everywhere),
    ("a PID that no process has is named", no_such_pid),
    ("its own server has an owner, and nobody is PID 0", own_server),
    ("sk is no address of the kernel", hidden_addresses),
];

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn records(output: &Output) -> Vec<Value> {
    let lines = std::str::from_utf8(&output.stdout).unwrap().lines();
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

/// The check with this id of `doctor --json`.
fn check(output: &Output, id: &str) -> Value {
    let found = records(output).into_iter().find(|record| record["id"] == id);
    found.unwrap_or_else(|| panic!("no {id}: {output:?}"))
}

/// As nobody, with these two capabilities.
fn with_two_capabilities(copy: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    for set in ["--inh-caps", "--ambient-caps", "--bounding-set"] {
        command.arg(format!("{set}=-all,+bpf,+perfmon"));
    }
    command.arg(copy);
    command
}

fn iterators() {
    enter_new_netns();
    let (_listener, to) = listen(LOCALHOST);
    let copy = public_binary();
    let mut command = with_two_capabilities(&copy.0);
    command.args(["sockets", "--format", "json"]);
    let listed = tracer::listed(command);
    assert_eq!(listed.end["path"], "iterators", "{:#}", listed.end);
    // Root's socket, whose process nobody may look at in /proc.
    let row = listed.row(to.port(), 0);
    assert!(tracer::holders(row).iter().any(|(pid, _)| *pid == std::process::id()), "{row:#}");
    assert!(listed.stderr.contains("CAP_SYS_PTRACE is missing"), "{}", listed.stderr);
    let doctor = with_two_capabilities(&copy.0).args(["doctor", "machine", "hooks", "--json"]).output().unwrap();
    for iterator in ["iter/tcp", "iter/task_file"] {
        assert_eq!(check(&doctor, iterator)["value"], "attached");
    }
    let traced = with_two_capabilities(&copy.0).args(["--duration", "200ms", "--netns", "self"]).output().unwrap();
    assert!(traced.status.success() && !stderr(&traced).contains("sock_diag"), "{}", stderr(&traced));
}

/// Runs it in a shell after this line.
fn after(line: &str, arguments: &[&str]) -> Output {
    let script = format!("{line} && exec \"$0\" \"$@\"");
    Command::new("sh").args(["-c", &script]).arg(binary()).args(arguments).output().unwrap()
}

fn descriptors() {
    for arguments in [&["--duration", "1s"][..], &["sockets"], &["stuck", "--once"], &["rates", "--count", "1"]] {
        for few in ["ulimit -n 8", "ulimit -n 5", "ulimit -n 127"] {
            let output = after(few, arguments);
            let stderr = stderr(&output);
            assert_eq!(output.status.code(), Some(1), "{few} {arguments:?}: {stderr}");
            assert!(stderr.contains("(RLIMIT_NOFILE)") && stderr.contains("ulimit -n 1024"), "{stderr}");
            assert!(!stderr.contains("panicked") && stderr.lines().count() == 1, "{stderr}");
        }
    }
    let doctor = after("ulimit -n 8", &["doctor", "machine", "settings", "--json"]);
    let found = check(&doctor, "descriptors");
    assert_eq!((&found["status"], &found["value"]), (&"failed".into(), &"8".into()));
    assert_eq!(check(&doctor, "tcp_retries2")["status"], "ok");
    // A soft limit alone is raised.
    let output = after("ulimit -S -n 8", &["--duration", "100ms", "--netns", "self"]);
    assert!(output.status.success(), "{}", stderr(&output));
}

fn own_users() {
    let traced = Command::new("unshare").args(["-U", "-r"]).arg(binary()).args(["--duration", "1s"]).output().unwrap();
    assert_eq!(traced.status.code(), Some(1));
    assert!(
        stderr(&traced).contains("capabilities in a user namespace apply only to that namespace"),
        "{}",
        stderr(&traced)
    );
    let doctor =
        Command::new("unshare").args(["-U", "-r"]).arg(binary()).args(["doctor", "machine", "--json"]).output();
    assert_eq!(check(&doctor.unwrap(), "user_namespace")["status"], "failed");
}

fn no_proc() {
    let without = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", "umount -l /proc && exec \"$0\" \"$@\""]).arg(binary());
        command.args(arguments).output().unwrap()
    };
    let doctor = without(&["doctor", "--json"]);
    assert_eq!(doctor.status.code(), Some(3), "{doctor:?}");
    let proc = check(&doctor, "proc");
    assert_eq!(proc["status"], "failed");
    for (id, status) in [("kernel", "ok"), ("btf", "ok"), ("cap_bpf", "ok"), ("tcp_retries2", "unknown")] {
        assert_eq!(check(&doctor, id)["status"], status, "{id}");
    }
    assert_eq!(check(&doctor, "inet_sock_set_state")["value"], "attached");
    // The tracer says the same.
    let traced = without(&["--duration", "1s"]);
    assert_eq!(traced.status.code(), Some(1));
    assert!(stderr(&traced).contains(proc["consequence"].as_str().unwrap()), "{}", stderr(&traced));
    assert!(stderr(&traced).contains(proc["remedy"].as_str().unwrap()), "{}", stderr(&traced));
}

/// In a PID namespace of its own, where it has this PID. `flags` are unshare's.
fn with_pid(flags: &[&str], pid: u32, arguments: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    let script = format!("echo {} > /proc/sys/kernel/ns_last_pid; \"$0\" \"$@\"; exit $?", pid - 1);
    command.args(["--pid", "--fork"]).args(flags).args(["sh", "-c", &script]).arg(binary()).args(arguments);
    command
}

fn own_pids() {
    enter_new_netns();
    let (listener, to) = listen(LOCALHOST);
    let ready = temporary("ready");
    // It has the PID that this process has on the host.
    let own = std::process::id();
    let port = to.port().to_string();
    let flags = ["--format", "json", "--findings", "off", "--netns", "self", "--port", &port, "--count", "4"];
    let ready_flags = ["--ready-file", ready.to_str().unwrap()];
    let mut command = with_pid(&["--mount-proc"], own, &[&flags[..], &ready_flags].concat());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while !ready.exists() {
        assert!(start.elapsed() < Duration::from_secs(30), "it is not ready");
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(pair(&listener, to));
    let output = child.wait_with_output().unwrap();
    assert!(stderr(&output).contains("in a PID namespace of its own"), "{}", stderr(&output));
    assert!(stderr(&output).contains("docker run --pid=host"), "{}", stderr(&output));
    let opened = records(&output).into_iter().find(|record| record["new_state"] == "SYN_SENT").unwrap();
    assert_eq!(opened["pid"], own, "the process on the host, and not tcptrace: {opened:#}");
    let doctor = with_pid(&["--mount-proc"], 77, &["doctor", "machine", "--json"]).output().unwrap();
    assert_eq!(check(&doctor, "pid_namespace")["status"], "warning");
    let listed = with_pid(&["--mount-proc"], 77, &["sockets", "--netns", "self"]).output().unwrap();
    assert!(stderr(&listed).contains("in a PID namespace of its own"), "{}", stderr(&listed));
}

fn host_proc() {
    enter_new_netns();
    let (_listener, to) = listen(LOCALHOST);
    let listed = tracer::listed(with_pid(&[], 77, &["sockets", "--netns", "self", "--format", "json"]));
    let row = listed.row(to.port(), 0);
    assert!(tracer::holders(row).iter().any(|(pid, _)| *pid == std::process::id()), "{row:#}");
    assert!(!listed.stderr.contains("PID namespace"), "{}", listed.stderr);
}

/// In a PID namespace of its own with a `/proc` of its own, as a container has it; the host's is mounted in `folder`.
pub(crate) fn with_host_proc_in(folder: &Path, arguments: &[&str]) -> Command {
    let script = "mount --rbind /proc \"$0\" && mount -t proc proc /proc && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount", "sh", "-c", script]).arg(folder).arg(binary()).args(arguments);
    command
}

fn host_proc_elsewhere() {
    enter_new_netns();
    let folder = temporary("host-proc");
    std::fs::create_dir(&folder).unwrap();
    let (listener, to) = listen(LOCALHOST);
    let own = std::process::id();
    let listed = tracer::listed(with_host_proc_in(&folder, &["sockets", "--netns", "self", "--format", "json"]));
    let row = listed.row(to.port(), 0);
    assert!(tracer::holders(row).iter().any(|(pid, _)| *pid == own), "{row:#}");
    assert!(!listed.stderr.contains("PID namespace"), "{}", listed.stderr);
    let doctor = with_host_proc_in(&folder, &["doctor", "machine", "--json"]).output().unwrap();
    let check = check(&doctor, "pid_namespace");
    assert_eq!((&check["status"], &check["value"]), (&"ok".into(), &"another, with the host's /proc".into()));
    drop(listener);
    std::fs::remove_dir(&folder).unwrap();
}

fn own_pids_everywhere() {
    enter_new_netns();
    let (_listener, to) = listen(LOCALHOST);
    let port = to.port().to_string();
    let commands: [&[&str]; 5] = [
        &["--duration", "100ms"],
        &["--duration", "100ms", "--quiet"],
        &["sockets", "--port", &port],
        &["stuck", "--once"],
        &["story", &port, "--duration", "100ms"],
    ];
    for arguments in commands {
        let output = with_pid(&["--mount-proc"], 77, arguments).output().unwrap();
        let said = stderr(&output);
        assert_eq!(said.matches("in a PID namespace of its own").count(), 1, "{arguments:?}: {said}");
        assert!(said.contains("hostPID: true") && said.contains("-v /proc:/host/proc"), "{arguments:?}: {said}");
    }
}

fn no_such_pid() {
    let mut child = Command::new("true").spawn().unwrap();
    let gone = child.id().to_string();
    child.wait().unwrap();
    let run = |arguments: &[&str]| Command::new(binary()).args(arguments).output().unwrap();
    let pid = format!("--pid={gone}");
    for arguments in [&[][..], &["sockets"], &["stuck", "--once"], &["--aggregate", "cgroup"]] {
        let output = run(&[arguments, &[&pid]].concat());
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{arguments:?} {output:?}");
        assert_eq!(stderr(&output), format!("tcptrace: --pid {gone}: there is no such process\n"));
    }
    // One of two is there: it is traced, and the other one named.
    let output = run(&["sockets", &format!("--pid={gone},{}", std::process::id())]);
    assert!(output.status.success() && stderr(&output).contains(&format!("--pid {gone}: there is no")), "{output:?}");
    // A thread is no process.
    std::thread::spawn(move || {
        // SAFETY: takes nothing and cannot fail.
        let thread = unsafe { libc::gettid() };
        let output = run(&["sockets", &format!("--pid={thread}")]);
        let words = format!("this is a thread of process {0}: use --pid {0}", std::process::id());
        assert!(output.status.code() == Some(1) && stderr(&output).contains(&words), "{output:?}");
    })
    .join()
    .unwrap();
}

fn own_server() {
    let netns = enter_new_netns();
    let target = "prometheus:127.0.0.1:9477";
    let tracer = Tracer::here(&["--port", "9477", "-o", "stdout", "-o", target]);
    let own = tracer.pid();
    for _ in 0..3 {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect((LOCALHOST, 9477)).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("tcptrace_"), "{answer}");
    }
    let mut closed = 0;
    tracer.wait_for_record("end of three connections", |record| {
        closed += u32::from(record["remote_port"] == 9477 && record["new_state"] == "CLOSE");
        closed == 3
    });
    let run = tracer.stop();
    let events = run.events(netns).0;
    assert!(events.iter().all(|event| event["pid"] != 0 && event["command"] != ""), "{events:#?}");
    let served = events.iter().filter(|event| event["local_port"] == 9477 && event["new_state"] == "SYN_RECV");
    let owners: Vec<_> = served.map(|event| event["pid"].clone()).collect();
    assert!(owners.len() >= 3 && owners.iter().all(|pid| *pid == own), "{own}: {owners:?}");
}

fn hidden_addresses() {
    enter_new_netns();
    let (listener, to) = listen(LOCALHOST);
    let sk = |flags: &[&str]| -> Vec<u64> {
        let tracer = Tracer::here(flags);
        drop(pair(&listener, to));
        tracer.wait_for_record("end", |record| record["local_port"] == to.port() && record["new_state"] == "CLOSE");
        let records = tracer.stop().records();
        let texts = records.iter().filter_map(|record| record["sk"].as_str()?.strip_prefix("0x"));
        texts.map(|text| u64::from_str_radix(text, 16).unwrap()).collect()
    };
    // Addresses of objects are in the kernel's direct map, on both architectures in the upper half.
    let is_kernels = |sk: &u64| sk >> 47 == 0x1_ffff;
    assert!(sk(&["--kernel-addresses"]).iter().all(is_kernels));
    let hashed = sk(&[]);
    assert!(!hashed.is_empty() && !hashed.iter().any(is_kernels), "{hashed:x?}");
    let row = |flags: &[&str]| {
        let listed = tracer::sockets(&[&["--netns", "self"], flags].concat());
        u64::from_str_radix(listed.row(to.port(), 0)["sk"].as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
    };
    assert!(is_kernels(&row(&["--kernel-addresses"])) && !is_kernels(&row(&[])));
}
