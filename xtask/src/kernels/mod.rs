//! `cargo xtask kernels`: boots other kernels in virtual machines, runs the live tests there with the static binary, and
//! writes what works where into docs/kernels.md.

mod guest;
mod image;
mod kernel;
mod outcome;
mod packages;
mod report;

use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, bail};
use xtask::workspace;

use self::{image::Disk, kernel::KERNELS, outcome::Outcome};
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
            None => {
                setup::dist(&[arch])?;
                [dist::program(arch)?, dist::live_tests(arch)?]
            }
        };
        for kernel in of_arch {
            println!("kernels: {}", kernel.name);
            let outcome = Disk::make(kernel, &cache, &programs)
                .and_then(|disk| guest::run(kernel, &disk, args.suite.as_deref(), within));
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

/// Where kernels and trees of files are kept.
fn cache() -> Result<PathBuf> {
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    Ok(PathBuf::from(home).join(".cache/tcptrace/kernels"))
}
