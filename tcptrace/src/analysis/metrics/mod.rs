//! What is counted for dashboards and alerts: [`Metrics`] is fed with events and findings, and gives a [`Snapshot`] when
//! it is asked, which [`prometheus`] and [`otlp`] encode. It is pure.
//!
//! A session keeps one. Each event that passes its filters goes to [`Metrics::ingest`], each finding that is told to
//! [`Metrics::finding`], and after the listing of the start [`Metrics::learn`] is told of the table. The rest is asked for
//! at the moment of the snapshot ([`Moment`]). Before that the losses must be up to date.
//!
//! Nothing that a peer chooses names a series: no remote address or port, and no local port that is not a service's (of a
//! finding, the port that it is about). What
//! processes of this host choose (command names, cgroups, the ports that they listen at) does so within
//! [`Settings::max_series`]; those that were idle for longest make room, and go on under `other`.

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

/// What a snapshot needs besides what was counted.
pub struct Moment<'a> {
    /// CLOCK_MONOTONIC, in ns.
    pub now_ns: u64,
    /// The wall clock, in ns since the epoch.
    pub now_unix_ns: u64,
    /// The sockets.
    pub table: &'a Table,
    /// What was lost.
    pub losses: &'a Losses,
    /// The findings that are open.
    pub open: &'a [Finding],
    /// The outputs.
    pub outputs: &'a [OutputState],
    /// The threads.
    pub workers: &'a [WorkerState],
    /// What tcptrace uses.
    pub usage: Usage,
    /// Names of cgroups, and of reasons of RSTs.
    pub names: &'a mut Names,
}

/// Which RSTs: those that were received, or those that were sent, with the kernel's `enum sk_rst_reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Reset {
    Received,
    Sent(Option<u32>),
}

/// An open finding, as far as an alert needs to tell it from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct OpenFinding {
    kind: Kind,
    severity: Severity,
    /// The process responsible.
    whose: OwnerLabels,
    /// The service's port at the local or the remote end, where the finding is about one.
    ports: [Option<u16>; 2],
}

/// What was counted since the start.
#[derive(Debug)]
pub struct Metrics {
    settings: Settings,
    start_unix_ns: u64,
    services: Services,
    transitions: Counts<(State, State)>,
    latencies: FxHashMap<(State, State), Times>,
    /// Of handshakes that were begun here, and that were answered here.
    handshakes: [Times; 2],
    retransmits: Counts<()>,
    synack_retransmits: Counts<()>,
    resets: Counts<Reset>,
    failures: Counts<i32>,
    endings: Counts<CloseReason>,
    opened: FxHashMap<Kind, u64>,
    /// Findings that were open at a snapshot, with CLOCK_MONOTONIC of the last one, in ns.
    seen: KeyedMap<OpenFinding, u64>,
    /// Findings that the gauge of open ones had no room for, in all snapshots.
    findings_overflow: u64,
    /// Sockets that the gauge by owner had no room for, in all snapshots.
    connections_overflow: u64,
}

impl Metrics {
    /// Counts from `start_unix_ns` on, in ns since the epoch.
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

    /// Learns at which ports there are services; to be called when the sockets from before the start are known.
    pub fn learn(&mut self, table: &Table) {
        if self.settings.by_local_port {
            self.services.learn_all(table);
        }
    }

    /// Takes in an event. Allocates nothing but for the first one of a new series.
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

    /// Series by owner of the metric that has the most.
    #[must_use]
    pub fn series(&self) -> usize {
        let owners = [self.retransmits.len(), self.synack_retransmits.len(), self.resets.len(), self.failures.len()];
        owners.into_iter().chain([self.transitions.len(), self.endings.len(), self.seen.len()]).max().unwrap_or(0)
    }

    /// Takes in a finding that is told.
    pub fn finding(&mut self, finding: &Finding) {
        if finding.phase == Phase::Opened {
            *self.opened.entry(finding.sighting.kind).or_default() += 1;
        }
    }
}

/// The errno of a connection that failed: 0 where its process gave the attempt up, after one SYN had been sent again or
/// should have been.
fn failure(change: &Transition, ending: CloseReason) -> Option<i32> {
    const WAITED_NS: u64 = 900_000_000;
    let was_waited_for = || change.total_retrans > 0 || change.time_in_old.is_some_and(|time| time.ns >= WAITED_NS);
    match ending {
        CloseReason::Aborted(Abort::BeforeEstablished) if was_waited_for() => Some(GIVEN_UP),
        CloseReason::Aborted(Abort::NeverSent) if change.old == State::SynSent => Some(libc::EADDRNOTAVAIL),
        ending => ending.errno(),
    }
}

/// Stands for the errno of an attempt that was given up.
const GIVEN_UP: i32 = 0;
