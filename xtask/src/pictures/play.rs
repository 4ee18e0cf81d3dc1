//! The run that the documentation shows: servers and clients of the demo in a network namespace, and tcptrace on them.

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::{screen, svg};
use xtask::netns;

/// What a command line printed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Shot {
    /// Its name in the pages.
    pub(super) name: String,
    /// The arguments of tcptrace, as a user types them.
    pub(super) line: String,
    /// Its stdout, with escape sequences.
    pub(super) stdout: String,
}

impl Shot {
    /// The lines of these paragraphs, which empty lines separate; the first is 1.
    pub(super) fn paragraphs(&self, first: usize, last: usize) -> Vec<&str> {
        let (mut number, mut was_empty) = (1, true);
        let mut is_wanted = |line: &&str| {
            let is_empty = svg::plain(line).is_empty();
            number += usize::from(is_empty && !was_empty);
            was_empty = is_empty;
            (first..=last).contains(&number)
        };
        let lines: Vec<_> = self.stdout.lines().filter(|line| is_wanted(line)).collect();
        let from = lines.iter().position(|line| !svg::plain(line).is_empty()).unwrap_or(0);
        lines.into_iter().skip(from).collect()
    }
}

/// While these run, the acts are played. They end by SIGINT.
const OF_THE_ACTS: [(&str, &str); 4] = [
    ("record", "record -w /run/tcptrace-pictures.rec --netns self --stuck-after CLOSE_WAIT=2s"),
    ("trace", "--netns self --port 7010,7020 --stuck-after CLOSE_WAIT=2s"),
    ("stream", "--netns self --pid --stuck-after CLOSE_WAIT=2s --threshold storm-retransmits=2"),
    ("story", "story 7030 --netns self"),
];

/// The report on the recording of the acts.
const REPORT: (&str, &str) = ("report", "report /run/tcptrace-pictures.rec -o - --stuck-after CLOSE_WAIT=2s");
/// Commands that print no colours.
const PLAIN: [&str; 3] = ["rates", "record", REPORT.0];

/// While these run, clients connect in a row.
const OF_THE_LOAD: [(&str, &str); 1] = [("aggregate", "--aggregate port --netns self")];

/// These look at what is left in the end.
const AT_THE_END: [(&str, &str); 4] = [
    ("stuck", "stuck --once --netns self --stuck-after CLOSE_WAIT=2s"),
    ("sockets", "sockets --netns self"),
    ("by-pid", "sockets --by pid --netns self"),
    ("doctor", "doctor settings pressure --netns self"),
];

/// A screen on which the leak is found.
const SCREEN: (&str, &str, (u16, u16), &str) =
    ("top", "top --netns self --stuck-after CLOSE_WAIT=2s", (100, 24), "has not called close()");

const SERVERS: [&str; 4] = ["web-server", "leaky-server", "reset-server", "lossy-server"];

/// The clients, how often each connects, and the time until the next one starts.
const ACTS: [(&str, u32, u64); 5] = [
    ("refused-client", 1, 200),
    ("web-client", 1, 200),
    ("reset-client", 1, 200),
    ("leaky-client", 1, 0),
    ("lossy-client", 1, 3000),
];

/// The clients of the load, one after the other.
const LOAD: [&str; 4] = ["web-client", "refused-client", "reset-client", "leaky-client"];

/// How long attaching, or a command that ends by itself, may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Plays everything. Must run as root, in a process with one thread.
pub(super) fn play(tracer: &Path) -> Result<Vec<Shot>> {
    netns::enter_new()?;
    let actors = Actors::new()?;
    let _servers = SERVERS.iter().map(|name| actors.start_server(name)).collect::<Result<Vec<_>>>()?;
    let mut shots = Vec::new();
    let running = start_all(tracer, &OF_THE_ACTS)?;
    for (client, times, pause) in ACTS {
        actors.run_client(client, times)?;
        thread::sleep(Duration::from_millis(pause));
    }
    shots.extend(end_all(running)?);
    shots.push(Running::start(tracer, REPORT.0, REPORT.1, None)?.wait()?);
    let running = start_all(tracer, &OF_THE_LOAD)?;
    let rates = Running::start(tracer, "rates", "rates --netns self --count 3", None)?;
    for client in LOAD {
        actors.run_client(client, 3)?;
    }
    shots.extend(end_all(running)?);
    shots.push(rates.wait()?);
    for (name, line) in AT_THE_END {
        shots.push(Running::start(tracer, name, line, None)?.wait()?);
    }
    let (name, line, size, wanted) = SCREEN;
    let stdout = screen::shoot(tracer, line, size, wanted)?;
    shots.push(Shot { name: name.to_owned(), line: line.to_owned(), stdout });
    hide_cgroup(&mut shots)?;
    Ok(shots)
}

/// Replaces the cgroup in which this was started, which is nobody's business.
fn hide_cgroup(shots: &mut [Shot]) -> Result<()> {
    let own = fs::read_to_string("/proc/self/cgroup").context("/proc/self/cgroup")?;
    let paths = own.lines().filter_map(|line| line.splitn(3, ':').nth(2)).filter(|path| *path != "/");
    for path in paths {
        shots.iter_mut().for_each(|shot| shot.stdout = shot.stdout.replace(path, "/demo"));
    }
    Ok(())
}

fn start_all(tracer: &Path, lines: &[(&'static str, &'static str)]) -> Result<Vec<Running>> {
    let start = |&(name, line): &(&'static str, &'static str)| {
        // Only root writes there, so the file is the tracer's.
        let ready = PathBuf::from(format!("/run/tcptrace-pictures-{}-{name}.ready", process::id()));
        let running = Running::start(tracer, name, line, Some(&ready))?;
        running.wait_until_ready(&ready)?;
        Ok(running)
    };
    lines.iter().map(start).collect()
}

fn end_all(running: Vec<Running>) -> Result<Vec<Shot>> {
    for tracer in &running {
        // SAFETY: kill takes numbers, and the child was not waited for.
        unsafe { libc::kill(tracer.child.0.id().cast_signed(), libc::SIGINT) };
    }
    running.into_iter().map(Running::wait).collect()
}

/// A tcptrace whose stdout goes into a file, so that nobody has to read while it runs.
struct Running {
    name: &'static str,
    line: &'static str,
    child: Ended,
    stdout: PathBuf,
}

impl Running {
    fn start(tracer: &Path, name: &'static str, line: &'static str, ready: Option<&Path>) -> Result<Self> {
        let stdout = PathBuf::from(format!("/run/tcptrace-pictures-{}-{name}.out", process::id()));
        let file = fs::File::create_new(&stdout).with_context(|| stdout.display().to_string())?;
        let mut command = Command::new(tracer);
        command.args(line.split(' ')).stdin(Stdio::null()).stdout(file);
        if !PLAIN.contains(&name) {
            command.args(["--color", "always"]);
        }
        if let Some(ready) = ready {
            command.arg("--ready-file").arg(ready);
        }
        let child = command.spawn().with_context(|| format!("`tcptrace {line}` cannot be started"))?;
        Ok(Self { name, line, child: Ended(child), stdout })
    }

    /// Waits for the file that the tracer creates when its programs are attached.
    fn wait_until_ready(&self, ready: &Path) -> Result<()> {
        let start = Instant::now();
        while !ready.exists() {
            if start.elapsed() > PATIENCE {
                bail!("`tcptrace {}` has not attached its programs within {} s", self.line, PATIENCE.as_secs());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn wait(mut self) -> Result<Shot> {
        let status = self.child.0.wait().with_context(|| format!("`tcptrace {}`: cannot wait for it", self.line))?;
        // 3: there are findings, or the doctor warns.
        if !matches!(status.code(), Some(0 | 3)) {
            bail!("`tcptrace {}`: {status}", self.line);
        }
        let stdout = fs::read_to_string(&self.stdout).with_context(|| self.stdout.display().to_string())?;
        Ok(Shot { name: self.name.to_owned(), line: self.line.to_owned(), stdout })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It was read, or nobody wants it any more.
        let _ = fs::remove_file(&self.stdout);
    }
}

/// The processes of the demo, started from a copy of this program: findings show the path of the executable, which is
/// nobody's business.
struct Actors(PathBuf);

impl Actors {
    fn new() -> Result<Self> {
        let copy = Self(PathBuf::from("/run/tcptrace-demo"));
        let this = env::current_exe().context("this program does not know where it is")?;
        fs::copy(this, &copy.0).with_context(|| copy.0.display().to_string())?;
        Ok(copy)
    }

    fn command(&self, name: &str, times: u32) -> Command {
        let mut command = Command::new(&self.0);
        command.args(["demo-actor", name, "--times", &times.to_string()]).stdin(Stdio::null());
        command
    }

    /// Starts a server and waits until it listens.
    fn start_server(&self, name: &str) -> Result<Ended> {
        let mut command = self.command(name, 1);
        let mut child = Ended(command.stdout(Stdio::piped()).spawn().with_context(|| format!("{name}: cannot start"))?);
        let stdout = child.0.stdout.take().with_context(|| format!("{name}: its output is not at hand"))?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).with_context(|| format!("{name}: cannot read its output"))?;
        if line.trim() != "listening" {
            bail!("{name}: ended before it listened");
        }
        Ok(child)
    }

    fn run_client(&self, name: &str, times: u32) -> Result<()> {
        let mut command = self.command(name, times);
        let status = command.stdout(Stdio::null()).status().with_context(|| format!("{name}: cannot start"))?;
        if !status.success() {
            bail!("{name}: {status}");
        }
        Ok(())
    }
}

impl Drop for Actors {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0); // a program that runs keeps its file
    }
}

/// A process that ends with this value.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // One that has ended already is as it should be.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
