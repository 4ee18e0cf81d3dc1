//! Tests against the running kernel: real sockets in network namespaces of their own, traced by the real binary.
//!
//! They need root. Where the kernel or the rights do not allow them they are ignored, and the reason is printed: never
//! passed. `cargo xtask test` runs them; `TRACER_BIN` names another binary to test.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod actor;
mod aggregate;
mod compare;
mod containers;
mod doctor;
mod endings;
mod facts;
mod faults;
mod files;
mod filters;
mod foreign;
mod healing;
mod holders;
mod hooks;
mod identity;
mod kill;
mod lives;
mod names;
mod namespaces;
mod net;
mod outputs;
mod overload;
mod owners;
mod polls;
mod privileges;
mod program;
mod rates;
mod recording;
mod sandbox;
mod scenarios;
mod shown;
mod sockets;
mod ss;
mod starts;
mod story;
mod top;
mod tracer;

use std::{
    fs, io,
    process::{Command, ExitCode, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
};

use libtest_mimic::{Arguments, Failed, Trial};

/// A test of this suite.
pub(crate) type Test = (&'static str, fn());

/// The tests of the scenario suite are called so.
const SCENARIOS: &str = "scenarios::";

/// Names the one test that this process is to run.
const ALONE: &str = "TRACER_TEST_ALONE";

const SUITES: &[(&str, &[Test])] = &[
    ("lives", lives::TESTS),
    ("endings", endings::TESTS),
    ("owners", owners::TESTS),
    ("names", names::TESTS),
    ("facts", facts::TESTS),
    ("filters", filters::TESTS),
    ("shown", shown::TESTS),
    ("overload", overload::TESTS),
    ("outputs", outputs::TESTS),
    ("faults", faults::TESTS),
    ("files", files::TESTS),
    ("foreign", foreign::TESTS),
    ("aggregate", aggregate::TESTS),
    ("privileges", privileges::TESTS),
    ("sandbox", sandbox::TESTS),
    ("program", program::TESTS),
    ("starts", starts::TESTS),
    ("sockets", sockets::TESTS),
    ("holders", holders::TESTS),
    ("namespaces", namespaces::TESTS),
    ("polls", polls::TESTS),
    ("healing", healing::TESTS),
    ("identity", identity::TESTS),
    ("rates", rates::TESTS),
    ("story", story::TESTS),
    ("doctor", doctor::TESTS),
    ("compare", compare::TESTS),
    ("kill", kill::TESTS),
    ("recording", recording::TESTS),
    ("top", top::TESTS),
    ("podman", containers::PODMAN),
    ("docker", containers::DOCKER),
    ("containerd", containers::CONTAINERD),
    ("hooks", hooks::TESTS),
];

/// Runs a test in a process of its own: a child that another test starts has, until it runs another program, all
/// descriptors of this process, and would hold and close its sockets.
fn run_alone(name: &str) -> Result<(), Failed> {
    let program = std::env::current_exe()?;
    let output = Command::new(program).env(ALONE, name).stdin(Stdio::null()).stdout(Stdio::inherit()).output()?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into()) }
}

/// Tests that are played a second time at most, where [`loses_uncounted`].
const AGAIN: usize = 3;

/// Does the kernel run no BPF program in a softirq that interrupts process 1, without counting that as a miss? Kernels of
/// some sandboxes do so (their tracepoints show events that `run_cnt` of no program has), and do not let root look at
/// that process. Such events are lost to every tracer.
fn loses_uncounted() -> bool {
    fs::read_link("/proc/1/ns/net").is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

/// Runs a test, and where an event may have been missing that no tracer could see, a second time; both are told.
fn run(name: &str) -> Result<(), Failed> {
    static PLAYED_AGAIN: AtomicUsize = AtomicUsize::new(0);
    run_alone(name).or_else(|failed| {
        if !loses_uncounted() || PLAYED_AGAIN.fetch_add(1, Ordering::Relaxed) >= AGAIN {
            return Err(failed);
        }
        let why = failed.message().unwrap_or_default();
        println!("{name}: failed, and is played again, as this kernel loses events without counting them:\n{why}");
        run_alone(name)
    })
}

fn main() -> ExitCode {
    if let Some(exit) = actor::run_if_asked() {
        return exit;
    }
    if let Ok(which) = std::env::var(scenarios::SHOWN) {
        return if scenarios::show(&which) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if let Ok(name) = std::env::var(ALONE) {
        if let Some(scenario) = name.strip_prefix(SCENARIOS) {
            scenarios::test(scenario);
        }
        let is_it = |suite, test| name == format!("{suite}::{test}");
        for (suite, tests) in SUITES {
            tests.iter().filter(|(test, _)| is_it(suite, test)).for_each(|(_, test)| test());
        }
        return ExitCode::SUCCESS;
    }
    let mut arguments = Arguments::from_args();
    // Two cores trace, make traffic and check: more at once only makes each slower.
    arguments.test_threads.get_or_insert(2);
    let obstacle = tracer::obstacle();
    if let Some(obstacle) = &obstacle {
        println!("live tests are skipped: {obstacle}");
    }
    let suites = SUITES.iter().flat_map(|(suite, tests)| {
        let missing = compare::missing_peer(suite).or_else(|| containers::missing(suite));
        tests.iter().map(move |(name, _)| (format!("{suite}::{name}"), missing.clone()))
    });
    let missing = scenarios::missing();
    let scenarios = scenarios::names().map(|name| (format!("{SCENARIOS}{name}"), missing.clone()));
    let trials = suites.chain(scenarios).map(|(name, missing)| {
        let trial = Trial::test(name.clone(), move || run(&name));
        match obstacle.clone().or(missing) {
            Some(reason) => trial.with_ignored_flag(true).with_kind(format!("skipped: {reason}")),
            None => trial,
        }
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
