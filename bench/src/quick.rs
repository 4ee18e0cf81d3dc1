//! The quick run of CI: not a figure to quote, only whether the cost of an event has jumped.
//!
//! The bounds are wide: a noisy machine passes, a wake-up for each event fails.

use anyhow::{Context as _, Result};

use crate::{
    contest::{Arena, Tools, Who},
    figure::Figure,
    load,
    programs::{self, STATE_PROGRAM},
};

const JSON: Who = Who::Tcptrace(&["--format", "json"]);
/// The fraction of its rate (in CPU time) that a load must keep: well below the 0.85 to 0.94 seen on busy machines, and
/// well above the 0.62 with a wake-up for each event.
const KEPT_AT_LEAST: f64 = 0.75;
/// The most that the state program may take, as a multiple of an empty one: half more than it does. With a wake-up for
/// each event it is 30 and more.
const FLOORS_AT_MOST: f64 = 12.0;
const ROUNDS: u32 = 5;
const BURST: u64 = 5_000;

/// Whether all is within the bounds. If not it is measured once more, as other processes may have disturbed it.
pub(crate) fn passes(tools: &Tools) -> Result<bool> {
    let mut arena = Arena::new(tools, &[0], Some(1), BURST)?;
    if measure(&mut arena)? {
        return Ok(true);
    }
    println!("quick: once more, since something else may have disturbed that");
    measure(&mut arena)
}

fn measure(arena: &mut Arena) -> Result<bool> {
    let contest = load::rates(arena, &[JSON], ROUNDS)?;
    let kept = Figure::of(contest.traced.iter().flatten().map(|traced| traced.cpu_ratio)).context("no rate")?;
    let (_, programs, _) = programs::contest(arena, &[JSON], ROUNDS)?;
    let state = programs.get(&(JSON.to_string(), STATE_PROGRAM.to_owned()));
    let state = state.with_context(|| format!("the program {STATE_PROGRAM} did not run"))?;
    let floors = Figure::of(state.floors.iter().copied()).context("no time")?;
    let ns = Figure::of(state.ns.iter().copied()).context("no time")?;
    println!(
        "quick: the load keeps {kept} of its untraced rate in CPU time; at least {KEPT_AT_LEAST}: {}",
        word(kept.median >= KEPT_AT_LEAST)
    );
    println!(
        "quick: the state program takes {ns} ns, {floors} times an empty program; at most {FLOORS_AT_MOST}: {}",
        word(floors.median <= FLOORS_AT_MOST)
    );
    println!("quick: medians and quartiles of {ROUNDS} rounds");
    Ok(kept.median >= KEPT_AT_LEAST && floors.median <= FLOORS_AT_MOST)
}

fn word(good: bool) -> &'static str {
    if good { "ok" } else { "FAILED" }
}
