//! `tcptrace record` and `tcptrace replay`.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::Subcommand;
use jiff::{Timestamp, civil};

use crate::{
    cli::{
        args::{
            filters::{FilterArgs, ListingArgs},
            recording::record_size,
            trace::TraceArgs,
            views::{RatesArgs, SocketsArgs, StoryArgs, StuckArgs, TopArgs},
        },
        findings::FindingArgs,
        parse::severity,
    },
    findings::Severity,
    model::number::duration,
};

/// `tcptrace record`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without filters everything is recorded, and `tcptrace replay` filters later. With filters only the events that \
                  pass are recorded, so that a replay finds no problems (--netns does not count). Listings of sockets are \
                  recorded whole.\n\n\
                  The file is for its owner alone (mode 0600). See `tcptrace replay --help` for what it can answer."
)]
pub struct RecordArgs {
    /// Where to record; an existing file is replaced, or with --keep or --max-size kept beside it under a number
    #[arg(short = 'w', long = "write", value_name = "FILE")]
    pub file: PathBuf,

    /// Keep only this much, e.g. 2h: in FILE and several older files beside it, of which the oldest is removed
    #[arg(long, value_name = "TIME", value_parser = duration, allow_negative_numbers = true)]
    pub keep: Option<Duration>,

    /// Keep at most this much, e.g. 2GiB; the oldest file is removed
    #[arg(long, value_name = "SIZE", value_parser = record_size)]
    pub max_size: Option<u64>,

    /// Keep the ten minutes around findings of at least this severity (info, warning or critical) in files of their own,
    /// FILE.finding-TIME-KIND; without --keep and --max-size, FILE itself keeps the last ten minutes
    #[arg(long, value_name = "LEVEL", value_parser = severity)]
    pub on_finding: Option<Severity>,

    /// Which sockets are recorded: without filters all, so that a replay can choose
    #[command(flatten)]
    pub filter: FilterArgs,

    /// What counts as a problem.
    #[command(flatten)]
    pub findings: FindingArgs,

    /// How the sockets that exist at the start are listed.
    #[command(flatten)]
    pub listing: ListingArgs,

    /// Stop after this time, e.g. 30s or 5m
    #[arg(short, long, value_name = "TIME", value_parser = duration, allow_negative_numbers = true, help_heading = "Limits")]
    pub duration: Option<Duration>,

    /// Print only warnings and errors to stderr
    #[arg(short, long, help_heading = "Output")]
    pub quiet: bool,

    /// Create this file when all probes are attached, and remove it at the end
    #[arg(long, value_name = "FILE", help_heading = "Debugging")]
    pub ready_file: Option<PathBuf>,
}

/// `tcptrace replay`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "TIME is a time of day (03:12, 03:12:30.5), a date and time in the local zone (2026-11-30T03:12) or with one of \
                  its own (2026-11-30T03:12:00Z), or a distance from the beginning (+5m) or from the end (-5m).\n\n\
                  Exit codes are those of the same command on a live machine."
)]
pub struct ReplayArgs {
    /// The recording: FILE of tcptrace record -w FILE, with the older files beside it
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// What to show of it [default: its events, with the flags of tcptrace]
    #[command(subcommand)]
    pub view: Option<ReplayView>,

    /// Show nothing from before this time; what happened before is taken into account
    #[arg(long, value_name = "TIME", global = true, allow_hyphen_values = true, help_heading = "Time")]
    pub from: Option<When>,

    /// End at this time
    #[arg(long, value_name = "TIME", global = true, allow_hyphen_values = true, help_heading = "Time")]
    pub to: Option<When>,

    /// Show the state of the world at this time: the same as --to, for sockets, stuck and summary
    #[arg(
        long,
        value_name = "TIME",
        global = true,
        allow_hyphen_values = true,
        conflicts_with = "to",
        help_heading = "Time"
    )]
    pub at: Option<When>,

    /// Take as long as it took, divided by this number: 1 is the original speed [default: as fast as possible]
    #[arg(long, value_name = "N", value_parser = speed, global = true, help_heading = "Time")]
    pub speed: Option<f64>,

    /// The flags of tracing.
    #[command(flatten)]
    pub trace: Box<TraceArgs>,
}

/// `tcptrace report`.
#[derive(Debug, clap::Args)]
#[command(after_help = "TIME is as for tcptrace replay; times in the report are in UTC.")]
pub struct ReportArgs {
    /// The recording: FILE of tcptrace record -w FILE, with the older files beside it
    #[arg(value_name = "RECORDING")]
    pub file: PathBuf,

    /// The report; an existing file is replaced, and nobody else may read it. - is stdout
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub output: PathBuf,

    /// Replace addresses and names of hosts, commands, users, units, containers, pods, images, cgroups and namespaces
    #[arg(long, help_heading = "Output")]
    pub anonymize: bool,

    /// Print only warnings and errors to stderr
    #[arg(short, long, help_heading = "Output")]
    pub quiet: bool,

    /// Begin at this time; what happened before is taken into account
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, help_heading = "Time")]
    pub from: Option<When>,

    /// End at this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, help_heading = "Time")]
    pub to: Option<When>,

    /// Which sockets the report is about.
    #[command(flatten)]
    pub filter: FilterArgs,

    /// What counts as a problem.
    #[command(flatten)]
    pub findings: FindingArgs,
}

/// What to show of a recording.
#[derive(Debug, Subcommand)]
pub enum ReplayView {
    /// The events and findings, as tcptrace prints them
    Events(Box<TraceArgs>),
    /// Only the summary, as tcptrace --summary
    Summary(Box<TraceArgs>),
    /// The problems that existed at the end, or at --at
    Stuck(Box<StuckArgs>),
    /// The sockets that existed at the end, or at --at
    Sockets(Box<SocketsArgs>),
    /// The kernel's TCP counters as rates per second
    Rates(Box<RatesArgs>),
    /// Single connections, from their first event to their end
    Story(Box<StoryArgs>),
    /// Everything on one screen, with a time line
    Top(Box<TopArgs>),
}

/// A point in time, as a user gives it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum When {
    /// A moment.
    At(Timestamp),
    /// A date and time in the local zone.
    Local(civil::DateTime),
    /// A time of day in the local zone: the first one in the recording.
    TimeOfDay(civil::Time),
    /// After the beginning.
    AfterStart(Duration),
    /// Before the end.
    BeforeEnd(Duration),
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(after) = text.strip_prefix('+') {
            return distance(after).map(Self::AfterStart);
        }
        if let Some(before) = text.strip_prefix('-') {
            return distance(before).map(Self::BeforeEnd);
        }
        // A moment has a zone; without one it would also be a local time.
        if let Ok(at) = text.parse() {
            return Ok(Self::At(at));
        }
        let is_date = text.get(..10).is_some_and(|date| date.parse::<civil::Date>().is_ok());
        if is_date && let Ok(local) = text.parse() {
            return Ok(Self::Local(local));
        }
        text.parse().map(Self::TimeOfDay).map_err(|_| {
            format!("`{text}` is no time: give e.g. 03:12, 2026-11-30T03:12, 2026-11-30T03:12:00Z, +5m or -5m")
        })
    }
}

/// A duration, or nothing at all.
fn distance(text: &str) -> Result<Duration, String> {
    if text == "0s" { Ok(Duration::ZERO) } else { duration(text) }
}

fn speed(text: &str) -> Result<f64, String> {
    let number = text.strip_prefix(['x', '\u{d7}']).unwrap_or(text).parse().ok();
    number
        .filter(|speed| (0.01..=1e6).contains(speed))
        .ok_or_else(|| format!("`{text}` is no speed: give e.g. 1, 10 or 0.5"))
}
