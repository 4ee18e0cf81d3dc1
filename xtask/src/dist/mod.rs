//! `cargo xtask dist`: makes what users install, for x86-64 and aarch64: static binaries, packages, an image, and what
//! belongs to a release. The same commit gives the same bytes.

mod archive;
mod binaries;
mod image;
mod packages;
mod papers;
mod trial;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};
use xtask::{programs, workspace};

use crate::{arch::Arch, setup};

/// The version of all packages.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The name of packages: Debian has an unrelated program called tcptrace.
const PACKAGE: &str = "tcptrace-ebpf";

/// Options of `cargo xtask dist`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The architectures [default: all]
    #[arg(long, value_enum)]
    arch: Vec<Arch>,
    /// The folder for the results
    #[arg(long, default_value = "target/dist")]
    to: PathBuf,
    /// Install each package into a system of its own, and use it there
    #[arg(long = "try")]
    is_tried: bool,
    /// Take the packages that are there
    #[arg(long, requires = "is_tried")]
    no_build: bool,
}

/// Files of the repository that all packages hold.
const DOCUMENTS: [&str; 6] =
    ["README.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT", "dist/tcptrace.toml", "dist/tcptrace.service"];

/// The commit that is packaged. Its time is the time of everything in the packages.
struct Source {
    root: PathBuf,
    commit: String,
    /// In seconds since the epoch.
    time: String,
}

impl Source {
    /// Where the files of packages are put together.
    fn stage(&self) -> PathBuf {
        self.root.join("target/dist-stage")
    }

    fn find() -> Result<Self> {
        let root = workspace::root()?;
        let git = |args: &[&str]| programs::stdout_of(Command::new("git").arg("-C").arg(&root).args(args));
        let is_changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
        let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
        let time = git(&["log", "-1", "--format=%ct"])?.trim().to_owned();
        if is_changed {
            eprintln!("warning: files differ from the commit: what this makes is no release");
        }
        let commit = format!("{}{}", commit.trim(), if is_changed { "-changed" } else { "" });
        Ok(Self { root, commit, time })
    }
}

/// Makes everything, and tries it if that is wanted.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if !args.no_build {
        make(args)?;
    }
    if args.is_tried {
        trial::run(&workspace::root()?.join(&args.to))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes everything, and checksums of it.
fn make(args: &Args) -> Result<()> {
    let archs = if args.arch.is_empty() { Arch::ALL.to_vec() } else { args.arch.clone() };
    setup::dist(&archs)?;
    let source = Source::find()?;
    let to = source.root.join(&args.to);
    if to.exists() {
        fs::remove_dir_all(&to).with_context(|| to.display().to_string())?;
    }
    fs::create_dir_all(&to).with_context(|| to.display().to_string())?;
    let built = archs.iter().map(|arch| binaries::build(&source, *arch)).collect::<Result<Vec<_>>>()?;
    let pages = papers::write(&source, &built)?;
    for binary in &built {
        archive::write(&source, binary, &pages, &to)?;
        packages::write(&source, binary, &to)?;
    }
    image::write(&source, &built, &to)?;
    papers::sbom(&source, &to)?;
    checksums(&to)?;
    programs::succeed(Command::new("ls").args(["-l", "--human-readable"]).arg(&to))
}

/// The static binary for an architecture.
pub(crate) fn program(arch: Arch) -> Result<PathBuf> {
    Ok(binaries::build(&Source::find()?, arch)?.program)
}

/// The live tests as a static program.
pub(crate) fn live_tests(arch: Arch) -> Result<PathBuf> {
    binaries::live_tests(&workspace::root()?, arch)
}

/// Writes `SHA256SUMS`, as `sha256sum --check` reads it.
fn checksums(to: &Path) -> Result<()> {
    let entries = fs::read_dir(to).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let mut names: Vec<_> =
        entries.with_context(|| to.display().to_string())?.into_iter().map(|entry| entry.file_name()).collect();
    names.sort();
    let sums = programs::stdout_of(Command::new("sha256sum").current_dir(to).args(names))?;
    fs::write(to.join("SHA256SUMS"), sums).context("SHA256SUMS")
}
