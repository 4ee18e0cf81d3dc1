//! The highest rate of events at which nothing is lost.
//!
//! Connections cannot make transitions fast enough. A socket that begins and ends to listen makes two in two short
//! system calls.

use std::{
    io::{self, BufRead as _, BufReader, Read},
    process::Stdio,
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::{
    contest::{self, Tools, Who},
    figure::Figure,
    process::Tracer,
    report::Table,
    worker::{Order, Worker},
};

/// Transitions a second that are asked for.
const RATES: [u64; 12] =
    [10_000, 25_000, 50_000, 100_000, 200_000, 300_000, 400_000, 500_000, 600_000, 700_000, 800_000, 1_000_000];
const REPETITIONS: u32 = 3;
const TIME: Duration = Duration::from_millis(1500);

/// What a run showed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Run {
    /// Transitions a second that the load made.
    per_second: f64,
    /// Transitions that the load made.
    made: u64,
    /// Events that the tracer told of: those of others on this machine as well.
    told: u64,
    /// Events that it says it lost.
    lost: u64,
}

impl Run {
    /// What it did not tell of, by its own account or by ours.
    fn missing(&self) -> u64 {
        self.lost.max(self.made.saturating_sub(self.told))
    }
}

/// Steps the rate up for each tracer until it loses events.
pub(super) fn measure(tools: &Tools) -> Result<Vec<Table>> {
    contest::enter_namespace()?;
    let mut worker = Worker::start(0, Some(0))?;
    let mut steps = Table::new(
        "loss_steps",
        format!(
            "Transitions of a socket that begins and ends to listen, on CPU 0; the tracers write to a pipe; {REPETITIONS} runs of {} ms at each rate, all added up",
            TIME.as_millis()
        ),
        &["asked_per_s", "made_per_s", "events_made", "events_missing"],
    );
    let mut best = Table::new(
        "loss",
        "The highest rate at which no run missed an event, and the one above it, in transitions a second",
        &["without_loss_per_s", "with_loss_per_s", "share_missing"],
    );
    for who in [Who::Tcptrace(&["--format", "json"]), Who::Tcptrace(&[]), Who::Tcpstates] {
        let (mut without, mut with) = (None, [None, None]);
        for rate in RATES {
            let runs: Vec<_> = (0..REPETITIONS).map(|_| run(tools, who, &mut worker, rate)).collect::<Result<_>>()?;
            let sum = |figure: fn(&Run) -> u64| runs.iter().map(figure).sum::<u64>() as f64;
            let reached = Figure::of(runs.iter().map(|run| run.per_second));
            let (made, missing) = (sum(|run| run.made), sum(Run::missing));
            let figures = [Figure::of([rate as f64]), reached, Figure::of([made]), Figure::of([missing])];
            steps.row(who.to_string(), figures);
            if missing > 0.0 {
                with = [reached, Figure::of([missing / made])];
                break;
            }
            without = reached;
            // The load can do no more.
            if reached.is_none_or(|reached| reached.median < 0.95 * rate as f64) {
                break;
            }
        }
        best.row(who.to_string(), [without, with[0], with[1]]);
    }
    println!("{steps}\n{best}");
    Ok(vec![best, steps])
}

fn run(tools: &Tools, who: Who, worker: &mut Worker, rate: u64) -> Result<Run> {
    /// Longer than a tracer holds events back.
    const SETTLE: Duration = Duration::from_millis(300);
    let (mut command, ready) = tools.command(who).context("only a tracer loses events")?;
    let mut tracer = Tracer::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()), ready, None)?;
    let (stdout, mut stderr) = tracer.outputs()?;
    let lines = thread::spawn(|| count_lines(stdout));
    let words = thread::spawn(move || {
        let mut words = String::new();
        stderr.read_to_string(&mut words).map(|_| words)
    });
    let done = worker.follow(Order::Toggle { rate, millis: TIME.as_millis() as u64 })?;
    thread::sleep(SETTLE);
    tracer.stop()?;
    let lines = join(lines).with_context(|| format!("{who}: its standard output"))?;
    let words = join(words).with_context(|| format!("{who}: its standard error"))?;
    let (told, lost) = match who {
        Who::Tcpstates => (lines.saturating_sub(1), lost_by_tcpstates(&words)),
        _ => last_words(&words).with_context(|| format!("{who}: does not say what it lost: `{words}`"))?,
    };
    Ok(Run { per_second: done.per_second(), made: done.count, told, lost })
}

/// Reads to the end.
fn count_lines(from: impl Read) -> io::Result<u64> {
    let (mut from, mut lines) = (BufReader::with_capacity(1 << 16, from), 0);
    while from.skip_until(b'\n')? > 0 {
        lines += 1;
    }
    Ok(lines)
}

fn join<T>(thread: JoinHandle<io::Result<T>>) -> Result<T> {
    match thread.join() {
        Ok(result) => result.context("cannot be read"),
        Err(_) => bail!("its reader failed"),
    }
}

/// What tcptrace says at its end: events that it received, and those that were lost on their way to it.
fn last_words(words: &str) -> Option<(u64, u64)> {
    let (received, losses) = words.lines().rev().find_map(|line| line.split_once(" events received; lost: "))?;
    let received = received.rsplit(' ').next()?.parse().ok()?;
    let lost = |name: &str| -> Option<u64> {
        losses.split(", ").find_map(|loss| loss.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    };
    Some((received, lost("ring buffer")? + lost("program busy")? + lost("undecodable")?))
}

/// What tcpstates says whenever it notices a loss (`handle_lost_events` of libbpf-tools).
fn lost_by_tcpstates(words: &str) -> u64 {
    let lost = |line: &str| line.trim().strip_prefix("lost ")?.split(' ').next()?.parse::<u64>().ok();
    words.lines().filter_map(lost).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_is_read_from_last_words() {
        let words = "tcptrace: not attached: x\ntcptrace: 309102 events received; lost: ring buffer 248826, program \
            busy 2, kernel table 9, undecodable 1, evicted 0\n";
        assert_eq!(last_words(words), Some((309_102, 248_829)));
        for words in ["", "tcptrace: 7 events received", "tcptrace: x events received; lost: ring buffer 0"] {
            assert_eq!(last_words(words), None, "{words}");
        }
        assert_eq!(lost_by_tcpstates("lost 12 events on CPU #0!\nelse\nlost 30 events on CPU #1!\n"), 42);
    }

    #[test]
    fn an_event_that_nobody_tells_of_is_missing_though_nobody_says_so() {
        let run = Run { per_second: 1.0, made: 10, told: 8, lost: 0 };
        assert_eq!(run.missing(), 2);
        assert_eq!(Run { told: 12, ..run }.missing(), 0);
        assert_eq!(Run { told: 12, lost: 1, ..run }.missing(), 1);
    }

    #[test]
    fn lines_are_counted() {
        assert_eq!(count_lines(&b"a\nb\n\nc"[..]).unwrap(), 4);
    }
}
