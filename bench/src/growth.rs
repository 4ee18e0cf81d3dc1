//! How costs grow with live connections and with filters: the cost of an event should stay constant.

use anyhow::{Context as _, Result};

use crate::{
    contest::{Arena, Tools, Who},
    figure::Figure,
    programs::{self, STATE_PROGRAM},
    report::Table,
    worker::{FIRST_PORT, HELD_AT_MOST, Order, Worker},
};

/// Open connections, each with both ends. The part `core` measures the table with 1,000,000.
const LIVE: [u64; 3] = [1_000, 10_000, 100_000];
const BURST: u64 = 5_000;
const COLUMNS: [&str; 4] = ["ns_per_run", "floors", "tracer_cpu_s_per_million_events", "tracer_rss_mb"];

/// Both kinds of growth.
pub(crate) fn measure(tools: &Tools, rounds: u32) -> Result<Vec<Table>> {
    let tables = vec![live(tools, rounds)?, filters(tools, rounds)?];
    tables.iter().for_each(|table| println!("{table}"));
    Ok(tables)
}

fn live(tools: &Tools, rounds: u32) -> Result<Table> {
    let mut arena = Arena::new(tools, &[0], Some(1), BURST)?;
    let (mut holders, mut held): (Vec<Worker>, u64) = (Vec::new(), 0);
    let title = format!(
        "Growth with connections that are open, two sockets each: the state program, and the tracer of all to JSON; \
         medians and quartiles of {rounds} rounds"
    );
    let mut table = Table::new("growth_live", title, &COLUMNS);
    for count in LIVE {
        while held < count {
            let more = (count - held).min(HELD_AT_MOST);
            let index = u16::try_from(holders.len() + 1).context("too many holders")?;
            let mut holder = Worker::start(index, None)?;
            held += holder.follow(Order::Hold { count: more })?.count;
            holders.push(holder);
        }
        let who = Who::Tcptrace(&["--format", "json"]);
        compare(&mut arena, &[(format!("{held} connections"), who)], rounds, &mut table)?;
    }
    Ok(table)
}

fn filters(tools: &Tools, rounds: u32) -> Result<Table> {
    let mut arena = Arena::new(tools, &[0], Some(1), BURST)?;
    let worker = arena.workers.first().context("there is a worker")?.pid();
    // The last value of each list is the one that matches.
    let list = |count: u16, value: &dyn Fn(u16) -> String, last: String| {
        (1..count).map(value).chain([last]).collect::<Vec<_>>().join(",")
    };
    let port = |index: u16| (2 * index).to_string();
    let prefix = |index: u16| format!("10.{index}.0.0/16");
    let pid = |index: u16| (4_000_000 + u32::from(index)).to_string();
    let mut named = vec![("no filter".to_owned(), vec!["--format".to_owned(), "json".to_owned()])];
    for count in [1, 64] {
        for (what, flag, values) in [
            ("ports", "--port", list(count, &port, FIRST_PORT.to_string())),
            ("prefixes", "--address", list(count, &prefix, "127.0.0.0/8".to_owned())),
            ("PIDs", "--pid", list(count, &pid, worker.to_string())),
        ] {
            let options = ["--format", "json", flag, &values].map(str::to_owned);
            named.push((format!("{what}: {count}"), options.into()));
        }
    }
    let options: Vec<Vec<&str>> =
        named.iter().map(|(_, options)| options.iter().map(String::as_str).collect()).collect();
    let contestants: Vec<_> =
        named.iter().zip(&options).map(|((name, _), options)| (name.clone(), Who::Tcptrace(options))).collect();
    let title = format!(
        "Growth with filters that match: the state program, and the tracer of all to JSON; medians and quartiles of \
         {rounds} rounds"
    );
    let mut table = Table::new("growth_filters", title, &COLUMNS);
    compare(&mut arena, &contestants, rounds, &mut table)?;
    Ok(table)
}

/// A row for each contestant.
fn compare(arena: &mut Arena, contestants: &[(String, Who)], rounds: u32, table: &mut Table) -> Result<()> {
    let who: Vec<_> = contestants.iter().map(|(_, who)| *who).collect();
    let (_, programs, all) = programs::contest(arena, &who, rounds)?;
    for ((name, who), samples) in contestants.iter().zip(all) {
        let state = programs.get(&(who.to_string(), STATE_PROGRAM.to_owned()));
        let state = state.with_context(|| format!("`{who}` has no program {STATE_PROGRAM} that ran"))?;
        let figures = [
            Figure::of(state.ns.iter().copied()),
            Figure::of(state.floors.iter().copied()),
            Figure::of(samples.iter().map(|sample| sample.cpu_ns / 1e3)),
            Figure::of(samples.iter().map(|sample| sample.memory_mb)),
        ];
        table.row(name.clone(), figures);
    }
    Ok(())
}
