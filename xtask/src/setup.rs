//! `cargo xtask setup`: installs what tests, checks and the BPF build need besides stable Rust.
//!
//! A new machine and CI run the same command. It looks first, says what it will install and where, and installs only
//! what is missing. Packages come from apt; on systems without it, it names what is missing.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Result, bail};
use xtask::{cargo, programs, workspace};

use crate::{
    apt,
    arch::Arch,
    bpf_setup,
    bpf_toolchain::LINKER_VERSION,
    python::{self, Environment},
    system_tree,
    tools::{self, Tool},
};

/// The release of cargo-deny that `deny.toml` was written for.
const DENY_VERSION: &str = "0.20.2";

/// Options of `cargo xtask setup`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Install what tests call
    #[arg(long)]
    tests: bool,
    /// Install a compiler and a linker for the BPF side
    #[arg(long)]
    bpf: bool,
    /// Install cargo-deny, which checks licences and bans; compiling it takes some minutes
    #[arg(long)]
    deny: bool,
    /// Install what `cargo xtask dist` calls: compilers for both architectures, cargo-deb, cargo-generate-rpm
    #[arg(long)]
    dist: bool,
}

/// What makes packages. With these releases they were tried.
const PACKAGERS: [(&str, &str); 2] = [("cargo-deb", "3.8.0"), ("cargo-generate-rpm", "0.21.1")];

/// Something to install.
enum Part {
    Packages(Vec<&'static str>),
    Python(Environment),
    SystemTree(PathBuf),
    Bpf,
    /// A program of a crate, and its version.
    Crate(&'static str, &'static str),
    /// The standard library for a target.
    Target(String),
}

impl Part {
    /// What it is, where it goes, and how large it is.
    fn describe(&self) -> String {
        let cargo_bin = || programs::cargo_home().unwrap_or_default().join("bin");
        match self {
            Self::Packages(packages) => {
                let size =
                    apt::size(packages).unwrap_or_else(|| "apt knows their size once it has its lists".to_owned());
                format!("Debian packages, by apt-get: {}; {size}; their services are not started", packages.join(" "))
            }
            Self::Python(environment) => {
                format!("a Python environment in {}: about 1,000 MB on disk", environment.folder.display())
            }
            Self::SystemTree(tree) => {
                format!("a minimal Debian in {}, for tests of the service: about 240 MB on disk", tree.display())
            }
            Self::Bpf => format!(
                "a compiler for BPF: Debian packages, as far as they are missing: {}, and its LLVM; bpf-linker \
                 {LINKER_VERSION}, compiled into {}, in a minute",
                bpf_setup::COMPILER_PACKAGES.join(" "),
                cargo_bin().display()
            ),
            Self::Crate(name, version) => {
                format!("{name} {version}, compiled into {}, in some minutes", cargo_bin().display())
            }
            Self::Target(target) => format!("Rust's standard library for {target}, by rustup: about 150 MB"),
        }
    }

    fn install(&self) -> Result<()> {
        match self {
            Self::Packages(packages) => apt::install(packages),
            Self::Python(environment) => environment.complete(),
            Self::SystemTree(tree) => system_tree::make(tree),
            Self::Bpf => bpf_setup::install(),
            Self::Crate(name, version) => {
                let mut command = cargo::command(&workspace::root()?);
                programs::succeed(command.args(["install", "--locked", name, "--version", version]))
            }
            Self::Target(target) => programs::succeed(Command::new("rustup").args(["target", "add", target])),
        }
    }
}

/// Installs what was asked for; without a flag, what tests call.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if args.tests || !(args.bpf || args.deny || args.dist) {
        tests()?;
    }
    if args.bpf {
        if !bpf_setup::is_complete()? {
            install("the BPF build", vec![Part::Bpf])?;
        }
        bpf_setup::report()?;
    }
    if args.deny {
        let parts = if has_deny() { Vec::new() } else { vec![Part::Crate("cargo-deny", DENY_VERSION)] };
        install("`cargo xtask check`", parts)?;
    }
    if args.dist {
        dist(&Arch::ALL)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Installs what tests call. Fails if the tools of most live tests are missing afterwards; without the others, single
/// tests are skipped.
pub(crate) fn tests() -> Result<()> {
    let missing =
        tools::missing(tools::LIVE.iter().chain(&tools::PEERS).chain(&tools::INTEROP).chain(&tools::CONTAINERS));
    let mut parts = Vec::new();
    if !missing.is_empty() {
        parts.push(Part::Packages(tools::packages(&missing)));
    }
    let warn = |error| eprintln!("warning: {error:#}");
    parts.extend(python_parts().map_err(warn).unwrap_or_default());
    parts.extend(system_tree::missing().map_err(warn).ok().flatten().map(Part::SystemTree));
    if !parts.is_empty() {
        println!("setup: `cargo xtask test --no-install` installs nothing, and runs the tests that need none of this");
    }
    let _ = install("the tests", parts).map_err(warn);
    require("the live tests", &tools::LIVE)
}

/// Installs what `cargo xtask dist` calls, for these architectures.
pub(crate) fn dist(archs: &[Arch]) -> Result<()> {
    let missing = tools::missing(&tools::DIST);
    let mut parts = if missing.is_empty() { Vec::new() } else { vec![Part::Packages(tools::packages(&missing))] };
    let crates = PACKAGERS.into_iter().filter(|(name, _)| !has_program(name));
    parts.extend(crates.map(|(name, version)| Part::Crate(name, version)));
    let installed = programs::stdout_of(Command::new("rustc").args(["--print", "sysroot"]))?;
    let libraries = Path::new(installed.trim()).join("lib/rustlib");
    let targets = archs.iter().map(|arch| arch.target()).filter(|target| !libraries.join(target).exists());
    parts.extend(targets.map(Part::Target));
    install("`cargo xtask dist`", parts)?;
    require("`cargo xtask dist`", &tools::DIST)
}

/// Installs `tools`, which `what` calls.
pub(crate) fn tools(what: &str, tools: &[Tool]) -> Result<()> {
    let missing = tools::missing(tools);
    let parts = if missing.is_empty() { Vec::new() } else { vec![Part::Packages(tools::packages(&missing))] };
    install(what, parts)?;
    require(what, tools)
}

/// Makes the Python environment that outputs are tested with.
pub(crate) fn python_environment() -> Result<()> {
    install("the Python environment", python_parts()?)
}

fn python_parts() -> Result<Vec<Part>> {
    let environment = Environment::find(&workspace::root()?)?;
    Ok(match (environment.is_complete(), python::find()) {
        (true, _) => Vec::new(),
        (false, Some(_)) => vec![Part::Python(environment)],
        (false, None) => vec![Part::Packages(python::PACKAGES.to_vec()), Part::Python(environment)],
    })
}

/// Whether `cargo deny` can be called.
pub(crate) fn has_deny() -> bool {
    has_program("cargo-deny")
}

/// Whether cargo finds this program.
fn has_program(name: &str) -> bool {
    let in_cargo = |home: PathBuf| programs::is_executable(&home.join("bin").join(name));
    programs::find(name).is_some() || programs::cargo_home().is_some_and(in_cargo)
}

/// Says what it will install, and installs it. A part that fails does not keep the next ones away.
fn install(what: &str, parts: Vec<Part>) -> Result<()> {
    if parts.is_empty() {
        println!("setup: everything for {what} is installed");
        return Ok(());
    }
    println!("setup: this will be installed for {what}:");
    for part in &parts {
        println!("setup: - {}", part.describe());
    }
    let failed: Vec<_> =
        parts.iter().filter_map(|part| part.install().err()).map(|error| format!("{error:#}")).collect();
    if !failed.is_empty() {
        bail!("{what}: {}", failed.join("; "));
    }
    println!("setup: everything for {what} is installed");
    Ok(())
}

fn require(what: &str, tools: &[Tool]) -> Result<()> {
    let missing = tools::missing(tools);
    if !missing.is_empty() {
        bail!("{what}: missing {}", tools::names(&missing));
    }
    Ok(())
}
