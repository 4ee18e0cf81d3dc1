//! Programs at the other end: started, waited for, and ended with the test.

use std::{
    env, fs,
    path::PathBuf,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Map, Value};
use tcptrace::{
    outputs::Output,
    pipeline::records::{Records, RecordsBuilder},
};

/// How long to wait for what should come at once: only a broken peer takes so long.
const LIMIT: Duration = Duration::from_secs(60);

/// Why tests that call these programs as root cannot run here.
pub(crate) fn missing_as_root(programs: &[&str]) -> Option<String> {
    // SAFETY: takes nothing.
    if unsafe { libc::geteuid() } != 0 {
        return Some("needs root".to_owned());
    }
    missing(programs)
}

/// Why tests that call these programs cannot run here.
pub(crate) fn missing(programs: &[&str]) -> Option<String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).collect();
    let absent: Vec<_> =
        programs.iter().filter(|program| !folders.iter().any(|folder| folder.join(program).exists())).collect();
    (!absent.is_empty()).then(|| format!("not installed: {absent:?}"))
}

/// Waits until there is something.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(since.elapsed() < LIMIT, "{what}: not in {LIMIT:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Ends an output that has delivered, or given up, all that it had.
pub(crate) fn end(output: &Output) {
    let until = Instant::now() + LIMIT;
    output.end_at(until);
    assert!(output.has_ended(until), "{:?}", output.state());
}

/// A program that runs as long as the test.
pub(crate) struct Program(pub(crate) Child);

impl Program {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    pub(crate) fn pid(&self) -> libc::pid_t {
        self.0.id().try_into().unwrap()
    }

    /// Ends it by a signal, and waits for its end.
    pub(crate) fn end(&mut self, signal: libc::c_int) {
        // SAFETY: the process is a child that nobody has waited for yet, so its number is not another's.
        assert_eq!(unsafe { libc::kill(self.pid(), signal) }, 0);
        self.0.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended
        let _ = self.0.wait();
    }
}

/// What a program prints; it must end well.
pub(crate) fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A folder that goes with the test.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("tcptrace-peers-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // at most it stays
    }
}

/// The examples of docs/json.md, all kinds of records among them, over and over; `mono_ns` is the number of each.
pub(crate) fn numbered(numbers: std::ops::Range<u64>) -> Vec<Map<String, Value>> {
    let documented = include_str!("../../../docs/json.md").lines().filter(|line| line.starts_with("{\"schema\""));
    let examples: Vec<Map<String, Value>> = documented.map(|line| serde_json::from_str(line).unwrap()).collect();
    let with_number = |number: u64| {
        let mut record = examples[usize::try_from(number).unwrap() % examples.len()].clone();
        record.insert("mono_ns".to_owned(), number.into());
        record
    };
    numbers.map(with_number).collect()
}

/// Records as the session renders them.
pub(crate) fn lines(of: &[Map<String, Value>]) -> Records {
    let mut collecting = RecordsBuilder::default();
    for record in of {
        let line = serde_json::to_string(record).unwrap() + "\n";
        collecting.add(|to| to.extend_from_slice(line.as_bytes()));
    }
    collecting.take()
}
