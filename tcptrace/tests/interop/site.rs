//! Where a case is played: a network namespace of its own, a folder for the programs' files, and the programs. All go
//! with the case.

use std::{
    collections::BTreeSet,
    env, fs,
    io::Read as _,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{net, tracer::temporary};

/// How long a program may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Administrators' programs live here, and the PATH of an ordinary user often leaves these folders out.
const ADMIN_FOLDERS: [&str; 2] = ["/usr/sbin", "/sbin"];

/// The state of a listener in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// The executable of this name. PostgreSQL's server has a folder for each major version, and the newest counts.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(ADMIN_FOLDERS.iter().map(PathBuf::from));
    postgres_folder().into_iter().chain(folders).map(|folder| folder.join(name)).find(|file| file.is_file())
}

fn postgres_folder() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let newest = versions.max_by_key(|version| version.file_name().to_string_lossy().parse::<u32>().unwrap_or(0))?;
    Some(newest.path().join("bin"))
}

/// Why cases that call these programs cannot be played here.
pub(crate) fn missing(programs: &[&str]) -> Option<String> {
    let absent: Vec<_> = programs.iter().filter(|name| find(name).is_none()).collect();
    (!absent.is_empty()).then(|| format!("not installed: {absent:?}"))
}

/// A command that runs the program of this name.
pub(crate) fn command(name: &str) -> Command {
    Command::new(find(name).unwrap_or_else(|| panic!("{name} is not installed")))
}

/// A network namespace, which this thread is in, and a folder.
pub(crate) struct Site {
    /// The folder; everybody may look into it, as servers give up their rights.
    pub folder: PathBuf,
}

impl Site {
    /// Moves this thread into a new network namespace.
    pub(crate) fn new() -> Self {
        net::enter_new_netns();
        let folder = temporary("interop");
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    /// Writes a file into the folder, and gives its path.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.folder.join(name);
        fs::write(&path, content).unwrap();
        path.into_os_string().into_string().unwrap()
    }

    /// Starts a program that ends with the case. What it prints goes to a file of its name.
    pub(crate) fn start(&self, name: &str, command: &mut Command) -> Program {
        let log =
            || fs::File::options().create(true).append(true).open(self.folder.join(format!("{name}.log"))).unwrap();
        command.stdin(Stdio::null()).stderr(log());
        Program::start(command.stdout(log()))
    }

    /// Starts a role of `programs/client.py`.
    pub(crate) fn client(&self, role: &str, port: u16, argument: &str) -> Program {
        self.start(role, &mut python(role, port, argument))
    }

    /// The same, and waits until it says that all is as it should be.
    pub(crate) fn ready_client(&self, role: &str, port: u16, argument: &str) -> Program {
        let mut command = python(role, port, argument);
        let mut program = Program::start(command.stdin(Stdio::null()).stdout(Stdio::piped()));
        assert_eq!(program.line(), "ready", "{role} {port}");
        program
    }

    /// Runs a shell command to its end; how it ends does not matter, since cancelled transfers are no success.
    pub(crate) fn shell(&self, line: &str) {
        let _ = Command::new("sh").args(["-c", line]).current_dir(&self.folder).stdin(Stdio::null()).output().unwrap();
    }

    /// Adds a rule of nftables to what comes in.
    pub(crate) fn filter(&self, rule: &str) {
        let chain = "add table inet t; add chain inet t in { type filter hook input priority 0; }; add rule inet t in";
        let output = command("nft").arg(format!("{chain} {rule}")).output().unwrap();
        assert!(output.status.success(), "{rule}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// What the programs printed, for a case that failed.
    pub(crate) fn logs(&self) -> String {
        let logs = fs::read_dir(&self.folder).unwrap().flatten().map(|entry| entry.path());
        let text = logs.filter(|path| path.extension().is_some_and(|end| end == "log")).map(|path| tail(&path));
        text.collect()
    }
}

fn tail(path: &Path) -> String {
    let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(4)..];
    if last.is_empty() { String::new() } else { format!("{}:\n{}\n", path.display(), last.join("\n")) }
}

fn python(role: &str, port: u16, argument: &str) -> Command {
    let mut command = command("python3");
    command.args([&source("client.py"), role, &port.to_string(), argument]);
    command
}

/// A file of `programs`.
pub(crate) fn source(name: &str) -> String {
    format!("{}/tests/interop/programs/{name}", env!("CARGO_MANIFEST_DIR"))
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder); // at most it stays
    }
}

/// A program, and what it has started.
pub(crate) struct Program(pub Child);

impl Program {
    /// Starts it as the leader of a process group, out of reach of Ctrl-C; it ends with this thread, should that be killed.
    pub(crate) fn start(command: &mut Command) -> Self {
        // SAFETY: between fork and exec only prctl is called, which is a plain system call.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
                Ok(())
            });
        }
        Self(command.process_group(0).spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// The next line that it prints; its output must be a pipe.
    #[allow(clippy::unbuffered_bytes, reason = "it is a line")]
    pub(crate) fn line(&mut self) -> String {
        // Byte by byte: what follows is for the next call.
        let bytes = self.0.stdout.as_mut().unwrap().bytes().map(Result::unwrap);
        String::from_utf8(bytes.take_while(|byte| *byte != b'\n').collect()).unwrap()
    }

    /// Its PID.
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// The PIDs of its processes now: itself, and all that descend from it.
    pub(crate) fn family(&self) -> BTreeSet<u32> {
        let (processes, mut family) = (parents(), BTreeSet::from([self.pid()]));
        loop {
            let is_child = |(pid, parent): &&(u32, u32)| family.contains(parent) && !family.contains(pid);
            let children: Vec<_> = processes.iter().filter(is_child).map(|(pid, _)| *pid).collect();
            if children.is_empty() {
                return family;
            }
            family.extend(children);
        }
    }

    /// Its processes without the first: workers.
    pub(crate) fn workers(&self) -> BTreeSet<u32> {
        let mut workers = self.family();
        workers.remove(&self.pid());
        workers
    }

    /// Sends a signal to the first process.
    pub(crate) fn signal(&self, signal: i32) {
        kill(self.pid(), signal);
    }

    /// Sends a signal to each worker.
    pub(crate) fn signal_workers(&self, signal: i32) {
        self.workers().into_iter().for_each(|pid| kill(pid, signal));
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

/// Sends a signal to a process that this one has started, or that a child of it has.
pub(crate) fn kill(pid: u32, signal: i32) {
    // SAFETY: takes no pointers.
    unsafe { libc::kill(pid as i32, signal) };
}

/// All processes, each with its parent.
fn parents() -> Vec<(u32, u32)> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in brackets may hold anything.
        Some((pid, stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?))
    })
    .collect()
}

impl Drop for Program {
    fn drop(&mut self) {
        // A worker may have been started since the family was looked at, and may outlive the first process. The number of a
        // group is nobody else's while it has members.
        let group = self.0.id() as i32;
        // SAFETY: takes numbers only.
        let end_group = || unsafe { libc::kill(-group, libc::SIGKILL) };
        if !matches!(self.0.try_wait(), Ok(None)) {
            end_group();
            return;
        }
        let family = self.family();
        family.iter().for_each(|pid| kill(*pid, libc::SIGCONT));
        // PostgreSQL's immediate end is SIGQUIT; it takes away its shared memory, which SIGKILL leaves.
        self.signal(libc::SIGQUIT);
        let start = Instant::now();
        while matches!(self.0.try_wait(), Ok(None)) && start.elapsed() < Duration::from_secs(1) {
            thread::sleep(Duration::from_millis(10));
        }
        // Those that are there still; a PID is not another's so soon.
        family
            .intersection(&parents().into_iter().map(|(pid, _)| pid).collect())
            .for_each(|pid| kill(*pid, libc::SIGKILL));
        end_group();
        let _ = self.0.wait();
    }
}

/// Waits until somebody listens at this port, without a connection to it, which would be traffic.
pub(crate) fn wait_for_port(port: u16) {
    let end = format!(":{port:04X}");
    wait_until(&format!("a listener at port {port}"), || {
        let sockets = fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
        sockets
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .any(|words| words[1].ends_with(&end) && words[3] == LISTEN)
    });
}

/// Waits until a condition holds.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(20));
    }
}
