//! `cargo xtask run`: from a fresh clone to a running tracer in one command.
//!
//! The compiled BPF object is part of the repository, so this only needs a stable compiler.

use std::{ffi::OsString, process::ExitCode};

use anyhow::Result;
use xtask::{builds, privilege::Root, programs, workspace};

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
    let root = Root::required()?;
    eprintln!("run: building tcptrace: some minutes in a fresh clone, seconds after that");
    let tracer = builds::tracer(&workspace::root()?, args.debug)?;
    let mut command = root.command(&tracer, &[])?;
    command.args(&args.args);
    eprintln!("run: {}", programs::line(&command));
    Err(programs::replace_this(&mut command))
}
