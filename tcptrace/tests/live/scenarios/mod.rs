//! The scenario suite: every trouble that tcptrace must find, and what looks like one and is none.
//!
//! Each scenario is a script ([`env`]) that runs in an environment of its own, with real sockets and short timers, and
//! a list of the findings that it must give: these, of these owners, with this evidence, and no other. All share one
//! set of thresholds, so that `mixed` can play all of them at the same time.

pub(crate) mod actor;
mod decoys;
mod env;
mod expect;
pub(crate) mod healthy;
mod leaks;
mod lives;
mod mixed;
mod openings;
mod pressure;
mod resets;
mod silence;
mod waiting;

use std::process::Command;

use self::{
    env::Env,
    expect::{Expected, Watch},
};
use crate::tracer::{Tracer, binary};

/// Names the scenarios to show, by their name or that of a finding; `list` lists all.
pub(crate) const SHOWN: &str = "TCPTRACE_TEST_SCENARIO";

/// The thresholds of all scenarios.
const FLAGS: [&str; 8] = [
    "--findings",
    "only",
    "--expect-listener",
    "7000",
    "--stuck-after",
    "SYN_SENT=2s,CLOSE_WAIT=2s,FIN_WAIT1=1s,FIN_WAIT2=2s,CLOSING=1s,LAST_ACK=1s,ESTABLISHED=4s",
    "--threshold",
    "idle-reset=2s,peer-dead-timeouts=4,storm-retransmits=12,half-open-requests=16,time-wait-share=0.5,\
     accept-stalled=3s,read-stalled=5s,zero-window=2s,update-every=1s,quiet-after=1s",
];

/// The test of all scenarios together.
const MIXED: &str = "mixed";

/// One scenario.
pub(crate) struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What happens.
    pub about: &'static str,
    /// What is there before.
    pub setup: &'static str,
    /// What makes the trouble, and makes sure that it is there. Its end is when the time begins to count.
    pub trouble: &'static str,
    /// It stays so for this time at least, in ms.
    pub stays_ms: u64,
    /// What ends it: then all findings close, and there is no other.
    pub cure: &'static str,
    /// All that must be found.
    pub findings: &'static [Expected],
}

fn all() -> impl Iterator<Item = &'static Scenario> {
    [lives::ALL, leaks::ALL, openings::ALL, silence::ALL, waiting::ALL, resets::ALL, pressure::ALL, decoys::ALL]
        .into_iter()
        .flatten()
}

/// The names of the tests.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    all().map(|scenario| scenario.name).chain([MIXED])
}

/// Why the scenarios cannot be played here.
pub(crate) fn missing() -> Option<String> {
    let is_there = |tool: &&str| Command::new(tool).arg("--version").output().is_ok();
    let missing = ["nft", "ip", "ss", "sysctl"].into_iter().find(|tool| !is_there(tool));
    missing.map(|tool| format!("{tool} is not installed"))
}

/// Runs the test of this name.
pub(crate) fn test(name: &str) {
    match all().find(|scenario| scenario.name == name) {
        Some(scenario) => assert_eq!(play(scenario, false), Vec::<String>::new(), "{name}"),
        None => mixed::run(),
    }
}

/// How much later than it is to be told something may come, in ms: a machine that is emulated is slow.
fn patience_ms() -> u64 {
    std::env::var("TCPTRACE_TEST_PATIENCE_MS").map_or(0, |ms| ms.parse().unwrap())
}

/// Plays a scenario with a tracer of its own; gives what was wrong.
fn play(scenario: &Scenario, narrates: bool) -> Vec<String> {
    let mut env = Env::new(narrates);
    env.play(scenario.setup);
    // A tracer of one namespace is not disturbed by what others do. That the other end of an idle connection is alive in
    // another one takes a tracer of all.
    let looks_far = env.netns.len() > 1 && scenario.findings.is_empty();
    let flags = [if looks_far { &[][..] } else { &["--netns", "self"] }, &FLAGS].concat();
    let shown = narrates.then(|| {
        println!("$ {} {}", binary().display(), flags.join(" "));
        Tracer::start(&flags)
    });
    let tracer = Tracer::start(&[&["--format", "json"], &flags[..]].concat());
    let (watch, mut env, mut verdict) = Watch::new(&tracer, &env).play(scenario, env, patience_ms());
    watch.end(scenario.findings, Some(&mut env), &mut verdict);
    if let Some(shown) = shown {
        println!("\ntcptrace says:");
        shown.stop().lines.iter().for_each(|line| println!("{line}"));
        println!();
    }
    let run = tracer.stop();
    assert!(run.status.success(), "{}: {}", run.status, run.stderr);
    let mut wrong = [verdict.wrong, verdict.faults].concat();
    if !wrong.is_empty() {
        // Whether it has seen all.
        wrong.extend(run.lines.into_iter().filter(|line| !line.contains("\"finding\"")));
    }
    wrong
}

/// Shows scenarios with all that they do and what tcptrace says of it; whether all is as it should be.
pub(crate) fn show(which: &str) -> bool {
    if which == "list" {
        for scenario in all() {
            println!("{:24} {}", scenario.name, scenario.about);
        }
        return true;
    }
    let is_it =
        |scenario: &&Scenario| scenario.name == which || scenario.findings.iter().any(|expected| expected.id == which);
    let chosen: Vec<_> = match all().find(|scenario| scenario.name == which) {
        Some(one) => vec![one],
        None => all().filter(is_it).collect(),
    };
    if chosen.is_empty() {
        eprintln!("error: {which}: no scenario and no finding has this name; --list shows them");
    }
    let mut good = !chosen.is_empty();
    for scenario in chosen {
        println!("# {}: {}", scenario.name, scenario.about);
        // A namespace belongs to a thread, and each scenario has its own.
        let wrong = std::thread::spawn(|| play(scenario, true)).join().unwrap_or_else(|_| vec!["it broke off".into()]);
        wrong.iter().for_each(|wrong| println!("{wrong}"));
        println!("{}: {}\n", if wrong.is_empty() { "PASS" } else { "FAIL" }, scenario.name);
        good &= wrong.is_empty();
    }
    good
}
