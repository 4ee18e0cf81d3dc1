//! The metrics by name: what is exported, and in which form. docs/metrics.md has the same table, and a test compares them.

use std::fmt;

/// What kind of number a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, from 0 when tracing began.
    Counter,
    /// How many there are now: the sum over all labels means something.
    Gauge,
    /// A value whose sum over hosts or labels means nothing.
    Fact,
    /// A distribution.
    Histogram,
}

impl fmt::Display for Kind {
    /// As Prometheus names its types.
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge | Self::Fact => "gauge",
            Self::Histogram => "histogram",
        })
    }
}

/// A metric.
#[derive(Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Name in OpenMetrics: that of a counter is without `_total`.
    pub name: &'static str,
    /// Name in OpenTelemetry, from its semantic conventions where these have one.
    pub otlp: &'static str,
    /// The kind.
    pub kind: Kind,
    /// Unit as the Unified Code for Units of Measure writes it: `s`, `By`, or what is counted in braces.
    pub unit: &'static str,
    /// Names of its labels, without those of owners.
    pub labels: &'static [&'static str],
    /// Are there the labels of owners too, as far as they are wanted?
    pub by_owner: bool,
    /// What it is, in one line.
    pub help: &'static str,
}

impl Descriptor {
    /// Name of its samples in Prometheus, of a histogram without `_bucket`, `_sum` and `_count`.
    #[must_use]
    pub fn sample(&self) -> String {
        match self.kind {
            Kind::Counter => format!("{}_total", self.name),
            _ => self.name.to_owned(),
        }
    }
}

/// Labels of owners.
pub const OWNER_LABELS: [&str; 3] = ["process", "cgroup", "local_port"];

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

        /// All of them, in the order in which they are exported.
        pub static ALL: &[&Descriptor] = &[$(&$name),*];
    };
}

families! {
    CONNECTIONS: Gauge "tcptrace_connections" "tcptrace.connections" in "{connection}" ["state"] + owner,
        "Sockets by state, half-open requests as SYN_RECV and mini-sockets in TIME_WAIT and FIN_WAIT2 among them.";
    TRANSITIONS: Counter "tcptrace_transitions" "tcptrace.transitions" in "{transition}" ["from", "to"] + owner,
        "Changes of a socket's state.";
    TRANSITION_LATENCY: Histogram "tcptrace_transition_latency_seconds" "tcptrace.transition.latency" in "s" ["from", "to"],
        "Time in the state that was left, of the transitions of which it was measured.";
    HANDSHAKE_RTT: Histogram "tcptrace_handshake_rtt_seconds" "tcptrace.handshake.rtt" in "s" ["role"],
        "Round-trip time of handshakes as the kernel measured it, of those without a retransmission.";
    RETRANSMITS: Counter "tcptrace_retransmits" "tcptrace.retransmits" in "{segment}" [] + owner,
        "Segments that were sent again, SYN-ACKs of half-open requests not among them, nor what could not be sent.";
    SYNACK_RETRANSMITS: Counter "tcptrace_synack_retransmits" "tcptrace.synack_retransmits" in "{segment}" [] + owner,
        "SYN-ACKs of half-open requests that were sent again.";
    RESETS: Counter "tcptrace_resets" "tcptrace.resets" in "{segment}" ["direction", "reason"] + owner,
        "RSTs sent and received. Only those that are sent have a reason, from Linux 6.10.";
    FAILURES: Counter "tcptrace_connection_failures" "tcptrace.connection.failures" in "{connection}" ["errno"] + owner,
        "Connections that ended with an error for the application. `given_up` stands for attempts that it gave up while nothing answered.";
    ENDINGS: Counter "tcptrace_connection_endings" "tcptrace.connection.endings" in "{connection}" ["ending"] + owner,
        "Connections and listeners that ended, by how they did.";
    FINDINGS_OPEN: Gauge "tcptrace_findings_open" "tcptrace.findings.open" in "{finding}"
        ["finding", "severity", "process", "local_port", "remote_port"],
        "Findings that are open.";
    FINDINGS_OPENED: Counter "tcptrace_findings_opened" "tcptrace.findings.opened" in "{finding}" ["finding"],
        "Findings that were opened.";
    LOSSES: Counter "tcptrace_losses" "tcptrace.losses" in "{loss}" ["place"],
        "Events that were lost, or reached the outputs with less in them, by place.";
    RECEIVED: Counter "tcptrace_events_received" "tcptrace.events.received" in "{event}" [],
        "Events read from the ring buffer.";
    FILTERED: Counter "tcptrace_events_filtered" "tcptrace.events.filtered" in "{event}" [],
        "Events that the filter kept back: in the kernel, or with findings, which see all events, after they were read.";
    OUTPUT_RECORDS: Counter "tcptrace_output_records" "tcptrace.output.records" in "{record}" ["output", "result"],
        "Records that an output delivered, dropped for want of room, or that were refused for good.";
    OUTPUT_RETRIES: Counter "tcptrace_output_retries" "tcptrace.output.retries" in "{retry}" ["output"],
        "Deliveries that failed and were tried again.";
    OUTPUT_UP: Fact "tcptrace_output_up" "tcptrace.output.up" in "1" ["output"],
        "0 while an output's deliveries fail, else 1.";
    OUTPUT_QUEUE: Gauge "tcptrace_output_queue_bytes" "tcptrace.output.queue" in "By" ["output"],
        "Records that wait in an output's queue.";
    WORKER_UP: Fact "tcptrace_worker_up" "tcptrace.worker.up" in "1" ["worker"],
        "0 while a thread of tcptrace hangs or is dead, else 1.";
    OVERFLOW: Counter "tcptrace_metrics_overflow" "tcptrace.metrics.overflow" in "{value}" ["metric"],
        "What is counted under `other`, as the metric had its most series.";
    BUILD: Fact "tcptrace_build_info" "tcptrace.build.info" in "1" ["version"],
        "1, with the version of tcptrace.";
    CPU: Counter "process_cpu_seconds" "process.cpu.time" in "s" [],
        "CPU time that tcptrace used, its BPF programs not included.";
    MEMORY: Gauge "process_resident_memory_bytes" "process.memory.usage" in "By" [],
        "Resident memory of tcptrace.";
    START: Fact "process_start_time_seconds" "tcptrace.start_time" in "s" [],
        "When tracing began, in seconds since the epoch.";
}
