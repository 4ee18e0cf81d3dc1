//! How to trace.

use std::{path::PathBuf, time::Duration};

use clap::{ValueEnum, builder::ArgPredicate};

use crate::{
    cli::{
        args::{
            filters::{FilterArgs, ListingArgs},
            values::{Color, Format, LogLevel},
        },
        findings::{FindingArgs, FindingsMode},
        given::Given,
        outputs::OutputSpec,
        parse::{PollTime, count, number, ring_size},
    },
    model::number::duration,
};

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

    /// Say on stderr only what is wrong
    #[arg(short, long, help_heading = "Output")]
    pub quiet: bool,

    /// Colour in text: on a terminal only, always, never
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    pub color: Color,

    /// Print findings (stuck sockets and failures) among the events, not, or only these. To find trouble all events are
    /// read, whatever the filters: `off` filters in the kernel, which is the cheap way to watch a few sockets of many
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
    #[arg(long, value_name = "N", value_parser = number::<65_536>, default_value = "64", help_heading = "Limits")]
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
    #[arg(long, value_name = "N", value_parser = number::<100_000>, default_value = "1000", help_heading = "Metrics")]
    pub metrics_series: u32,

    /// Time between two sendings of metrics by otlp
    #[arg(long, value_name = "TIME", value_parser = duration, allow_negative_numbers = true, default_value = "15s", help_heading = "Metrics")]
    pub metrics_every: Duration,

    /// Print a summary of each interval as well, e.g. 10s
    #[arg(short, long, value_name = "TIME", value_parser = duration, allow_negative_numbers = true, help_heading = "Output")]
    pub interval: Option<Duration>,

    /// End after this time, e.g. 30s or 5m
    #[arg(short, long, value_name = "TIME", value_parser = duration, allow_negative_numbers = true, help_heading = "Limits")]
    pub duration: Option<Duration>,

    /// End after this many events and findings were printed
    #[arg(short, long, value_name = "N", value_parser = count, allow_negative_numbers = true, help_heading = "Limits")]
    pub count: Option<u64>,

    /// Time from an event to its output at most; shorter costs more wake-ups
    #[arg(long, value_name = "TIME", value_parser = duration, allow_negative_numbers = true, default_value = "100ms", help_heading = "Limits")]
    pub latency: Duration,

    /// Time between two looks at what makes no events (TIME_WAIT, half-open connections), or off; longer on hosts
    /// where a look costs more than a hundredth of that time
    #[arg(long, value_name = "TIME", default_value = "1s", help_heading = "Limits")]
    pub poll: PollTime,

    /// Size of the ring buffers between kernel and tcptrace, of all CPUs together, rounded up to a power of two [default:
    /// 8MiB, or 256KiB for each CPU where that is more]
    #[arg(long, value_name = "SIZE", value_parser = ring_size, help_heading = "Limits")]
    pub ring_size: Option<u64>,

    /// Send all events by one ring buffer of the kernel that all CPUs share, as is done where CPUs cannot have their own (not
    /// x86-64, or PREEMPT_RT): slower
    #[arg(long, help_heading = "Debugging")]
    pub shared_ring: bool,

    /// Live sockets to keep in tcptrace's table at most; when it is full, the one that came first makes room
    #[arg(long, value_name = "N", value_parser = number::<16_777_216>, default_value = "1048576", help_heading = "Limits")]
    pub max_sockets: u32,

    /// Live sockets whose clock and owner the kernel side remembers at most, in 144 to 288 bytes each, taken at the start
    #[arg(long, value_name = "N", value_parser = number::<16_777_216>, default_value = "131072", help_heading = "Limits")]
    pub kernel_sockets: u32,

    /// Print `sk` as the address in the kernel that it is, and not as a hash of this run
    #[arg(long, help_heading = "Debugging")]
    pub kernel_addresses: bool,

    /// Create this file once all is attached, and remove it at the end
    #[arg(long, value_name = "FILE", help_heading = "Debugging")]
    pub ready_file: Option<PathBuf>,

    /// Print messages of the BPF programs up to this level to stderr; off costs nothing
    #[arg(long, value_enum, value_name = "LEVEL", help_heading = "Debugging")]
    pub bpf_log: Option<LogLevel>,

    /// Which of these were given, and where.
    #[arg(skip)]
    pub given: Given,
}

/// Flags that mean nothing where the kernel side counts: they are about single events, or about sockets.
pub const NOT_AGGREGATE: [&str; 12] = [
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
