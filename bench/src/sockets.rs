//! Listing sockets and starting among them, compared with `ss` on the same sockets; and the cost of polling.
//!
//! No time is asserted, only that tcptrace lists the sockets that `ss` lists. The tracer sees only the benchmark's
//! network namespace, so that other sockets of the machine do not count.

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use xtask::{netns, programs};

use crate::{
    compare_ss,
    contest::{self, Tools},
    figure::Figure,
    holder,
    process::{self, Cost, Sink, milliseconds},
    report::Table,
};

/// Processes among which the sockets are divided.
const HOLDERS: u8 = 8;

/// How many sockets to make.
#[derive(clap::Args)]
pub(crate) struct Sizes {
    /// Sockets to list, in all states
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1000..=200_000))]
    sockets: u32,
    /// Further sockets in TIME_WAIT: polling is measured a second time with them; 0 skips that
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=400_000))]
    time_wait: u32,
}

/// All of this part.
pub(crate) fn measure(tools: &Tools, sizes: &Sizes, rounds: u32, seconds: u32) -> Result<Vec<Table>> {
    netns::enter_new()?;
    contest::set_sysctls(&holder::SYSCTLS)?;
    let contest = Contest { tools, rounds };
    let mut holders = Holders(Vec::new());
    eprintln!("making {} sockets in a network namespace; those that last a minute take a minute", sizes.sockets);
    holders.start("--mixed", sizes.sockets)?;
    let states = contest.states()?;
    let count: usize = states.values().sum();
    let by_state: Vec<_> = states.iter().map(|(state, count)| format!("{count} {state}")).collect();
    println!("{count} sockets of {HOLDERS} processes: {}", by_state.join(", "));
    for options in [&[][..], &["--no-iter"]] {
        let same = compare_ss::check(&tools.tracer, &tools.ss, options)
            .with_context(|| format!("tcptrace sockets {}", options.join(" ")))?;
        println!("tcptrace sockets {}: {same} sockets, the same as those of ss, 0 differ", options.join(" "));
    }
    println!();
    let mut tables = vec![contest.listing(count)?];
    tables.extend(contest.start(count)?);
    tables.push(contest.polling("polling", &format!("{count} sockets"), seconds)?);
    if sizes.time_wait > 0 {
        eprintln!("making {} more sockets in TIME_WAIT, which takes a minute", sizes.time_wait);
        holders.start("--time-wait", sizes.time_wait)?;
        let states = contest.states()?;
        let time_wait = states.get("TIME-WAIT").copied().unwrap_or_default();
        let what = format!("{} sockets, {time_wait} of them in TIME_WAIT", states.values().sum::<usize>());
        tables.push(contest.polling("polling_time_wait", &what, seconds)?);
    }
    tables.iter().for_each(|table| println!("{table}"));
    Ok(tables)
}

/// Who is compared, and how often.
struct Contest<'a> {
    tools: &'a Tools,
    rounds: u32,
}

impl Contest<'_> {
    /// How many sockets `ss` finds in each state.
    fn states(&self) -> Result<BTreeMap<String, usize>> {
        let text = programs::stdout_of(Command::new(&self.tools.ss).arg("-tanH"))?;
        let mut states = BTreeMap::new();
        for state in text.lines().filter_map(|line| line.split_whitespace().next()) {
            *states.entry(state.to_owned()).or_default() += 1;
        }
        Ok(states)
    }

    fn listing(&self, count: usize) -> Result<Table> {
        use Sink::{Null, Pipe};
        let (ss, tracer) = (self.tools.ss.as_path(), self.tools.tracer.as_path());
        let tcptrace = ["sockets", "--netns", "self"];
        let no_iter = ["sockets", "--netns", "self", "--no-iter"];
        let contestants: [(&Path, &[&str], Sink); 8] = [
            (ss, &["-tanp"], Null),
            (ss, &["-tanp"], Pipe),
            (ss, &["-tanpO"], Null),
            (ss, &["-tan"], Null),
            (tracer, &tcptrace, Null),
            (tracer, &tcptrace, Pipe),
            (tracer, &no_iter, Null),
            (tracer, &no_iter, Pipe),
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

    fn start(&self, count: usize) -> Result<[Table; 2]> {
        let mut memory = Vec::new();
        let costs = self.alternate(2, |index| {
            if index == 0 {
                return process::run(Command::new(&self.tools.ss).arg("-tan"), Sink::Null);
            }
            let tracer = self.tools.tcptrace(&["--netns", "self"])?;
            let cost = Cost { wall_ms: tracer.ready_ms, cpu_ms: tracer.cpu_ns()? as f64 / 1e6 };
            thread::sleep(Duration::from_secs(1));
            memory.push([tracer.memory_mb("VmHWM")?, tracer.memory_mb("VmRSS")?]);
            Ok(cost)
        })?;
        let names = ["ss -tan", "tcptrace --netns self, until it is ready"].map(str::to_owned);
        let title = format!("Start with {count} sockets: all attached, sockets and holders listed");
        let mut table = Table::new("start_memory", "Memory of the tracer a second after that", &["mb"]);
        for (index, name) in ["at most, ever (VmHWM)", "now (VmRSS)"].into_iter().enumerate() {
            table.row(name, [Figure::of(memory.iter().map(|both| both[index]))]);
        }
        Ok([self.table("start_among_sockets", &title, names, &costs), table])
    }

    /// CPU time of a tracer that polls and one that does not, at the same time.
    fn polling(&self, name: &'static str, what: &str, seconds: u32) -> Result<Table> {
        /// The first listings are behind it then.
        const SETTLE: Duration = Duration::from_secs(15);
        let start = |poll| self.tools.tcptrace(&["--netns", "self", "--summary", "--poll", poll]);
        let tracers = [start("off")?, start("1s")?];
        thread::sleep(SETTLE);
        let cpu_ns = || Ok::<_, anyhow::Error>([tracers[0].cpu_ns()?, tracers[1].cpu_ns()?]);
        let (start, before) = (Instant::now(), cpu_ns()?);
        thread::sleep(Duration::from_secs(seconds.into()));
        let (after, elapsed_ms) = (cpu_ns()?, milliseconds(start.elapsed()));
        let percent = |index: usize| (after[index] - before[index]) as f64 / 1e4 / elapsed_ms;
        let (off, on) = (percent(0), percent(1));
        let title = format!("CPU time in percent of one CPU over {seconds} s, with summaries only: {what}");
        let mut table = Table::new(name, title, &["percent"]);
        for (what, percent) in [("tcptrace --poll off", off), ("tcptrace --poll 1s", on), ("difference", on - off)] {
            table.row(what, [Figure::of([percent])]);
        }
        Ok(table)
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
        let title = format!("{title}; medians and quartiles of {} rounds", self.rounds);
        let mut table = Table::new(name, title, &["wall_ms", "cpu_ms", "wall_ratio", "cpu_ratio"]);
        for (name, these) in names.into_iter().zip(costs) {
            let of = |figure: fn(&Cost) -> f64| Figure::of(these.iter().map(figure));
            let ratio = |figure: fn(&Cost) -> f64| {
                Figure::of(these.iter().zip(&costs[0]).map(|(this, first)| figure(this) / figure(first)))
            };
            table.row(name, [of(|c| c.wall_ms), of(|c| c.cpu_ms), ratio(|c| c.wall_ms), ratio(|c| c.cpu_ms)]);
        }
        table
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
            command.args(["holder", &index, flag, &share]).stdin(Stdio::null()).stdout(Stdio::piped());
            let child = command.spawn().with_context(|| format!("`{}` cannot be started", programs::line(&command)))?;
            self.0.push(child);
        }
        for child in &mut self.0[first..] {
            let stdout = child.stdout.take().context("holder: it has no pipe")?;
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line).context("holder: cannot read its output")?;
            if line.trim() != holder::READY {
                bail!("holder: ended before its sockets were there");
            }
        }
        // From then on as many sockets end as begin; timers may be late by some percent.
        thread::sleep(holder::MINI_LIFE + Duration::from_secs(5));
        for child in &mut self.0 {
            if let Some(status) = child.try_wait().context("holder: cannot read its state")? {
                bail!("holder: ended before the benchmark did: {status}");
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
