//! `cargo xtask instructions`: counts the instructions that the pure core executes per event, and compares them with the
//! recorded counts. A count does not depend on the load of the machine, so a bound of a tenth holds.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use xtask::{
    builds::{self, INSTRUCTIONS},
    cargo, programs, workspace,
};

/// The recorded counts, from the repository's root.
const RECORD: &str = "tcptrace/benches/instructions.json";
/// How far a count may be from the recorded one, as a fraction.
const BOUND: f64 = 0.1;
/// How often each of two runs does a piece of work. The difference of their counts leaves out start and end.
const TIMES: [u64; 2] = [2, 6];

/// Options of `cargo xtask instructions`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Record the counts of this run
    #[arg(long)]
    record: bool,
}

/// Counts, and compares or records.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if programs::find("valgrind").is_none() {
        bail!("valgrind is not installed (Debian package valgrind): run `cargo xtask setup --tests`");
    }
    let root = workspace::root()?;
    let program = cargo::pick(&builds::instructions(&root)?, "bench", INSTRUCTIONS)?;
    let pieces = programs::stdout_of(&mut Command::new(&program))?;
    let mut counts = BTreeMap::new();
    for line in pieces.lines() {
        let parsed = line.split_once(' ').and_then(|(piece, items)| Some((piece, items.parse::<u64>().ok()?)));
        let (piece, items) = parsed.with_context(|| format!("{INSTRUCTIONS}: {line:?} is no piece of work"))?;
        let [few, many] = TIMES.map(|times| instructions(&program, piece, times));
        counts.insert(piece.to_owned(), (many? - few?) as f64 / ((TIMES[1] - TIMES[0]) * items) as f64);
    }
    let rustc = programs::stdout_of(Command::new("rustc").arg("--version"))?;
    let path = root.join(RECORD);
    if args.record {
        let rounded: BTreeMap<_, _> = counts.iter().map(|(piece, count)| (piece, count.round())).collect();
        let record = json!({ "rustc": rustc.trim(), "instructions_per_event": rounded });
        fs::write(&path, format!("{record:#}\n")).with_context(|| format!("{RECORD}: cannot be written"))?;
        counts.iter().for_each(|(piece, count)| println!("instructions: {piece}: {count:.0} an event, recorded"));
        return Ok(ExitCode::SUCCESS);
    }
    let record = fs::read_to_string(&path).with_context(|| format!("{RECORD}: run with --record first"))?;
    let record: Value = serde_json::from_str(&record).with_context(|| format!("{RECORD}: is not JSON"))?;
    let by = record["rustc"].as_str().unwrap_or("an unknown compiler");
    if by != rustc.trim() {
        println!("instructions: recorded with {by}; this is {}", rustc.trim());
    }
    let mut is_worse = false;
    for (piece, count) in counts {
        let recorded = record["instructions_per_event"][&piece].as_f64();
        let verdict = judge(count, recorded);
        is_worse |= !verdict.is_good();
        let recorded = recorded.map_or_else(|| "not recorded".to_owned(), |recorded| format!("recorded {recorded:.0}"));
        println!("instructions: {piece}: {count:.0} an event, {recorded}: {}", verdict.words());
    }
    Ok(if is_worse { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// How a count compares with the recorded one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Same,
    Fewer,
    More,
    Unknown,
}

impl Verdict {
    const fn is_good(self) -> bool {
        matches!(self, Self::Same | Self::Fewer)
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Same => "as before",
            Self::Fewer => "fewer by more than a tenth; record it: cargo xtask instructions --record",
            Self::More => "MORE by more than a tenth",
            Self::Unknown => "UNKNOWN; record it: cargo xtask instructions --record",
        }
    }
}

fn judge(count: f64, recorded: Option<f64>) -> Verdict {
    match recorded {
        None => Verdict::Unknown,
        Some(recorded) if count > recorded * (1.0 + BOUND) => Verdict::More,
        Some(recorded) if count < recorded * (1.0 - BOUND) => Verdict::Fewer,
        Some(_) => Verdict::Same,
    }
}

/// The instructions of one run.
fn instructions(program: &Path, piece: &str, times: u64) -> Result<u64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program).args([piece, &times.to_string()]);
    let output = command.stdin(Stdio::null()).output().context("valgrind cannot be started")?;
    let text = String::from_utf8_lossy(&output.stderr);
    let count = output.status.success().then(|| collected(&text)).flatten();
    count.with_context(|| format!("`{}` did not count: {}\n{text}", programs::line(&command), output.status))
}

/// The count that callgrind prints at its end.
fn collected(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_read_from_callgrinds_output() {
        let text = "==7== Events    : Ir\n==7== Collected : 123456789\n==7== \n==7== I   refs:      123,456,789\n";
        assert_eq!(collected(text), Some(123_456_789));
        assert_eq!(collected("==7== Collected : \n"), None);
        assert_eq!(collected(""), None);
    }

    #[test]
    fn a_tenth_more_or_less_is_as_before() {
        let judged = [89.0, 91.0, 100.0, 109.0, 111.0].map(|count| judge(count, Some(100.0)));
        assert_eq!(judged, [Verdict::Fewer, Verdict::Same, Verdict::Same, Verdict::Same, Verdict::More]);
        assert!(!judge(1.0, None).is_good());
    }
}
