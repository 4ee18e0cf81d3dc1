//! Metrics for dashboards and alerts. [`Metrics`] counts events and findings and gives a [`Snapshot`] on request, which
//! `render/metrics` encodes for Prometheus and OTLP.
//!
//! A session passes each event that its filters let through to [`Metrics::ingest`], each reported finding to
//! [`Metrics::finding`], and the table after the first listing to [`Metrics::learn`]. Values that exist only at the moment of a
//! snapshot, such as the sockets by state, come with it ([`Moment`]); losses must be up to date by then.
//!
//! The number of series is bounded. A peer cannot create series: remote addresses and ports are no labels, and local ports are
//! only if they belong to a service (or are the subject of a finding). Names that processes on this host choose (commands,
//! cgroups, ports) are limited by [`Settings::max_series`]; the owners that were idle longest are dropped and counted under
//! `other`.

pub mod counted;
mod counts;
pub mod families;
mod gather;
pub mod settings;
mod snapshot;
#[cfg(test)]
mod tests;
mod times;

pub use crate::analysis::metrics::settings::Settings;
use rustc_hash::FxHashMap;

use crate::{
    findings::{Finding, Kind, Phase, Severity},
    model::{
        close_reason::{Abort, CloseReason},
        event::{Event, EventKind, TimeSource, Transition},
        keyed::KeyedMap,
        losses::Losses,
        names::Names,
        output_state::OutputState,
        state::State,
    },
    sys::{process::Usage, workers::WorkerState},
    table::Table,
};
use counts::{Counts, OwnerLabels, Services};
use times::Times;

pub use snapshot::{Distribution, Family, Labels, Series, Snapshot, Value};
pub use times::{BOUNDS, SCALE};

/// What a snapshot needs besides the counters.
pub struct Moment<'a> {
    /// CLOCK_MONOTONIC, in ns.
    pub now_ns: u64,
    /// The wall clock, in ns since the epoch.
    pub now_unix_ns: u64,
    /// The live sockets.
    pub table: &'a Table,
    /// Losses since the start.
    pub losses: &'a Losses,
    /// The open findings.
    pub open: &'a [Finding],
    /// Delivery states of the outputs.
    pub outputs: &'a [OutputState],
    /// States of the threads.
    pub workers: &'a [WorkerState],
    /// CPU time and memory of tcptrace.
    pub usage: Usage,
    /// Names of cgroups, and of reasons of RSTs.
    pub names: &'a mut Names,
}

/// The direction of RSTs; sent ones with the kernel's reason (`enum sk_rst_reason`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Reset {
    Received,
    Sent(Option<u32>),
}

/// An open finding, with what distinguishes it from others in an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct OpenFinding {
    kind: Kind,
    severity: Severity,
    /// The process responsible.
    whose: OwnerLabels,
    /// The port at the local or remote end that the finding is about, if any.
    ports: [Option<u16>; 2],
}

/// The counters since the start.
#[derive(Debug)]
pub struct Metrics {
    settings: Settings,
    start_unix_ns: u64,
    services: Services,
    transitions: Counts<(State, State)>,
    latencies: FxHashMap<(State, State), Times>,
    /// Times of handshakes that this host started, and that it answered.
    handshakes: [Times; 2],
    retransmits: Counts<()>,
    synack_retransmits: Counts<()>,
    resets: Counts<Reset>,
    failures: Counts<i32>,
    endings: Counts<CloseReason>,
    opened: FxHashMap<Kind, u64>,
    /// Findings that were open at a snapshot, with the time of the last one, CLOCK_MONOTONIC in ns.
    seen: KeyedMap<OpenFinding, u64>,
    /// Findings for which the gauge of open ones had no room, over all snapshots.
    findings_overflow: u64,
    /// Sockets for which the gauge by owner had no room, over all snapshots.
    connections_overflow: u64,
}

impl Metrics {
    /// Starts counting at `start_unix_ns`, in ns since the epoch.
    #[must_use]
    pub fn new(settings: Settings, start_unix_ns: u64) -> Self {
        let max = settings.max_series;
        Self {
            settings,
            start_unix_ns,
            services: Services::default(),
            transitions: Counts::new(max, start_unix_ns),
            latencies: FxHashMap::default(),
            handshakes: Default::default(),
            retransmits: Counts::new(max, start_unix_ns),
            synack_retransmits: Counts::new(max, start_unix_ns),
            resets: Counts::new(max, start_unix_ns),
            failures: Counts::new(max, start_unix_ns),
            endings: Counts::new(max, start_unix_ns),
            opened: FxHashMap::default(),
            seen: KeyedMap::default(),
            findings_overflow: 0,
            connections_overflow: 0,
        }
    }

    /// Learns the ports of services; call it when the sockets from before the start are known.
    pub fn learn(&mut self, table: &Table) {
        if self.settings.by_local_port {
            self.services.learn_all(table);
        }
    }

    /// Counts an event. Allocates only for the first one of a new series.
    pub fn ingest(&mut self, event: &Event) {
        let now_ns = event.time_ns;
        let port = if self.settings.by_local_port { self.services.port_of(event) } else { None };
        let whose = OwnerLabels::new(&self.settings, event.owner.as_ref(), port);
        match &event.what {
            EventKind::Transition(change) => self.transition(change, whose, now_ns),
            EventKind::Retransmit(retransmit) if retransmit.failed.is_some() => {} // nothing was sent
            EventKind::Retransmit(_) => self.retransmits.add(whose, (), now_ns),
            EventKind::SynAckRetransmit { .. } => self.synack_retransmits.add(whose, (), now_ns),
            EventKind::ResetSent { reason, .. } => self.resets.add(whose, Reset::Sent(*reason), now_ns),
            EventKind::ResetReceived(_) => self.resets.add(whose, Reset::Received, now_ns),
            EventKind::OwnerChanged => {}
        }
    }

    fn transition(&mut self, change: &Transition, whose: OwnerLabels, now_ns: u64) {
        let pair = (change.old, change.new);
        self.transitions.add(whose, pair, now_ns);
        if let Some(time) = change.time_in_old.filter(|time| time.source.is_measured()) {
            self.latencies.entry(pair).or_default().record(time.ns);
        }
        let is_reliable = change.time_in_old.is_none_or(|time| time.source != TimeSource::HandshakeUnreliable);
        if let Some(ns) = change.handshake_rtt_ns.filter(|_| is_reliable && change.total_retrans == 0) {
            self.handshakes[usize::from(change.old != State::SynSent)].record(ns);
        }
        let Some(ending) = change.ending else { return };
        self.endings.add(whose, ending, now_ns);
        if let Some(errno) = failure(change, ending) {
            self.failures.add(whose, errno, now_ns);
        }
    }

    /// The number of series by owner of the metric that has the most.
    #[must_use]
    pub fn series(&self) -> usize {
        let owners = [self.retransmits.len(), self.synack_retransmits.len(), self.resets.len(), self.failures.len()];
        owners.into_iter().chain([self.transitions.len(), self.endings.len(), self.seen.len()]).max().unwrap_or(0)
    }

    /// Counts a reported finding.
    pub fn finding(&mut self, finding: &Finding) {
        if finding.phase == Phase::Opened {
            *self.opened.entry(finding.detection.kind).or_default() += 1;
        }
    }
}

/// The errno of a failed connection; 0 if its process gave up connecting after the time of the first retransmission.
fn failure(change: &Transition, ending: CloseReason) -> Option<i32> {
    const WAITED_NS: u64 = 900_000_000;
    let was_waited_for = || change.total_retrans > 0 || change.time_in_old.is_some_and(|time| time.ns >= WAITED_NS);
    match ending {
        CloseReason::Aborted(Abort::BeforeEstablished) if was_waited_for() => Some(GIVEN_UP),
        CloseReason::Aborted(Abort::NeverSent) if change.old == State::SynSent => Some(libc::EADDRNOTAVAIL),
        ending => ending.errno(),
    }
}

/// Stands for the missing errno of an attempt that was given up.
const GIVEN_UP: i32 = 0;
