//! The program as a whole: how it starts, what it prints, and how it ends.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    Test,
    actor::Actor,
    net::{LOCALHOST, enter_new_netns, listen, pair, settle},
    tracer::{Removed, Tracer, binary, public_binary, temporary},
};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("events appear while it runs", events_appear),
    ("--count ends it", count),
    ("--duration ends it", duration),
    ("SIGTERM ends it cleanly", sigterm),
    ("a closed pipe is a normal end", closed_pipe),
    ("a closed stderr is no reason to fail", closed_stderr),
    ("a reader that never reads does not keep it", stuck_reader),
    ("--output writes a file, and names one that it cannot write", output_file),
    ("without rights it says which are needed", no_rights),
    ("CAP_BPF and CAP_PERFMON are enough", two_capabilities),
    ("--bpf-log shows the programs' log", bpf_log),
    ("the leaking process is named in the summary", leak),
    ("summaries come at their interval", interval),
    ("the demo plays its acts, and its leak is found", demo),
    ("the samples of the documentation can be made", samples),
];

fn connections(count: usize) {
    let (listener, to) = listen(LOCALHOST);
    for _ in 0..count {
        drop(pair(&listener, to));
    }
}

fn events_appear() {
    enter_new_netns();
    let tracer = Tracer::start(&[]);
    let (_listener, to) = listen(LOCALHOST);
    let listening = format!("127.0.0.1:{}", to.port());
    tracer.wait_for("line about the listener", |line| line.contains(&listening) && line.contains("-> LISTEN"));
    tracer.stop();
}

fn count() {
    enter_new_netns();
    let tracer = Tracer::json(&["--count", "3", "--netns", "self"]);
    connections(5);
    let run = tracer.wait();
    assert!(run.status.success());
    let is_event = |record: &&serde_json::Value| record["event"] != "summary" && record["event"] != "end";
    assert_eq!(run.records().iter().filter(is_event).count(), 3);
    let end = run.records().pop().unwrap();
    assert_eq!((&end["reason"], &end["received"]), (&"count".into(), &3.into()));
    // As text says it, with what comes meanwhile.
    let tracer = Tracer::start(&["-c", "1", "--netns", "self", "--findings", "off", "--color", "never"]);
    connections(5);
    let run = tracer.wait();
    let printed = run.lines.join("\n");
    let (events, _) = printed.split_once("\nSummary of").unwrap();
    assert_eq!(events.lines().filter(|line| line.contains(" -> ")).count(), 1, "{printed}");
    assert!(printed.contains(": 1 transitions"), "{printed}");
}

fn duration() {
    // On a busy machine it may be over before it is ready.
    let run = Tracer::spawn(&["--format", "json", "--duration", "200ms"]).wait();
    assert!(run.status.success());
    let end = run.records().pop().unwrap();
    assert_eq!((&end["event"], &end["reason"]), (&"end".into(), &"duration".into()));
}

fn sigterm() {
    enter_new_netns();
    let tracer = Tracer::start(&["--port", "1-65535"]);
    connections(20);
    tracer.signal(libc::SIGTERM);
    let run = tracer.wait();
    assert!(run.status.success());
    let told = run.lines.iter().filter(|line| line.contains("-> ESTABLISHED")).count();
    assert!(told >= 40, "what happened before the signal is told: {:#?}", run.lines);
    assert!(run.lines.iter().any(|line| line.starts_with("Summary of")), "{:#?}", run.lines);
    assert!(run.stderr.ends_with(" events, none lost\n"), "{}", run.stderr);
}

fn closed_pipe() {
    enter_new_netns();
    let ready = Removed(temporary("ready"));
    let mut child = Command::new(binary())
        .args(["--findings", "off", "--ready-file"]) // others make troubles meanwhile
        .arg(&ready.0)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while !ready.0.exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    connections(3);
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap(); // and closed
    assert!(first.starts_with("TIME"), "{first}");
    while child.try_wait().unwrap().is_none() {
        connections(3);
        settle();
    }
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} {stderr}", output.status);
    assert!(stderr.ends_with(" events, none lost\n") && !stderr.contains("Broken pipe"), "{stderr}");
}

fn closed_stderr() {
    let mut child = Command::new(binary())
        .args(["--duration", "300ms"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

fn stuck_reader() {
    enter_new_netns();
    let ready = Removed(temporary("ready"));
    let child = Command::new(binary())
        .args(["--format", "json", "--ready-file"])
        .arg(&ready.0)
        .stdout(Stdio::piped()) // never read
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while !ready.0.exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    connections(2000); // some megabytes: more than a pipe and the queue before it hold
    // SAFETY: takes no pointers; the child has not been waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    let output = wait_without_reading(child);
    assert_eq!(output.0, Some(1), "{}", output.1);
    assert!(output.1.contains("has stopped reading"), "{}", output.1);
    // The kernel may have had to drop some, too, where the machine is slow.
    let is_loss = |line: &str| line.contains(" events; lost: ") && line.contains("outputs ");
    assert!(output.1.lines().any(is_loss), "{}", output.1);
}

/// Exit code and stderr of a child whose stdout stays open and unread.
fn wait_without_reading(mut child: std::process::Child) -> (Option<i32>, String) {
    let status = child.wait().unwrap();
    let mut stderr = String::new();
    std::io::Read::read_to_string(child.stderr.as_mut().unwrap(), &mut stderr).unwrap();
    (status.code(), stderr)
}

fn output_file() {
    enter_new_netns();
    let file = Removed(temporary("output"));
    let tracer = Tracer::json(&["--output", file.0.to_str().unwrap()]);
    connections(2);
    settle();
    assert!(tracer.stop().status.success());
    let written = fs::read_to_string(&file.0).unwrap();
    assert!(written.lines().count() > 10);
    assert!(written.lines().last().unwrap().contains("\"event\":\"end\""));
    let output = Command::new(binary()).args(["--output", "/no/such/folder/file"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("/no/such/folder/file") && stderr.contains("No such file"), "{stderr}");
}

/// "nobody" of Debian.
const NOBODY: u32 = 65534;

fn no_rights() {
    let copy = public_binary();
    let output = Command::new(&copy.0).uid(NOBODY).gid(NOBODY).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    for word in ["CAP_BPF", "CAP_PERFMON", "setcap cap_bpf,cap_perfmon+ep", copy.0.to_str().unwrap()] {
        assert!(stderr.contains(word), "{stderr}");
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
}

fn two_capabilities() {
    let copy = public_binary();
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .args([
            "--inh-caps=-all,+bpf,+perfmon",
            "--ambient-caps=-all,+bpf,+perfmon",
            "--bounding-set=-all,+bpf,+perfmon",
        ])
        .arg(&copy.0)
        .args(["--duration", "200ms", "--format", "json"])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("\"event\":\"end\""));
}

fn bpf_log() {
    enter_new_netns();
    let tracer = Tracer::json(&["--bpf-log", "trace"]);
    connections(2);
    settle();
    let run = tracer.stop();
    assert!(run.stderr.contains("tcptrace: bpf TRACE: socket "), "{}", run.stderr);
    let quiet = Tracer::json(&["--bpf-log", "error"]);
    connections(2);
    settle();
    let run = quiet.stop();
    assert!(!run.stderr.contains("bpf TRACE"), "{}", run.stderr);
}

fn leak() {
    enter_new_netns();
    let tracer = Tracer::start(&["--state", "CLOSE_WAIT", "--pid", "--port", "6201"]);
    let (listener, to) = crate::net::listen_on(std::net::SocketAddr::new(LOCALHOST, 6201));
    let client = Actor::start("t-client", &["6201", "0", "0"]);
    let leaked: Vec<_> = (0..7)
        .map(|_| {
            let (client, server) = pair(&listener, to);
            drop(client);
            crate::net::wait_readable(&server); // its FIN
            server
        })
        .collect();
    let run = tracer.stop();
    drop(client);
    drop(leaked);
    let me = std::process::id().to_string();
    let row = run.lines.iter().find(|line| line.starts_with("CLOSE_WAIT ") && !line.contains("->"));
    let row = row.unwrap_or_else(|| panic!("no row of sockets in {:#?}", run.lines));
    let words: Vec<_> = row.split_whitespace().collect();
    assert_eq!((words[0], words[1], words[3]), ("CLOSE_WAIT", "7", me.as_str()), "{row}");
}

fn interval() {
    enter_new_netns();
    let tracer = Tracer::json(&["--summary", "--interval", "100ms"]);
    connections(3);
    tracer.wait_for("summary with transitions", |line| line.contains("\"old_state\":\"LISTEN\""));
    let run = tracer.stop();
    let records = run.records();
    assert!(records.iter().all(|record| record["event"] == "summary" || record["event"] == "end"), "{records:#?}");
    let (last, intervals): (Vec<_>, Vec<_>) =
        records.iter().filter(|record| record["event"] == "summary").partition(|record| record["final"] == true);
    assert_eq!(last.len(), 1);
    let sum: u64 = intervals.iter().map(|summary| summary["events"]["transitions"].as_u64().unwrap()).sum();
    assert!(last[0]["events"]["transitions"].as_u64().unwrap() >= sum);
}

fn xtask() -> Command {
    let tests = std::env::current_exe().unwrap();
    let xtask = std::env::var_os("TRACER_XTASK")
        .map_or_else(|| tests.parent().unwrap().with_file_name("xtask"), std::path::PathBuf::from);
    assert!(xtask.exists(), "{} is missing: `cargo build --package xtask` builds it", xtask.display());
    Command::new(xtask)
}

fn samples() {
    let output = xtask().args(["pictures", "--play", "--tracer"]).arg(binary()).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    let made: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let printed = |name: &str| {
        let of_name = made.iter().find(|sample| sample["name"] == name);
        of_name.unwrap_or_else(|| panic!("{name} was not made"))["stdout"].as_str().unwrap()
    };
    let page = include_str!("../../../docs/reading.md");
    let names = page.split("<!-- sample: ").skip(1).map(|rest| rest.split(' ').next().unwrap());
    for name in names.chain(["trace", "story"]) {
        assert!(printed(name).lines().count() > 3, "{name}: {}", printed(name));
    }
    for (name, words) in [("trace", "warning close-wait-leak"), ("stuck", "leaky-server"), ("story", "RST sent")] {
        assert!(printed(name).contains(words), "{name}: {}", printed(name));
    }
}

fn demo() {
    let mut command = xtask();
    command.args(["demo", "--tracer"]).arg(binary()).args(["--", "--format", "json"]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let (told, acts) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {acts}", output.status);
    for act in 1..=5 {
        assert!(acts.contains(&format!("Act {act} of 5: ")), "{acts}");
    }
    let records = told.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let leaks: Vec<_> = records
        .filter(|record| record["finding"] == "close-wait-leak" && record["owner"]["command"] == "leaky-server")
        .collect();
    assert!(leaks.iter().any(|leak| leak["phase"] == "opened" && leak["cause"] == "never_closed"), "{told}");
    assert_eq!(leaks.last().unwrap()["count"], 3, "{told}");
}
