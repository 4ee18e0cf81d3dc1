//! Start-up, and the cost of a tracer while nothing happens.

use std::{
    thread,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};

use crate::{
    bpf,
    contest::{self, Tools, Who},
    figure::Figure,
    process::{Tracer, milliseconds},
    report::Table,
};

/// Start-up is short, so that there may be more rounds of it.
const ROUNDS_OF_START: u32 = 3;

/// Start-up and rest.
pub(crate) fn measure(tools: &Tools, rounds: u32, seconds: u32) -> Result<Vec<Table>> {
    contest::enter_namespace()?;
    let tables = vec![start(tools, rounds * ROUNDS_OF_START)?, rest(tools, seconds)?];
    tables.iter().for_each(|table| println!("{table}"));
    Ok(tables)
}

/// One start, in ms from the moment before fork.
#[derive(Clone, Copy)]
struct Start {
    ready_ms: f64,
    /// When the kernel began to load the first program, and the last.
    loads_ms: [f64; 2],
    cpu_ms: f64,
    memory_mb: [f64; 2],
}

fn start(tools: &Tools, rounds: u32) -> Result<Table> {
    let contestants = [Who::Tcptrace(&[]), Who::Tcptrace(&["--netns", "self"]), Who::Tcpstates, Who::Bpftrace];
    let mut samples: Vec<Vec<Start>> = contestants.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (who, samples) in contestants.iter().zip(&mut samples) {
            samples.push(one_start(tools, *who).with_context(|| who.to_string())?);
        }
    }
    let title = format!(
        "Start-up until all is attached, with no sockets but those of the machine itself; the ratio is to tcpstates, \
         and rss_mb that of half a second later; medians and quartiles of {rounds} rounds"
    );
    let columns = ["ready_ms", "ratio", "first_load_ms", "last_load_ms", "cpu_ms", "peak_rss_mb", "rss_mb"];
    let mut table = Table::new("start", title, &columns);
    let peer: Vec<f64> = samples[2].iter().map(|start| start.ready_ms).collect();
    for (who, samples) in contestants.iter().zip(samples) {
        let of = |figure: fn(&Start) -> f64| Figure::of(samples.iter().map(figure));
        let ratio = Figure::of(samples.iter().zip(&peer).map(|(start, peer)| start.ready_ms / peer));
        let figures = [
            of(|start| start.ready_ms),
            ratio,
            of(|start| start.loads_ms[0]),
            of(|start| start.loads_ms[1]),
            of(|start| start.cpu_ms),
            of(|start| start.memory_mb[0]),
            of(|start| start.memory_mb[1]),
        ];
        table.row(who.to_string(), figures);
    }
    Ok(table)
}

fn one_start(tools: &Tools, who: Who) -> Result<Start> {
    let (mut command, ready) = tools.command(who).context("only a program starts")?;
    let before = SystemTime::now();
    let tracer = Tracer::start(&mut command, ready, None)?;
    let cpu_ms = tracer.cpu_ns()? as f64 / 1e6;
    let programs = bpf::runs_of(tracer.pid())?;
    let loads: Vec<_> = programs.keys().map(|&id| Ok(bpf::info(id)?.loaded_at())).collect::<Result<_>>()?;
    let loads: Vec<_> = loads.into_iter().flatten().collect();
    let since =
        |at: Option<&SystemTime>| at.and_then(|at| at.duration_since(before).ok()).map_or(f64::NAN, milliseconds);
    let loads_ms = [since(loads.iter().min()), since(loads.iter().max())];
    thread::sleep(Duration::from_millis(500));
    let memory_mb = [tracer.memory_mb("VmHWM")?, tracer.memory_mb("VmRSS")?];
    Ok(Start { ready_ms: tracer.ready_ms, loads_ms, cpu_ms, memory_mb })
}

/// All contestants at the same time: without load they do not disturb each other.
fn rest(tools: &Tools, seconds: u32) -> Result<Table> {
    const SETTLE: Duration = Duration::from_secs(2);
    let contestants =
        [Who::Tcptrace(&[]), Who::Tcptrace(&["--poll", "off"]), Who::Tcptrace(&["--netns", "self"]), Who::Tcpstates];
    let mut tracers = Vec::new();
    for who in contestants {
        let (mut command, ready) = tools.command(who).context("only a program rests")?;
        tracers.push(Tracer::start(&mut command, ready, None)?);
    }
    thread::sleep(SETTLE);
    let cpu_ns = || tracers.iter().map(Tracer::cpu_ns).collect::<Result<Vec<_>>>();
    let time = Duration::from_secs(seconds.into());
    let before = cpu_ns()?;
    thread::sleep(time);
    let after = cpu_ns()?;
    let title = format!("At rest: CPU time over {seconds} s in percent of one CPU, and memory in MB");
    let mut table = Table::new("rest", title, &["cpu_percent", "peak_rss_mb", "rss_mb", "anonymous_mb"]);
    for (index, (who, tracer)) in contestants.iter().zip(&tracers).enumerate() {
        let percent = (after[index] - before[index]) as f64 / 1e4 / milliseconds(time);
        let memory = ["VmHWM", "VmRSS", "RssAnon"].map(|line| tracer.memory_mb(line));
        let [peak, now, anonymous] = memory;
        table.row(who.to_string(), [percent, peak?, now?, anonymous?].map(|figure| Figure::of([figure])));
    }
    Ok(table)
}
