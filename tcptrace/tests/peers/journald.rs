//! A real systemd-journald in a mount namespace of its own, and journalctl there.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};
use tcptrace::outputs::{Journald, Output};

use crate::{
    Test,
    program::{Program, lines, missing_as_root, numbered, output, until},
};

pub(crate) const TESTS: &[Test] =
    &[("all_fields_arrive", all_fields_arrive), ("the_rest_arrives_after_a_restart", the_rest_arrives_after_a_restart)];

/// Not in any PATH.
const JOURNALD: &str = "/lib/systemd/systemd-journald";

/// `/run` and `/var/log` of its own, and no limit of the rate at which one service may log.
const SCRIPT: &str = "mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/log && \
    mkdir -p /run/systemd/journal /run/systemd/journald.conf.d && \
    printf '[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\nReadKMsg=no\nAudit=no\n' \
        >/run/systemd/journald.conf.d/test.conf && echo made && exec sleep infinity";

pub(crate) fn missing() -> Option<String> {
    missing_as_root(&["unshare", "nsenter", "journalctl", JOURNALD])
}

/// A mount namespace with a journald in it.
pub(crate) struct Machine {
    journald: Program,
    namespace: Program,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let mut namespace =
            Program::start(Command::new("unshare").args(["--mount", "sh", "-c", SCRIPT]).stdout(Stdio::piped()));
        let mut said = String::new();
        BufReader::new(namespace.0.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "made\n");
        Self { journald: journald(&namespace), namespace }
    }

    /// Where its journald listens, as seen from here.
    pub(crate) fn socket(&self) -> PathBuf {
        format!("/proc/{}/root/run/systemd/journal/socket", self.namespace.pid()).into()
    }

    /// The entries with that field, as journalctl tells them.
    fn entries(&self, field: &str) -> Vec<Map<String, Value>> {
        let mut command = inside(&self.namespace, "journalctl");
        let told = output(command.args(["--output=json", "--all", "--no-pager", "--quiet", field]));
        told.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// All of ours, when there are so many.
    pub(crate) fn all(&self, count: usize) -> Vec<Map<String, Value>> {
        until("all entries", || Some(self.entries("SYSLOG_IDENTIFIER=tcptrace")).filter(|all| all.len() >= count))
    }
}

/// A program in the namespace.
fn inside(namespace: &Program, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.args([&format!("--target={}", namespace.pid()), "--mount", program]);
    command
}

fn journald(namespace: &Program) -> Program {
    Program::start(&mut inside(namespace, JOURNALD))
}

fn start(machine: &Machine) -> Output {
    Output::start("journald".to_owned(), Box::new(Journald::new(Some(machine.socket()))), 64 << 20, |_| ()).unwrap()
}

/// The numbers of entries, and that none is there twice.
fn numbers(entries: &[Map<String, Value>]) -> BTreeSet<u64> {
    let numbers: BTreeSet<_> = entries.iter().map(|entry| text(entry, "TCPTRACE_MONO_NS").parse().unwrap()).collect();
    assert_eq!(numbers.len(), entries.len());
    numbers
}

fn text<'a>(entry: &'a Map<String, Value>, name: &str) -> &'a str {
    entry[name].as_str().unwrap_or_else(|| panic!("{name}: {:?}", entry[name]))
}

fn all_fields_arrive() {
    const COUNT: u64 = 2000;
    let machine = Machine::new();
    let output = start(&machine);
    let mut records = numbered(0..COUNT);
    let own = std::process::id();
    let mut odd = records[8].clone();
    assert_eq!(odd["finding"], "close-wait-leak");
    odd["mono_ns"] = COUNT.into();
    odd["finding"] = "odd".into();
    odd["owner"]["pid"] = own.into();
    odd["owner"]["command"] = "two\nlines".into();
    odd["examples"] = json!(["x".repeat(1 << 20)]);
    records.push(odd);
    output.push(lines(&records));
    assert!(output.drained(Instant::now() + Duration::from_secs(60)));
    assert_eq!((output.state().delivered, output.state().dropped, output.state().refused), (COUNT + 1, 0, 0));

    let all = machine.all(records.len());
    assert!(numbers(&all).into_iter().eq(0..=COUNT));
    for (entry, record) in all.iter().zip(&records) {
        assert_eq!(text(entry, "_PID"), own.to_string(), "the sender's");
        for (name, value) in record {
            let name = format!("TCPTRACE_{}", name.to_uppercase());
            match value {
                Value::Null => assert!(!entry.contains_key(&name), "{name}"),
                Value::Object(_) => {}
                Value::String(value) => assert_eq!(text(entry, &name), value),
                value => assert_eq!(text(entry, &name), value.to_string()),
            }
        }
    }
    let leaks = machine.entries("TCPTRACE_FINDING=close-wait-leak");
    let made = records.iter().filter(|record| record.get("finding").is_some_and(|id| id == "close-wait-leak"));
    assert_eq!(leaks.len(), made.count());
    assert!(!leaks.is_empty());
    let leak = ["PRIORITY", "SYSLOG_IDENTIFIER", "TCPTRACE_OWNER_PID", "TCPTRACE_EVIDENCE_UNREAD_BYTES", "OBJECT_PID"];
    assert_eq!(leak.map(|name| text(&leaks[0], name)), ["4", "tcptrace", "800", "17", "800"]);
    assert!(text(&leaks[0], "MESSAGE").starts_with("close-wait-leak opened: web[800] 3 sockets on 10.1.0.1:80, "));
    let odd = &machine.entries("TCPTRACE_FINDING=odd")[0];
    assert_eq!(text(odd, "TCPTRACE_OWNER_COMMAND"), "two\\u{a}lines");
    assert_eq!(text(odd, "OBJECT_UID"), "0", "journald knows the process that the finding is about");
}

fn the_rest_arrives_after_a_restart() {
    const HALF: u64 = 500;
    let mut machine = Machine::new();
    let output = start(&machine);
    output.push(lines(&numbered(0..HALF)));
    machine.all(HALF.try_into().unwrap());
    machine.journald.end(libc::SIGTERM);
    output.push(lines(&numbered(HALF..2 * HALF)));
    until("trouble is told of", || output.state().trouble);
    assert_eq!(output.state().delivered, HALF);
    machine.journald = journald(&machine.namespace);
    let all = machine.all((2 * HALF).try_into().unwrap());
    assert!(numbers(&all).into_iter().eq(0..2 * HALF));
    assert!(output.drained(Instant::now() + Duration::from_secs(10)));
    assert_eq!((output.state().delivered, output.state().dropped, output.state().refused), (2 * HALF, 0, 0));
    assert!(output.state().retries > 0);
}
