//! `cargo xtask bench`: what tcptrace costs, beside `ss` on the same sockets in the same run.
//!
//! Times depend on the machine and on what else it does, so contestants alternate, and what counts are ratios: the
//! median over the rounds of one contestant's figure divided by the other's in the same round. No time is asserted, only
//! that tcptrace lists the sockets that `ss` lists. The tracer looks at the benchmark's own network namespace alone, so
//! that other traffic of the machine does not count.

pub(crate) mod holder;
mod process;
mod report;
mod same;

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{self as this_process, Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use process::{Cost, Sink, Tracer, milliseconds};
use report::{Table, median};
use serde_json::json;

use crate::{
    netns,
    privilege::{self, Root},
    programs, run as run_command, workspace,
};

/// Processes among which the sockets are divided.
const HOLDERS: u8 = 8;

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often each contestant runs
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How long its polling is measured each time, in seconds: polls of many sockets are rare. 0 leaves polling out
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(0..=3600))]
    seconds: u32,
    /// Sockets, in all states
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1000..=200_000))]
    sockets: u32,
    /// Further sockets in TIME_WAIT while polling is measured the second time; 0 leaves that out
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(0..=400_000))]
    time_wait: u32,
    /// Write the figures to this file as well
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The tracer to measure, instead of building it
    #[arg(long, value_name = "FILE")]
    tracer: Option<PathBuf>,
}

/// Builds the tracer as the caller, and measures as root.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    // Asked first: a build takes a minute, and is no use without root.
    let root = Root::find();
    if matches!(root, Root::No) {
        bail!(privilege::way_out());
    }
    let ss = programs::find("ss").context("ss is not there to be compared with: install iproute2")?;
    let tracer = match &args.tracer {
        Some(tracer) => tracer.clone(),
        None => run_command::build_tracer(&workspace::root()?, true)?,
    };
    if matches!(root, Root::Already) {
        return perform(args, &tracer, &ss);
    }
    let this = env::current_exe().context("this program does not know where it is")?;
    let mut command = root.command(this, &[]).with_context(privilege::way_out)?;
    command.args(env::args_os().skip(1)).arg("--tracer").arg(tracer);
    let error = command.exec();
    Err(anyhow!(error).context(format!("`{}` cannot be started", programs::line(&command))))
}

fn perform(args: &Args, tracer: &Path, ss: &Path) -> Result<ExitCode> {
    netns::enter_new()?;
    holder::set_sysctls()?;
    let contest = Contest { tracer, ss, ready: &ReadyFile::new(), rounds: args.rounds };
    let mut holders = Holders(Vec::new());
    eprintln!("making {} sockets in a network namespace; those that last a minute take a minute", args.sockets);
    holders.start("--mixed", args.sockets)?;
    let states = contest.states()?;
    let count: usize = states.values().sum();
    let by_state: Vec<_> = states.iter().map(|(state, count)| format!("{count} {state}")).collect();
    println!("{}", machine());
    println!("{count} sockets of {HOLDERS} processes: {}\n", by_state.join(", "));
    for options in [&[][..], &["--no-iter"]] {
        let same =
            same::check(tracer, ss, options).with_context(|| format!("tcptrace sockets {}", options.join(" ")))?;
        println!("tcptrace sockets {}: {same} sockets, the same as those of ss, 0 differ", options.join(" "));
    }
    println!();
    let mut tables = Vec::new();
    let mut show = |table: Table| {
        println!("{table}");
        tables.push(table);
    };
    show(contest.listing(count)?);
    let (start, memory) = contest.start(count)?;
    show(start);
    show(memory);
    if args.seconds > 0 {
        show(contest.polling("polling", &format!("{count} sockets"), args.seconds)?);
        if args.time_wait > 0 {
            eprintln!("making {} more sockets in TIME_WAIT, which takes a minute", args.time_wait);
            holders.start("--time-wait", args.time_wait)?;
            let states = contest.states()?;
            let time_wait = states.get("TIME-WAIT").copied().unwrap_or_default();
            let what = format!("{} sockets, {time_wait} of them in TIME_WAIT", states.values().sum::<usize>());
            show(contest.polling("polling_time_wait", &what, args.seconds)?);
        }
    }
    if let Some(path) = &args.json {
        let all = json!({
            "machine": machine(),
            "rounds": args.rounds,
            "sockets": states,
            "tables": tables.iter().map(Table::to_json).collect::<Vec<_>>(),
        });
        fs::write(path, format!("{all:#}\n")).with_context(|| format!("{}: cannot be written", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Kernel and CPUs, since figures mean nothing without them.
fn machine() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let count = thread::available_parallelism().map_or(0, usize::from);
    format!("Linux {}, {count} CPUs: {}", release.trim(), model.map_or("unknown", |(_, model)| model))
}

/// Who is compared, and how often.
struct Contest<'a> {
    tracer: &'a Path,
    ss: &'a Path,
    ready: &'a ReadyFile,
    rounds: u32,
}

impl Contest<'_> {
    /// How many sockets `ss` finds in each state.
    fn states(&self) -> Result<BTreeMap<String, usize>> {
        let text = programs::stdout_of(Command::new(self.ss).arg("-tanH")).context("`ss -tanH` failed")?;
        let mut states = BTreeMap::new();
        for state in text.lines().filter_map(|line| line.split_whitespace().next()) {
            *states.entry(state.to_owned()).or_default() += 1;
        }
        Ok(states)
    }

    fn listing(&self, count: usize) -> Result<Table> {
        use Sink::{Null, Pipe};
        let tcptrace = ["sockets", "--netns", "self"];
        let no_iter = ["sockets", "--netns", "self", "--no-iter"];
        let contestants: [(&Path, &[&str], Sink); 8] = [
            (self.ss, &["-tanp"], Null),
            (self.ss, &["-tanp"], Pipe),
            (self.ss, &["-tanpO"], Null),
            (self.ss, &["-tan"], Null),
            (self.tracer, &tcptrace, Null),
            (self.tracer, &tcptrace, Pipe),
            (self.tracer, &no_iter, Null),
            (self.tracer, &no_iter, Pipe),
        ];
        let names = contestants.map(|(program, args, sink)| {
            let program = program.file_name().unwrap_or_default().to_string_lossy();
            let sink = if matches!(sink, Pipe) { " | (pipe)" } else { "" };
            format!("{program} {}{sink}", args.join(" "))
        });
        let costs = self.alternate(contestants.len(), |index| {
            let (program, args, sink) = contestants[index];
            process::run(Command::new(program).args(args), sink)
        })?;
        let title = format!("Listing {count} sockets with their holders; ratios to the first");
        Ok(self.table("listing", &title, names, &costs))
    }

    fn start(&self, count: usize) -> Result<(Table, Table)> {
        let mut memory = Vec::new();
        let costs = self.alternate(2, |index| {
            if index == 0 {
                return process::run(Command::new(self.ss).arg("-tan"), Sink::Null);
            }
            let tracer = Tracer::start(self.tracer, &["--netns", "self"], &self.ready.0)?;
            let cost = Cost { wall_ms: tracer.ready_ms, cpu_ms: tracer.cpu_ns()? as f64 / 1e6 };
            thread::sleep(Duration::from_secs(1));
            memory.push([tracer.memory_mb("VmHWM")?, tracer.memory_mb("VmRSS")?]);
            Ok(cost)
        })?;
        let names = ["ss -tan", "tcptrace --netns self, until it is ready"].map(str::to_owned);
        let title = format!("Start with {count} sockets: all attached, sockets and holders listed");
        let memory = Table {
            name: "memory",
            title: "Memory of the tracer a second after that".to_owned(),
            columns: &["median_mb", "max_mb"],
            rows: ["at most, ever (VmHWM)", "now (VmRSS)"]
                .iter()
                .enumerate()
                .map(|(index, name)| {
                    let figures = || memory.iter().map(|both| both[index]);
                    ((*name).to_owned(), vec![median(figures()), figures().fold(f64::NAN, f64::max)])
                })
                .collect(),
        };
        Ok((self.table("start", &title, names, &costs), memory))
    }

    /// CPU time of a tracer that polls, and of one that does not, side by side.
    fn polling(&self, name: &'static str, what: &str, seconds: u32) -> Result<Table> {
        /// The first listings are behind it then.
        const SETTLE: Duration = Duration::from_secs(15);
        let start = |poll| Tracer::start(self.tracer, &["--netns", "self", "--summary", "--poll", poll], &self.ready.0);
        let tracers = [start("off")?, start("1s")?];
        thread::sleep(SETTLE);
        let cpu_ns = || Ok::<_, anyhow::Error>([tracers[0].cpu_ns()?, tracers[1].cpu_ns()?]);
        let (start, before) = (Instant::now(), cpu_ns()?);
        thread::sleep(Duration::from_secs(seconds.into()));
        let (after, elapsed_ms) = (cpu_ns()?, milliseconds(start.elapsed()));
        let percent = |index: usize| (after[index] - before[index]) as f64 / 1e4 / elapsed_ms;
        let (off, on) = (percent(0), percent(1));
        let rows = [("tcptrace --poll off", off), ("tcptrace --poll 1s", on), ("difference", on - off)];
        Ok(Table {
            name,
            title: format!("CPU time in percent of one CPU over {seconds} s, with summaries only: {what}"),
            columns: &["percent"],
            rows: rows.map(|(what, percent)| (what.to_owned(), vec![percent])).into(),
        })
    }

    /// Runs all contestants in turn, once to warm up and then as often as there are rounds.
    fn alternate(&self, contestants: usize, mut run: impl FnMut(usize) -> Result<Cost>) -> Result<Vec<Vec<Cost>>> {
        let mut costs = vec![Vec::new(); contestants];
        for round in 0..=self.rounds {
            for (index, costs) in costs.iter_mut().enumerate() {
                let cost = run(index)?;
                if round > 0 {
                    costs.push(cost);
                }
            }
        }
        Ok(costs)
    }

    /// Ratios are those to the first contestant.
    fn table(
        &self,
        name: &'static str,
        title: &str,
        names: impl IntoIterator<Item = String>,
        costs: &[Vec<Cost>],
    ) -> Table {
        let row = |(name, these): (String, &Vec<Cost>)| {
            let of = |figure: fn(&Cost) -> f64| median(these.iter().map(figure));
            let ratio = |figure: fn(&Cost) -> f64| {
                median(these.iter().zip(&costs[0]).map(|(this, first)| figure(this) / figure(first)))
            };
            let least = these.iter().map(|cost| cost.wall_ms).fold(f64::NAN, f64::min);
            let figures = [of(|c| c.wall_ms), least, of(|c| c.cpu_ms), ratio(|c| c.wall_ms), ratio(|c| c.cpu_ms)];
            (name, figures.to_vec())
        };
        Table {
            name,
            title: format!("{title}; medians of {} rounds", self.rounds),
            columns: &["wall_ms", "min_ms", "cpu_ms", "wall_ratio", "cpu_ratio"],
            rows: names.into_iter().zip(costs).map(row).collect(),
        }
    }
}

/// Processes that hold sockets. They end with the benchmark, and the namespace with them.
struct Holders(Vec<Child>);

impl Holders {
    /// Divides `count` sockets among [`HOLDERS`] new processes, and returns when all are there.
    fn start(&mut self, flag: &str, count: u32) -> Result<()> {
        let this = env::current_exe().context("this program does not know where it is")?;
        let first = self.0.len();
        for number in 0..HOLDERS {
            let index = (first + usize::from(number) + 1).to_string();
            let share = count.div_ceil(HOLDERS.into()).to_string();
            let mut command = Command::new(&this);
            command.args(["bench-holder", &index, flag, &share]).stdin(Stdio::null()).stdout(Stdio::piped());
            let child = command.spawn().with_context(|| format!("`{}` cannot be started", programs::line(&command)))?;
            self.0.push(child);
        }
        for child in &mut self.0[first..] {
            let stdout = child.stdout.take().context("bench-holder: its output is not at hand")?;
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line).context("bench-holder: cannot read its output")?;
            if line.trim() != holder::READY {
                bail!("bench-holder: ended before its sockets were there");
            }
        }
        // From then on as many sockets end as begin; timers may be late by some percent.
        thread::sleep(holder::MINI_LIFE + Duration::from_secs(5));
        for child in &mut self.0 {
            if let Some(status) = child.try_wait().context("bench-holder: cannot ask for its state")? {
                bail!("bench-holder: ended before the benchmark did: {status}");
            }
        }
        Ok(())
    }
}

impl Drop for Holders {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // One that has ended already is as it should be.
            let _ = child.kill();
        }
        for child in &mut self.0 {
            let _ = child.wait();
        }
    }
}

/// Where a tracer says that it is ready; removed at the end.
struct ReadyFile(PathBuf);

impl ReadyFile {
    fn new() -> Self {
        // Only root writes there, so the file is the tracer's.
        Self(PathBuf::from(format!("/run/tcptrace-bench-{}.ready", this_process::id())))
    }
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        // It is there only where a tracer was not waited for.
        let _ = fs::remove_file(&self.0);
    }
}
