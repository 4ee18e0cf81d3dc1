//! What can be typed.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Parser, Subcommand, ValueEnum, builder::ArgPredicate};

use super::parse::{NetnsChoice, PidList, PollTime, PortList, Prefix, StoryFilter, duration, size};
use super::{
    findings::{FindingArgs, FindingsMode},
    outputs::OutputSpec,
};
use crate::{doctor::Area, sockets::By, state::State};

/// Traces TCP state transitions: how long each took, why connections end, and the processes responsible.
#[derive(Debug, Parser)]
#[command(name = "tcptrace", version, about, after_help = after_help(), max_term_width = 110)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    /// What to do instead of tracing.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// How to trace.
    #[command(flatten)]
    pub trace: TraceArgs,
}

/// What can be done besides tracing.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the sockets that there are: state, age, queues, timer, owner and all holders
    Sockets(SocketsArgs),
    /// Show only what is wrong: stuck sockets and failures, with owner, evidence and a way out
    Stuck(StuckArgs),
    /// Print what happens per second: opens, failures, resets, retransmits, orphans
    Rates(RatesArgs),
    /// Tell one connection's story: each transition, retransmit and RST in order, both ends where both are here
    Story(StoryArgs),
    /// Check this machine and its TCP settings: what is fit, what is not, what it comes to and what helps
    Doctor(DoctorArgs),
    /// Trace as a service: by a config file, for months, told about by systemd and HTTP
    Daemon(DaemonArgs),
    /// Check a config file
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// A service.
#[derive(Debug, clap::Args)]
#[command(mut_arg("config", |config| config.default_value(CONFIG_PATH)))]
pub struct DaemonArgs {
    /// How to trace.
    #[command(flatten)]
    pub trace: TraceArgs,

    /// The least that the service's own log tells
    #[arg(long, value_enum, value_name = "LEVEL", default_value = "info", help_heading = "Debugging")]
    pub log_level: LogLevel,
}

/// Where a service has its config file.
pub const CONFIG_PATH: &str = "/etc/tcptrace/tcptrace.toml";

/// What is done with config files.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check a config file, and say what it comes to; nothing is traced
    Check {
        /// The file
        #[arg(value_name = "FILE", default_value = CONFIG_PATH)]
        config: PathBuf,
    },
}

impl Args {
    /// The config file that is to be read.
    #[must_use]
    pub fn config(&self) -> Option<&Path> {
        match &self.command {
            None => self.trace.findings.config.as_deref(),
            Some(Command::Stuck(args)) => args.findings.config.as_deref(),
            Some(Command::Daemon(args)) => args.trace.findings.config.as_deref(),
            Some(_) => None,
        }
    }
}

/// Which sockets.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Filters")]
pub struct FilterArgs {
    /// Only what enters, leaves or happens in these states, e.g. CLOSE_WAIT,FIN_WAIT2
    #[arg(short, long, value_name = "STATES", value_delimiter = ',', long_help = state_help())]
    pub state: Vec<State>,

    /// Only sockets with one of these ports at either end: lists and ranges, e.g. 80,8000-8099
    #[arg(short, long, value_name = "PORTS")]
    pub port: Option<PortList>,

    /// Only sockets with one of these local ports
    #[arg(short = 'L', long, value_name = "PORTS")]
    pub local_port: Option<PortList>,

    /// Only sockets with one of these remote ports
    #[arg(short = 'R', long, value_name = "PORTS")]
    pub remote_port: Option<PortList>,

    /// Only sockets with one of these addresses at either end: addresses or CIDR, IPv4 or IPv6, e.g. 10.0.0.0/8,::1
    #[arg(short, long, value_name = "CIDR", value_delimiter = ',')]
    pub address: Vec<Prefix>,

    /// Only sockets with one of these local addresses
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub local_address: Vec<Prefix>,

    /// Only sockets with one of these remote addresses
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub remote_address: Vec<Prefix>,

    /// Only connections that run over IPv4
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub ipv4: bool,

    /// Only connections that run over IPv6
    #[arg(short = '6', long)]
    pub ipv6: bool,

    /// Show all that is known of the owner; with PIDS (e.g. 1234,5678) only the sockets that these processes own
    #[arg(long, value_name = "PIDS", num_args = 0..=1)]
    pub pid: Option<Option<PidList>>,

    /// Only sockets of processes in this cgroup (v2) or below it: a path as in /proc/PID/cgroup, or a directory; up to 8
    #[arg(long, value_name = "PATH")]
    pub cgroup: Vec<PathBuf>,

    /// Only sockets of this network namespace: self, a name (ip netns), or an inode number; all if not given
    #[arg(long, value_name = "NETNS")]
    pub netns: Option<NetnsChoice>,
}

/// How sockets are listed.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct ListingArgs {
    /// List sockets and holders by sock_diag and /proc, as where the kernel has no BPF iterators
    #[arg(long, help_heading = "Debugging")]
    pub no_iter: bool,
}

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
    pub by: Option<By>,

    /// Form of the output
    #[arg(short, long, value_enum, default_value_t, help_heading = "Output")]
    pub format: Format,

    /// Write to this file instead of stdout; an existing file is replaced
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub output: Option<PathBuf>,

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
    #[arg(short, long, value_name = "TIME", value_parser = duration, default_value = "1s", help_heading = "Limits")]
    pub interval: Duration,

    /// End after this time, e.g. 30s or 5m
    #[arg(short, long, value_name = "TIME", value_parser = duration, help_heading = "Limits")]
    pub duration: Option<Duration>,

    /// End after this many lines
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Limits")]
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
    #[arg(short, long, value_name = "TIME", value_parser = duration, help_heading = "Limits")]
    pub duration: Option<Duration>,

    /// End after this many connections were told of
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Limits")]
    pub count: Option<u64>,

    /// Write to this file instead of stdout; an existing file is replaced
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub output: Option<PathBuf>,

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

    /// Look once at the sockets that there are, and end: exit code 3 if something is wrong; with --duration, watch for
    /// that long first
    #[arg(long, help_heading = "Limits")]
    pub once: bool,

    /// Time between two looks
    #[arg(short, long, value_name = "TIME", value_parser = duration, default_value = "2s", help_heading = "Limits")]
    pub interval: Duration,

    /// End after this time, e.g. 30s or 5m
    #[arg(short, long, value_name = "TIME", value_parser = duration, help_heading = "Limits")]
    pub duration: Option<Duration>,

    /// Form of the output: a list, or records of what opens, changes and closes
    #[arg(short, long, value_enum, default_value_t, help_heading = "Output")]
    pub format: StuckFormat,

    /// Write to this file instead of stdout; an existing file is replaced
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub output: Option<PathBuf>,

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

/// Tracing.
#[derive(Debug, clap::Args)]
pub struct TraceArgs {
    /// Which sockets.
    #[command(flatten)]
    pub filter: FilterArgs,

    /// What is called trouble.
    #[command(flatten)]
    pub findings: FindingArgs,

    /// How what is there at the start is listed.
    #[command(flatten)]
    pub listing: ListingArgs,

    /// Form of the output
    #[arg(short, long, value_enum, default_value_t, help_heading = "Output")]
    pub format: Format,

    /// Where the records go, several times for several outputs: stdout, file:PATH, journald, syslog:unix|udp:HOST|tcp:HOST,
    /// otlp:URL, prometheus:ADDRESS, kafka:HOST:PORT/TOPIC, or a path, which is replaced; with KEY=VALUE behind commas
    /// (docs/pipelines.md), e.g. file:/var/log/tcptrace.json,records=findings,rotate-size=100MiB
    #[arg(short, long, value_name = "OUTPUT", help_heading = "Output", default_value = "stdout")]
    pub output: Vec<OutputSpec>,

    /// Times in text: local or UTC time of day, the kernel's monotonic clock, or since the line before
    #[arg(short, long, value_enum, default_value_t, help_heading = "Output")]
    pub time: Time,

    /// Colour in text: on a terminal only, always, never
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    pub color: Color,

    /// Print findings (stuck sockets and failures) among the events, not, or only these
    #[arg(
        long = "findings",
        value_enum,
        default_value_t,
        default_value_if("aggregate", ArgPredicate::IsPresent, "off"),
        value_name = "MODE",
        help_heading = "Findings"
    )]
    pub findings_mode: FindingsMode,

    /// Print no events, only the summary
    #[arg(long, help_heading = "Output")]
    pub summary: bool,

    /// Count in the kernel and print only summaries, without single events, owners and sockets, at the lowest cost; also
    /// apart for each service's port or owner's cgroup
    #[arg(
        long,
        value_enum,
        value_name = "BY",
        num_args = 0..=1,
        default_missing_value = "transition",
        help_heading = "Output",
        conflicts_with_all = NOT_AGGREGATE
    )]
    pub aggregate: Option<AggregateBy>,

    /// Ports or cgroups that --aggregate counts apart at most, each in 17 KiB of kernel memory for each CPU; further ones
    /// are counted together
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536), default_value = "64", requires = "aggregate", help_heading = "Limits")]
    pub aggregate_keys: u32,

    /// What metrics tell apart
    #[arg(
        long,
        value_enum,
        value_name = "LABELS",
        value_delimiter = ',',
        default_value = "process",
        help_heading = "Metrics"
    )]
    pub metrics_by: Vec<MetricsBy>,

    /// Series of one metric by these labels at most; the rest is counted under `other`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000), default_value = "1000", help_heading = "Metrics")]
    pub metrics_series: u32,

    /// Time between two sendings of metrics by otlp
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "15s", help_heading = "Metrics")]
    pub metrics_every: Duration,

    /// Print a summary of each interval as well, e.g. 10s
    #[arg(short, long, value_name = "TIME", value_parser = duration, help_heading = "Output")]
    pub interval: Option<Duration>,

    /// End after this time, e.g. 30s or 5m
    #[arg(short, long, value_name = "TIME", value_parser = duration, help_heading = "Limits")]
    pub duration: Option<Duration>,

    /// End after this many events were printed
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Limits")]
    pub count: Option<u64>,

    /// Time from an event to its output at most; shorter costs more wake-ups
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "100ms", help_heading = "Limits")]
    pub latency: Duration,

    /// Time between two looks at what makes no events (TIME_WAIT, half-open connections), or off; longer on hosts
    /// where a look costs more than a hundredth of that time
    #[arg(long, value_name = "TIME", default_value = "1s", help_heading = "Limits")]
    pub poll: PollTime,

    /// Size of the ring buffers between kernel and tcptrace, of all CPUs together, rounded up to a power of two [default:
    /// 8MiB, or 256KiB for each CPU where that is more]
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Limits")]
    pub ring_size: Option<u64>,

    /// Send all events by one ring buffer of the kernel that all CPUs share, as is done where CPUs cannot have their own (not
    /// x86-64, or PREEMPT_RT): slower
    #[arg(long, help_heading = "Debugging")]
    pub shared_ring: bool,

    /// Live sockets to keep in tcptrace's table at most; when it is full, the one that came first makes room
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16_777_216), default_value = "1048576", help_heading = "Limits")]
    pub max_sockets: u32,

    /// Live sockets whose clock and owner the kernel side remembers at most, in 144 to 288 bytes each, taken at the start
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16_777_216), default_value = "131072", help_heading = "Limits")]
    pub kernel_sockets: u32,

    /// Create this file once all is attached, and remove it at the end
    #[arg(long, value_name = "FILE", help_heading = "Debugging")]
    pub ready_file: Option<PathBuf>,

    /// Print messages of the BPF programs up to this level to stderr; off costs nothing
    #[arg(long, value_enum, value_name = "LEVEL", help_heading = "Debugging")]
    pub bpf_log: Option<LogLevel>,
}

/// Flags that mean nothing where the kernel side counts: they are about single events, or about sockets.
const NOT_AGGREGATE: [&str; 12] = [
    "count",
    "latency",
    "poll",
    "ring_size",
    "shared_ring",
    "max_sockets",
    "no_iter",
    "bpf_log",
    "stuck_after",
    "expect_listener",
    "ignore",
    "threshold",
];

/// What is counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AggregateBy {
    /// Transitions alone
    Transition,
    /// The port of the service: the local port of a listener and what comes in, the remote port of what goes out
    Port,
    /// The cgroup of the owner
    Cgroup,
}

/// Labels of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MetricsBy {
    /// The owner's command name
    Process,
    /// The owner's cgroup
    Cgroup,
    /// The local port of a service
    LocalPort,
    /// Nothing more
    None,
}

/// Forms of output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// An aligned table
    #[default]
    Text,
    /// One object a line (docs/json.md)
    Json,
    /// Rows, the first names the columns
    Csv,
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

/// Times in text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the flag's help says it")]
pub enum Time {
    #[default]
    Local,
    Utc,
    Mono,
    Delta,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the flag's help says it")]
pub enum Color {
    #[default]
    Auto,
    Always,
    Never,
}

/// Levels of the programs' log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the usual levels")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

fn state_names() -> String {
    State::ALL.map(State::name).join(", ")
}

fn state_help() -> String {
    format!(
        "Only what enters, leaves or happens in these states, several by comma. The states are {}. Any usual spelling \
         is taken: close-wait, CLOSEWAIT, ss's estab and fin-wait-2",
        state_names()
    )
}

fn after_help() -> String {
    format!(
        "States: {}.\n\nExamples:\n  \
         tcptrace                                    all transitions of this machine\n  \
         tcptrace --state CLOSE_WAIT --pid           who leaks: what enters and leaves CLOSE_WAIT, with its owner\n  \
         tcptrace --remote-port 5432 --format json   connections to a database, for a pipeline\n  \
         tcptrace --summary --duration 30s           latencies of all transitions over half a minute\n  \
         tcptrace --aggregate port --interval 10s    the same at the lowest cost, apart for each service\n  \
         tcptrace sockets --port 443                 what there is on a port now, held by whom\n  \
         tcptrace story 10.1.2.3:5432                one connection from its first event to its end\n  \
         tcptrace stuck                              what is wrong now: who leaks, who is refused, whose peer is gone\n  \
         tcptrace rates                              opens, failures, resets and retransmits per second\n  \
         tcptrace doctor                             is this machine fit, and what its TCP settings come to",
        state_names()
    )
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn pid_takes_no_value_or_a_list() {
        let parsed = |line: &str| Args::try_parse_from(line.split(' ')).unwrap().trace.filter.pid;
        assert!(parsed("tcptrace").is_none());
        assert!(parsed("tcptrace --pid").unwrap().is_none());
        assert!(parsed("tcptrace --pid --summary").unwrap().is_none());
        assert_eq!(parsed("tcptrace --pid 12,34").unwrap().unwrap().0, [12, 34]);
        assert_eq!(parsed("tcptrace --state CLOSE_WAIT --pid=7").unwrap().unwrap().0, [7]);
    }
}
