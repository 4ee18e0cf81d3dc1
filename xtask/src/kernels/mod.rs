//! `cargo xtask kernels`: boots other kernels in virtual machines, runs the live tests there with the static binary, and
//! writes what works where into docs/kernels.md.

mod guest;
mod image;
mod kernel;
mod outcome;
mod packages;
mod report;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use xtask::{builds, programs, workspace};

use self::{
    image::Disk,
    kernel::{KERNELS, Kernel, Variant},
    outcome::Outcome,
};
use crate::{arch::Arch, dist, setup, tools};

/// Options of `cargo xtask kernels`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these kernels, e.g. 5.10 or 6.1-aarch64 [default: all]
    #[arg(value_name = "KERNEL")]
    only: Vec<String>,
    /// Only suites of live tests that contain this text
    #[arg(long, value_name = "SUITE")]
    suite: Option<String>,
    /// Take `tcptrace` and `live` (the live tests) from this folder instead of building them; for one architecture
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
    /// Only two kernels and two suites, with the programs that `cargo xtask test` has built: they run where Debian's C library
    /// is not older than this machine's
    #[arg(long, conflicts_with_all = ["only", "suite", "programs", "record"])]
    quick: bool,
    /// Write docs/kernels.md
    #[arg(long)]
    record: bool,
    /// Longest time for one kernel, in seconds
    #[arg(long, default_value_t = 1800)]
    within: u64,
}

/// Runs the matrix. Failures are collected over all kernels, and told once at the end.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let wanted: Vec<_> = KERNELS
        .iter()
        .filter(|kernel| !args.quick || QUICK.contains(&kernel.name))
        .filter(|kernel| args.only.is_empty() || args.only.iter().any(|only| only == kernel.name))
        .collect();
    if wanted.is_empty() || args.only.iter().any(|only| KERNELS.iter().all(|kernel| kernel.name != only)) {
        bail!("the kernels are {}", KERNELS.map(|kernel| kernel.name).join(", "));
    }
    setup::tools("`cargo xtask kernels`", &tools::KERNELS)?;
    let root = workspace::root()?;
    let (cache, within) = (cache()?, Duration::from_secs(args.within));
    let mut outcomes = Vec::new();
    for arch in Arch::ALL {
        let of_arch: Vec<_> = wanted.iter().filter(|kernel| kernel.arch == arch).collect();
        if of_arch.is_empty() {
            continue;
        }
        let programs = match &args.programs {
            Some(folder) => ["tcptrace", "live"].map(|name| folder.join(name)),
            None if args.quick => built(&root)?,
            None => {
                setup::dist(&[arch])?;
                [dist::program(arch)?, dist::live_tests(arch)?]
            }
        };
        for kernel in of_arch {
            println!("kernels: {}", kernel.name);
            let outcome = Disk::make(kernel, &cache, &programs)
                .and_then(|disk| guest::run(kernel, &disk, &suites(kernel, args), within));
            let outcome = outcome.unwrap_or_else(|error| Outcome::broken(format!("{error:#}")));
            println!("kernels: {}: {}", kernel.name, outcome.summary());
            outcomes.push((kernel.name, outcome));
        }
    }
    if args.record {
        let path = root.join("docs/kernels.md");
        fs::write(&path, report::write(&outcomes)).with_context(|| path.display().to_string())?;
    }
    let mut failed = false;
    for (name, outcome) in &outcomes {
        for what in &outcome.failed {
            failed = true;
            println!("FAILED {name}: {what}");
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What runs on a kernel.
fn suites(kernel: &Kernel, args: &Args) -> Vec<&'static str> {
    let is_wanted = |name: &&str| args.suite.as_ref().is_none_or(|wanted| name.contains(wanted.as_str()));
    let all: &[_] = if args.quick || kernel.variant != Variant::Usual { &guest::SHORT } else { &guest::SUITES };
    all.iter().copied().filter(is_wanted).collect()
}

/// The programs that `cargo xtask test` has built, without what only a debugger reads.
fn built(root: &Path) -> Result<[PathBuf; 2]> {
    let (live, tracer) = builds::root_tests(root, "live", false)?;
    let folder = cache()?.join("programs");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let programs = [(tracer, "tcptrace"), (live, "live")].map(|(from, name)| (from, folder.join(name)));
    for (from, to) in &programs {
        programs::succeed(Command::new("objcopy").arg("--strip-all").arg(from).arg(to))?;
    }
    Ok(programs.map(|(_, to)| to))
}

/// The kernels of `--quick`: the oldest, and the first of those with all hooks.
const QUICK: [&str; 2] = ["5.10", "6.1"];

/// Where kernels and trees of files are kept.
fn cache() -> Result<PathBuf> {
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    Ok(PathBuf::from(home).join(".cache/tcptrace/kernels"))
}
