//! `cargo xtask dist --try`: installs each package into a system of its own, and uses the program there: it must find the
//! process that holds a socket of this machine, and trace a connection.

mod container;
mod mounted;

use std::{
    env, fs,
    net::{TcpListener, TcpStream},
    path::Path,
    process::{self, Command, Output, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use xtask::programs;

use mounted::Mounted;

use super::{Arch, PACKAGE, VERSION};
use crate::{setup, system_tree, tools};

/// Installs what is for an architecture from one folder into another, and uses it there.
type Trial = fn(Arch, &Path, &Path) -> Result<()>;

/// Tries everything in `to` that runs on this machine. A failure does not keep the next ones away.
pub(super) fn run(to: &Path) -> Result<()> {
    // SAFETY: geteuid has no preconditions and cannot fail.
    ensure!(unsafe { libc::geteuid() } == 0, "--try needs root: it mounts, installs and traces");
    let arch = Arch::ALL
        .into_iter()
        .find(|arch| arch.name() == env::consts::ARCH)
        .context("no package is for this machine")?;
    setup::tools("--try", &tools::TRIAL)?;
    let work = to.with_file_name("dist-trial");
    let trials: [(&str, Trial); 5] = [
        ("static binary in an empty root", archive),
        (".deb in a minimal Debian", deb),
        (".rpm in an empty root", rpm),
        ("image under podman", container::run),
        ("binary for the other architecture under qemu", foreign),
    ];
    let mut failed = 0;
    for (name, trial) in trials {
        if work.exists() {
            fs::remove_dir_all(&work).with_context(|| work.display().to_string())?;
        }
        fs::create_dir_all(&work).with_context(|| work.display().to_string())?;
        match trial(arch, to, &work) {
            Ok(()) => println!("dist: {name}: works"),
            Err(error) => {
                failed += 1;
                println!("dist: {name}: FAILED: {error:#}");
            }
        }
    }
    ensure!(failed == 0, "{failed} of {} packages do not work", trials.len());
    Ok(())
}

fn archive(arch: Arch, to: &Path, work: &Path) -> Result<()> {
    let name = format!("tcptrace-{VERSION}-{}-linux", arch.name());
    programs::succeed(Command::new("tar").arg("-C").arg(work).arg("-xf").arg(to.join(format!("{name}.tar.gz"))))?;
    let root = Mounted::new(&work.join("root"))?;
    fs::copy(work.join(&name).join("tcptrace"), root.0.join("tcptrace")).context("tcptrace")?;
    used(|| root.chroot("/tcptrace"))
}

fn deb(arch: Arch, to: &Path, work: &Path) -> Result<()> {
    if let Some(tree) = system_tree::missing()? {
        system_tree::make(&tree)?;
    }
    let tree = system_tree::path()?;
    let root = Mounted::over(&tree, work)?;
    let name = format!("{PACKAGE}_{VERSION}-1_{}.deb", arch.debian());
    fs::copy(to.join(&name), root.0.join(&name)).with_context(|| name.clone())?;
    let dpkg = |args: &[&str]| programs::stdout_of(root.chroot("/usr/bin/dpkg").args(args).stderr(Stdio::inherit()));
    dpkg(&["--install", &format!("/{name}")])?;
    used(|| root.chroot("/usr/bin/tcptrace"))?;
    installed(&root.0)?;
    programs::stdout_of(
        root.chroot("/usr/bin/systemd-analyze").args(["verify", "/usr/lib/systemd/system/tcptrace.service"]),
    )?;
    dpkg(&["--purge", PACKAGE])?;
    ensure!(!root.0.join("etc/tcptrace").exists(), "/etc/tcptrace is left after --purge");
    Ok(())
}

fn rpm(arch: Arch, to: &Path, work: &Path) -> Result<()> {
    let root = Mounted::new(&work.join("root"))?;
    let package = to.join(format!("{PACKAGE}-{VERSION}-1.{}.rpm", arch.name()));
    // Debian's rpm has no database of its own packages; the package needs none.
    programs::stdout_of(
        Command::new("rpm").arg("--root").arg(&root.0).args(["--install", "--nosignature"]).arg(package),
    )?;
    used(|| root.chroot("/usr/bin/tcptrace"))?;
    installed(&root.0)
}

/// What packages install beside the program: man pages that `man` finds no fault with, a config file, completions.
fn installed(root: &Path) -> Result<()> {
    for path in ["etc/tcptrace/tcptrace.toml", "usr/share/bash-completion/completions/tcptrace"] {
        ensure!(root.join(path).exists(), "{path} is missing");
    }
    let folder = root.join("usr/share/man/man1");
    let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut pages = 0;
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("tcptrace")) {
            let page = Command::new("man").args(["--warnings", "--local-file"]).arg(&path).output().context("man")?;
            let faults = String::from_utf8_lossy(&page.stderr);
            ensure!(page.status.success() && faults.is_empty(), "{}: {faults}", path.display());
            pages += 1;
        }
    }
    ensure!(pages > 1, "{}: {pages} man pages", folder.display());
    Ok(())
}

/// No kernel for it is here: it writes its own pages, and replays what this architecture's binary has recorded.
fn foreign(native: Arch, to: &Path, work: &Path) -> Result<()> {
    let unpack = |arch: Arch| {
        let (name, tree) = (format!("{PACKAGE}_{VERSION}-1_{}.deb", arch.debian()), work.join(arch.name()));
        programs::succeed(Command::new("dpkg-deb").arg("--extract").arg(to.join(name)).arg(&tree))?;
        anyhow::Ok(tree.join("usr/bin/tcptrace"))
    };
    let recorder = unpack(native)?;
    let other = Arch::ALL.into_iter().find(|arch| *arch != native).context("there is no other architecture")?;
    let other_program = unpack(other)?;
    let foreign = || {
        let mut command = Command::new(format!("qemu-{}-static", other.name()));
        command.arg(&other_program);
        command
    };
    version(&mut foreign())?;
    let recording = work.join("recording");
    traced(Command::new(&recorder).args(["record", "--duration", "3s", "--write"]).arg(&recording))?;
    let replayed =
        |mut program: Command| programs::stdout_of(program.arg("replay").arg(&recording).args(["events", "--json"]));
    let (here, there) = (replayed(Command::new(&recorder))?, replayed(foreign())?);
    ensure!(here.contains("ESTABLISHED") && here == there, "it replays {there}, and this one {here}");
    Ok(())
}

/// Uses the program: its version, the holder of a socket, and a connection.
fn used(program: impl Fn() -> Command) -> Result<()> {
    version(&mut program())?;
    let listener = TcpListener::bind("127.0.0.1:0").context("a listener")?;
    let port = listener.local_addr().context("a listener")?.port().to_string();
    let Output { stdout, stderr, .. } = program().args(["sockets", "--json", "--local-port", &port]).output()?;
    let holds = |record: &Value| {
        let holders = record["holders"].as_array();
        holders.is_some_and(|holders| holders.iter().any(|holder| holder["pid"] == process::id()))
    };
    let text = String::from_utf8_lossy(&stdout);
    if !text.lines().filter_map(|line| serde_json::from_str(line).ok()).any(|record| holds(&record)) {
        bail!("it does not find who holds port {port}: {text}{}", String::from_utf8_lossy(&stderr));
    }
    let text = traced(program().args(["--json", "--findings", "off", "--count", "4", "--duration", "20s"]))?;
    ensure!(text.contains("\"new_state\":\"ESTABLISHED\""), "it saw no connection: {text}");
    Ok(())
}

fn version(program: &mut Command) -> Result<()> {
    let version = programs::stdout_of(program.arg("--version"))?;
    ensure!(version.starts_with(&format!("tcptrace {VERSION}\n")), "its version is {version:?}");
    Ok(())
}

/// Makes connections until the program, which is told their port, ends; returns what it printed.
fn traced(program: &mut Command) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").context("a listener")?;
    let end = listener.local_addr().context("a listener")?;
    program.args(["--port", &end.port().to_string()]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let program = program.spawn().context("tcptrace")?;
    // It says nowhere that it has begun: connections go on until it has seen enough.
    let output = thread::scope(|scope| {
        let waits = scope.spawn(|| program.wait_with_output());
        while !waits.is_finished() {
            if TcpStream::connect(end).is_ok() {
                drop(listener.accept());
            }
            thread::sleep(Duration::from_millis(100));
        }
        waits.join().map_err(|_| anyhow::anyhow!("waiting for it failed"))?.context("tcptrace")
    })?;
    ensure!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
