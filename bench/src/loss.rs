//! The highest rate of events at which nothing is lost.
//!
//! Connections cannot make transitions fast enough. A socket that begins and ends to listen makes two in two short
//! system calls.

use std::{io::Read as _, process::Stdio, thread, time::Duration};

use anyhow::{Context as _, Result, bail};

use crate::{
    contest::{self, Tools, Who},
    figure::Figure,
    process::Tracer,
    report::Table,
    worker::{Order, Worker},
};

/// Requested transitions per second.
const RATES: [u64; 8] = [10_000, 50_000, 100_000, 200_000, 300_000, 400_000, 600_000, 1_000_000];
const REPETITIONS: u32 = 3;
const TIME: Duration = Duration::from_millis(1500);
/// From this share of missing events on, higher rates show nothing new.
const HOPELESS: f64 = 0.01;

/// The result of one run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Run {
    /// Transitions a second that the load made.
    pub(crate) per_second: f64,
    /// Transitions that the load made.
    pub(crate) made: u64,
    /// Events that the tracer says it reported, if it does; those of other processes are among them.
    pub(crate) reported: Option<u64>,
    /// Events that it says it lost.
    pub(crate) lost: u64,
    /// Of these, events that came while its program was running on that CPU.
    pub(crate) busy: u64,
}

impl Run {
    /// Events that it did not report, by its own count or by ours.
    pub(crate) fn missing(&self) -> u64 {
        self.lost.max(self.reported.map_or(0, |reported| self.made.saturating_sub(reported)))
    }
}

/// Steps the rate up for each tracer until it loses many events, or the load can do no more.
pub(crate) fn measure(tools: &Tools) -> Result<Vec<Table>> {
    contest::enter_namespace()?;
    let mut worker = Worker::start(0, Some((0, true)))?;
    let title = format!(
        "Transitions of a socket that begins and ends to listen, on CPU 0, traced on CPU 1; at each rate \
         {REPETITIONS} runs of {} ms, whose events are added up; busy: lost because the program was already running on that CPU",
        TIME.as_millis()
    );
    let mut steps = Table::new("loss_steps", title, &["asked_per_s", "made_per_s", "events", "missing", "busy"]);
    let title = "The highest rate up to which no run missed an event, and the next one, in transitions a second";
    let columns = ["without_loss_per_s", "with_loss_per_s", "missing_per_million"];
    let mut best = Table::new("loss", title, &columns);
    for who in [Who::Tcptrace(&["--format", "json"]), Who::Tcptrace(&[]), Who::Tcpstates] {
        let (mut without, mut with) = (None, None);
        for rate in RATES {
            let runs: Vec<_> = (0..REPETITIONS).map(|_| run(tools, who, &mut worker, rate)).collect::<Result<_>>()?;
            let sum = |figure: fn(&Run) -> u64| runs.iter().map(figure).sum::<u64>() as f64;
            let reached = Figure::of(runs.iter().map(|run| run.per_second));
            let (made, missing) = (sum(|run| run.made), sum(Run::missing));
            let totals = [rate as f64, made, missing, sum(|run| run.busy)].map(|figure| Figure::of([figure]));
            steps.row(who.to_string(), [totals[0], reached, totals[1], totals[2], totals[3]]);
            if with.is_none() && missing > 0.0 {
                with = Some((reached, missing / made * 1e6));
            } else if with.is_none() {
                without = reached;
            }
            let saturated = reached.is_none_or(|reached| reached.median < 0.95 * rate as f64);
            if saturated || missing > HOPELESS * made {
                break;
            }
        }
        let (next, missing) = with.unzip();
        best.row(who.to_string(), [without, next.flatten(), Figure::of(missing)]);
    }
    println!("{best}\n{steps}");
    Ok(vec![best, steps])
}

fn run(tools: &Tools, who: Who, worker: &mut Worker, rate: u64) -> Result<Run> {
    /// Longer than a tracer holds events back.
    const SETTLE: Duration = Duration::from_millis(250);
    let (mut command, ready) = tools.command(who).context("only a tracer loses events")?;
    let mut tracer = Tracer::start(command.stderr(Stdio::piped()), ready, Some(1))?;
    let mut stderr = tracer.stderr()?;
    // Read at once: tcpstates writes a line for each loss, and must not wait for a reader.
    let words = thread::spawn(move || {
        let mut words = String::new();
        stderr.read_to_string(&mut words).map(|_| words)
    });
    let done = worker.follow(Order::Toggle { rate, millis: TIME.as_millis() as u64 })?;
    thread::sleep(SETTLE);
    // A perf buffer reports losses with the next event that it takes.
    let after = worker.follow(Order::Toggle { rate: 100, millis: 50 })?;
    thread::sleep(SETTLE);
    tracer.stop()?;
    let words = match words.join() {
        Ok(words) => words.with_context(|| format!("{who}: its standard error cannot be read"))?,
        Err(_) => bail!("{who}: the reader of its standard error failed"),
    };
    let made = Run { per_second: done.per_second(), made: done.count + after.count, ..Run::default() };
    match who {
        Who::Tcpstates => Ok(Run { lost: lost_by_tcpstates(&words), ..made }),
        _ => last_words(&words, made).with_context(|| format!("{who}: does not say what it lost: `{words}`")),
    }
}

/// Adds the counts that tcptrace prints at its end: events that it received, and events that were lost on the way.
pub(crate) fn last_words(words: &str, run: Run) -> Option<Run> {
    let last = |line: &'_ str| {
        let (received, rest) = line.split_once(" events")?;
        let losses = if rest == ", none lost" { "" } else { rest.strip_prefix("; lost: ")? };
        Some((received.to_owned(), losses.to_owned()))
    };
    let (received, losses) = words.lines().rev().find_map(last)?;
    // tcptrace names only places where something was lost.
    let lost = |name: &str| -> u64 {
        let count = losses.split(", ").find_map(|loss| loss.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        count.unwrap_or(0)
    };
    let busy = lost("program busy");
    let lost = lost("ring buffer") + busy + lost("undecodable");
    Some(Run { reported: Some(received.rsplit(' ').next()?.parse().ok()?), lost, busy, ..run })
}

/// The sum of what tcpstates prints whenever it notices a loss (`handle_lost_events` of libbpf-tools).
fn lost_by_tcpstates(words: &str) -> u64 {
    let lost = |line: &str| line.trim().strip_prefix("lost ")?.split(' ').next()?.parse::<u64>().ok();
    words.lines().filter_map(lost).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_is_read_from_last_words() {
        let words = "tcptrace: not attached: x\ntcptrace: 309102 events; lost: ring buffer 248826, program \
            busy 2, kernel table 9, undecodable 1\n";
        let run = Run { made: 1, ..Run::default() };
        assert_eq!(last_words(words, run), Some(Run { reported: Some(309_102), lost: 248_829, busy: 2, ..run }));
        let fine = Run { reported: Some(7), lost: 0, busy: 0, ..run };
        assert_eq!(last_words("tcptrace: 7 events, none lost\n", run), Some(fine));
        for words in ["", "tcptrace: 7 events", "tcptrace: x events; lost: ring buffer 1"] {
            assert_eq!(last_words(words, run), None, "{words}");
        }
        assert_eq!(lost_by_tcpstates("lost 12 events on CPU #0!\nelse\nlost 30 events on CPU #1!\n"), 42);
    }

    #[test]
    fn an_event_that_nobody_reports_is_missing() {
        let run = Run { made: 10, reported: Some(8), ..Run::default() };
        assert_eq!(run.missing(), 2);
        assert_eq!(Run { reported: Some(12), ..run }.missing(), 0);
        assert_eq!(Run { reported: Some(12), lost: 1, ..run }.missing(), 1);
        assert_eq!(Run { reported: None, ..run }.missing(), 0);
    }
}
