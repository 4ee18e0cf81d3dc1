//! `cargo xtask bench`: installs what tcptrace is compared with, and hands over to the package `bench`.

use std::{ffi::OsString, process::ExitCode};

use anyhow::Result;
use xtask::{cargo, programs, workspace};

use crate::{setup, tools};

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// Options of the benchmark: `cargo xtask bench --help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    args: Vec<OsString>,
}

/// Becomes the benchmark.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let has = |word: &str| args.args.iter().any(|arg| arg == word);
    // A quick run compares tcptrace with itself.
    if !["--quick", "--help", "-h"].into_iter().any(has) {
        setup::tools("the benchmark", &tools::BENCH)?;
    }
    let mut command = cargo::command(&workspace::root()?);
    command.args(["run", "--package", "tcptrace-bench", "--"]).args(&args.args);
    Err(programs::replace_this(&mut command))
}
