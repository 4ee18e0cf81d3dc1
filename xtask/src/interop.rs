//! `cargo xtask interop`: real programs in front of tcptrace, in the long form that `cargo xtask test` plays shortly.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::{
    privilege::{self, Root},
    programs, setup,
    test::{self, TRACER_VARIABLE},
    workspace::{self, INTEROP_TEST},
};

/// The programs that the cases call, and the Debian packages that bring them.
pub(crate) const TOOLS: [(&str, &str); 13] = [
    ("nginx", "nginx-light"),
    ("haproxy", "haproxy"),
    ("apache2", "apache2-bin"),
    ("ab", "apache2-utils"),
    ("redis-server", "redis-server"),
    ("redis-benchmark", "redis-tools"),
    ("pg_ctlcluster", "postgresql"),
    ("gunicorn", "gunicorn"),
    ("node", "nodejs"),
    ("curl", "curl"),
    ("wrk", "wrk"),
    ("nft", "nftables"),
    ("openssl", "openssl"),
];

/// Services that come with them, enabled. Cases start their own.
pub(crate) const SERVICES: [(&str, &str); 4] = [
    ("nginx", "nginx.service"),
    ("haproxy", "haproxy.service"),
    ("redis-server", "redis-server.service"),
    ("pg_ctlcluster", "postgresql.service"),
];

/// The variable that tells the cases to play the long form.
const MINUTES_VARIABLE: &str = "TCPTRACE_INTEROP_MINUTES";

/// Options of `cargo xtask interop`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long healthy traffic lasts
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// Do not install the programs; without them nothing is played
    #[arg(long)]
    no_install: bool,
    /// Build tcptrace without optimizations
    #[arg(long)]
    debug: bool,
    /// Play only the cases whose name has one of these in it
    cases: Vec<String>,
}

/// Builds the cases as the caller, and plays them as root.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let root = Root::find();
    if matches!(root, Root::No) {
        bail!(privilege::way_out());
    }
    if !args.no_install {
        setup::interop()?;
    }
    let folder = workspace::root()?;
    let (cases, tracer) = test::build_root_tests(&folder, INTEROP_TEST, !args.debug)?;
    let variables = [(TRACER_VARIABLE, tracer), (MINUTES_VARIABLE, args.minutes.to_string().into())];
    let mut good = true;
    for filter in test::root_filters(&args.cases) {
        let mut command = root.command(&cases, &variables).with_context(privilege::way_out)?;
        command.current_dir(folder.join(workspace::TRACER)).args(filter);
        good &= programs::status(&mut command)?.success();
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
