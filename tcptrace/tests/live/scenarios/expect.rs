//! What tcptrace must find, and whether it has.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::Value;

use super::{Scenario, actor::duration, env::Env};
use crate::{net::now_ns, tracer::Tracer};

/// ns in a ms.
const MS: u64 = 1_000_000;

/// Evidence may come this much later than the finding: counts grow.
const EVIDENCE_MS: u64 = 2000;

/// Within this time after the cure a finding closes: a poll, the time without one more, and retransmissions.
const CLOSES_MS: u64 = 5000;

/// A finding that a scenario must give.
#[derive(Clone, Copy)]
pub(crate) struct Expected {
    /// Its identifier.
    pub id: &'static str,
    /// The actor that owns it.
    pub owner: &'static str,
    /// From when the trouble is there until it is found at most, in ms.
    pub within_ms: u64,
    /// What one of its records must say: `FIELD == VALUE`, and so on. A field is one of the record or of its evidence;
    /// `examples.*.state` is that of any example. A value is a number, a time (`2s`, in ns), a word, the PID of an
    /// actor (`@server`) or one of its descriptors (`@server.S0`).
    pub checks: &'static [&'static str],
    /// The same for the record that closes it.
    pub at_end: &'static [&'static str],
}

impl Expected {
    /// A finding without checks at its end.
    pub(crate) const fn new(
        id: &'static str,
        owner: &'static str,
        within_ms: u64,
        checks: &'static [&'static str],
    ) -> Self {
        Self { id, owner, within_ms, checks, at_end: &[] }
    }
}

/// Whether `NAME OP VALUE` holds where this is what the name stands for.
pub(crate) fn holds(check: &str, value: &Value) -> bool {
    let words: Vec<_> = check.split_whitespace().collect();
    let [_, operator, wanted] = words[..] else { panic!("`{check}`?") };
    let number = wanted.parse().ok().or_else(|| Some(duration(wanted)?.as_nanos() as f64));
    let equal = match (number, value) {
        (Some(number), value) => value.as_f64() == Some(number),
        (None, Value::String(text)) => text == wanted,
        (None, value) => wanted.parse::<Value>().is_ok_and(|wanted| wanted == *value),
    };
    let compared = value.as_f64().zip(number);
    match operator {
        "==" => equal,
        "!=" => !equal,
        ">=" => compared.is_some_and(|(value, wanted)| value >= wanted),
        ">" => compared.is_some_and(|(value, wanted)| value > wanted),
        "<=" => compared.is_some_and(|(value, wanted)| value <= wanted),
        _ => panic!("`{check}`?"),
    }
}

/// Whether a check holds for a record, or for any of the elements that its path leads to.
fn holds_for(check: &str, record: &Value) -> bool {
    let path = check.split(' ').next().unwrap();
    let root = if record.get(path.split('.').next().unwrap()).is_some() { record } else { &record["evidence"] };
    let mut found = vec![root];
    for part in path.split('.') {
        found = match part {
            "*" => found.into_iter().filter_map(Value::as_array).flatten().collect(),
            name => found.into_iter().filter_map(|value| value.get(name)).collect(),
        };
    }
    found.into_iter().any(|value| holds(check, value))
}

/// The checks with the numbers of actors and descriptors in place of their names.
fn resolve(checks: &[&str], env: &mut Env) -> Vec<String> {
    let resolved = |check: &&str| match check.split_once('@') {
        Some((start, name)) => format!("{start}{}", env.number_of(name)),
        None => (*check).to_owned(),
    };
    checks.iter().map(resolved).collect()
}

fn pause() {
    std::thread::sleep(Duration::from_millis(50));
}

/// The findings of one environment, as they come.
pub(crate) struct Watch<'a> {
    tracer: &'a Tracer,
    seen: usize,
    netns: Vec<u64>,
    records: Vec<Value>,
}

/// What came of a scenario.
#[derive(Default)]
pub(crate) struct Verdict {
    /// How many findings were expected.
    pub expected: usize,
    /// How many of them came, of the right owner.
    pub found: usize,
    /// How many came that nobody expected.
    pub invented: usize,
    /// What was missed or invented.
    pub wrong: Vec<String>,
    /// What came late, said something else, or did not close.
    pub faults: Vec<String>,
}

impl<'a> Watch<'a> {
    /// Watches what a tracer finds in the namespaces of an environment.
    pub(crate) fn new(tracer: &'a Tracer, env: &Env) -> Self {
        Self::of_netns(tracer, env.netns.clone())
    }

    /// Watches what a tracer finds in some namespaces.
    pub(crate) fn of_netns(tracer: &'a Tracer, netns: Vec<u64>) -> Self {
        Self { tracer, seen: 0, netns, records: Vec::new() }
    }

    fn update(&mut self) {
        let lines = self.tracer.lines_from(self.seen);
        self.seen += lines.len();
        let records = lines.iter().filter(|line| line.contains("\"finding\"")).map(|line| line.parse().unwrap());
        let is_ours = |record: &Value| {
            // One that is nowhere may be anybody's, and should not be.
            record["event"] == "finding" && record["netns"].as_u64().is_none_or(|netns| self.netns.contains(&netns))
        };
        self.records.extend(records.filter(is_ours));
    }

    fn of<'s>(&'s self, expected: &'s Expected, env: &mut Env) -> Vec<&'s Value> {
        let owner = env.number_of(expected.owner);
        let is_it = |record: &&Value| record["finding"] == expected.id && record["owner"]["pid"] == owner;
        self.records.iter().filter(is_it).collect()
    }

    /// Whether all that is expected is there, and one record of each says what it should if that is asked for.
    fn is_found(&mut self, expected: &[Expected], env: &mut Env, is_checked: bool) -> bool {
        self.update();
        expected.iter().all(|expected| {
            let checks = if is_checked { resolve(expected.checks, env) } else { Vec::new() };
            self.of(expected, env).iter().any(|record| checks.iter().all(|check| holds_for(check, record)))
        })
    }

    /// Whether all that is expected has closed.
    fn is_closed(&mut self, expected: &[Expected], env: &mut Env) -> bool {
        self.update();
        expected.iter().all(|expected| {
            let last_of_each: BTreeMap<_, _> = self
                .of(expected, env)
                .into_iter()
                .map(|record| (record["number"].as_u64(), record["phase"] == "closed"))
                .collect();
            !last_of_each.is_empty() && last_of_each.values().all(|closed| *closed)
        })
    }

    /// Plays a scenario to its end, and waits for what it must give; `patience_ms` is how much later it may come, and then
    /// what it says is not waited for.
    pub(crate) fn play(mut self, scenario: &Scenario, mut env: Env, patience_ms: u64) -> (Self, Env, Verdict) {
        let expected = scenario.findings;
        let mut verdict = Verdict { expected: expected.len(), ..Verdict::default() };
        env.play(scenario.trouble);
        let there_ns = now_ns();
        let longest_ms = expected.iter().map(|expected| expected.within_ms).max().unwrap_or(0);
        let until_ns = there_ns + (longest_ms + patience_ms + EVIDENCE_MS) * MS;
        while !self.is_found(expected, &mut env, patience_ms == 0) && now_ns() < until_ns {
            pause();
        }
        while now_ns() < there_ns + scenario.stays_ms * MS {
            pause();
        }
        for expected in expected {
            let latest_ns = there_ns + (expected.within_ms + patience_ms) * MS;
            self.expect_found(expected, &mut env, latest_ns, &mut verdict);
        }
        env.play(scenario.cure);
        let until_ns = now_ns() + (CLOSES_MS + patience_ms) * MS;
        while !self.is_closed(expected, &mut env) && now_ns() < until_ns {
            pause();
        }
        for expected in expected {
            self.expect_closed(expected, &mut env, &mut verdict);
        }
        (self, env, verdict)
    }

    fn expect_found(&self, expected: &Expected, env: &mut Env, latest_ns: u64, verdict: &mut Verdict) {
        let checks = resolve(expected.checks, env);
        let name = format!("{} of {}", expected.id, expected.owner);
        let records = self.of(expected, env);
        let Some(first) = records.first() else {
            verdict.wrong.push(format!("missed: {name}"));
            return;
        };
        verdict.found += 1;
        let late_ns = first["mono_ns"].as_u64().unwrap().saturating_sub(latest_ns);
        if late_ns > 0 {
            verdict.faults.push(format!("late: {name} by {} ms", late_ns / MS));
        }
        let holds = |check: &String, record: &Value| holds_for(check, record);
        if !records.iter().any(|record| checks.iter().all(|check| holds(check, record))) {
            let best = records.iter().max_by_key(|record| checks.iter().filter(|check| holds(check, record)).count());
            let failed: Vec<_> = checks.iter().filter(|check| !holds(check, best.unwrap())).collect();
            verdict.faults.push(format!("{name}: {failed:?} does not hold: {}", best.unwrap()));
        }
    }

    fn expect_closed(&self, expected: &Expected, env: &mut Env, verdict: &mut Verdict) {
        let checks = resolve(expected.at_end, env);
        let name = format!("{} of {}", expected.id, expected.owner);
        match self.of(expected, env).last() {
            Some(last) if last["phase"] == "closed" => {
                let failed = checks.iter().filter(|check| !holds_for(check, last));
                verdict.faults.extend(failed.map(|check| format!("{name}: {check} does not hold at the end: {last}")));
            }
            Some(last) => verdict.faults.push(format!("not closed: {name}: {last}")),
            None => {}
        }
    }

    /// Adds what nobody expected, once nothing more comes.
    pub(crate) fn end(mut self, expected: &[Expected], env: Option<&mut Env>, verdict: &mut Verdict) {
        self.update();
        let owners: Vec<_> = match env {
            Some(env) => expected.iter().map(|expected| (expected.id, env.number_of(expected.owner))).collect(),
            None => Vec::new(),
        };
        let is_expected =
            |record: &Value| owners.iter().any(|(id, pid)| record["finding"] == *id && record["owner"]["pid"] == *pid);
        let mut numbers = BTreeSet::new();
        for record in self.records.iter().filter(|record| !is_expected(record)) {
            if numbers.insert(record["number"].as_u64()) {
                verdict.invented += 1;
                verdict.wrong.push(format!("invented: {record}"));
            }
        }
    }
}

impl Verdict {
    /// Adds that of one scenario.
    pub(crate) fn add(&mut self, name: &str, other: Self) {
        self.expected += other.expected;
        self.found += other.found;
        self.invented += other.invented;
        let named = |what: String| format!("{name}: {what}");
        self.wrong.extend(other.wrong.into_iter().map(named));
        self.faults.extend(other.faults.into_iter().map(named));
    }
}
