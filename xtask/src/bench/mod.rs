//! `cargo xtask bench`: what tcptrace costs, beside others in the same run.
//!
//! Times depend on the machine and on what else it does, so contestants alternate, and what counts are ratios: the
//! figure of one contestant divided by the other's in the same round. Each part is a module that gives tables; they go
//! to `docs/performance.json`, and from there to `docs/performance.md`.

mod bpf;
mod btf;
mod contest;
mod core;
mod figure;
mod goals;
mod growth;
pub(crate) mod holder;
mod loss;
mod process;
mod quick;
mod report;
mod runs;
mod same;
mod slowdown;
mod sockets;
mod start;
pub(crate) mod worker;

use std::{
    env, fs, io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    ptr, thread,
    time::Instant,
};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::ValueEnum as _;
use contest::Tools;
use report::{Measured, Report, Table};

use crate::{
    cargo, instructions,
    privilege::{self, Root},
    programs, setup,
    workspace::{self, TRACER},
};

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
enum Part {
    /// What a load keeps of its rate, and the tracers' CPU time for it
    Load,
    /// Nanoseconds of each BPF program, beside an empty one
    Programs,
    /// The pure core: `cargo bench --bench figures`
    Core,
    /// The highest rate without loss
    Loss,
    /// Start-up, and memory and CPU time at rest
    Start,
    /// More connections, more filters
    Growth,
    /// Listing 20,000 sockets, beside ss
    Sockets,
}

impl Part {
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to measure; all if not given
    parts: Vec<Part>,
    /// How often each contestant runs
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How long it is looked at what tracers take at rest, in seconds
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Sockets to list, in all states
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1000..=200_000))]
    sockets: u32,
    /// Further sockets in TIME_WAIT, with which polling is measured a second time; 0 leaves that out
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=400_000))]
    time_wait: u32,
    /// Only make sure, in a minute, that no cost has jumped; fails where one has
    #[arg(long, conflicts_with_all = ["parts", "rounds", "seconds"])]
    quick: bool,
    /// Print the figures, and leave docs/performance.json and docs/performance.md as they are
    #[arg(long)]
    print_only: bool,
    /// The tracer to measure, instead of building it
    #[arg(long, value_name = "FILE")]
    tracer: Option<PathBuf>,
    /// The executable of `cargo bench --bench figures`, instead of building it
    #[arg(long, value_name = "FILE")]
    figures: Option<PathBuf>,
}

impl Args {
    fn parts(&self) -> &[Part] {
        if self.parts.is_empty() { Part::value_variants() } else { &self.parts }
    }
}

/// Installs what is missing and builds as the caller, and measures as root.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    // Asked first: a build takes minutes, and is no use without root.
    let root = Root::find();
    if matches!(root, Root::No) {
        bail!(privilege::way_out());
    }
    let tracer = match &args.tracer {
        Some(tracer) => tracer.clone(),
        // CI has built it for that, and the optimisation that it lacks changes little of what is looked at.
        None if args.quick => cargo::pick(&instructions::build(&workspace::root()?)?, "bin", TRACER)?,
        None => build("build", &["--release"], "bin", TRACER)?,
    };
    let figures = match &args.figures {
        Some(figures) => Some(figures.clone()),
        None if args.quick || !args.parts().contains(&Part::Core) => None,
        None => Some(build("bench", &["--no-run", "--bench", core::NAME], "bench", core::NAME)?),
    };
    if !args.quick {
        setup::bench()?;
    }
    if matches!(root, Root::Already) {
        return perform(args, &tracer, figures.as_deref());
    }
    let mut built = Vec::new();
    if args.tracer.is_none() {
        built.extend(["--tracer".into(), tracer]);
    }
    if let (None, Some(figures)) = (&args.figures, figures) {
        built.extend(["--figures".into(), figures]);
    }
    let this = env::current_exe().context("this program does not know where it is")?;
    let mut command = root.command(this, &[]).with_context(privilege::way_out)?;
    command.args(env::args_os().skip(1)).args(built);
    let error = command.exec();
    Err(anyhow!(error).context(format!("`{}` cannot be started", programs::line(&command))))
}

/// Builds an executable of the tracer's package.
fn build(subcommand: &str, words: &[&str], kind: &str, name: &str) -> Result<PathBuf> {
    let all = [&[subcommand, "--package", TRACER], words].concat();
    cargo::pick(&cargo::build(&workspace::root()?, &all)?, kind, name)
}

fn perform(args: &Args, tracer: &Path, figures: Option<&Path>) -> Result<ExitCode> {
    see_tracefs().context("tracefs, which tcpstates and bpftrace need, cannot be mounted")?;
    let tools = Tools::find(tracer)?;
    println!("{}\n", machine());
    let others = bpf::tracing_programs().context("other BPF programs cannot be looked for")?;
    if others > 0 {
        eprintln!("warning: {others} BPF programs that trace are loaded already: they may cost the load something too");
    }
    if fs::read_to_string("/proc/sys/kernel/bpf_stats_enabled").is_ok_and(|kept| kept.trim() != "0") {
        eprintln!("warning: kernel.bpf_stats_enabled is set: all BPF programs take longer");
    }
    if args.quick {
        return Ok(if quick::passes(&tools)? { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let root = workspace::root()?;
    let [json, page] = ["docs/performance.json", "docs/performance.md"].map(|file| root.join(file));
    let mut report = Report::read(&json, &machine())?;
    let describe = ["describe", "--always", "--dirty"];
    let commit = programs::stdout_of(Command::new("git").current_dir(&root).args(describe));
    let commit = commit.map_or("an unknown commit".to_owned(), |commit| commit.trim().to_owned());
    for &part in args.parts() {
        let start = Instant::now();
        let tables = measure(part, args, &tools, figures).with_context(|| part.name())?;
        eprintln!("bench: {} took {:.0} s\n", part.name(), start.elapsed().as_secs_f64());
        report.put(Measured { part: part.name(), commit: commit.clone(), tables });
    }
    println!("{}", report.goals());
    if !args.print_only {
        report.write(&json, &page)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(part: Part, args: &Args, tools: &Tools, figures: Option<&Path>) -> Result<Vec<Table>> {
    match part {
        Part::Load => slowdown::measure(tools, args.rounds),
        Part::Programs => runs::measure(tools, args.rounds),
        Part::Core => core::measure(figures.context("--figures is not given")?),
        Part::Loss => loss::measure(tools),
        Part::Start => start::measure(tools, args.rounds, args.seconds),
        Part::Growth => growth::measure(tools, args.rounds),
        Part::Sockets => sockets::measure(tools, args),
    }
}

/// Mounts tracefs for this process and its children alone, where it is not mounted already.
fn see_tracefs() -> io::Result<()> {
    const PLACE: &str = "/sys/kernel/tracing";
    if Path::new(PLACE).join("events").exists() {
        return Ok(());
    }
    let (root, kind, place) = (c"/", c"tracefs", c"/sys/kernel/tracing");
    // SAFETY: the kernel reads strings that are constants. Null stands for what these calls do not need.
    let failed = unsafe {
        libc::unshare(libc::CLONE_NEWNS) != 0
            || libc::mount(ptr::null(), root.as_ptr(), ptr::null(), libc::MS_REC | libc::MS_PRIVATE, ptr::null()) != 0
            || libc::mount(kind.as_ptr(), place.as_ptr(), kind.as_ptr(), 0, ptr::null()) != 0
    };
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Kernel and CPUs, since figures mean nothing without them.
fn machine() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let count = thread::available_parallelism().map_or(0, usize::from);
    format!("Linux {}, {count} CPUs: {}", release.trim(), model.map_or("unknown", |(_, model)| model))
}
