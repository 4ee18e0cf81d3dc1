//! The benchmark, run by `cargo xtask bench`: what tcptrace costs, and what others cost in the same run.
//!
//! Times depend on the machine and on what else it does, so contestants alternate, and what counts are ratios: the
//! figure of one contestant divided by the other's in the same round. Each part is a module that returns tables; they go
//! to `docs/performance.json`, and from there to `docs/performance.md`.

mod bpf;
mod compare_ss;
mod contest;
mod figure;
mod goals;
mod growth;
mod holder;
mod load;
mod loss;
mod process;
mod programs;
mod pure_core;
mod quick;
mod recording;
mod report;
mod sockets;
mod start;
mod worker;

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    ptr, thread,
    time::Instant,
};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand, ValueEnum as _};
use contest::Tools;
use report::{Measured, Report, Table};
use xtask::{
    builds, cargo,
    privilege::Root,
    programs::stdout_of,
    workspace::{self, TRACER},
};

/// Measure what tcptrace, tcpstates, bpftrace and ss cost, and write docs/performance.md.
#[derive(Parser)]
#[command(bin_name = "cargo xtask bench", disable_version_flag = true, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    process: Option<Process>,
    #[command(flatten)]
    args: Args,
}

/// A process of the benchmark.
#[derive(Subcommand)]
enum Process {
    #[command(hide = true)]
    Holder(holder::Args),
    #[command(hide = true)]
    Worker(worker::Args),
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
enum Part {
    /// The rate that a load keeps while it is traced, and the tracers' CPU time
    Load,
    /// The time of each BPF program, compared with an empty one
    Programs,
    /// The pure core: `cargo bench --bench figures`
    Core,
    /// The highest rate without loss
    Loss,
    /// Start-up, and memory and CPU time at rest
    Start,
    /// How costs grow with connections and filters
    Growth,
    /// Listing 20,000 sockets, compared with ss
    Sockets,
    /// Recording: its cost, the size of the file, and the speed of a replay
    Recording,
}

impl Part {
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// What to measure, and how long.
#[derive(clap::Args)]
struct Args {
    /// What to measure; all if not given
    parts: Vec<Part>,
    /// How often each contestant runs
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How long to measure tracers at rest, in seconds
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    #[command(flatten)]
    sizes: sockets::Sizes,
    /// Only check, within a minute, that no cost has jumped; fails if one has
    #[arg(long, conflicts_with_all = ["parts", "rounds", "seconds"])]
    quick: bool,
    /// Print the figures only: do not write docs/performance.json and docs/performance.md
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

fn main() -> ExitCode {
    let Cli { process, args } = Cli::parse();
    let result = match process {
        Some(Process::Holder(args)) => holder::run(&args),
        Some(Process::Worker(args)) => worker::run(&args),
        None => run(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// Builds as the caller, and measures as root.
fn run(args: &Args) -> Result<ExitCode> {
    let root = Root::required()?;
    let tracer = match &args.tracer {
        Some(tracer) => tracer.clone(),
        // CI has this build already; without LTO the figures of a quick run hardly differ.
        None if args.quick => cargo::pick(&builds::instructions(&workspace::root()?)?, "bin", TRACER)?,
        None => build("build", &["--release"], "bin", TRACER)?,
    };
    let figures = match &args.figures {
        Some(figures) => Some(figures.clone()),
        None if args.quick || !args.parts().contains(&Part::Core) => None,
        None => Some(build("bench", &["--no-run", "--bench", pure_core::NAME], "bench", pure_core::NAME)?),
    };
    if matches!(root, Root::Already) {
        return perform(args, &tracer, figures.as_deref());
    }
    let mut built = Vec::new();
    if args.tracer.is_none() {
        built.extend(["--tracer".into(), tracer.into()]);
    }
    if let (None, Some(figures)) = (&args.figures, figures) {
        built.extend(["--figures".into(), figures.into()]);
    }
    Err(root.restart(env::args_os().skip(1).chain(built)))
}

/// Builds an executable of the tracer's package.
fn build(subcommand: &str, words: &[&str], kind: &str, name: &str) -> Result<PathBuf> {
    let all = [&[subcommand, "--package", TRACER], words].concat();
    cargo::pick(&cargo::build(&workspace::root()?, &all)?, kind, name)
}

fn perform(args: &Args, tracer: &Path, figures: Option<&Path>) -> Result<ExitCode> {
    mount_tracefs().context("tracefs, which tcpstates and bpftrace need, cannot be mounted")?;
    let tools = Tools::find(tracer)?;
    println!("{}\n", machine());
    let others = bpf::tracing_programs();
    if others > 0 {
        eprintln!("warning: {others} BPF programs that trace are loaded already: they may slow the load down too");
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
    let commit = stdout_of(Command::new("git").current_dir(&root).args(describe));
    let commit = commit.map_or_else(|_| "an unknown commit".to_owned(), |commit| commit.trim().to_owned());
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
        Part::Load => load::measure(tools, args.rounds),
        Part::Programs => programs::measure(tools, args.rounds),
        Part::Core => pure_core::measure(figures.context("--figures is not given")?),
        Part::Loss => loss::measure(tools),
        Part::Start => start::measure(tools, args.rounds, args.seconds),
        Part::Growth => growth::measure(tools, args.rounds),
        Part::Recording => recording::measure(tools, args.rounds),
        Part::Sockets => sockets::measure(tools, &args.sizes, args.rounds, args.seconds),
    }
}

/// Mounts tracefs for this process and its children, unless it is mounted already.
fn mount_tracefs() -> io::Result<()> {
    const PLACE: &str = "/sys/kernel/tracing";
    if Path::new(PLACE).join("events").exists() {
        return Ok(());
    }
    let (root, kind, place) = (c"/", c"tracefs", c"/sys/kernel/tracing");
    // SAFETY: the kernel reads strings that are constants, and takes null for arguments that it does not need.
    let failed = unsafe {
        libc::unshare(libc::CLONE_NEWNS) != 0
            || libc::mount(ptr::null(), root.as_ptr(), ptr::null(), libc::MS_REC | libc::MS_PRIVATE, ptr::null()) != 0
            || libc::mount(kind.as_ptr(), place.as_ptr(), kind.as_ptr(), 0, ptr::null()) != 0
    };
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Kernel and CPUs: figures mean nothing without them.
fn machine() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let count = thread::available_parallelism().map_or(0, usize::from);
    format!("Linux {}, {count} CPUs: {}", release.trim(), model.map_or("unknown", |(_, model)| model))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
