//! The flags of tracing, which `tcptrace` and `tcptrace daemon` share. Each is also a variable and a key of the config
//! file (see `cli/config/keys.rs`).

use std::{path::PathBuf, time::Duration};

use clap::{ValueEnum, builder::ArgPredicate};

use crate::{
    cli::{
        args::{
            filters::{FilterArgs, ListingArgs},
            output::OutputArgs,
            recording::RecordingArgs,
            values::LogLevel,
        },
        findings::{FindingArgs, FindingsMode},
        given::Given,
        parse::{PollTime, count, number, ring_size},
    },
    model::number::duration,
    render::text::EventColumn,
};

/// The flags of tracing.
#[derive(Clone, Debug, clap::Args)]
pub struct TraceArgs {
    /// Which sockets are traced.
    #[command(flatten)]
    pub filter: FilterArgs,

    /// What counts as a problem.
    #[command(flatten)]
    pub findings: FindingArgs,

    /// How the sockets that exist at the start are listed.
    #[command(flatten)]
    pub listing: ListingArgs,

    /// Whether the run is recorded.
    #[command(flatten)]
    pub recording: RecordingArgs,

    /// How and where records are written.
    #[command(flatten)]
    pub output: OutputArgs,

    /// Columns of text instead of the usual ones: time, pid, command, by, uid, local, remote, old-state, new-state, in-old,
    /// note, and any field of JSON and CSV (tcptrace explain transition)
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', help_heading = "Output")]
    pub columns: Vec<EventColumn>,

    /// Whether to print findings (stuck sockets and failures): with the events, never, or alone. To find problems tcptrace
    /// reads all events, whatever the filters; `off` filters in the kernel, which is the cheap way to watch a few sockets
    /// among many
    #[arg(
        long = "findings",
        value_enum,
        default_value_t,
        default_value_if("aggregate", ArgPredicate::IsPresent, "off"),
        value_name = "MODE",
        help_heading = "Findings"
    )]
    pub findings_mode: FindingsMode,

    /// Print only the summary, no events
    #[arg(long, help_heading = "Output")]
    pub summary: bool,

    /// Count in the kernel and print only summaries, without events, owners and sockets, at the lowest cost; on request
    /// for each service port or owner's cgroup
    #[arg(
        long,
        value_enum,
        value_name = "BY",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "transition",
        help_heading = "Output",
        conflicts_with_all = NOT_AGGREGATE
    )]
    pub aggregate: Option<AggregateBy>,

    /// Maximum number of ports or cgroups that --aggregate counts separately; each takes 17 KiB of kernel memory per CPU.
    /// The rest is counted together
    #[arg(long, value_name = "N", value_parser = number::<65_536>, default_value = "64", help_heading = "Limits")]
    pub aggregate_keys: u32,

    /// Labels of metrics
    #[arg(
        long,
        value_enum,
        value_name = "LABELS",
        value_delimiter = ',',
        default_value = "process",
        help_heading = "Metrics"
    )]
    pub metrics_by: Vec<MetricsBy>,

    /// Maximum number of series of one metric with these labels; the rest is counted under `other`
    #[arg(long, value_name = "N", value_parser = number::<100_000>, default_value = "1000", help_heading = "Metrics")]
    pub metrics_series: u32,

    /// How often metrics are sent by OTLP
    #[arg(long, value_name = "TIME", value_parser = duration, allow_negative_numbers = true, default_value = "15s", help_heading = "Metrics")]
    pub metrics_every: Duration,

    /// Also print a summary at this interval, e.g. 10s
    #[arg(short, long, value_name = "TIME", value_parser = duration, allow_negative_numbers = true, help_heading = "Output")]
    pub interval: Option<Duration>,

    /// Stop after this time, e.g. 30s or 5m
    #[arg(short, long, value_name = "TIME", value_parser = duration, allow_negative_numbers = true, help_heading = "Limits")]
    pub duration: Option<Duration>,

    /// Stop after printing this many events and findings
    #[arg(short, long, value_name = "N", value_parser = count, allow_negative_numbers = true, help_heading = "Limits")]
    pub count: Option<u64>,

    /// Longest time from an event to its output; shorter times cost more wake-ups
    #[arg(long, value_name = "TIME", value_parser = duration, allow_negative_numbers = true, default_value = "100ms", help_heading = "Limits")]
    pub latency: Duration,

    /// How often to poll state that causes no events (TIME_WAIT, half-open connections), or off; tcptrace polls less often
    /// if polling would take more than 1 % of a CPU
    #[arg(long, value_name = "TIME", default_value = "1s", help_heading = "Limits")]
    pub poll: PollTime,

    /// Total size of the ring buffers between kernel and tcptrace, rounded up to a power of two [default: 8MiB, or 256KiB
    /// per CPU if that is more]
    #[arg(long, value_name = "SIZE", value_parser = ring_size, help_heading = "Limits")]
    pub ring_size: Option<u64>,

    /// Use one ring buffer for all CPUs, as on kernels where CPUs cannot have their own (not x86-64, or PREEMPT_RT);
    /// slower
    #[arg(long, help_heading = "Debugging")]
    pub shared_ring: bool,

    /// Maximum number of live sockets in tcptrace's table; when it is full, the oldest entry is dropped
    #[arg(long, value_name = "N", value_parser = number::<16_777_216>, default_value = "1048576", help_heading = "Limits")]
    pub max_sockets: u32,

    /// Maximum number of live sockets whose state times and owners the BPF programs remember; each takes 144 to 288 bytes,
    /// allocated at the start
    #[arg(long, value_name = "N", value_parser = number::<16_777_216>, default_value = "131072", help_heading = "Limits")]
    pub kernel_sockets: u32,

    /// Look up names of remote hosts (reverse DNS), in the background: an event that comes before the answer has no name
    #[arg(long, help_heading = "Output")]
    pub resolve: bool,

    /// Do not read the arguments of processes. Otherwise JSON and CSV have them, with passwords, tokens and keys masked
    #[arg(long, help_heading = "Output")]
    pub no_args: bool,

    /// Print `sk` as the kernel address instead of a hash that is valid for this run
    #[arg(long, help_heading = "Debugging")]
    pub kernel_addresses: bool,

    /// Run as this user, a name or a UID of /etc/passwd: keeps only the capabilities that are needed from root, and opens
    /// outputs with the rights of this user
    #[arg(long, value_name = "USER", help_heading = "Debugging")]
    pub run_as: Option<String>,

    /// Create this file when all probes are attached, and remove it at the end
    #[arg(long, value_name = "FILE", help_heading = "Debugging")]
    pub ready_file: Option<PathBuf>,

    /// Print messages of the BPF programs up to this level to stderr; costs nothing if not given
    #[arg(long, value_enum, value_name = "LEVEL", help_heading = "Debugging")]
    pub bpf_log: Option<LogLevel>,

    /// Which flags were given, and where.
    #[arg(skip)]
    pub given: Given,
}

/// Flags that conflict with `--aggregate`: they concern single events or sockets, which it does not read.
pub const NOT_AGGREGATE: [&str; 13] = [
    "record",
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

/// What `--aggregate` counts separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AggregateBy {
    /// Transitions only
    Transition,
    /// The service's port: the local port of listeners and incoming connections, the remote port of outgoing ones
    Port,
    /// The owner's cgroup
    Cgroup,
}

/// A label of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MetricsBy {
    /// The owner's command name
    Process,
    /// The owner's cgroup
    Cgroup,
    /// The owner's systemd unit
    Unit,
    /// The owner's container
    Container,
    /// The owner's Kubernetes pod and its namespace
    Pod,
    /// The local port of a service
    LocalPort,
    /// No label
    None,
}
