//! What a load keeps of its rate while it is traced, and the CPU time that tracers take for it.

use anyhow::Result;

use super::{
    contest::{Arena, Sample, Tools, Who},
    figure::Figure,
    report::Table,
    worker::{Order, Worker},
};

/// Connections that stay open during the third form.
const LONG_LIVED: u64 = 9_900;

/// Who is compared: all where `many`.
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
pub(super) fn measure(tools: &Tools, rounds: u32) -> Result<Vec<Table>> {
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
    let columns = ["connections_per_s", "ratio", "cpu_s_per_million_events"];
    let mut table = Table::new(name, format!("{title}; medians and quartiles of {rounds} rounds"), &columns);
    let contest = rates(arena, contestants, rounds)?;
    table.row("untraced", [Figure::of(contest.untraced), None, None]);
    for (who, samples) in contestants.iter().zip(contest.samples) {
        let of = |figure: fn(&(Sample, f64)) -> f64| Figure::of(samples.iter().map(figure));
        let figures =
            [of(|(sample, _)| sample.per_second), of(|(_, ratio)| *ratio), of(|(sample, _)| sample.cpu_ns / 1e3)];
        table.row(who.to_string(), figures);
    }
    Ok(table)
}

/// What all rounds showed.
pub(super) struct Contest {
    /// Connections a second.
    pub(super) untraced: Vec<f64>,
    /// By contestant, and round: what it showed, and its rate divided by the mean of the untraced ones before and after.
    pub(super) samples: Vec<Vec<(Sample, f64)>>,
}

/// Each round runs all contestants, and an untraced burst between any two of them.
pub(super) fn rates(arena: &mut Arena, contestants: &[Who], rounds: u32) -> Result<Contest> {
    let mut samples: Vec<_> = contestants.iter().map(|_| Vec::new()).collect();
    let mut untraced = vec![arena.sample(Who::Nobody)?.per_second];
    let mut before = untraced[0];
    for _ in 0..rounds {
        for (who, samples) in contestants.iter().zip(&mut samples) {
            let sample = arena.sample(*who)?;
            let after = arena.sample(Who::Nobody)?.per_second;
            let ratio = 2.0 * sample.per_second / (before + after);
            samples.push((sample, ratio));
            untraced.push(after);
            before = after;
        }
    }
    Ok(Contest { untraced, samples })
}
