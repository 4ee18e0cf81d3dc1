//! Real programs in front of tcptrace: healthy traffic, in which it must find nothing, the same programs broken, and
//! the owners of their handshakes. `cargo xtask interop` runs the long form, `cargo xtask test` the short one.
//!
//! They need root and the programs. Where one is missing they are ignored, and the reason is printed: never passed.
//! `TRACER_BIN` names another binary to test.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod broken;
mod healthy;
#[path = "../live/net.rs"]
#[allow(dead_code, reason = "the live tests use all of it")]
mod net;
mod owners;
mod page;
mod servers;
mod site;
#[path = "../live/tracer.rs"]
#[allow(dead_code, reason = "the live tests use all of it")]
mod tracer;
mod verdict;

use std::{
    env, fs,
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use libtest_mimic::{Arguments, Failed, Trial};

/// The long form: healthy traffic lasts so many minutes, and slow cases are played too.
const MINUTES: &str = "TCPTRACE_INTEROP_MINUTES";

/// Names the one case that this process is to play.
const ALONE: &str = "TCPTRACE_INTEROP_ALONE";

/// One case.
pub(crate) struct Case {
    name: &'static str,
    play: fn(),
    is_slow: bool,
}

impl Case {
    /// One that both forms play.
    pub(crate) const fn short(name: &'static str, play: fn()) -> Self {
        Self { name, play, is_slow: false }
    }

    /// One that takes too long for the short form.
    pub(crate) const fn long(name: &'static str, play: fn()) -> Self {
        Self { name, play, is_slow: true }
    }
}

const SUITES: &[(&str, &[Case])] = &[
    ("healthy", healthy::CASES),
    ("broken", broken::waiting::CASES),
    ("broken", broken::failing::CASES),
    ("owners", owners::CASES),
    ("page", page::CASES),
];

fn minutes() -> Option<f64> {
    env::var(MINUTES).ok().map(|text| text.parse().unwrap())
}

/// How long healthy traffic lasts: in the short form so long.
pub(crate) fn span(short: Duration) -> Duration {
    minutes().map_or(short, |minutes| Duration::from_secs_f64(minutes * 60.0))
}

/// Plays a case in a process of its own: a child that another case starts has, until it runs another program, all
/// descriptors of this process.
fn run_alone(name: &str) -> Result<(), Failed> {
    let program = env::current_exe()?;
    let output = Command::new(program).env(ALONE, name).env("RUST_BACKTRACE", "0").stdin(Stdio::null()).output()?;
    // In one piece, since several cases are played at a time.
    println!("\n{name}: {}", String::from_utf8_lossy(&output.stdout));
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into()) }
}

fn main() -> ExitCode {
    let cases = || {
        SUITES.iter().flat_map(|(suite, cases)| cases.iter().map(move |case| (format!("{suite}::{}", case.name), case)))
    };
    if let Ok(alone) = env::var(ALONE) {
        cases().filter(|(name, _)| *name == alone).for_each(|(_, case)| (case.play)());
        return ExitCode::SUCCESS;
    }
    let mut arguments = Arguments::from_args();
    // Most of a case is waiting. Healthy traffic takes what there is.
    arguments.test_threads.get_or_insert(4);
    let obstacle = tracer::obstacle().or_else(servers::obstacle);
    if let Some(obstacle) = &obstacle {
        println!("tests with real programs are skipped: {obstacle}");
        if minutes().is_some() {
            return ExitCode::FAILURE; // who asks for the long form asks for a proof
        }
    }
    let totals = tracer::temporary("totals");
    // SAFETY: no other thread runs yet.
    unsafe { env::set_var(verdict::TOTALS, &totals) };
    let trials = cases().map(|(name, case)| {
        let alone = name.clone();
        let trial = Trial::test(name.clone(), move || run_alone(&alone));
        let is_slow = (case.is_slow && minutes().is_none()).then(|| "slow: `cargo xtask interop` plays it".to_owned());
        let missing = name.starts_with("page::").then(page::obstacle).flatten();
        match obstacle.clone().or(is_slow).or(missing) {
            Some(reason) => trial.with_ignored_flag(true).with_kind(format!("skipped: {reason}")),
            None => trial,
        }
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    println!("all cases: {}", verdict::Total::read(&totals));
    let _ = fs::remove_file(&totals); // not there where no case was played
    conclusion.exit_code()
}
