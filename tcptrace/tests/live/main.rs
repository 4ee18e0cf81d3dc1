//! Tests against the running kernel: real sockets in network namespaces of their own, traced by the real binary.
//!
//! They need root. Where the kernel or the rights do not allow them they are ignored, and the reason is printed: never
//! passed. `cargo xtask test` runs them; `TCPTRACE_BIN` names another binary to test.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod actor;
mod compare;
mod endings;
mod filters;
mod lives;
mod net;
mod overload;
mod owners;
mod program;
mod rates;
mod sockets;
mod ss;
mod starts;
mod story;
mod tracer;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// A test of this suite.
pub(crate) type Test = (&'static str, fn());

fn main() -> ExitCode {
    if let Some(exit) = actor::run_if_asked() {
        return exit;
    }
    let mut arguments = Arguments::from_args();
    // Two cores trace, make traffic and check: more at once only makes each slower.
    arguments.test_threads.get_or_insert(2);
    let obstacle = tracer::obstacle();
    if let Some(obstacle) = &obstacle {
        println!("live tests are skipped: {obstacle}");
    }
    let suites: [(&str, &[Test]); 11] = [
        ("lives", lives::TESTS),
        ("endings", endings::TESTS),
        ("owners", owners::TESTS),
        ("filters", filters::TESTS),
        ("overload", overload::TESTS),
        ("program", program::TESTS),
        ("starts", starts::TESTS),
        ("sockets", sockets::TESTS),
        ("rates", rates::TESTS),
        ("story", story::TESTS),
        ("compare", compare::TESTS),
    ];
    let trials = suites.into_iter().flat_map(|(suite, tests)| {
        let obstacle = obstacle.clone();
        tests.iter().map(move |&(name, test)| {
            let missing = obstacle.clone().or_else(|| compare::missing_peer(suite));
            let trial = Trial::test(format!("{suite}::{name}"), move || {
                test();
                Ok(())
            });
            match missing {
                Some(reason) => trial.with_ignored_flag(true).with_kind(format!("skipped: {reason}")),
                None => trial,
            }
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
