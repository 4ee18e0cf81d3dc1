//! Runs the real tcptrace and reads what it says.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::Value;

/// Limit for all that should take a moment.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why the tests cannot run here.
pub(crate) fn obstacle() -> Option<String> {
    // SAFETY: takes nothing and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return Some("not root".into());
    }
    tcptrace::commands::doctor::read::obstacle()
}

/// The binary under test.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("TRACER_BIN").map_or_else(|| env!("CARGO_BIN_EXE_tcptrace").into(), PathBuf::from)
}

/// A path in the temporary folder that no other test uses.
pub(crate) fn temporary(name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("tcptrace-live-{}-{number}-{name}", std::process::id()));
    let _ = std::fs::remove_file(&path); // of a process that was killed and had this PID
    path
}

/// A running tcptrace.
pub(crate) struct Tracer {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
    stderr: Arc<Mutex<String>>,
}

/// What `tcptrace sockets` listed.
pub(crate) struct Listed {
    /// A record for each socket, or each group.
    pub rows: Vec<Value>,
    /// The last record.
    pub end: Value,
    /// All of stderr.
    pub stderr: String,
}

/// Lists sockets with these flags.
pub(crate) fn sockets(flags: &[&str]) -> Listed {
    let mut command = Command::new(binary());
    command.args(["sockets", "--format", "json"]).args(flags);
    listed(command)
}

/// Runs a command that lists sockets as JSON.
pub(crate) fn listed(mut command: Command) -> Listed {
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{command:?}: {}: {stderr}", output.status);
    let stdout = String::from_utf8(output.stdout).unwrap();
    let mut rows: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let end = rows.pop().unwrap();
    assert_eq!(end["event"], "sockets_end");
    Listed { rows, end, stderr }
}

impl Listed {
    /// How many there are in each state.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        let states = self.end["states"].as_object().unwrap();
        states.iter().map(|(state, count)| (state.clone(), count.as_u64().unwrap())).filter(|(_, n)| *n > 0).collect()
    }

    /// The socket with this local port, and this remote one (0: none).
    pub(crate) fn row(&self, local_port: u16, remote_port: u16) -> &Value {
        let port = |value: &Value| value.as_u64().unwrap_or(0) as u16;
        let is_it = |row: &&Value| port(&row["local_port"]) == local_port && port(&row["remote_port"]) == remote_port;
        let mut found = self.rows.iter().filter(is_it);
        let row = found.next().unwrap_or_else(|| panic!("no {local_port} -> {remote_port} in {:#?}", self.rows));
        assert!(found.next().is_none(), "{local_port} -> {remote_port} twice in {:#?}", self.rows);
        row
    }
}

/// Processes and their descriptors that hold a listed socket.
pub(crate) fn holders(row: &Value) -> BTreeSet<(u32, u32)> {
    let number = |holder: &Value, name: &str| holder[name].as_u64().unwrap() as u32;
    row["holders"].as_array().unwrap().iter().map(|holder| (number(holder, "pid"), number(holder, "fd"))).collect()
}

/// All that a tcptrace said, once it has ended.
pub(crate) struct Run {
    /// Lines of stdout.
    pub lines: Vec<String>,
    /// All of stderr.
    pub stderr: String,
    /// How it ended.
    pub status: ExitStatus,
}

impl Tracer {
    /// Starts it with JSON output and these flags, without findings where these do not ask for them, and waits until all is attached.
    pub(crate) fn json(flags: &[&str]) -> Self {
        let off: &[&str] = if flags.contains(&"--findings") { &[] } else { &["--findings", "off"] };
        Self::start(&[&["--format", "json"], off, flags].concat())
    }

    /// The same for this thread's network namespace alone: what others do does not disturb it.
    pub(crate) fn here(flags: &[&str]) -> Self {
        Self::json(&[&["--netns", "self"], flags].concat())
    }

    /// Starts it with these flags and waits until all is attached.
    pub(crate) fn start(flags: &[&str]) -> Self {
        let ready = temporary("ready");
        let mut tracer = Self::spawn(&[flags, &["--ready-file", ready.to_str().unwrap()]].concat());
        let start = Instant::now();
        while !ready.exists() {
            assert!(tracer.child.try_wait().unwrap().is_none(), "it ended: {}", tracer.stderr.lock().unwrap());
            assert!(start.elapsed() < PATIENCE, "it is not ready");
            std::thread::sleep(Duration::from_millis(5));
        }
        tracer
    }

    /// Starts it with these flags.
    pub(crate) fn spawn(flags: &[&str]) -> Self {
        let mut child = Command::new(binary())
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, stderr) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(String::new())));
        let stdout = child.stdout.take().unwrap();
        let mut errors = child.stderr.take().unwrap();
        let (to_lines, to_stderr) = (Arc::clone(&lines), Arc::clone(&stderr));
        let readers = vec![
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines() {
                    to_lines.lock().unwrap().push(line.unwrap());
                }
            }),
            std::thread::spawn(move || {
                let mut bytes = [0; 4096];
                while let Ok(len @ 1..) = errors.read(&mut bytes) {
                    to_stderr.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..len]));
                }
            }),
        ];
        Self { child, lines, readers, stderr }
    }

    /// Waits until a line of output fulfils a condition.
    pub(crate) fn wait_for(&self, what: &str, condition: impl Fn(&str) -> bool) {
        let start = Instant::now();
        while !self.lines.lock().unwrap().iter().any(|line| condition(line)) {
            assert!(start.elapsed() < PATIENCE, "no {what} in {:#?}", self.lines.lock().unwrap());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for a record that fulfils a condition, and gives the first.
    pub(crate) fn wait_for_record(&self, what: &str, mut condition: impl FnMut(&Value) -> bool) -> Value {
        let mut seen = 0;
        let start = Instant::now();
        loop {
            let lines = self.lines.lock().unwrap()[seen..].to_vec();
            seen += lines.len();
            let mut records = lines.iter().map(|line| serde_json::from_str(line).unwrap());
            if let Some(found) = records.find(|record| condition(record)) {
                return found;
            }
            assert!(start.elapsed() < PATIENCE, "no {what} in {:#?}", self.lines.lock().unwrap());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it has printed, but for the first lines.
    pub(crate) fn lines_from(&self, first: usize) -> Vec<String> {
        self.lines.lock().unwrap()[first..].to_vec()
    }

    /// Its PID.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: i32) {
        // SAFETY: takes no pointers; the child has not been waited for, so the PID is its own.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
    }

    /// Ends it as Ctrl-C does, and gives all that it said.
    pub(crate) fn stop(self) -> Run {
        self.signal(libc::SIGINT);
        self.wait()
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Run {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if start.elapsed() > PATIENCE {
                let _ = self.child.kill();
                panic!("it does not end");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        Run {
            lines: std::mem::take(&mut self.lines.lock().unwrap()),
            stderr: std::mem::take(&mut self.stderr.lock().unwrap()),
            status,
        }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Run {
    /// The JSON records.
    pub(crate) fn records(&self) -> Vec<Value> {
        self.lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The summary of the whole run.
    pub(crate) fn summary(&self) -> Value {
        let records = self.records();
        let is_it = |record: &&Value| record["event"] == "summary" && record["final"] == true;
        records.iter().find(is_it).unwrap_or_else(|| panic!("no final summary: {}", self.stderr)).clone()
    }

    /// Checks that it ended well and lost nothing, and gives the events of one network namespace.
    pub(crate) fn events(&self, netns: u64) -> Events {
        assert!(self.status.success(), "{}: {}", self.status, self.stderr);
        let records = self.records();
        let end = records.last().unwrap();
        assert_eq!(end["event"], "end");
        for (place, count) in end["losses"].as_object().unwrap() {
            // What the kernel passed over may have been another test's.
            assert!(count == 0 || place == "program_busy", "{place}: {count}");
        }
        Events(records.into_iter().filter(|record| record["netns"] == netns).collect())
    }
}

/// Events in the order of the output.
pub(crate) struct Events(pub Vec<Value>);

/// Events of one connection's end.
pub(crate) struct Life(pub Vec<Value>);

impl Events {
    /// The life of the socket that had these ports (remote 0 for a listener) last.
    pub(crate) fn life(&self, local_port: u16, remote_port: u16) -> Life {
        let is_it = |event: &&Value| {
            let remote_matches = match remote_port {
                0 => event["remote_port"].is_null(),
                port => event["remote_port"] == port,
            };
            event["local_port"] == local_port && remote_matches && !event["sk"].is_null()
        };
        let Some(found) = self.0.iter().rev().find(is_it) else {
            panic!("no event of {local_port} -> {remote_port} in {:#?}", self.0);
        };
        // It may have got one only later: `have_cookies`.
        let has_cookie = |cookie: &Value| cookie.is_null() || found["cookie"].is_null() || *cookie == found["cookie"];
        let is_same = |event: &&Value| {
            event["sk"] == found["sk"] && has_cookie(&event["cookie"]) && event["event"] != "synack_retransmit"
        };
        Life(self.0.iter().filter(is_same).cloned().collect())
    }

    /// Events of a kind.
    pub(crate) fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(move |event| event["event"] == kind)
    }
}

impl Life {
    /// The transitions.
    pub(crate) fn transitions(&self) -> Vec<&Value> {
        self.0.iter().filter(|event| event["event"] == "transition").collect()
    }

    /// The states that it went through.
    pub(crate) fn path(&self) -> Vec<String> {
        let transitions = self.transitions();
        let state = |value: &Value| value.as_str().unwrap().to_owned();
        let first = transitions.first().map(|event| state(&event["old_state"]));
        let chain: Vec<_> =
            first.into_iter().chain(transitions.iter().map(|event| state(&event["new_state"]))).collect();
        for pair in transitions.windows(2) {
            assert_eq!(pair[0]["new_state"], pair[1]["old_state"], "the chain is broken: {:#?}", self.0);
        }
        chain
    }

    /// Checks the states that it went through, written as `A B C`.
    pub(crate) fn assert_path(&self, states: &str) {
        assert_eq!(self.path().join(" "), states, "{:#?}", self.0);
    }

    /// Checks that it is a client that closed first, with `close`. Nobody has the socket after that, so it goes to a
    /// mini-socket as soon as its FIN is acknowledged: in TIME_WAIT where the peer's FIN came along, else in FIN_WAIT2.
    /// That it went from there to TIME_WAIT a poll may have found.
    pub(crate) fn assert_closed_first(&self) {
        let path = self.path().join(" ");
        let end = path.strip_prefix("CLOSE SYN_SENT ESTABLISHED FIN_WAIT1 FIN_WAIT2 ");
        let ends = ["TIME_WAIT", "FIN_WAIT2", "FIN_WAIT2 TIME_WAIT"];
        assert!(end.is_some_and(|end| ends.contains(&end)), "{:#?}", self.0);
    }

    /// The transition into `state`.
    pub(crate) fn entering(&self, state: &str) -> &Value {
        let found = self.transitions().into_iter().find(|event| event["new_state"] == state);
        found.unwrap_or_else(|| panic!("never in {state}: {:#?}", self.0))
    }

    /// The transition out of `state`.
    pub(crate) fn leaving(&self, state: &str) -> &Value {
        let found = self.transitions().into_iter().find(|event| event["old_state"] == state);
        found.unwrap_or_else(|| panic!("never in {state}: {:#?}", self.0))
    }

    /// Checks the ending and the errno (empty for none).
    pub(crate) fn assert_ending(&self, ending: &str, errno: &str) {
        let last = *self.transitions().last().unwrap();
        assert_eq!(last["ending"], ending, "{last:#}");
        assert_eq!(last["errno"].as_str().unwrap_or_default(), errno, "{last:#}");
    }

    /// Checks that each event names this process as the owner, and how it is known first and last. Who read was seen to
    /// accept, where the kernel lets the tracer attach to that.
    pub(crate) fn assert_owner(&self, pid: u32, first: &str, last: &str) {
        for event in &self.0 {
            assert_eq!(event["pid"], pid, "{event:#}");
        }
        assert_eq!(self.0.first().unwrap()["owner_source"], first, "{:#?}", self.0);
        let source = self.0.last().unwrap()["owner_source"].as_str().unwrap();
        assert!(source == last || (source, last) == ("accept", "io"), "{source}, not {last}: {:#?}", self.0);
    }
}

/// Has each socket a cookie from its first event on? Before Linux 5.12 (`bpf_get_socket_ptr_cookie`) it has none until
/// somebody, such as ss, asks for it.
pub(crate) fn have_cookies() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(5), Some(12))
}

/// How many sockets a summary has in each state.
pub(crate) fn socket_counts(summary: &Value) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for row in summary["sockets"].as_array().unwrap() {
        *counts.entry(row["state"].as_str().unwrap().to_owned()).or_default() += row["count"].as_u64().unwrap();
    }
    counts
}

/// A copy of the binary that everybody may run.
pub(crate) fn public_binary() -> Removed {
    let copy = temporary("binary");
    fs::copy(binary(), &copy).unwrap();
    Removed(copy)
}

/// Empties a file's place when a test ends.
pub(crate) struct Removed(pub PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
