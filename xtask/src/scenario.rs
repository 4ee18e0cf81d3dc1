//! `cargo xtask scenario`: plays one scenario of the live tests and shows what a test hides: each step, tcptrace's command
//! line and its output.

use std::process::{Command, ExitCode};

use anyhow::Result;
use xtask::{
    builds,
    privilege::Root,
    programs,
    workspace::{self, LIVE_TEST},
};

use crate::test::TRACER_VARIABLE;

/// The variable that names the scenario which the live tests are to show.
const SHOWN_VARIABLE: &str = "TCPTRACE_TEST_SCENARIO";

/// Options of `cargo xtask scenario`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A scenario, or a finding: then all scenarios that cause it
    #[arg(required_unless_present = "list", conflicts_with = "list")]
    name: Option<String>,
    /// List the scenarios
    #[arg(long)]
    list: bool,
}

/// Builds the live tests as the caller, and becomes them as root.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let root = if args.list { Root::No } else { Root::required()? };
    let (tests, tracer) = builds::root_tests(&workspace::root()?, LIVE_TEST, false)?;
    let mut command = match &args.name {
        Some(name) => root.command(tests, &[(TRACER_VARIABLE, tracer), (SHOWN_VARIABLE, name.into())])?,
        None => {
            let mut list = Command::new(tests);
            list.env(SHOWN_VARIABLE, "list");
            list
        }
    };
    Err(programs::replace_this(&mut command))
}
