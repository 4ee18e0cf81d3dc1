//! The image under podman, with the privileges that the pods of dist/kubernetes have.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use xtask::{programs, workspace};

use super::{Arch, PACKAGE, VERSION, used};

/// As the manifest has it.
const RESTRICTED: [&str; 5] = [
    "--cap-drop=all",
    "--cap-add=bpf,perfmon,sys_admin,sys_ptrace,dac_read_search",
    "--security-opt=no-new-privileges",
    "--read-only",
    "--ulimit=host",
];
const MANIFEST: &str = "dist/kubernetes/tcptrace.yaml";
/// Where the manifest's configuration serves metrics.
const METRICS: &str = "127.0.0.1:9437";
const DAEMON: &str = "tcptrace-trial";

/// An image that podman has loaded, until the trial ends.
struct Image {
    name: String,
    /// A configuration that raises no limits: that is refused where root has no CAP_SYS_RESOURCE.
    settings: PathBuf,
}

pub(super) fn run(_: Arch, to: &Path, work: &Path) -> Result<()> {
    let image = Image::load(&to.join(format!("{PACKAGE}-{VERSION}.oci.tar")), work)?;
    // In a network namespace of its own, as a pod: the sockets are in another one.
    used(|| image.container(&["--rm", "--pid=host", "--network=none"], &[]))?;
    let alone = image.container(&["--rm", "--network=none"], &["sockets"]).output().context("podman")?;
    let told = String::from_utf8_lossy(&alone.stderr);
    ensure!(told.contains("PID namespace"), "without the host's PIDs it says: {told}");
    daemon(&image, work)
}

/// Runs what the manifest runs, with its configuration, until it is ready; and a command beside it.
fn daemon(image: &Image, work: &Path) -> Result<()> {
    let manifest = fs::read_to_string(workspace::root()?.join(MANIFEST)).context(MANIFEST)?;
    let lines = manifest.lines().skip_while(|line| line.trim() != "tcptrace.toml: |").skip(1);
    let config: Vec<_> = lines.map_while(|line| line.strip_prefix("    ")).collect();
    let folder = work.join("config");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    fs::write(folder.join("tcptrace.toml"), config.join("\n")).context("tcptrace.toml")?;
    let mount = format!("--volume={}:/etc/tcptrace:ro", folder.display());
    let flags = ["--detach", "--name", DAEMON, "--pid=host", "--network=host", &mount];
    programs::stdout_of(&mut image.container(&flags, &["daemon", "--config", "/etc/tcptrace/tcptrace.toml"]))?;
    let start = Instant::now();
    let is_ready = || get("/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200"));
    while !is_ready() && start.elapsed() < Duration::from_secs(30) {
        thread::sleep(Duration::from_millis(200));
    }
    let log = programs::stdout_of(&mut image.podman(&["logs", DAEMON]))?;
    ensure!(is_ready(), "{METRICS}/readyz: {:?}; its log: {log}", get("/readyz"));
    ensure!(get("/metrics").is_some_and(|metrics| metrics.contains("tcptrace_connections")), "no metrics; {log}");
    programs::stdout_of(&mut image.podman(&["exec", DAEMON, "tcptrace", "sockets", "--by", "container"]))?;
    Ok(())
}

fn get(path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(METRICS).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {METRICS}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

impl Image {
    fn load(archive: &Path, work: &Path) -> Result<Self> {
        let settings = work.join("containers.conf");
        fs::write(&settings, "[containers]\ndefault_ulimits = []\n").context("containers.conf")?;
        let mut image = Self { name: String::new(), settings };
        let loaded = programs::stdout_of(image.podman(&["load", "--input"]).arg(archive))?;
        let name = loaded.lines().rev().find_map(|line| line.rsplit(' ').next().filter(|word| !word.is_empty()));
        image.name = name.context("`podman load` names no image")?.to_owned();
        Ok(image)
    }

    fn podman(&self, args: &[&str]) -> Command {
        let mut command = Command::new("podman");
        command.args(["--cgroup-manager=cgroupfs", "--events-backend=file"]).args(args);
        command.env("CONTAINERS_CONF", &self.settings);
        command
    }

    fn container(&self, flags: &[&str], words: &[&str]) -> Command {
        let mut command = self.podman(&["run"]);
        command.args(RESTRICTED).args(flags).arg(&self.name).args(words);
        command
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        for words in [["rm", "--force", DAEMON], ["rmi", "--force", &self.name]] {
            let _ = self.podman(&words).output(); // what is not there need not go
        }
    }
}
