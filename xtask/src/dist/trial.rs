//! `cargo xtask dist --try`: installs each package into a system of its own, and uses the program there: it must find the
//! process that holds a socket of this machine, and trace a connection.

use std::{
    env, fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{self, Command, Output, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use xtask::programs;

use super::{Arch, PACKAGE, VERSION};
use crate::{setup, system_tree, tools};

/// Installs what is for an architecture from one folder into another, and uses it there.
type Trial = fn(Arch, &Path, &Path) -> Result<()>;

/// What the container gets, as docs/kubernetes.md has it.
const CAPABILITIES: &str = "--cap-add=bpf,perfmon,sys_admin,sys_ptrace,dac_read_search";

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
    let trials: [(&str, Trial); 4] = [
        ("static binary in an empty root", archive),
        (".deb in a minimal Debian", deb),
        (".rpm in an empty root", rpm),
        ("image under podman", image),
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

/// What packages install beside the program.
fn installed(root: &Path) -> Result<()> {
    for path in ["etc/tcptrace/tcptrace.toml", "usr/share/bash-completion/completions/tcptrace"] {
        ensure!(root.join(path).exists(), "{path} is missing");
    }
    // dpkg compresses them, and leaves documentation out where the system says so.
    let man = root.join("usr/share/man/man1");
    let is_excluded = fs::read_dir(root.join("etc/dpkg/dpkg.cfg.d")).is_ok_and(|mut files| files.next().is_some());
    ensure!(
        is_excluded || ["", ".gz"].iter().any(|end| man.join(format!("tcptrace-sockets.1{end}")).exists()),
        "no man page"
    );
    Ok(())
}

fn image(_: Arch, to: &Path, _: &Path) -> Result<()> {
    let podman = |args: &[&str]| {
        let mut command = Command::new("podman");
        command.args(["--cgroup-manager=cgroupfs", "--events-backend=file"]).args(args);
        command
    };
    let loaded =
        programs::stdout_of(podman(&["load", "--input"]).arg(to.join(format!("{PACKAGE}-{VERSION}.oci.tar.gz"))))?;
    let name = loaded.lines().rev().find_map(|line| line.rsplit(' ').next().filter(|word| !word.is_empty()));
    let name = name.context("`podman load` names no image")?.to_owned();
    let container = |own_pids: bool| {
        let pids = if own_pids { "--pid=private" } else { "--pid=host" };
        podman(&["run", "--rm", "--network=host", "--cap-drop=all", CAPABILITIES, pids, &name])
    };
    let result = used(|| container(false)).and_then(|()| {
        let alone = container(true).args(["sockets", "--state", "LISTEN"]).output().context("podman")?;
        let told = String::from_utf8_lossy(&alone.stderr);
        ensure!(told.contains("PID namespace"), "without the host's PIDs it says: {told}");
        Ok(())
    });
    programs::stdout_of(&mut podman(&["rmi", "--force", &name]))?;
    result
}

/// Uses the program: its version, the holder of a socket, and a connection.
fn used(program: impl Fn() -> Command) -> Result<()> {
    let version = programs::stdout_of(program().arg("--version"))?;
    ensure!(version.starts_with(&format!("tcptrace {VERSION}\n")), "its version is {version:?}");
    let listener = TcpListener::bind("127.0.0.1:0").context("a listener")?;
    let end = listener.local_addr().context("a listener")?;
    let port = end.port().to_string();
    let Output { stdout, stderr, .. } = program().args(["sockets", "--json", "--local-port", &port]).output()?;
    let holds = |record: &Value| {
        let holders = record["holders"].as_array();
        holders.is_some_and(|holders| holders.iter().any(|holder| holder["pid"] == process::id()))
    };
    let text = String::from_utf8_lossy(&stdout);
    if !text.lines().filter_map(|line| serde_json::from_str(line).ok()).any(|record| holds(&record)) {
        bail!("it does not find who holds port {port}: {text}{}", String::from_utf8_lossy(&stderr));
    }
    let mut trace = program();
    trace.args(["--json", "--port", &port, "--count", "4", "--duration", "20s", "--findings", "off"]);
    let trace = trace.stdout(Stdio::piped()).spawn()?;
    // It says nowhere that it has begun: connections go on until it has seen enough.
    let output = thread::scope(|scope| {
        let waits = scope.spawn(|| trace.wait_with_output());
        while !waits.is_finished() {
            drop(TcpStream::connect(end));
            drop(listener.accept());
            thread::sleep(Duration::from_millis(100));
        }
        waits.join().map_err(|_| anyhow::anyhow!("waiting for it failed"))?.context("tcptrace")
    })?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(text.contains("\"new_state\":\"ESTABLISHED\""), "it saw no connection: {text}");
    Ok(())
}

/// A root folder with this machine's /proc and /sys in it, until it goes.
struct Mounted(PathBuf);

impl Mounted {
    fn new(root: &Path) -> Result<Self> {
        fs::create_dir_all(root).with_context(|| root.display().to_string())?;
        let mounted = Self(root.to_owned());
        mounted.mount("proc")?;
        mounted.mount("sys")?;
        Ok(mounted)
    }

    /// A tree of files that stays as it is: changes go to a folder of their own.
    fn over(tree: &Path, work: &Path) -> Result<Self> {
        let [upper, temporary, root] = ["upper", "temporary", "root"].map(|name| work.join(name));
        for folder in [&upper, &temporary, &root] {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        let options =
            format!("lowerdir={},upperdir={},workdir={}", tree.display(), upper.display(), temporary.display());
        programs::succeed(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(&root))?;
        Self::new(&root)
    }

    fn mount(&self, name: &str) -> Result<()> {
        let point = self.0.join(name);
        fs::create_dir_all(&point).with_context(|| point.display().to_string())?;
        programs::succeed(Command::new("mount").arg("--rbind").arg(format!("/{name}")).arg(&point))?;
        programs::succeed(Command::new("mount").arg("--make-rslave").arg(&point))
    }

    fn chroot(&self, program: &str) -> Command {
        let mut command = Command::new("chroot");
        command.arg(&self.0).arg(program);
        command
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        for name in ["proc", "sys", ""] {
            // Lazily: it is only left when nothing below is used any more.
            let _ = Command::new("umount")
                .args(["--lazy", "--recursive"])
                .arg(self.0.join(name))
                .stderr(Stdio::null())
                .status();
        }
    }
}
