//! `cargo xtask demo`: real TCP trouble, and tcptrace running on it.
//!
//! An idle machine shows nothing. The demo starts servers and clients in a network namespace of their own, so that the
//! trouble touches nothing else, while the tracer watches from outside as it would on a real host.

use std::{
    env,
    ffi::OsString,
    fs, io,
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{self, Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use xtask::{builds, netns, privilege::Root, programs, workspace};

use crate::demo_actor::Role;

/// The ports of the demo's servers: the filter hides other connections of the machine.
const PORTS: &str = "7000-7099";

/// How long attaching the probes may take on a slow machine.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// Low thresholds, so that findings come within seconds instead of a minute.
const THRESHOLDS: [&str; 4] = ["--stuck-after", "CLOSE_WAIT=2s", "--threshold", "storm-retransmits=2"];

/// One thing that happens: a sentence about it, the client and how often it runs, and a pause to read the output.
struct Act {
    sentence: &'static str,
    client: Role,
    times: u32,
    pause: Duration,
}

const ACTS: [Act; 5] = [
    Act {
        sentence: "web-client sends web-server a request, and both close: follow one connection from SYN_SENT to TIME_WAIT.",
        client: Role::WebClient,
        times: 1,
        pause: Duration::from_millis(1000),
    },
    Act {
        sentence: "refused-client connects where nobody listens: look for `refused by peer` and the kernel's RST.",
        client: Role::RefusedClient,
        times: 2,
        pause: Duration::from_millis(500),
    },
    Act {
        sentence: "reset-client closes with SO_LINGER 0: look for the RST that it sends and reset-server receives.",
        client: Role::ResetClient,
        times: 1,
        pause: Duration::from_millis(1000),
    },
    Act {
        sentence: "lossy-server drops what comes in for 700 ms: look for lossy-client's retransmits.",
        client: Role::LossyClient,
        times: 1,
        pause: Duration::from_millis(500),
    },
    Act {
        sentence: "leaky-server never closes what leaky-client has closed: look for CLOSE_WAIT, and in 2 s for \
                   `close-wait-leak`, which names it.",
        client: Role::LeakyClient,
        times: 3,
        pause: Duration::from_millis(3000),
    },
];

/// Options of `cargo xtask demo`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long to trace at most, in seconds: the acts take about 9
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// The tracer to run, instead of building it
    #[arg(long, hide = true)]
    tracer: Option<PathBuf>,
    /// Further arguments of tcptrace, such as `-- --format json`
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<OsString>,
}

/// Builds the tracer as the caller, and runs the demo as root.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let root = Root::required()?;
    let tracer = match &args.tracer {
        Some(tracer) => tracer.clone(),
        None => builds::tracer(&workspace::root()?, false)?,
    };
    if matches!(root, Root::Already) {
        return perform(args, &tracer);
    }
    let words = ["demo".into(), "--seconds".into(), args.seconds.to_string().into(), "--tracer".into(), tracer.into()];
    Err(root.restart(words.into_iter().chain(["--".into()]).chain(args.args.iter().cloned())))
}

fn perform(args: &Args, tracer: &Path) -> Result<ExitCode> {
    let path = tracer;
    let ready = ReadyFile::new();
    let mut tracer = Processes(vec![start_tracer(args, tracer, &ready.0)?]);
    // From here on Ctrl-C ends the tracer, which prints its summary; the demo then ends the rest.
    // SAFETY: ignoring a signal installs no handler.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
    let Some(child) = tracer.0.first_mut() else {
        bail!("the tracer was not started");
    };
    wait_until_ready(child, &ready.0)?;
    drop(ready);
    netns::enter_new()?;
    let mut actors = Processes(Vec::new());
    for role in Role::SERVERS {
        actors.0.push(start_server(role)?);
    }
    play(child)?;
    let status = child.wait().context("tcptrace: cannot wait for it")?;
    // Without an actor the summary would mislead.
    for (role, actor) in Role::SERVERS.iter().zip(&mut actors.0) {
        if let Some(status) = actor.try_wait().with_context(|| format!("{}: cannot read its state", role.name()))? {
            bail!("{}: ended before the demo did: {status}", role.name());
        }
    }
    if !status.success() {
        bail!("tcptrace failed: {status}");
    }
    eprintln!("\n── The end: `tcptrace stuck --once` finds the leak that is still there.");
    let mut command = Command::new(path);
    command.args(["stuck", "--once", "--port", PORTS]).args(&THRESHOLDS[..2]);
    let status = command.status().with_context(|| format!("`{}` cannot be started", programs::line(&command)))?;
    // 3: there are findings (docs/findings.md).
    if status.code() != Some(3) {
        bail!("tcptrace stuck --once: {status}: it did not find the leak");
    }
    Ok(ExitCode::SUCCESS)
}

/// Plays the acts, and ends the tracer after the last of them, unless it has ended before.
fn play(tracer: &mut Child) -> Result<()> {
    for (act, number) in ACTS.iter().zip(1..) {
        if tracer.try_wait().context("tcptrace: cannot wait for it")?.is_some() {
            return Ok(());
        }
        eprintln!("\n── Act {number} of {}: {}", ACTS.len(), act.sentence);
        let name = act.client.name();
        let mut client = start_actor(act.client, act.times, Stdio::null())?;
        let status = client.wait().with_context(|| format!("{name}: cannot wait for it"))?;
        if !status.success() {
            bail!("{name}: {status}");
        }
        thread::sleep(act.pause);
    }
    // SAFETY: kill takes numbers, and the child was not waited for.
    if unsafe { libc::kill(tracer.id().cast_signed(), libc::SIGTERM) } != 0 {
        return Err(io::Error::last_os_error()).context("tcptrace: cannot be ended");
    }
    Ok(())
}

fn start_tracer(args: &Args, tracer: &Path, ready: &Path) -> Result<Child> {
    let mut command = Command::new(tracer);
    command
        .args(["--pid", "--port", PORTS, "--duration"])
        .arg(format!("{}s", args.seconds))
        .args(THRESHOLDS)
        .arg("--ready-file")
        .arg(ready)
        .args(&args.args)
        .stdin(Stdio::null());
    // SAFETY: between fork and exec only prctl is called, which is a plain system call.
    unsafe {
        command.pre_exec(|| {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    command.spawn().with_context(|| format!("`{}` cannot be started", programs::line(&command)))
}

/// Waits for the file that the tracer creates once its probes are attached: it does not see what happens earlier.
fn wait_until_ready(tracer: &mut Child, ready: &Path) -> Result<()> {
    let start = Instant::now();
    while !ready.exists() {
        if let Some(status) = tracer.try_wait().context("tcptrace: cannot wait for it")? {
            bail!("tcptrace ended before its probes were attached: {status}");
        }
        if start.elapsed() > READY_TIMEOUT {
            bail!("tcptrace has not attached its probes within {} s", READY_TIMEOUT.as_secs());
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Starts a server and waits until it listens.
fn start_server(role: Role) -> Result<Child> {
    let mut child = start_actor(role, 1, Stdio::piped())?;
    let stdout = child.stdout.take().with_context(|| format!("{}: it has no pipe", role.name()))?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).with_context(|| format!("{}: cannot read its output", role.name()))?;
    if line.trim() != "listening" {
        bail!("{}: ended before it listened", role.name());
    }
    Ok(child)
}

fn start_actor(role: Role, times: u32, stdout: Stdio) -> Result<Child> {
    let this = env::current_exe().context("this program does not know where it is")?;
    Command::new(this)
        .args(["demo-actor", &role.name(), "--times", &times.to_string()])
        .stdin(Stdio::null())
        .stdout(stdout)
        // Ctrl-C goes to the terminal's process group. The actors stay until the tracer has printed its summary.
        .process_group(0)
        .spawn()
        .with_context(|| format!("{}: cannot be started", role.name()))
}

/// Processes that end with the demo, whether it succeeds or not.
struct Processes(Vec<Child>);

impl Drop for Processes {
    fn drop(&mut self) {
        // The clients were started last and end first, so that none complains of a server that is gone.
        for child in self.0.iter_mut().rev() {
            // One that has ended already is as it should be.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The file by which the tracer signals that it is ready.
struct ReadyFile(PathBuf);

impl ReadyFile {
    fn new() -> Self {
        // Only root writes there, so nobody else can make the file.
        Self(PathBuf::from(format!("/run/tcptrace-demo-{}.ready", process::id())))
    }
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        // It is missing if the tracer was never ready.
        let _ = fs::remove_file(&self.0);
    }
}
