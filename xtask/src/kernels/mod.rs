//! `cargo xtask kernels`: boots other kernels in virtual machines, runs the live tests there with the static binary, and
//! writes what works where into docs/kernels.md.

mod guest;
mod image;
mod packages;
mod report;

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use xtask::workspace;

use self::{guest::Outcome, image::Disk};
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
    /// Write docs/kernels.md
    #[arg(long)]
    record: bool,
    /// Longest time for one kernel, in seconds
    #[arg(long, default_value_t = 1800)]
    within: u64,
}

/// A kernel of Debian, and how it is started.
struct Kernel {
    /// How it is called here.
    name: &'static str,
    arch: Arch,
    /// The release of Debian that has it, and the beginning of its package's name.
    suite: &'static str,
    package: &'static str,
    /// What is different from a usual system.
    variant: Variant,
}

/// What is missing in a system.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Variant {
    Usual,
    /// `/sys/kernel/btf` is empty.
    NoBtf,
    /// The hierarchy of cgroup v2 is not mounted.
    NoCgroup,
    /// `lockdown=confidentiality`.
    Lockdown,
    /// tcptrace has a PID namespace of its own.
    PidNamespace,
    /// Without CAP_SYS_ADMIN.
    NoSysAdmin,
}

const fn usual(name: &'static str, arch: Arch, suite: &'static str, package: &'static str) -> Kernel {
    Kernel { name, arch, suite, package, variant: Variant::Usual }
}

const fn variant(name: &'static str, variant: Variant) -> Kernel {
    Kernel { variant, ..usual(name, Arch::X86_64, "bookworm", "linux-image-6.1.") }
}

/// The kernels of the matrix.
const KERNELS: [Kernel; 10] = [
    usual("5.10", Arch::X86_64, "bullseye", "linux-image-5.10."),
    usual("6.1", Arch::X86_64, "bookworm", "linux-image-6.1."),
    usual("6.12", Arch::X86_64, "trixie", "linux-image-6.12."),
    usual("7.2", Arch::X86_64, "trixie-backports", "linux-image-7.2."),
    usual("6.1-aarch64", Arch::Aarch64, "bookworm", "linux-image-6.1."),
    variant("6.1-no-btf", Variant::NoBtf),
    variant("6.1-no-cgroup2", Variant::NoCgroup),
    variant("6.1-lockdown", Variant::Lockdown),
    variant("6.1-pid-namespace", Variant::PidNamespace),
    variant("6.1-no-sys-admin", Variant::NoSysAdmin),
];

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
    let cache = cache()?;
    let mut outcomes = Vec::new();
    for arch in Arch::ALL {
        let of_arch: Vec<_> = wanted.iter().filter(|kernel| kernel.arch == arch).collect();
        if of_arch.is_empty() {
            continue;
        }
        setup::dist(&[arch])?;
        let programs = [dist::program(arch)?, dist::live_tests(arch)?];
        for kernel in of_arch {
            println!("kernels: {}", kernel.name);
            let outcome = Disk::make(kernel, &cache, &programs).and_then(|disk| guest::run(kernel, &disk, args));
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
