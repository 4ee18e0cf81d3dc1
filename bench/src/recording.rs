//! What it costs to record, how large recordings are, and how fast they are replayed.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    contest::{self, Tools, Who},
    figure::Figure,
    loss::{Run, last_words},
    process::{self, Sink, Tracer},
    report::Table,
    worker::{Order, TRANSITIONS, Worker},
};

/// Connections of a load.
const CONNECTIONS: u64 = 30_000;
/// Transitions a second of the other load, and for how many ms.
const RATE: u64 = 300_000;
const MILLIS: u64 = 3_000;

/// A load, and what tcptrace did with it.
struct Sample {
    run: Run,
    cpu_ns: f64,
    /// Size of the recording, if there is one.
    bytes: f64,
}

impl Sample {
    fn events(&self) -> f64 {
        self.run.reported.unwrap_or(0) as f64
    }
}

/// A folder for recordings that only root can write to; removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let folder = PathBuf::from(format!("/var/tmp/tcptrace-bench-{}", std::process::id()));
        fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Records two loads, and replays the first.
pub(crate) fn measure(tools: &Tools, rounds: u32) -> Result<Vec<Table>> {
    contest::enter_namespace()?;
    let folder = Folder::new()?;
    let [file, other] = ["connections", "toggles"].map(|name| folder.0.join(name).display().to_string());
    let mut worker = Worker::start(0, Some((0, true)))?;
    worker.follow(Order::Connect { count: CONNECTIONS })?;
    let (connect, toggle) = (Order::Connect { count: CONNECTIONS }, Order::Toggle { rate: RATE, millis: MILLIS });
    let contestants: [(&str, &[&str], Order, Option<&str>); 3] = [
        ("record, connections", &["record", "-w", &file], connect, Some(&file)),
        ("--findings only, the same connections", &["--findings", "only"], connect, None),
        ("record, 300,000 a second", &["record", "-w", &other], toggle, Some(&other)),
    ];
    let mut samples: [Vec<Sample>; 3] = Default::default();
    for _ in 0..rounds {
        for ((what, options, order, file), samples) in contestants.iter().zip(&mut samples) {
            let sample = sample(tools, Who::Tcptrace(options), *order, &mut worker, *file);
            samples.push(sample.with_context(|| (*what).to_owned())?);
        }
    }
    let title = format!(
        "Recording on CPU 1, the load on CPU 0: {CONNECTIONS} connections, and {MILLIS} ms of a socket that begins and ends to \
         listen; missing: lost on the way or not recorded; medians and quartiles of {rounds} rounds"
    );
    let columns = ["events_per_s", "events", "missing", "cpu_s_per_million_events", "bytes_per_event"];
    let mut table = Table::new("recording", title, &columns);
    for ((what, ..), samples) in contestants.iter().zip(&samples) {
        let of = |figure: fn(&Sample) -> f64| Figure::of(samples.iter().map(figure));
        let figures = [
            of(|sample| sample.run.per_second),
            of(Sample::events),
            of(|sample| sample.run.missing() as f64),
            of(|sample| sample.cpu_ns / sample.events() / 1e3),
            of(|sample| sample.bytes / sample.events()).filter(|figure| figure.median > 0.0),
        ];
        table.row(*what, figures);
    }
    let events = samples[0].last().context("there is a round")?.events();
    let replay = replay(tools, Path::new(&file), events, rounds)?;
    println!("{table}\n{replay}");
    Ok(vec![table, replay])
}

fn sample(tools: &Tools, who: Who, order: Order, worker: &mut Worker, file: Option<&str>) -> Result<Sample> {
    /// Longer than a recorder holds events back.
    const SETTLE: Duration = Duration::from_millis(1500);
    let (mut command, ready) = tools.command(who).context("tcptrace has a command")?;
    let mut tracer = Tracer::start(command.stderr(Stdio::piped()), ready, Some(1))?;
    let mut stderr = tracer.stderr()?;
    let words = thread::spawn(move || {
        let mut words = String::new();
        stderr.read_to_string(&mut words).map(|_| words)
    });
    let before_ns = tracer.cpu_ns()?;
    let done = worker.follow(order)?;
    thread::sleep(SETTLE);
    let cpu_ns = (tracer.cpu_ns()? - before_ns) as f64;
    tracer.stop()?;
    let Ok(words) = words.join() else { bail!("the reader of its standard error failed") };
    let words = words.context("its standard error cannot be read")?;
    if words.contains("the disk is too slow") {
        bail!("its disk was too slow: {words}");
    }
    let transitions = if matches!(order, Order::Connect { .. }) { TRANSITIONS } else { 1 };
    let made = done.count * transitions;
    let run = Run { per_second: done.per_second() * transitions as f64, made, ..Run::default() };
    let run = last_words(&words, run).with_context(|| format!("it does not say what it lost: `{words}`"))?;
    let bytes = file.map_or(Ok(0), |file| fs::metadata(file).map(|known| known.len())).context("its recording")? as f64;
    Ok(Sample { run, cpu_ns, bytes })
}

fn replay(tools: &Tools, file: &Path, events: f64, rounds: u32) -> Result<Table> {
    let title = format!(
        "Replay of the {events:.0} events of such connections, of wall time and of CPU time; medians and quartiles of \
         {rounds} rounds"
    );
    let mut table = Table::new("replay", title, &["events_per_s", "events_per_cpu_s"]);
    for options in [&["summary"][..], &["stuck"], &["--format", "json"]] {
        let mut costs = Vec::new();
        for _ in 0..rounds {
            let mut command = Command::new(&tools.tracer);
            costs.push(process::run(command.arg("replay").arg(file).args(options), Sink::Null)?);
        }
        let per_s = |ms: f64| events / ms * 1e3;
        let wall = Figure::of(costs.iter().map(|cost| per_s(cost.wall_ms)));
        table.row(options.join(" "), [wall, Figure::of(costs.iter().map(|cost| per_s(cost.cpu_ms)))]);
    }
    Ok(table)
}
