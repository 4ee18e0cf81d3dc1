//! The flags of the commands other than tracing.

use std::{path::PathBuf, time::Duration};

use clap::ValueEnum;

use crate::{
    cli::{
        args::{
            filters::{FilterArgs, ListingArgs},
            recording::RecordingArgs,
            values::{Color, Format},
        },
        findings::FindingArgs,
        parse::{StoryFilter, count, severity},
    },
    findings::Severity,
    model::{netns_choice::NetnsChoice, number::duration},
};

/// `tcptrace sockets`.
#[derive(Clone, Debug, clap::Args)]
pub struct SocketsArgs {
    /// Which sockets are listed.
    #[command(flatten)]
    pub filter: FilterArgs,

    /// How they are listed.
    #[command(flatten)]
    pub listing: ListingArgs,

    /// Count the sockets by this instead of listing them
    #[arg(short, long, value_enum, value_name = "WHAT", help_heading = "Output")]
    pub by: Option<GroupBy>,

    /// Output format
    #[arg(short, long, value_enum, default_value_t, help_heading = "Output")]
    pub format: Format,

    /// Write to this file instead of stdout; an existing file is replaced
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub output: Option<PathBuf>,

    /// Print `sk` as the kernel address instead of a hash that is valid for this run
    #[arg(long, help_heading = "Debugging")]
    pub kernel_addresses: bool,

    /// When to colour text: on a terminal, always, never
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    pub color: Color,
}

/// `tcptrace rates`.
#[derive(Debug, clap::Args)]
pub struct RatesArgs {
    /// Count only in this network namespace: self, a name (ip netns) or an inode number [default: the sum of all]
    #[arg(long, value_name = "NETNS", help_heading = "Filters")]
    pub netns: Option<NetnsChoice>,

    /// Time between two lines
    #[arg(short, long, value_name = "TIME", value_parser = duration, allow_negative_numbers = true, default_value = "1s", help_heading = "Limits")]
    pub interval: Duration,

    /// Stop after this time, e.g. 30s or 5m
    #[arg(short, long, value_name = "TIME", value_parser = duration, allow_negative_numbers = true, help_heading = "Limits")]
    pub duration: Option<Duration>,

    /// Stop after this many lines
    #[arg(short, long, value_name = "N", value_parser = count, allow_negative_numbers = true, help_heading = "Limits")]
    pub count: Option<u64>,

    /// Output format
    #[arg(short, long, value_enum, default_value_t, help_heading = "Output")]
    pub format: Format,

    /// Write to this file instead of stdout; an existing file is replaced
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub output: Option<PathBuf>,
}

/// `tcptrace story`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 a connection matched, 1 none did or the run failed, 2 usage error.")]
pub struct StoryArgs {
    /// Which connections: ADDRESS, PORT or ADDRESS:PORT (IPv6 in brackets) on either side, or cookie:N
    #[arg(value_name = "FILTER")]
    pub which: StoryFilter,

    /// Follow only connections in this network namespace: self, a name (ip netns) or an inode number [default: all]
    #[arg(long, value_name = "NETNS", help_heading = "Filters")]
    pub netns: Option<NetnsChoice>,

    /// How the sockets that exist at the start are listed.
    #[command(flatten)]
    pub listing: ListingArgs,

    /// Stop after this time, e.g. 30s or 5m
    #[arg(short, long, value_name = "TIME", value_parser = duration, allow_negative_numbers = true, help_heading = "Limits")]
    pub duration: Option<Duration>,

    /// Stop after printing this many connections
    #[arg(short, long, value_name = "N", value_parser = count, allow_negative_numbers = true, help_heading = "Limits")]
    pub count: Option<u64>,

    /// Write to this file instead of stdout; an existing file is replaced
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub output: Option<PathBuf>,

    /// Print only warnings and errors to stderr; records are still written
    #[arg(short, long, help_heading = "Output")]
    pub quiet: bool,

    /// When to colour text: on a terminal, always, never
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    pub color: Color,

    /// Whether the run is recorded.
    #[command(flatten)]
    pub recording: RecordingArgs,

    /// Create this file when all probes are attached, and remove it at the end
    #[arg(long, value_name = "FILE", help_heading = "Debugging")]
    pub ready_file: Option<PathBuf>,
}

/// `tcptrace stuck`.
#[derive(Clone, Debug, clap::Args)]
pub struct StuckArgs {
    /// Which sockets are checked.
    #[command(flatten)]
    pub filter: FilterArgs,

    /// How existing sockets are listed.
    #[command(flatten)]
    pub listing: ListingArgs,

    /// What counts as a problem.
    #[command(flatten)]
    pub findings: FindingArgs,

    /// Check the existing sockets once and end, with exit code 3 if a finding is open (see --fail-on); with --duration, watch
    /// for that long first
    #[arg(long, help_heading = "Limits")]
    pub once: bool,

    /// Lowest severity of an open finding for which --once ends with exit code 3: info, warning or critical
    #[arg(long, value_name = "LEVEL", value_parser = severity, default_value = "warning", help_heading = "Limits")]
    pub fail_on: Severity,

    /// Time between two checks
    #[arg(short, long, value_name = "TIME", value_parser = duration, allow_negative_numbers = true, default_value = "2s", help_heading = "Limits")]
    pub interval: Duration,

    /// Stop after this time, e.g. 30s or 5m
    #[arg(short, long, value_name = "TIME", value_parser = duration, allow_negative_numbers = true, help_heading = "Limits")]
    pub duration: Option<Duration>,

    /// Output format: a list, or a record for each finding that opens, changes or closes
    #[arg(short, long, value_enum, default_value_t, help_heading = "Output")]
    pub format: StuckFormat,

    /// Write to this file instead of stdout; an existing file is replaced
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub output: Option<PathBuf>,

    /// Print only warnings and errors to stderr; records are still written
    #[arg(short, long, help_heading = "Output")]
    pub quiet: bool,

    /// When to colour text: on a terminal, always, never
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    pub color: Color,

    /// Whether the run is recorded.
    #[command(flatten)]
    pub recording: RecordingArgs,

    /// Create this file when all probes are attached, and remove it at the end
    #[arg(long, value_name = "FILE", help_heading = "Debugging")]
    pub ready_file: Option<PathBuf>,
}

/// `tcptrace doctor`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 no problem, 1 the checks could not be run, 2 usage error, 3 a check ended with a warning \
                  or failed."
)]
pub struct DoctorArgs {
    /// Run only these checks [default: all]
    #[arg(value_enum, value_name = "AREA")]
    pub areas: Vec<Area>,

    /// Check the settings of this network namespace: self, a name (ip netns) or an inode number [default: self]
    #[arg(long, value_name = "NETNS")]
    pub netns: Option<NetnsChoice>,

    /// Explain each check and say where its values come from
    #[arg(short, long, help_heading = "Output")]
    pub verbose: bool,

    /// Output format
    #[arg(short, long, value_enum, default_value_t, help_heading = "Output")]
    pub format: Format,

    /// Same as --format json
    #[arg(long, conflicts_with = "format", help_heading = "Output")]
    pub json: bool,

    /// Write to this file instead of stdout; an existing file is replaced
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub output: Option<PathBuf>,

    /// When to colour text: on a terminal, always, never
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    pub color: Color,
}

/// Output format of `tcptrace stuck`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum StuckFormat {
    /// A list of the open findings
    #[default]
    Text,
    /// One object per line (docs/json.md)
    Json,
    /// The line, details and performance data of a Nagios plugin, with its exit codes; only with --once
    Nagios,
}

/// What `tcptrace sockets --by` counts sockets by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GroupBy {
    /// State
    State,
    /// Process that holds the sockets
    Pid,
    /// Local port
    Port,
    /// Remote address
    Remote,
    /// Cgroup of a process that holds the sockets
    Cgroup,
}

impl GroupBy {
    /// The name in all outputs, which is also the flag's value.
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

/// A group of the doctor's checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Area {
    /// Requirements of tcptrace: kernel, BTF, capabilities
    Machine,
    /// Hooks in the kernel: attaches all BPF programs and detaches them again
    Hooks,
    /// TCP settings in force, and their effects
    Settings,
    /// How close the kernel is to its limits now
    Pressure,
    /// Files that set TCP settings at boot
    Files,
}

impl Area {
    /// The name in all outputs.
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
