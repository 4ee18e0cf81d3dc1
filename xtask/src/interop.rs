//! `cargo xtask interop`: traces real programs, for longer than `cargo xtask test` does.

use std::process::ExitCode;

use anyhow::Result;
use xtask::{
    builds,
    privilege::Root,
    programs,
    workspace::{self, INTEROP_TEST, TRACER},
};

use crate::{
    setup,
    test::{self, TRACER_VARIABLE},
    tools,
};

/// The variable that sets how long healthy traffic lasts, and makes the cases play the long form.
const MINUTES_VARIABLE: &str = "TCPTRACE_INTEROP_MINUTES";

/// Options of `cargo xtask interop`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long healthy traffic lasts
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// Install nothing; if a program is missing, no case is played
    #[arg(long)]
    no_install: bool,
    /// Build tcptrace without optimisation
    #[arg(long)]
    debug: bool,
    /// Play only the cases whose name contains one of these
    cases: Vec<String>,
}

/// Builds the cases as the caller, and plays them as root.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let root = Root::required()?;
    if !args.no_install {
        setup::tools("tests with real programs", &tools::INTEROP)?;
    }
    let folder = workspace::root()?;
    let (cases, tracer) = builds::root_tests(&folder, INTEROP_TEST, !args.debug)?;
    let variables = [(TRACER_VARIABLE, tracer), (MINUTES_VARIABLE, args.minutes.to_string().into())];
    let mut good = true;
    for filter in test::filter_runs(&args.cases) {
        let mut command = root.command(&cases, &variables)?;
        command.current_dir(folder.join(TRACER)).args(filter);
        good &= programs::status(&mut command)?.success();
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
