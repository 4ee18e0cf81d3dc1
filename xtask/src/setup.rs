//! `cargo xtask setup`: installs what tests, checks and the BPF build need beside stable Rust.
//!
//! A new machine and CI call the same thing. It looks first and installs only what is missing, so that a second call
//! costs nothing. Debian's packages are installed through apt; on other systems it names what is missing.

use std::{
    io,
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    bpf_pin::Compilers,
    bpf_toolchain::{self, DEBIAN_RUSTC, LINKER_VERSION, Toolchain},
    cargo, interop, peers,
    privilege::{self, Root},
    programs, system_tree, workspace,
};

/// The release of cargo-deny that `deny.toml` was written for.
const DENY_VERSION: &str = "0.20.2";

/// An executable that tests call, and the Debian package that brings it.
const TEST_TOOLS: [(&str, &str); 7] = [
    ("tcpstates", "libbpf-tools"),
    ("nft", "nftables"),
    ("ss", "iproute2"),
    ("sysctl", "procps"),
    ("valgrind", "valgrind"),
    ("systemd-nspawn", "systemd-container"),
    ("debootstrap", "debootstrap"),
];

/// An executable that the benchmark compares tcptrace with, and the Debian package that brings it.
const BENCH_TOOLS: [(&str, &str); 3] = [("tcpstates", "libbpf-tools"), ("bpftrace", "bpftrace"), ("ss", "iproute2")];

/// Debian's compiler for BPF: rustc with the sources of `core`, which a BPF target is built from.
const COMPILER_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// Installs packages without starting the services that they bring: the policy that package scripts ask
/// (invoke-rc.d(8)) denies it meanwhile.
const INSTALL: &str = r#"
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy || exit
fi
apt-get install -q -y --no-install-recommends "$@"
"#;

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
}

/// Installs what was asked for; without a flag, what tests call.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if args.tests || !(args.bpf || args.deny) {
        tests()?;
    }
    if args.bpf {
        bpf()?;
    }
    if args.deny {
        deny()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Installs the programs that tests call and that are missing. Those of single outputs are not had everywhere: without
/// them their tests are skipped.
pub(crate) fn tests() -> Result<()> {
    for result in [peer_tools(), interop(), peer_environment(), system_tree::make()] {
        if let Err(error) = result {
            eprintln!("warning: {error:#}");
        }
    }
    install_tools("tests", &TEST_TOOLS)
}

/// Installs the programs that outputs are tested with.
fn peer_tools() -> Result<()> {
    install_with_services("tests of outputs", &peers::TOOLS, &peers::SERVICES)
}

/// Installs the programs that tcptrace is put in front of.
pub(crate) fn interop() -> Result<()> {
    install_with_services("tests with real programs", &interop::TOOLS, &interop::SERVICES)
}

/// Installs those of `tools` that are missing, and disables the services that come with them.
fn install_with_services(whose: &str, tools: &[(&str, &str)], services: &[(&str, &str)]) -> Result<()> {
    let services: Vec<_> =
        services.iter().filter(|(program, _)| programs::find(program).is_none()).map(|(_, service)| service).collect();
    install_tools(whose, tools)?;
    if !services.is_empty()
        && let Some(systemctl) = programs::find("systemctl")
        && let Some(mut disable) = Root::find_usable().command(systemctl, &[])
    {
        programs::succeed(disable.args(["disable", "--quiet"]).args(services).stdin(Stdio::null()))?;
    }
    Ok(())
}

/// Makes the Python environment that outputs are tested with.
pub(crate) fn peer_environment() -> Result<()> {
    let environment = peers::Environment::find(&workspace::root()?)?;
    if environment.is_complete() {
        println!("setup: the Python environment {} is complete", environment.folder.display());
        return Ok(());
    }
    if peers::python().is_none() {
        apt_install(&["python3", "python3-venv"])?;
    }
    let python = peers::python().context("python3: has no ensurepip or venv")?;
    println!("setup: making the Python environment {}", environment.folder.display());
    environment.complete(&python)
}

/// Installs the programs that the benchmark compares tcptrace with and that are missing.
pub(crate) fn bench() -> Result<()> {
    install_tools("the benchmark", &BENCH_TOOLS)
}

/// Installs those of `tools` that are missing; `whose` tells who calls them.
fn install_tools(whose: &str, tools: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<_> = tools.iter().filter(|(program, _)| programs::find(program).is_none()).collect();
    if missing.is_empty() {
        println!("setup: the programs for {whose} are installed");
        return Ok(());
    }
    let packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    let named: Vec<_> =
        missing.iter().map(|(program, package)| format!("{program} (Debian package {package})")).collect();
    apt_install(&packages).with_context(|| format!("{whose}: missing {}", named.join(", ")))
}

/// Installs a compiler and a linker for the BPF side, unless a set of them is complete.
fn bpf() -> Result<()> {
    let root = workspace::root()?;
    let pinned = Compilers::pinned(&root)?;
    let report = |Toolchain { versions, .. }: &Toolchain| {
        println!("setup: a compiler for BPF is installed: {}", versions.rustc);
        for difference in pinned.differences(versions) {
            println!("setup: warning: {difference}: `cargo xtask build-ebpf --check` will fail");
        }
    };
    if let Ok(toolchain) = Toolchain::find(Some(&pinned)) {
        report(&toolchain);
        return Ok(());
    }
    let have_compiler = bpf_toolchain::compilers().iter().any(|c| c.has_sources);
    if !have_compiler {
        apt_install(&COMPILER_PACKAGES).with_context(bpf_toolchain::no_compiler)?;
    }
    // The linker must know the bitcode of the compiler, so its LLVM is the one that the compiler was built with.
    let compilers = bpf_toolchain::compilers();
    let compiler = compilers.iter().find(|compiler| compiler.has_sources).with_context(|| {
        format!(
            "{DEBIAN_RUSTC}: has no sources of core after {} were installed; see `cargo xtask build-ebpf`",
            COMPILER_PACKAGES.join(", ")
        )
    })?;
    let llvm = compiler.llvm;
    let prefix = format!("/usr/lib/llvm-{llvm}");
    if bpf_toolchain::objcopy(compiler).is_none() || programs::find(&format!("{prefix}/bin/llvm-config")).is_none() {
        apt_install(&[&format!("llvm-{llvm}-dev"), &format!("llvm-{llvm}")])
            .with_context(|| format!("bpf-linker is built with LLVM {llvm}, which is missing"))?;
    }
    if bpf_toolchain::linker(compiler).is_err() {
        println!("setup: compiling bpf-linker {LINKER_VERSION}");
        let feature = format!("llvm-{llvm}");
        let mut command = cargo::command(&root);
        command
            .env("LLVM_PREFIX", &prefix)
            .args(["install", "--quiet", "--force", "bpf-linker", "--version"])
            .args([LINKER_VERSION, "--no-default-features", "--features"])
            .arg(feature)
            .stdin(Stdio::null());
        programs::succeed(&mut command)?;
    }
    report(&Toolchain::find(Some(&pinned))?);
    Ok(())
}

/// Installs cargo-deny where it is missing.
fn deny() -> Result<()> {
    let root = workspace::root()?;
    if has_deny() {
        println!("setup: cargo-deny is installed");
        return Ok(());
    }
    println!("setup: compiling cargo-deny {DENY_VERSION}");
    let mut command = cargo::command(&root);
    command.args(["install", "--quiet", "--locked", "cargo-deny", "--version"]).arg(DENY_VERSION).stdin(Stdio::null());
    programs::succeed(&mut command)
}

/// Whether `cargo deny` can be called.
pub(crate) fn has_deny() -> bool {
    programs::find("cargo-deny").is_some()
        || programs::cargo_home().is_some_and(|home| programs::is_executable(&home.join("bin/cargo-deny")))
}

/// Installs Debian packages, or says how to get them where that cannot be done from here.
fn apt_install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    let Some(apt) = programs::find("apt-get") else {
        bail!("there is no apt-get here: install what matches Debian's {list} with this system's package manager");
    };
    let root = Root::find_usable();
    let as_root = |program: &Path| -> Result<Command> {
        let mut command =
            root.command(program, &[("DEBIAN_FRONTEND", "noninteractive".into())]).with_context(|| {
                format!("{}; then: apt-get install --no-install-recommends {list}", privilege::way_out())
            })?;
        // apt prints what it does on its standard output, where the tests' results are expected.
        command.stdin(Stdio::null()).stdout(io::stderr());
        Ok(command)
    };
    println!("setup: installing {list}");
    programs::succeed(as_root(&apt)?.args(["update", "-q"]))?;
    programs::succeed(as_root(Path::new("/bin/sh"))?.args(["-c", INSTALL, "setup"]).args(packages))
}
