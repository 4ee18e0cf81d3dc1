//! `cargo xtask test`: all tests of the workspace by one command, with one total at the end.
//!
//! Most run as the caller. The live tests and those with real programs trace the kernel, so they run as root where that
//! is possible; they report as ignored, with the reason, what the kernel or the rights do not allow.

use std::{
    collections::BTreeSet,
    env, io,
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result};
use serde_json::Value;
use xtask::{
    builds, cargo,
    privilege::Root,
    programs,
    workspace::{self, EBPF_PACKAGE, INTEROP_TEST, LIVE_TEST, TRACER},
};

use crate::{setup, test_totals::Totals};

/// The variable that names the tracer for tests that run as root, and tests of the command line.
pub(crate) const TRACER_VARIABLE: &str = "TRACER_BIN";

/// The variable that names this program for the test of the demo.
const XTASK_VARIABLE: &str = "TRACER_XTASK";

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Install nothing; tests that lack what they call are skipped
    #[arg(long)]
    no_install: bool,
    /// Test a release build
    #[arg(long)]
    release: bool,
    /// Run only the tests whose name contains one of these
    filter: Vec<String>,
}

/// Runs all tests and prints their total as the last line.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let root = workspace::root()?;
    if !args.no_install
        && let Err(error) = setup::tests()
    {
        // Tests that need what is missing are skipped and say so; the others are worth running.
        eprintln!("warning: {error:#}");
    }
    let mut run = Run { root: &root, args, totals: Totals::default(), broken: 0 };
    run.unit_tests()?;
    run.doc_tests()?;
    run.root_tests(LIVE_TEST);
    run.root_tests(INTEROP_TEST);
    // A run that failed without a failed test, such as by a signal or a compile error, is a failure all the same.
    run.totals.failed += run.broken;
    if run.totals.none_ran() {
        eprintln!("error: no test ran: no test's name contains what was asked for");
    }
    print!("{}", run.totals.skips());
    println!("{}", run.totals);
    let good = run.totals.failed == 0 && !run.totals.none_ran();
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Run<'a> {
    root: &'a Path,
    args: &'a Args,
    totals: Totals,
    broken: u64,
}

impl Run<'_> {
    /// Unit tests, and integration tests except those that run as root: cargo excludes targets only by naming all others.
    fn unit_tests(&mut self) -> Result<()> {
        let mut names = integration_tests(&cargo::metadata(self.root)?);
        names.retain(|name| name != LIVE_TEST && name != INTEROP_TEST);
        // The command line is tested as users have it: clap, for one, behaves differently in debug builds. CI has made
        // this build before; tests that are asked for by name do not wait for it.
        let tracer = if !self.args.release && self.args.filter.is_empty() {
            Some(cargo::pick(&builds::instructions(self.root)?, "bin", TRACER)?)
        } else {
            None
        };
        for filter in filter_runs(&self.args.filter) {
            let mut command = self.cargo_test();
            command.args(["--lib", "--bins"]).args(names.iter().flat_map(|name| ["--test", name]));
            command.envs(tracer.iter().map(|tracer| (TRACER_VARIABLE, tracer))).arg("--").args(filter);
            self.count(&mut command);
        }
        Ok(())
    }

    /// Cargo runs the examples in the documentation only when asked for nothing else.
    fn doc_tests(&mut self) -> Result<()> {
        let mut command = self.cargo_test();
        command.args(["--doc", "--"]).args(&self.args.filter);
        self.count(&mut command);
        Ok(())
    }

    fn cargo_test(&self) -> Command {
        let mut command = cargo::command(self.root);
        command.args(["test", "--no-fail-fast", "--workspace", "--exclude"]);
        command.args([EBPF_PACKAGE, "--all-features"]);
        if self.args.release {
            command.arg("--release");
        }
        command
    }

    /// The tests of one target that trace the kernel, built as the caller and run as root.
    fn root_tests(&mut self, target: &str) {
        let (tests, tracer) = match builds::root_tests(self.root, target, self.args.release) {
            Ok(built) => built,
            Err(error) => {
                eprintln!("error: {target} tests: {error:#}");
                self.broken += 1;
                return;
            }
        };
        let mut variables = vec![(TRACER_VARIABLE, tracer)];
        variables.extend(env::current_exe().ok().map(|xtask| (XTASK_VARIABLE, xtask)));
        let root = Root::find_usable();
        for filter in filter_runs(&self.args.filter) {
            let mut command = root.command(&tests, &variables).unwrap_or_else(|_| {
                eprintln!("warning: {target} tests: not run as root, so those that need it are skipped");
                let mut command = Command::new(&tests);
                command.envs(variables.iter().map(|(name, value)| (name, value)));
                command
            });
            // As under cargo, the folder is the package's.
            command.current_dir(self.root.join(TRACER)).args(&filter);
            self.count(&mut command);
        }
    }

    /// Runs one command that prints results, and adds them to the total.
    fn count(&mut self, command: &mut Command) {
        match follow(command) {
            Ok((totals, success)) => {
                let has_failed = totals.failed > 0;
                self.totals += totals;
                if !success && !has_failed {
                    eprintln!("error: `{}` failed, and not by a failed test", programs::line(command));
                    self.broken += 1;
                }
            }
            Err(error) => {
                eprintln!("error: {error:#}");
                self.broken += 1;
            }
        }
    }
}

/// Runs `command`, prints its output, and returns its totals and whether it succeeded.
fn follow(command: &mut Command) -> Result<(Totals, bool)> {
    let shown = programs::line(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("`{shown}` cannot be started"))?;
    let stdout = child.stdout.take().with_context(|| format!("`{shown}`: it has no pipe"))?;
    let totals = Totals::follow(stdout, &mut io::stdout().lock())?;
    let status = child.wait().with_context(|| format!("`{shown}`: cannot wait for it"))?;
    Ok((totals, status.success()))
}

/// The names of all integration tests of the packages that build for the host.
fn integration_tests(metadata: &Value) -> BTreeSet<String> {
    let list = |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    list(metadata, "packages")
        .iter()
        .filter(|package| package.get("name").and_then(Value::as_str) != Some(EBPF_PACKAGE))
        .flat_map(|package| list(package, "targets"))
        .filter(|target| list(target, "kind").iter().any(|kind| kind == "test"))
        .filter_map(|target| Some(target.get("name")?.as_str()?.to_owned()))
        .collect()
}

/// The arguments of each run. The harness of some tests takes one filter, so each further run skips what an earlier one
/// ran, and no test is counted twice.
pub(crate) fn filter_runs(filters: &[String]) -> Vec<Vec<&str>> {
    if filters.is_empty() {
        return vec![Vec::new()];
    }
    filters
        .iter()
        .enumerate()
        .map(|(index, filter)| {
            filters
                .iter()
                .take(index)
                .flat_map(|earlier| ["--skip", earlier.as_str()])
                .chain([filter.as_str()])
                .collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{filter_runs, integration_tests};

    #[test]
    fn integration_tests_are_found_by_kind() {
        let metadata = json!({"packages": [
            {"name": "tcptrace", "targets": [
                {"kind": ["lib"], "name": "tcptrace"},
                {"kind": ["test"], "name": "cli"},
                {"kind": ["test"], "name": "live"},
            ]},
            {"name": "tcptrace-ebpf", "targets": [{"kind": ["test"], "name": "kernel"}]},
        ]});
        let names: Vec<_> = integration_tests(&metadata).into_iter().collect();
        assert_eq!(names, ["cli", "live"]);
    }

    #[test]
    fn several_filters_never_run_a_test_twice() {
        let filters = ["refused".to_owned(), "reset".to_owned()];
        assert_eq!(filter_runs(&filters), [vec!["refused"], vec!["--skip", "refused", "reset"]]);
        assert_eq!(filter_runs(&[]), [Vec::<&str>::new()]);
    }
}
