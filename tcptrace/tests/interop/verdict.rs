//! What tcptrace finds in a case, and whether that is right.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    env,
    fmt::Write as _,
    fs, iter, thread,
    time::Duration,
};

use serde_json::Value;

use crate::{
    net::now_ns,
    site::Site,
    tracer::{Run, Tracer},
};

/// Names the file that a case adds its totals to, for the sum at the end.
pub(crate) const TOTALS: &str = "TCPTRACE_INTEROP_TOTALS";

/// Findings that count what has happened: such a count only rises.
const COUNTED: [&str; 8] = [
    "connect-refused",
    "connect-failed",
    "keepalive-timeout",
    "idle-reset",
    "reset-by-peer",
    "aborted-close",
    "write-after-close",
    "process-killed",
];

/// A finding that a case must give.
pub(crate) struct Expected<'a> {
    /// Its identifier: one of these.
    pub ids: &'a [&'a str],
    /// The PIDs of the service or client that it must name: its owner and all candidates are of these. Empty where the
    /// processes are too many to know.
    pub owner: BTreeSet<u32>,
    /// The command that it must name.
    pub command: &'a str,
    /// One of these must be in its cause, explanation, remedy or evidence. Without any, all is right.
    pub says: &'a [&'a str],
    /// The greatest severity that it may have: `info`, `warning` or `critical`.
    pub severity: &'a str,
    /// From the trouble until it is found at most.
    pub within: Duration,
}

/// The least that is expected: the rest by `..Expected::ANY`.
impl Expected<'_> {
    /// Any process, any words, within 5 s.
    pub(crate) const ANY: Self = Expected {
        ids: &[],
        owner: BTreeSet::new(),
        command: "",
        says: &[],
        severity: "critical",
        within: Duration::from_secs(5),
    };
}

/// A tracer at its default thresholds, and what it has found so far.
pub(crate) struct Watch {
    tracer: Tracer,
    since: u64,
    wanted: BTreeSet<u64>,
    expected: usize,
    found: usize,
    wrong: RefCell<Vec<String>>,
}

/// A finding as its records say last.
#[derive(Clone)]
pub(crate) struct Finding {
    /// Its number in the run.
    pub number: u64,
    /// When it opened, in ns of CLOCK_MONOTONIC.
    pub opened: u64,
    /// Its last record.
    pub record: Value,
    /// The greatest severity that it had.
    pub severity: String,
    /// Whether its count ever became less.
    pub fell: bool,
}

impl Finding {
    /// Its identifier.
    pub(crate) fn id(&self) -> &str {
        self.record["finding"].as_str().unwrap()
    }

    /// Whether an operator is woken by it.
    pub(crate) fn warns(&self) -> bool {
        self.severity != "info"
    }

    /// What it is about: the listener's or the destination's address.
    pub(crate) fn subject(&self) -> String {
        let text = |name: &str| match &self.record[name] {
            Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        match self.record["local_address"].is_null() {
            false => format!("at {}:{}", text("local_address"), text("local_port")),
            true => format!("to {}:{}", text("remote_address"), text("remote_port")),
        }
    }

    /// One line on it.
    pub(crate) fn line(&self) -> String {
        let owner = &self.record["owner"];
        let at = self.record["open_for_ns"].as_u64().unwrap_or(0) / 1_000_000_000;
        format!(
            "{:8} {:20} cause={} owner={}[{}]{} {} count={} open={at}s {:?} evidence={}",
            self.severity,
            self.id(),
            self.record["cause"].as_str().or(self.record["evidence"]["cause"].as_str()).unwrap_or("-"),
            owner["command"].as_str().unwrap_or("-"),
            owner["pid"],
            if candidates(&self.record).is_empty() { String::new() } else { format!("{:?}", candidates(&self.record)) },
            self.subject(),
            self.record["count"],
            self.record["explanation"].as_str().unwrap_or(""),
            self.record["evidence"],
        )
    }
}

/// The PIDs of the processes that it may be, where several share the socket.
pub(crate) fn candidates(record: &Value) -> Vec<u64> {
    let places = [&record["owner_candidates"], &record["owner"]["candidates"]];
    let lists = places.into_iter().filter_map(Value::as_array).flatten();
    lists.filter_map(|one| one.as_u64().or(one["pid"].as_u64())).collect()
}

impl Watch {
    /// Starts `tcptrace stuck`: its other flags are the defaults.
    pub(crate) fn start() -> Self {
        let tracer = Tracer::start(&["stuck", "--netns", "self", "--format", "json"]);
        Self { tracer, since: now_ns(), wanted: BTreeSet::new(), expected: 0, found: 0, wrong: RefCell::default() }
    }

    /// From now on the time to find something counts.
    pub(crate) fn trouble(&mut self) {
        self.since = now_ns();
    }

    /// All findings so far.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        collect(self.tracer.lines_from(0))
    }

    /// Waits for a finding; what is wrong with it is told at the end.
    pub(crate) fn expect(&mut self, expected: &Expected) {
        self.expected += 1;
        let until = self.since + expected.within.as_nanos() as u64;
        loop {
            let now = now_ns();
            let of_kind: Vec<_> = self.findings().into_iter().filter(|one| expected.ids.contains(&one.id())).collect();
            let complaints: Vec<_> = of_kind.iter().map(|one| (one, complaint(one, expected, until))).collect();
            if let Some((right, _)) = complaints.iter().find(|(_, complaint)| complaint.is_empty()) {
                self.found += 1;
                self.wanted.insert(right.number);
                return;
            }
            // Evidence and owners may come with an update.
            if now > until + 2_000_000_000 {
                let mut text = format!("missing: {} of {}", expected.ids.join(" or "), expected.command);
                for (finding, complaint) in complaints {
                    // It is the finding of this trouble, if not a right one.
                    self.wanted.insert(finding.number);
                    let _ = write!(text, "\n    {complaint}: {}", finding.line());
                }
                self.wrong.borrow_mut().push(text);
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Takes note of something else that is wrong.
    pub(crate) fn check(&self, good: bool, what: &str) {
        if !good {
            self.wrong.borrow_mut().push(what.to_owned());
        }
    }

    /// No finding of these kinds may be there.
    pub(crate) fn reject(&self, ids: &[&str]) {
        for finding in self.findings().iter().filter(|one| ids.contains(&one.id())) {
            self.check(false, &format!("not wanted: {}", finding.line()));
        }
    }

    /// Ends the tracer: what happens from now on is not seen.
    pub(crate) fn stop(self) -> Stopped {
        let Self { tracer, wanted, expected, found, wrong, .. } = self;
        Stopped { run: tracer.stop(), wanted, expected, found, wrong: wrong.into_inner() }
    }

    /// [`Self::stop`] and [`Stopped::judge`].
    pub(crate) fn end(self, site: &Site, most: usize, right: &[&str]) -> Vec<Finding> {
        self.stop().judge(site, most, right)
    }
}

/// What a tracer that has ended has said.
pub(crate) struct Stopped {
    run: Run,
    wanted: BTreeSet<u64>,
    expected: usize,
    found: usize,
    wrong: Vec<String>,
}

impl Stopped {
    /// The end of a case: at most so many findings of warning or above that nobody expects, but for these kinds, which
    /// are right as well. Gives all findings as they are at the end.
    pub(crate) fn judge(self, site: &Site, most: usize, right: &[&str]) -> Vec<Finding> {
        let run = self.run;
        let findings = collect(run.lines.clone());
        let events = &run.summary()["events"];
        println!(
            "{} findings; {} transitions, {} RSTs sent, {} retransmits",
            findings.len(),
            events["transitions"],
            events["resets_sent"],
            events["retransmits"],
        );
        findings.iter().for_each(|finding| println!("  {}", finding.line()));
        let is_right = |one: &&Finding| self.wanted.contains(&one.number) || right.contains(&one.id());
        let (wanted, invented): (Vec<_>, Vec<_>) = findings.iter().filter(|one| one.warns()).partition(is_right);
        let total = Total {
            expected: self.expected,
            found: self.found,
            wanted: wanted.len(),
            warnings: wanted.len() + invented.len(),
        };
        println!("  {total}");
        total.add();
        let mut wrong = self.wrong;
        if invented.len() > most {
            wrong.extend(invented.iter().map(|finding| format!("invented: {}", finding.line())));
        }
        let fell = findings.iter().filter(|one| one.fell && COUNTED.contains(&one.id()));
        wrong.extend(fell.map(|one| format!("the count fell: {}", one.line())));
        let end = run.records().pop().unwrap_or_default();
        if !run.status.success() {
            wrong.push(format!("tcptrace: {}: {}", run.status, run.stderr));
        }
        if !wrong.is_empty() {
            wrong.push(format!("losses: {}", end["losses"]));
            wrong.push(site.logs());
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        findings
    }
}

/// All findings that these lines tell of.
fn collect(lines: Vec<String>) -> Vec<Finding> {
    let mut findings: BTreeMap<u64, Finding> = BTreeMap::new();
    for line in lines {
        let record: Value = serde_json::from_str(&line).unwrap();
        if record["event"] != "finding" {
            continue;
        }
        let (number, severity) = (record["number"].as_u64().unwrap(), record["severity"].as_str().unwrap());
        let opened = record["mono_ns"].as_u64().unwrap();
        let entry = findings.entry(number).or_insert_with(|| Finding {
            number,
            opened,
            record: Value::Null,
            severity: "info".into(),
            fell: false,
        });
        if rank(severity) > rank(&entry.severity) {
            severity.clone_into(&mut entry.severity);
        }
        entry.fell |= record["count"].as_u64() < entry.record["count"].as_u64();
        entry.record = record;
    }
    findings.into_values().collect()
}

/// What is wrong with a finding of the right kind; empty where all is right.
fn complaint(one: &Finding, expected: &Expected, until: u64) -> String {
    let record = &one.record;
    let pids: Vec<u64> = record["owner"]["pid"].as_u64().into_iter().chain(candidates(record)).collect();
    let is_of = |family: &BTreeSet<u32>| !pids.is_empty() && pids.iter().all(|pid| family.contains(&(*pid as u32)));
    let text = format!("{} {} {} {}", record["cause"], record["explanation"], record["remedy"], record["evidence"]);
    let wrong = [
        (one.opened > until).then(|| "late".to_owned()),
        (!expected.owner.is_empty() && !is_of(&expected.owner))
            .then(|| format!("owner {pids:?}, not of {:?}", expected.owner)),
        (!expected.command.is_empty() && record["owner"]["command"].as_str() != Some(expected.command))
            .then(|| format!("command {}", record["owner"]["command"])),
        (!expected.says.is_empty() && !expected.says.iter().any(|words| text.contains(words)))
            .then(|| format!("says none of {:?}", expected.says)),
        (rank(&one.severity) > rank(expected.severity)).then(|| format!("severity {}", one.severity)),
    ];
    wrong.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn rank(severity: &str) -> usize {
    ["info", "warning", "critical"].iter().position(|one| *one == severity).unwrap()
}

/// How often tcptrace was right.
#[derive(Default)]
pub(crate) struct Total {
    expected: usize,
    found: usize,
    wanted: usize,
    warnings: usize,
}

impl std::fmt::Display for Total {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { expected, found, wanted, warnings } = self;
        write!(f, "{found} of {expected} expected findings (recall {:.2}), ", share(*found, *expected))?;
        write!(f, "{wanted} of {warnings} warnings wanted (precision {:.2})", share(*wanted, *warnings))
    }
}

impl Total {
    /// Adds it to the file of the totals, where there is one.
    fn add(&self) {
        if let Some(path) = env::var_os(TOTALS) {
            let Self { expected, found, wanted, warnings } = self;
            let mut text = fs::read_to_string(&path).unwrap_or_default();
            let _ = writeln!(text, "{expected} {found} {wanted} {warnings}");
            fs::write(path, text).unwrap();
        }
    }

    /// The sum of what a file holds.
    pub(crate) fn read(path: &std::path::Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_default();
        let mut sum = Self::default();
        for line in text.lines() {
            let mut numbers = line.split(' ').map(|word| word.parse::<usize>().unwrap()).chain(iter::repeat(0));
            for to in [&mut sum.expected, &mut sum.found, &mut sum.wanted, &mut sum.warnings] {
                *to += numbers.next().unwrap();
            }
        }
        sum
    }
}

fn share(part: usize, of: usize) -> f64 {
    if of == 0 { 1.0 } else { part as f64 / of as f64 }
}
