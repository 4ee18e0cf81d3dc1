//! All metrics with names, kinds, units, labels and help. docs/metrics.md has the same table; a test compares the two.

use std::fmt;

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number that only grows, from 0 at the start of tracing.
    Counter,
    /// A current number, which can be summed over labels.
    Gauge,
    /// A current value whose sum means nothing.
    Fact,
    /// A distribution of times.
    Histogram,
}

impl fmt::Display for Kind {
    /// The type's name in Prometheus.
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge | Self::Fact => "gauge",
            Self::Histogram => "histogram",
        })
    }
}

/// The description of a metric.
#[derive(Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Name in OpenMetrics, without `_total` for counters.
    pub name: &'static str,
    /// Name in OpenTelemetry, from its semantic conventions if they define one.
    pub otlp: &'static str,
    /// The kind.
    pub kind: Kind,
    /// Unit in the Unified Code for Units of Measure: `s`, `By`, or the counted thing in braces.
    pub unit: &'static str,
    /// Names of its labels, without those of owners.
    pub labels: &'static [&'static str],
    /// True if it also has the labels of owners, as far as wanted.
    pub by_owner: bool,
    /// The description, in one line.
    pub help: &'static str,
}

impl Descriptor {
    /// Name of its samples in Prometheus; for histograms without `_bucket`, `_sum` and `_count`.
    #[must_use]
    pub fn sample(&self) -> String {
        match self.kind {
            Kind::Counter => format!("{}_total", self.name),
            _ => self.name.to_owned(),
        }
    }
}

/// The labels of owners.
pub const OWNER_LABELS: [&str; 7] = ["process", "cgroup", "unit", "container", "namespace", "pod", "local_port"];

macro_rules! families {
    ($($name:ident: $kind:ident $prometheus:literal $otlp:literal in $unit:literal $labels:tt $(+ $owner:ident)?, $help:literal;)*) => {
        $(pub(super) static $name: Descriptor = Descriptor {
            name: $prometheus,
            otlp: $otlp,
            kind: Kind::$kind,
            unit: $unit,
            labels: &$labels,
            by_owner: !stringify!($($owner)?).is_empty(),
            help: $help,
        };)*

        /// All metrics in the order of export.
        pub static ALL: &[&Descriptor] = &[$(&$name),*];
    };
}

families! {
    CONNECTIONS: Gauge "tcptrace_connections" "tcptrace.connections" in "{connection}" ["state"] + owner,
        "Sockets by state, including half-open requests (SYN_RECV) and mini-sockets in TIME_WAIT and FIN_WAIT2.";
    TRANSITIONS: Counter "tcptrace_transitions" "tcptrace.transitions" in "{transition}" ["from", "to"] + owner,
        "Transitions of sockets from one state to another.";
    TRANSITION_LATENCY: Histogram "tcptrace_transition_latency_seconds" "tcptrace.transition.latency" in "s" ["from", "to"],
        "Time in the old state, for transitions for which it was measured.";
    HANDSHAKE_RTT: Histogram "tcptrace_handshake_rtt_seconds" "tcptrace.handshake.rtt" in "s" ["role"],
        "Round-trip time of handshakes without retransmissions, as measured by the kernel.";
    RETRANSMITS: Counter "tcptrace_retransmits" "tcptrace.retransmits" in "{segment}" [] + owner,
        "Retransmitted segments, without SYN-ACKs of half-open requests and without segments that could not be sent.";
    SYNACK_RETRANSMITS: Counter "tcptrace_synack_retransmits" "tcptrace.synack_retransmits" in "{segment}" [] + owner,
        "Retransmitted SYN-ACKs of half-open requests.";
    RESETS: Counter "tcptrace_resets" "tcptrace.resets" in "{segment}" ["direction", "reason"] + owner,
        "RSTs sent and received. Only sent ones have a reason, since Linux 6.10.";
    FAILURES: Counter "tcptrace_connection_failures" "tcptrace.connection.failures" in "{connection}" ["errno"] + owner,
        "Connections that ended with an error for the application. `given_up` means that it gave up connecting before anything answered.";
    ENDINGS: Counter "tcptrace_connection_endings" "tcptrace.connection.endings" in "{connection}" ["ending"] + owner,
        "Ended connections and listeners, by the way they ended.";
    FINDINGS_OPEN: Gauge "tcptrace_findings_open" "tcptrace.findings.open" in "{finding}"
        ["finding", "severity", "process", "local_port", "remote_port"],
        "Open findings.";
    FINDINGS_OPENED: Counter "tcptrace_findings_opened" "tcptrace.findings.opened" in "{finding}" ["finding"],
        "Findings opened since the start.";
    LOSSES: Counter "tcptrace_losses" "tcptrace.losses" in "{loss}" ["place"],
        "Events that were lost, or that reached the outputs incomplete, by place.";
    RECEIVED: Counter "tcptrace_events_received" "tcptrace.events.received" in "{event}" [],
        "Events read from the ring buffer.";
    FILTERED: Counter "tcptrace_events_filtered" "tcptrace.events.filtered" in "{event}" [],
        "Events that the filter removed: in the kernel or, with findings, which need all events, after they were read.";
    OUTPUT_RECORDS: Counter "tcptrace_output_records" "tcptrace.output.records" in "{record}" ["output", "result"],
        "Records that an output delivered, dropped because its queue was full, had refused by the receiver, or suppressed because of its rate.";
    OUTPUT_RETRIES: Counter "tcptrace_output_retries" "tcptrace.output.retries" in "{retry}" ["output"],
        "Deliveries that failed and were retried.";
    OUTPUT_UP: Fact "tcptrace_output_up" "tcptrace.output.up" in "1" ["output"],
        "0 while an output cannot deliver, else 1.";
    OUTPUT_QUEUE: Gauge "tcptrace_output_queue_bytes" "tcptrace.output.queue" in "By" ["output"],
        "Size of the records waiting in an output's queue.";
    WORKER_UP: Fact "tcptrace_worker_up" "tcptrace.worker.up" in "1" ["worker"],
        "0 while a thread of tcptrace hangs or has died, else 1.";
    OVERFLOW: Counter "tcptrace_metrics_overflow" "tcptrace.metrics.overflow" in "{value}" ["metric"],
        "Amount counted under `other` because the metric had reached its limit of series.";
    BUILD: Fact "tcptrace_build_info" "tcptrace.build.info" in "1" ["version"],
        "1, with the version of tcptrace.";
    CPU: Counter "process_cpu_seconds" "process.cpu.time" in "s" [],
        "CPU time used by tcptrace, without its BPF programs.";
    MEMORY: Gauge "process_resident_memory_bytes" "process.memory.usage" in "By" [],
        "Resident memory of tcptrace.";
    START: Fact "process_start_time_seconds" "tcptrace.start_time" in "s" [],
        "Start of tracing, in seconds since the epoch.";
}
