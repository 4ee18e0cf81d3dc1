//! `cargo xtask run`: from a fresh clone to a running tracer in one command.
//!
//! The compiled BPF object is part of the repository, so this needs a stable compiler and nothing else.

use std::{
    ffi::OsString,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::{
    cargo,
    privilege::{self, Root},
    programs, workspace,
};

/// Options of `cargo xtask run`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Build without optimisation: quicker to compile, slower to trace
    #[arg(long)]
    debug: bool,
    /// Arguments of tcptrace, such as `-- --state CLOSE_WAIT --pid`
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<OsString>,
}

/// Builds tcptrace and becomes it, so that its exit code and Ctrl-C are its own.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    // Asked first: a build takes a minute, and is no use without root.
    let root = Root::find();
    if matches!(root, Root::No) {
        bail!(privilege::way_out());
    }
    let tracer = build_tracer(&workspace::root()?, !args.debug)?;
    let mut command = root.command(&tracer, &[]).with_context(privilege::way_out)?;
    command.args(&args.args);
    let error = command.exec();
    Err(anyhow!(error).context(format!("`{}` cannot be started", programs::line(&command))))
}

/// Builds the tracer with the object of the repository and returns its path.
pub(crate) fn build_tracer(root: &Path, release: bool) -> Result<PathBuf> {
    let mut args = vec!["build", "--package", workspace::TRACER];
    if release {
        args.push("--release");
    }
    let executables = cargo::build(root, &args)?;
    cargo::pick(&executables, "bin", workspace::TRACER)
}
