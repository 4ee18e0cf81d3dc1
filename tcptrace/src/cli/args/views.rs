//! The flags of the commands other than tracing.

use std::{path::PathBuf, time::Duration};

use clap::{
    ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser as _},
};

use crate::{
    cli::{
        args::{
            filters::{FilterArgs, ListingArgs},
            output::OutputArgs,
            recording::RecordingArgs,
            values::{Color, Format},
        },
        findings::FindingArgs,
        parse::{StoryFilter, Where, count, finding_order, severity},
    },
    findings::Severity,
    model::{netns_choice::NetnsChoice, number::duration},
    render::finding_columns::{FindingColumn, FindingOrder},
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

    /// List only sockets that have been in their state for at least this time; a socket whose time is not known is left out
    #[arg(long, value_name = "TIME", value_parser = duration, allow_negative_numbers = true, help_heading = "Filters")]
    pub older_than: Option<Duration>,

    /// Columns instead of the usual ones: state, recv-q, send-q, local, remote, age, timer, netns, uid, owner, by, holders,
    /// cgroup, note, and any field of JSON and CSV (tcptrace explain socket)
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', help_heading = "Output", conflicts_with = "by")]
    pub columns: Vec<String>,

    /// Sort by these columns; the largest first with a minus or `:desc`, e.g. -age or recv-q:desc. What is not known comes
    /// last. With --by: sockets, or what is counted by
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', allow_hyphen_values = true, help_heading = "Output")]
    pub sort: Vec<String>,

    /// Count the sockets by one or two of these instead of listing them, e.g. comm,state
    #[arg(short, long, value_enum, value_name = "WHAT", value_delimiter = ',', help_heading = "Output")]
    pub by: Vec<GroupBy>,

    /// List again at this interval, until Ctrl-C or q: a terminal shows the last listing, other outputs get one after another
    #[arg(
        long,
        value_name = "TIME",
        value_parser = duration,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "2s",
        help_heading = "Output"
    )]
    pub watch: Option<Duration>,

    /// How and where results are written.
    #[command(flatten)]
    pub output: OutputArgs,

    /// Print `sk` as the kernel address instead of a hash that is valid for this run
    #[arg(long, help_heading = "Debugging")]
    pub kernel_addresses: bool,

    /// Do not read the arguments of processes. Otherwise JSON and CSV have them, with passwords, tokens and keys masked
    #[arg(long, help_heading = "Output")]
    pub no_args: bool,
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

    /// How and where results are written.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `tcptrace story`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 a connection matched, 1 none did or the run failed, 2 usage error.")]
pub struct StoryArgs {
    /// Which connections: ADDRESS, PORT or ADDRESS:PORT (IPv6 in brackets) on either side, or cookie:N
    #[arg(value_name = "FILTER")]
    pub which: StoryFilter,

    /// Print only connections with an event that matches this expression (tcptrace explain filters), e.g. 'event == reset'
    #[arg(id = "expression", long = "where", value_name = "EXPRESSION", help_heading = "Filters")]
    pub expression: Option<Where>,

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

    /// How and where results are written.
    #[command(flatten)]
    pub output: OutputArgs,

    /// Whether the run is recorded.
    #[command(flatten)]
    pub recording: RecordingArgs,

    /// Create this file when all probes are attached, and remove it at the end
    #[arg(long, value_name = "FILE", help_heading = "Debugging")]
    pub ready_file: Option<PathBuf>,
}

/// `tcptrace stuck`.
#[derive(Clone, Debug, clap::Args)]
#[command(mut_arg("format", |format| {
    let help = "Output format; nagios: the output and exit codes of a Nagios plugin, only with --once";
    format.value_parser(PossibleValuesParser::new(["text", "json", "csv", "nagios"]).try_map(stuck_format)).help(help)
}))]
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

    /// Print a table of these columns instead of sentences, e.g. severity,finding,command,pid,count,age: those of CSV. JSON
    /// and CSV have only these, too
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', help_heading = "Output")]
    pub columns: Vec<FindingColumn>,

    /// Sort by these columns instead of by severity; the largest first with a minus or `:desc`, e.g. -age or count:desc. What
    /// is not known comes last
    #[arg(
        long,
        value_name = "COLUMNS",
        value_delimiter = ',',
        value_parser = finding_order,
        allow_hyphen_values = true,
        help_heading = "Output"
    )]
    pub sort: Vec<FindingOrder>,

    /// Time between two checks
    #[arg(short, long, value_name = "TIME", value_parser = duration, allow_negative_numbers = true, default_value = "2s", help_heading = "Limits")]
    pub interval: Duration,

    /// Stop after this time, e.g. 30s or 5m
    #[arg(short, long, value_name = "TIME", value_parser = duration, allow_negative_numbers = true, help_heading = "Limits")]
    pub duration: Option<Duration>,

    /// How and where results are written.
    #[command(flatten)]
    pub output: OutputArgs,

    /// Whether the run is recorded.
    #[command(flatten)]
    pub recording: RecordingArgs,

    /// Create this file when all probes are attached, and remove it at the end
    #[arg(long, value_name = "FILE", help_heading = "Debugging")]
    pub ready_file: Option<PathBuf>,
}

/// `tcptrace top`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "The keys are on the page that ? shows, and in docs/screen.md.")]
pub struct TopArgs {
    /// The filter at the start: `/` changes it.
    #[command(flatten)]
    pub filter: FilterArgs,

    /// How existing sockets are listed.
    #[command(flatten)]
    pub listing: ListingArgs,

    /// What counts as a problem.
    #[command(flatten)]
    pub findings: FindingArgs,

    /// Time between two refreshes
    #[arg(short, long, value_name = "TIME", value_parser = duration, allow_negative_numbers = true, default_value = "1s", help_heading = "Output")]
    pub interval: Duration,

    /// When to use colour: on a terminal, always, never
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    pub color: Color,

    /// End after this time, e.g. 30s or 5m
    #[arg(short, long, value_name = "TIME", value_parser = duration, allow_negative_numbers = true, help_heading = "Limits")]
    pub duration: Option<Duration>,

    /// Whether the run is recorded.
    #[command(flatten)]
    pub recording: RecordingArgs,

    /// Create this file when all probes are attached, and remove it at the end
    #[arg(long, value_name = "FILE", help_heading = "Debugging")]
    pub ready_file: Option<PathBuf>,
}

/// A format of `tcptrace stuck`, which has one more.
fn stuck_format(name: String) -> Result<Format, String> {
    if name == "nagios" { Ok(Format::Nagios) } else { Format::from_str(&name, false) }
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

    /// How and where results are written.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What `tcptrace sockets --by` counts sockets by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GroupBy {
    /// State
    State,
    /// Process that holds the sockets
    Pid,
    /// Command name of such a process
    #[value(alias = "command", alias = "process")]
    Comm,
    /// User of such a process
    Uid,
    /// Local port
    #[value(alias = "local-port", alias = "lport")]
    Port,
    /// Remote port
    #[value(alias = "rport")]
    RemotePort,
    /// Local address
    #[value(alias = "local-address")]
    Local,
    /// Remote address
    #[value(alias = "remote-address")]
    Remote,
    /// Network namespace
    Netns,
    /// IPv4 or IPv6
    Family,
    /// Cgroup of a process that holds the sockets
    Cgroup,
    /// Systemd unit of such a process
    Unit,
    /// Container of such a process
    Container,
    /// Kubernetes pod of such a process
    Pod,
}

impl GroupBy {
    /// The name in all outputs, which is also the flag's value.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Pid => "pid",
            Self::Comm => "comm",
            Self::Uid => "uid",
            Self::Port => "port",
            Self::RemotePort => "remote-port",
            Self::Local => "local",
            Self::Remote => "remote",
            Self::Netns => "netns",
            Self::Family => "family",
            Self::Cgroup => "cgroup",
            Self::Unit => "unit",
            Self::Container => "container",
            Self::Pod => "pod",
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
