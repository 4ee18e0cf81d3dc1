//! What can be looked at besides the stream of events.

use std::{path::PathBuf, time::Duration};

use clap::ValueEnum;

use crate::{
    cli::{
        args::{
            filters::{FilterArgs, ListingArgs},
            values::{Color, Format},
        },
        findings::FindingArgs,
        parse::{StoryFilter, count, severity},
    },
    findings::Severity,
    model::{netns_choice::NetnsChoice, number::duration},
};

/// Listing.
#[derive(Debug, clap::Args)]
pub struct SocketsArgs {
    /// Which sockets.
    #[command(flatten)]
    pub filter: FilterArgs,

    /// How they are listed.
    #[command(flatten)]
    pub listing: ListingArgs,

    /// Count them by this instead of listing them
    #[arg(short, long, value_enum, value_name = "WHAT", help_heading = "Output")]
    pub by: Option<GroupBy>,

    /// Form of the output
    #[arg(short, long, value_enum, default_value_t, help_heading = "Output")]
    pub format: Format,

    /// Write to this file instead of stdout; an existing file is replaced
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub output: Option<PathBuf>,

    /// Print `sk` as the address in the kernel that it is, and not as a hash of this run
    #[arg(long, help_heading = "Debugging")]
    pub kernel_addresses: bool,

    /// Colour in text: on a terminal only, always, never
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    pub color: Color,
}

/// Rates.
#[derive(Debug, clap::Args)]
pub struct RatesArgs {
    /// Only this network namespace: self, a name (ip netns), or an inode number; all together if not given
    #[arg(long, value_name = "NETNS", help_heading = "Filters")]
    pub netns: Option<NetnsChoice>,

    /// Time between two lines
    #[arg(short, long, value_name = "TIME", value_parser = duration, allow_negative_numbers = true, default_value = "1s", help_heading = "Limits")]
    pub interval: Duration,

    /// End after this time, e.g. 30s or 5m
    #[arg(short, long, value_name = "TIME", value_parser = duration, allow_negative_numbers = true, help_heading = "Limits")]
    pub duration: Option<Duration>,

    /// End after this many lines
    #[arg(short, long, value_name = "N", value_parser = count, allow_negative_numbers = true, help_heading = "Limits")]
    pub count: Option<u64>,

    /// Form of the output
    #[arg(short, long, value_enum, default_value_t, help_heading = "Output")]
    pub format: Format,

    /// Write to this file instead of stdout; an existing file is replaced
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub output: Option<PathBuf>,
}

/// One connection's story.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 a connection matched, 1 none did or the run failed, 2 wrong usage.")]
pub struct StoryArgs {
    /// The connection: ADDRESS, PORT or ADDRESS:PORT (IPv6 in brackets) at either end, or cookie:N
    #[arg(value_name = "FILTER")]
    pub which: StoryFilter,

    /// Only this network namespace: self, a name (ip netns), or an inode number; all if not given
    #[arg(long, value_name = "NETNS", help_heading = "Filters")]
    pub netns: Option<NetnsChoice>,

    /// How what is there at the start is listed.
    #[command(flatten)]
    pub listing: ListingArgs,

    /// End after this time, e.g. 30s or 5m
    #[arg(short, long, value_name = "TIME", value_parser = duration, allow_negative_numbers = true, help_heading = "Limits")]
    pub duration: Option<Duration>,

    /// End after this many connections were told of
    #[arg(short, long, value_name = "N", value_parser = count, allow_negative_numbers = true, help_heading = "Limits")]
    pub count: Option<u64>,

    /// Write to this file instead of stdout; an existing file is replaced
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub output: Option<PathBuf>,

    /// Say on stderr only what is wrong
    #[arg(short, long, help_heading = "Output")]
    pub quiet: bool,

    /// Colour: on a terminal only, always, never
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    pub color: Color,

    /// Create this file once all is attached, and remove it at the end
    #[arg(long, value_name = "FILE", help_heading = "Debugging")]
    pub ready_file: Option<PathBuf>,
}

/// What is wrong.
#[derive(Debug, clap::Args)]
pub struct StuckArgs {
    /// Which sockets.
    #[command(flatten)]
    pub filter: FilterArgs,

    /// How sockets are listed.
    #[command(flatten)]
    pub listing: ListingArgs,

    /// What is called trouble.
    #[command(flatten)]
    pub findings: FindingArgs,

    /// Look once at the sockets that there are, and end: exit code 3 if a finding is open (see --fail-on); with
    /// --duration, watch for that long first
    #[arg(long, help_heading = "Limits")]
    pub once: bool,

    /// The least severity of an open finding for exit code 3 of --once: info, warning or critical
    #[arg(long, value_name = "LEVEL", value_parser = severity, default_value = "warning", help_heading = "Limits")]
    pub fail_on: Severity,

    /// Time between two looks
    #[arg(short, long, value_name = "TIME", value_parser = duration, allow_negative_numbers = true, default_value = "2s", help_heading = "Limits")]
    pub interval: Duration,

    /// End after this time, e.g. 30s or 5m
    #[arg(short, long, value_name = "TIME", value_parser = duration, allow_negative_numbers = true, help_heading = "Limits")]
    pub duration: Option<Duration>,

    /// Form of the output: a list, or records of what opens, changes and closes
    #[arg(short, long, value_enum, default_value_t, help_heading = "Output")]
    pub format: StuckFormat,

    /// Write to this file instead of stdout; an existing file is replaced
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub output: Option<PathBuf>,

    /// Say on stderr only what is wrong
    #[arg(short, long, help_heading = "Output")]
    pub quiet: bool,

    /// Colour: on a terminal only, always, never
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    pub color: Color,

    /// Create this file once all is attached, and remove it at the end
    #[arg(long, value_name = "FILE", help_heading = "Debugging")]
    pub ready_file: Option<PathBuf>,
}

/// A check-up.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 nothing is wrong, 1 no check-up could be made, 2 wrong usage, 3 something was found \
                        (warning or failed)."
)]
pub struct DoctorArgs {
    /// Only these parts; all if not given
    #[arg(value_enum, value_name = "AREA")]
    pub areas: Vec<Area>,

    /// Settings of this network namespace: self, a name (ip netns), or an inode number; one's own if not given
    #[arg(long, value_name = "NETNS")]
    pub netns: Option<NetnsChoice>,

    /// Say of each check what it is about, and where that is to be found
    #[arg(short, long, help_heading = "Output")]
    pub verbose: bool,

    /// Form of the output
    #[arg(short, long, value_enum, default_value_t, help_heading = "Output")]
    pub format: Format,

    /// The same as --format json
    #[arg(long, conflicts_with = "format", help_heading = "Output")]
    pub json: bool,

    /// Write to this file instead of stdout; an existing file is replaced
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub output: Option<PathBuf>,

    /// Colour in text: on a terminal only, always, never
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    pub color: Color,
}

/// Forms of a list of what is wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum StuckFormat {
    /// A list
    #[default]
    Text,
    /// One object a line (docs/json.md)
    Json,
}

/// What sockets are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GroupBy {
    /// State
    State,
    /// Process that holds them
    Pid,
    /// Local port
    Port,
    /// Remote address
    Remote,
    /// Cgroup of a process that holds them
    Cgroup,
}

impl GroupBy {
    /// Name in all outputs, as the flag takes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Pid => "pid",
            Self::Port => "port",
            Self::Remote => "remote",
            Self::Cgroup => "cgroup",
        }
    }
}

/// A part of the check-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Area {
    /// What tcptrace needs: kernel, BTF, capabilities
    Machine,
    /// The hooks in the kernel: all programs are attached, and detached again
    Hooks,
    /// The TCP settings in force, and what they come to
    Settings,
    /// How near the limits are now
    Pressure,
    /// The files that set TCP settings at boot
    Files,
}

impl Area {
    /// Its name in all outputs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Hooks => "hooks",
            Self::Settings => "settings",
            Self::Pressure => "pressure",
            Self::Files => "files",
        }
    }
}
