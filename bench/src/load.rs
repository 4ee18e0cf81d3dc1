//! The rate that a load keeps while it is traced, and the CPU time of the tracers.

use anyhow::Result;

use crate::{
    contest::{Arena, Sample, Tools, Who},
    figure::Figure,
    report::Table,
    worker::{Order, Worker},
};

/// Connections that stay open during the third form.
const LONG_LIVED: u64 = 9_900;

/// The contestants: all of them if `many`.
fn contestants(tools: &Tools, many: bool) -> Vec<Who<'static>> {
    let mut all = vec![Who::Tcptrace(&["--format", "json"])];
    if many {
        let rest: [&[&str]; 5] =
            [&[], &["--format", "csv"], &["--summary"], &["--state", "CLOSE_WAIT"], &["--state", "CLOSING"]];
        all.extend(rest.map(Who::Tcptrace));
    }
    if tools.aggregates {
        all.push(Who::Tcptrace(&["--aggregate"]));
    }
    all.push(Who::Tcpstates);
    if many {
        all.push(Who::Bpftrace);
    }
    all
}

/// Three forms of the load.
pub(crate) fn measure(tools: &Tools, rounds: u32) -> Result<Vec<Table>> {
    const BURST: u64 = 10_000;
    let mut tables = Vec::new();
    let mut show = |table: Table| {
        println!("{table}");
        tables.push(table);
    };
    let mut arena = Arena::new(tools, &[0], Some(1), BURST)?;
    let title = "The load fills CPU 0, the tracers' user space runs on CPU 1";
    show(table(&mut arena, "load_one_core", title, &contestants(tools, true), rounds)?);
    let title = format!("The same with {LONG_LIVED} connections that stay open");
    let mut holder = Worker::start(1, None)?;
    holder.follow(Order::Hold { count: LONG_LIVED })?;
    show(table(&mut arena, "load_long_lived", &title, &contestants(tools, false), rounds)?);
    drop((arena, holder));
    let mut arena = Arena::new(tools, &[0, 1], None, BURST)?;
    let title = "The load fills CPU 0 and CPU 1, and tracers compete with it";
    show(table(&mut arena, "load_both_cores", title, &contestants(tools, false), rounds)?);
    Ok(tables)
}

fn table(arena: &mut Arena, name: &str, title: &str, contestants: &[Who], rounds: u32) -> Result<Table> {
    let columns = ["connections_per_s", "ratio", "ratio_of_cpu_time", "tracer_cpu_s_per_million_events"];
    let mut table = Table::new(name, format!("{title}; medians and quartiles of {rounds} rounds"), &columns);
    let contest = rates(arena, contestants, rounds)?;
    table.row("untraced", [Figure::of(contest.untraced), None, None, None]);
    for (who, traced) in contestants.iter().zip(contest.traced) {
        let of = |figure: fn(&Traced) -> f64| Figure::of(traced.iter().map(figure));
        let figures = [
            of(|traced| traced.sample.per_second),
            of(|traced| traced.ratio),
            of(|traced| traced.cpu_ratio),
            of(|traced| traced.sample.cpu_ns / 1e3),
        ];
        table.row(who.to_string(), figures);
    }
    Ok(table)
}

/// A traced burst, compared with the untraced ones before and after it.
pub(crate) struct Traced {
    sample: Sample,
    /// Its rate divided by the mean of theirs.
    ratio: f64,
    /// The same of rates in CPU time.
    pub(crate) cpu_ratio: f64,
}

/// The results of all rounds.
pub(crate) struct Contest {
    /// Connections a second.
    untraced: Vec<f64>,
    /// By contestant and round.
    pub(crate) traced: Vec<Vec<Traced>>,
}

/// Each round runs all contestants, and an untraced burst between any two of them.
pub(crate) fn rates(arena: &mut Arena, contestants: &[Who], rounds: u32) -> Result<Contest> {
    let mut all: Vec<_> = contestants.iter().map(|_| Vec::new()).collect();
    let mut before = arena.sample(Who::Nobody)?;
    let mut untraced = vec![before.per_second];
    for _ in 0..rounds {
        for (who, traced) in contestants.iter().zip(&mut all) {
            let sample = arena.sample(*who)?;
            let after = arena.sample(Who::Nobody)?;
            let kept = |rate: fn(&Sample) -> f64| 2.0 * rate(&sample) / (rate(&before) + rate(&after));
            let [ratio, cpu_ratio] = [kept(|sample| sample.per_second), kept(|sample| sample.per_cpu_second)];
            traced.push(Traced { sample, ratio, cpu_ratio });
            untraced.push(after.per_second);
            before = after;
        }
    }
    Ok(Contest { untraced, traced: all })
}
