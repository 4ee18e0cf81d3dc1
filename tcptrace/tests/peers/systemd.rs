//! A real systemd, booted in a container, that starts, watches, reloads and stops tcptrace by its unit.

use std::{
    env, fs,
    net::{TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use serde_json::{Map, Value};

use crate::{
    Test,
    program::{Folder, Program, missing_as_root, output, until},
    unit::UNIT,
};

pub(crate) const TESTS: &[Test] = &[
    ("starts_reloads_and_stops_it", starts_reloads_and_stops_it),
    ("starts_it_again_when_it_hangs", starts_it_again_when_it_hangs),
];

/// docs/pipelines/systemd.md has the same, but for the times and ports.
const CONFIG: &str = r#"
port = "7400-7499"
stuck-after = { CLOSE_WAIT = "1s" }

[[output]]
to = "journald"

[[output]]
to = "file:/var/log/tcptrace/events.jsonl"
format = "json"
"#;

/// The unit for a test that does not wait for long.
const QUICK: &str = "[Service]\nWatchdogSec=2s\nRestartSec=100ms\nLimitCORE=0\n";

/// A tree of the distribution with systemd in it, made by `cargo xtask setup --tests`.
fn tree() -> PathBuf {
    PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cache/tcptrace/root")
}

pub(crate) fn missing() -> Option<String> {
    missing_as_root(&["systemd-nspawn", "nsenter"]).or_else(|| {
        let (tree, btf) = (tree(), Path::new("/sys/kernel/btf/vmlinux"));
        if !btf.exists() {
            return Some("the kernel has no BTF".to_owned());
        }
        (!tree.join("sbin/init").exists())
            .then(|| format!("no {}: `cargo xtask setup --tests` makes it", tree.display()))
    })
}

/// A container with a systemd of its own; what is written in it goes with it.
struct Container {
    /// Its process 1.
    init: libc::pid_t,
    nspawn: Program,
    _files: Folder,
}

impl Container {
    /// Boots one that has tcptrace, its unit and a config file.
    fn boot(name: &str) -> Self {
        let files = Folder::new(name);
        let place = |name: &str, text: &str| {
            let path = files.0.join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let binds = [
            (PathBuf::from(env!("CARGO_BIN_EXE_tcptrace")), "/usr/bin/tcptrace"),
            (place("unit", UNIT), "/etc/systemd/system/tcptrace.service"),
            (place("quick", QUICK), "/etc/systemd/system/tcptrace.service.d/quick.conf"),
            (place("config", CONFIG), "/etc/tcptrace/tcptrace.toml"),
        ];
        let mut command = Command::new("systemd-nspawn");
        command
            .arg(format!("--directory={}", tree().display()))
            .arg(format!("--machine=tcptrace-{name}-{}", std::process::id()));
        // Not known to a systemd of the host, with a network of its own, and allowed to use BPF.
        command.args(["--quiet", "--boot", "--volatile=overlay", "--register=no", "--keep-unit", "--private-network"]);
        command.args(["--capability=all", "--system-call-filter=bpf"]);
        for (file, place) in &binds {
            command.arg(format!("--bind-ro={}:{place}", file.display()));
        }
        let nspawn = Program::start(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
        let init = until("a first process", || init_of(&nspawn));
        let container = Self { init, nspawn, _files: files };
        until("a system that runs", || {
            let said = container.command("systemctl", &["is-system-running"]).output().ok()?;
            ["running\n", "degraded\n"].map(str::as_bytes).contains(&said.stdout.as_slice()).then_some(())
        });
        container
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.init)).args(["--mount", "--uts", "--ipc", "--net", "--pid", program]);
        command.args(args);
        command
    }

    fn systemctl(&self, args: &[&str]) -> String {
        output(&mut self.command("systemctl", args))
    }

    /// A property of tcptrace's unit.
    fn show(&self, property: &str) -> String {
        self.systemctl(&["show", "--value", "--property", property, "tcptrace"]).trim_end().to_owned()
    }

    /// The entries with that field in its journal.
    fn entries(&self, field: &str) -> Vec<Map<String, Value>> {
        let told = output(&mut self.command("journalctl", &["--output=json", "--all", "--no-pager", "--quiet", field]));
        told.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// A file of tcptrace's.
    fn log(&self, name: &str) -> PathBuf {
        format!("/proc/{}/root/var/log/private/tcptrace/{name}", self.init).into()
    }

    /// Runs something in the container's network.
    fn in_its_network<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        let namespace = fs::File::open(format!("/proc/{}/ns/net", self.init)).unwrap();
        let inside = || {
            // SAFETY: takes numbers only; the thread has no other use.
            assert_eq!(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
            run()
        };
        thread::scope(|scope| scope.spawn(inside).join().unwrap())
    }
}

/// The process 1 of a container that is up so far that it can be asked.
fn init_of(nspawn: &Program) -> Option<libc::pid_t> {
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", nspawn.pid())).ok()?;
    let init = children.split_whitespace().next()?;
    // The first child only makes the second.
    Path::new(&format!("/proc/{init}/root/run/systemd/private")).exists().then(|| init.parse().ok())?
}

impl Drop for Container {
    fn drop(&mut self) {
        // SAFETY: the process is there as long as nspawn, its parent, is not waited for.
        unsafe { libc::kill(self.init, libc::SIGKILL) };
        let _ = self.nspawn.0.wait(); // nspawn takes away what it has made
    }
}

/// Connections to a port, which both ends close; the last one the server leaves open.
fn connect(port: u16, count: usize) -> (TcpListener, TcpStream) {
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let one = || {
        drop(TcpStream::connect(("127.0.0.1", port)).unwrap());
        listener.accept().unwrap().0
    };
    (1..count).for_each(|_| drop(one()));
    let left_open = one();
    (listener, left_open)
}

fn starts_reloads_and_stops_it() {
    const COUNT: usize = 50;
    let container = Container::boot("run");
    // Type=notify: the command returns when tcptrace has said that it is ready.
    container.systemctl(&["start", "tcptrace"]);
    assert_eq!(container.show("ActiveState"), "active");
    let process = container.show("MainPID");

    let left_open = container.in_its_network(|| connect(7400, COUNT));
    let leak = until("the finding", || container.entries("TCPTRACE_FINDING=close-wait-leak").pop());
    assert_eq!([&leak["_SYSTEMD_UNIT"], &leak["TCPTRACE_LOCAL_PORT"]], ["tcptrace.service", "7400"]);
    assert_eq!(leak["TCPTRACE_OWNER_PID"], std::process::id().to_string());

    fs::rename(container.log("events.jsonl"), container.log("events.old")).unwrap();
    container.systemctl(&["reload", "tcptrace"]);
    until("a new file, made when there is something to write", || {
        drop(container.in_its_network(|| connect(7402, 1)));
        container.log("events.jsonl").exists().then_some(())
    });
    container.systemctl(&["restart", "systemd-journald"]);
    drop(container.in_its_network(|| connect(7401, COUNT)));
    drop(left_open);
    let alive = container.show("WatchdogTimestampMonotonic");
    until("a sign of life", || (container.show("WatchdogTimestampMonotonic") != alive).then_some(()));
    assert_eq!([container.show("MainPID"), container.show("NRestarts")], [process, "0".to_owned()]);

    container.systemctl(&["stop", "tcptrace"]);
    assert_eq!([container.show("Result"), container.show("ExecMainStatus")], ["success", "0"]);
    let ends = container.entries("TCPTRACE_EVENT=end");
    assert_eq!(ends.len(), 1);
    assert_eq!(ends[0]["TCPTRACE_REASON"], "terminated");

    // Both outputs have the same records, and neither has one twice.
    let mut journal: Vec<u64> = numbers(container.entries("TCPTRACE_EVENT=transition"), "TCPTRACE_MONO_NS");
    let lines = ["events.old", "events.jsonl"].map(|name| fs::read_to_string(container.log(name)).unwrap());
    assert!(lines.iter().all(|lines| lines.contains("\"transition\"")), "the file was opened again");
    let records = lines.iter().flat_map(|text| text.lines()).map(|line| serde_json::from_str(line).unwrap());
    let transitions = records.filter(|record: &Map<String, Value>| record["event"] == "transition");
    let mut file = numbers(transitions.collect(), "mono_ns");
    journal.sort_unstable();
    file.sort_unstable();
    assert_eq!(journal, file);
    assert!(file.len() >= 2 * COUNT * 8, "{} transitions of {} connections", file.len(), 2 * COUNT);
}

fn numbers(records: Vec<Map<String, Value>>, name: &str) -> Vec<u64> {
    let text =
        |record: &Map<String, Value>| record[name].as_str().map_or_else(|| record[name].to_string(), str::to_owned);
    records.iter().map(|record| text(record).parse().unwrap()).collect()
}

fn starts_it_again_when_it_hangs() {
    let container = Container::boot("hang");
    container.systemctl(&["start", "tcptrace"]);
    let process = container.show("MainPID");
    container.systemctl(&["kill", "--signal=STOP", "--kill-whom=main", "tcptrace"]);
    until("another one", || (container.show("NRestarts") == "1").then_some(()));
    until("it is ready", || (container.show("ActiveState") == "active").then_some(()));
    assert_ne!(container.show("MainPID"), process);
    assert_eq!(container.entries("TCPTRACE_EVENT=end").len(), 0, "the first one had no chance to end well");
}
