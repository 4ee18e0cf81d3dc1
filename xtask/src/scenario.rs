//! `cargo xtask scenario`: plays one scenario of the live tests, and shows what a test hides: each step, tcptrace's
//! command line and its output.

use std::{
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::{
    privilege::{self, Root},
    programs,
    test::{self, TRACER_VARIABLE},
    workspace,
};

/// The variable that tells the live tests what to show.
const SHOWN_VARIABLE: &str = "TCPTRACE_TEST_SCENARIO";

/// Options of `cargo xtask scenario`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A scenario, or a finding: then all scenarios that give it
    #[arg(required_unless_present = "list", conflicts_with = "list")]
    name: Option<String>,
    /// List the scenarios
    #[arg(long)]
    list: bool,
}

/// Builds the live tests as the caller, and becomes them as root.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let root = Root::find();
    if matches!(root, Root::No) && !args.list {
        bail!(privilege::way_out());
    }
    let (tests, tracer) = test::build_root_tests(&workspace::root()?, workspace::LIVE_TEST, false)?;
    let shown = args.name.as_deref().unwrap_or("list");
    let mut command = if args.list {
        Command::new(tests)
    } else {
        root.command(tests, &[(TRACER_VARIABLE, tracer), (SHOWN_VARIABLE, shown.into())])
            .with_context(privilege::way_out)?
    };
    let error = command.env(SHOWN_VARIABLE, shown).exec();
    Err(anyhow!(error).context(format!("`{}` cannot be started", programs::line(&command))))
}
