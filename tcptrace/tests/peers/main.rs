//! Tests against the real programs at the other end of the outputs: started on loopback, written to through the library,
//! and asked what arrived.
//!
//! Where a peer is not installed its tests are ignored, and the reason is printed. `cargo xtask test` installs them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

mod alertmanager;
mod clickhouse;
mod collector;
#[path = "../../examples/fleet/generator/mod.rs"]
mod fleet;
mod journald;
#[cfg(feature = "kafka")]
mod kafka;
mod otlp;
mod program;
mod prometheus;
mod python;
mod rotel;
mod rsyslog;
mod systemd;
mod tls;
mod unit;
#[cfg(feature = "kafka")]
mod whole;

/// A test of this suite.
pub(crate) type Test = (&'static str, fn());

/// The tests of one peer, and why they cannot run here.
struct Suite {
    name: &'static str,
    tests: &'static [Test],
    missing: fn() -> Option<String>,
}

const SUITES: &[Suite] = &[
    Suite { name: "alertmanager", tests: alertmanager::TESTS, missing: alertmanager::missing },
    Suite { name: "clickhouse", tests: clickhouse::TESTS, missing: clickhouse::missing },
    Suite { name: "collector", tests: collector::TESTS, missing: collector::missing },
    Suite { name: "journald", tests: journald::TESTS, missing: journald::missing },
    #[cfg(feature = "kafka")]
    Suite { name: "kafka", tests: kafka::TESTS, missing: kafka::missing },
    Suite { name: "otlp", tests: otlp::TESTS, missing: rotel::missing },
    Suite { name: "prometheus", tests: prometheus::TESTS, missing: prometheus::missing },
    Suite { name: "rsyslog", tests: rsyslog::TESTS, missing: rsyslog::missing },
    Suite { name: "systemd", tests: systemd::TESTS, missing: systemd::missing },
    Suite { name: "tls", tests: tls::TESTS, missing: tls::missing },
    Suite { name: "unit", tests: unit::TESTS, missing: unit::missing },
    #[cfg(feature = "kafka")]
    Suite { name: "whole", tests: whole::TESTS, missing: whole::missing },
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(2);
    let trials = SUITES.iter().flat_map(|suite| {
        let missing = (suite.missing)();
        suite.tests.iter().map(move |&(name, test)| {
            let trial = Trial::test(format!("{}::{name}", suite.name), move || {
                test();
                Ok(())
            });
            match &missing {
                Some(reason) => trial.with_ignored_flag(true).with_kind(format!("skipped: {reason}")),
                None => trial,
            }
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
