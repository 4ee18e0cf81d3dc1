//! `cargo xtask demo`: real TCP trouble, and tcptrace running on it.
//!
//! On an idle machine a tracer shows nothing. The demo starts servers and clients in a network namespace of their
//! own, so that the trouble touches nothing else, while the tracer watches from outside as it would in earnest.

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

use anyhow::{Context as _, Result, anyhow, bail};

use crate::{
    demo_actor::Role,
    netns,
    privilege::{self, Root},
    programs, run, workspace,
};

/// The ports of the demo's servers, which keep other connections of the machine out of sight.
const PORTS: &str = "7000-7099";

/// How long attaching the probes may take on a slow machine.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

const INTRODUCTION: &str = "\
web-client asks web-server and all is well; refused-client, reset-client and lossy-client meet what their names say.
leaky-server never closes what its clients have closed: its sockets enter CLOSE_WAIT and stay there.
Watch the states pass; the summary at the end names the process that leaks.
";

/// Options of `cargo xtask demo`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long to trace
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
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
    // Asked first: a build takes a minute, and is no use without root.
    let root = Root::find();
    if matches!(root, Root::No) {
        bail!(privilege::way_out());
    }
    let tracer = match &args.tracer {
        Some(tracer) => tracer.clone(),
        None => run::build_tracer(&workspace::root()?, true)?,
    };
    if matches!(root, Root::Already) {
        return perform(args, &tracer);
    }
    let this = env::current_exe().context("this program does not know where it is")?;
    let mut command = root.command(this, &[]).with_context(privilege::way_out)?;
    command.args(["demo", "--seconds", &args.seconds.to_string(), "--tracer"]).arg(tracer).arg("--").args(&args.args);
    let error = command.exec();
    Err(anyhow!(error).context(format!("`{}` cannot be started", programs::line(&command))))
}

fn perform(args: &Args, tracer: &Path) -> Result<ExitCode> {
    print!("{INTRODUCTION}");
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
    for role in Role::CLIENTS {
        actors.0.push(start_actor(role, Stdio::null())?);
    }
    let status = child.wait().context("tcptrace: cannot wait for it")?;
    // An actor that died has shown nothing, and a summary without it would mislead.
    for (role, actor) in Role::SERVERS.iter().chain(&Role::CLIENTS).zip(&mut actors.0) {
        if let Some(status) = actor.try_wait().with_context(|| format!("{}: cannot ask for its state", role.name()))? {
            bail!("{}: ended before the demo did: {status}", role.name());
        }
    }
    if !status.success() {
        bail!("tcptrace failed: {status}");
    }
    Ok(ExitCode::SUCCESS)
}

fn start_tracer(args: &Args, tracer: &Path, ready: &Path) -> Result<Child> {
    let mut command = Command::new(tracer);
    command
        .args(["--pid", "--port", PORTS, "--duration"])
        .arg(format!("{}s", args.seconds))
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

/// Waits for the file that the tracer creates once its probes are attached: what happens earlier is not seen.
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
    let mut child = start_actor(role, Stdio::piped())?;
    let stdout = child.stdout.take().with_context(|| format!("{}: its output is not at hand", role.name()))?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).with_context(|| format!("{}: cannot read its output", role.name()))?;
    if line.trim() != "listening" {
        bail!("{}: ended before it listened", role.name());
    }
    Ok(child)
}

fn start_actor(role: Role, stdout: Stdio) -> Result<Child> {
    let this = env::current_exe().context("this program does not know where it is")?;
    Command::new(this)
        .args(["demo-actor", &role.name()])
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

/// Where the tracer says that it is ready; removed once it has.
struct ReadyFile(PathBuf);

impl ReadyFile {
    fn new() -> Self {
        // Only root writes there, so the file is the tracer's.
        Self(PathBuf::from(format!("/run/tcptrace-demo-{}.ready", process::id())))
    }
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        // It is not there if the tracer never got so far.
        let _ = fs::remove_file(&self.0);
    }
}
