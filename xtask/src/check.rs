//! `cargo xtask check`: what a reviewer should not have to look for.
//!
//! Every step runs even if an earlier one failed, so that one call shows all there is to mend.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use xtask::{
    cargo, programs,
    workspace::{self, EBPF_PACKAGE},
};

use crate::{advisories, bpf_object, build_ebpf, setup};

/// Options of `cargo xtask check`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Check nothing but the advisories on our crates, in this clone of RustSec's database; uses no network
    #[arg(long, value_name = "PATH")]
    advisories: Option<PathBuf>,
}

/// A step that cannot run here fails.
type Step = fn(&Path) -> Result<()>;

const STEPS: [(&str, Step); 7] = [
    ("formatting", formatting),
    ("clippy, user space", clippy_user_space),
    ("clippy, BPF side", clippy_bpf),
    ("documentation, user space", documentation_user_space),
    ("documentation, BPF side", documentation_bpf),
    ("licences, bans and sources", deny),
    ("BPF object", build_ebpf::check),
];

/// Runs all steps, and names those that failed.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let root = workspace::root()?;
    if let Some(database) = &args.advisories {
        advisories::check(&root, database)?;
        println!("no crate has an advisory in {}", database.display());
        return Ok(ExitCode::SUCCESS);
    }
    let mut lines = Vec::new();
    let mut failed = Vec::new();
    for (name, step) in STEPS {
        println!("check: {name}");
        let start = Instant::now();
        let outcome = step(&root);
        let seconds = start.elapsed().as_secs_f32();
        lines.push(match outcome {
            Ok(()) => format!("ok       {name} ({seconds:.1} s)"),
            Err(error) => {
                failed.push(name);
                format!("FAILED   {name} ({seconds:.1} s): {error:#}")
            }
        });
    }
    for line in lines {
        println!("{line}");
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join("; "));
    }
    Ok(ExitCode::SUCCESS)
}

fn formatting(root: &Path) -> Result<()> {
    pass(cargo::command(root).args(["fmt", "--all", "--check"]))
}

fn clippy_user_space(root: &Path) -> Result<()> {
    let mut command = cargo::command(root);
    command.args(["clippy", "--all-targets", "--workspace", "--exclude"]).args([
        EBPF_PACKAGE,
        "--",
        "--deny",
        "warnings",
    ]);
    pass(&mut command)
}

/// On most machines clippy has no sources of `core` to check the BPF target with. The crate type-checks for the host, so
/// every machine lints the same code.
fn clippy_bpf(root: &Path) -> Result<()> {
    let mut command = for_the_host(root, "clippy")?;
    command.args(["--", "--deny", "warnings"]);
    pass(&mut command)
}

fn documentation_user_space(root: &Path) -> Result<()> {
    let mut command = cargo::command(root);
    command.args(["doc", "--no-deps", "--workspace", "--exclude", EBPF_PACKAGE]).env("RUSTDOCFLAGS", "--deny warnings");
    pass(&mut command)
}

fn documentation_bpf(root: &Path) -> Result<()> {
    let mut command = for_the_host(root, "doc")?;
    command.arg("--no-deps").env("RUSTDOCFLAGS", format!("--deny warnings {}", host_cfg()));
    pass(&mut command)
}

/// Advisories are left out: a check of the sources should not fail because a database changed.
fn deny(root: &Path) -> Result<()> {
    if !setup::has_deny() {
        bail!("cargo-deny is not installed; `cargo xtask setup --deny` installs it");
    }
    pass(cargo::command(root).args(["deny", "--log-level", "error", "check", "licenses", "bans", "sources"]))
}

/// A cargo command over the BPF package for the host. `--target` keeps the flags from build scripts; aborting on a
/// panic is what a program without the standard library needs there.
fn for_the_host(root: &Path, subcommand: &str) -> Result<Command> {
    let version = programs::stdout_of(Command::new("rustc").args(["--version", "--verbose"]))?;
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("`rustc --version --verbose` names no host")?;
    let mut command = cargo::command(root);
    command
        .args([subcommand, "--package", EBPF_PACKAGE, "--target", host])
        .env("RUSTFLAGS", format!("-Cpanic=abort {}", host_cfg()));
    Ok(command)
}

/// The `--cfg` that the BPF crates expect.
fn host_cfg() -> &'static str {
    bpf_object::FLAGS.into_iter().find(|flag| flag.starts_with("--cfg")).unwrap_or_default()
}

fn pass(command: &mut Command) -> Result<()> {
    programs::succeed(command.stdin(Stdio::null()))
}
