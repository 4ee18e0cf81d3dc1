//! How long BPF programs run, compared with an empty one.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use crate::{
    bpf::{self, Runs},
    contest::{Arena, Sample, Tools, Who},
    figure::Figure,
    report::Table,
};

/// The name of tcptrace's program at the same tracepoint as the empty one.
pub(crate) const STATE_PROGRAM: &str = "transition";

/// One program in all rounds.
#[derive(Default)]
pub(crate) struct Samples {
    /// Runs for each connection.
    per_connection: Vec<f64>,
    /// Time of a run, in ns.
    pub(crate) ns: Vec<f64>,
    /// The same, divided by the time of the empty program in that round.
    pub(crate) floors: Vec<f64>,
}

/// By contestant and program.
pub(crate) type ByProgram = BTreeMap<(String, String), Samples>;

/// The time of each program.
pub(crate) fn measure(tools: &Tools, rounds: u32) -> Result<Vec<Table>> {
    let mut arena = Arena::new(tools, &[0], Some(1), 10_000)?;
    let mut contestants: Vec<Who> = vec![Who::Tcptrace(&["--format", "json"])];
    contestants.extend([Who::Tcptrace(&["--state", "CLOSE_WAIT"]), Who::Tcptrace(&["--state", "CLOSING"])]);
    if tools.aggregates {
        contestants.push(Who::Tcptrace(&["--aggregate"]));
    }
    contestants.extend([Who::Tcpstates, Who::Bpftrace]);
    let (floor, programs, _) = contest(&mut arena, &contestants, rounds)?;
    let columns = ["runs_per_connection", "ns_per_run", "floors"];
    let title = format!(
        "Time of BPF programs, and as a multiple of the empty one (floors); medians and quartiles of {rounds} rounds"
    );
    let mut table = Table::new("programs", title, &columns);
    table.row("empty program", [None, Figure::of(floor), Figure::of([1.0])]);
    let names: Vec<_> = contestants.iter().map(Who::to_string).collect();
    for name in &names {
        for ((_, program), samples) in programs.iter().filter(|((who, _), _)| who == name) {
            let of = |samples: &Vec<f64>| Figure::of(samples.iter().copied());
            table
                .row(format!("{name}: {program}"), [of(&samples.per_connection), of(&samples.ns), of(&samples.floors)]);
        }
    }
    println!("{table}");
    Ok(vec![table])
}

/// Alternates the contestants and the empty program. Returns the times of the empty program, all programs, and all
/// samples.
pub(crate) fn contest(
    arena: &mut Arena,
    contestants: &[Who],
    rounds: u32,
) -> Result<(Vec<f64>, ByProgram, Vec<Vec<Sample>>)> {
    let _statistics = bpf::keep_statistics()?;
    let (mut floors, mut programs) = (Vec::new(), ByProgram::new());
    let mut all: Vec<Vec<Sample>> = contestants.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        let empty = arena.sample(Who::Empty)?;
        let floor = empty.programs.values().next().map(ns).context("the empty program did not run")?;
        floors.push(floor);
        for (who, samples) in contestants.iter().zip(&mut all) {
            let sample = arena.sample(*who)?;
            for (name, runs) in &sample.programs {
                let samples = programs.entry((who.to_string(), name.clone())).or_default();
                samples.per_connection.push(runs.count as f64 / arena.burst as f64);
                samples.ns.push(ns(runs));
                samples.floors.push(ns(runs) / floor);
            }
            samples.push(sample);
        }
    }
    Ok((floors, programs, all))
}

fn ns(runs: &Runs) -> f64 {
    runs.ns as f64 / runs.count as f64
}
