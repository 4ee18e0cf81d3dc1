//! What is counted for dashboards and alerts: [`Metrics`] is fed with events and findings, and gives a [`Snapshot`] when
//! it is asked, which [`prometheus`] and [`otlp`] encode. It is pure.
//!
//! A session keeps one. Each event that passes its filters goes to [`Metrics::ingest`], each finding that is told to
//! [`Metrics::finding`], and after the listing of the start [`Metrics::learn`] is told of the table. The rest is asked for
//! at the moment of the snapshot ([`Moment`]). Before that the losses must be up to date.
//!
//! Nothing that a peer chooses names a series: no remote address or port, and no local port that is not a service's. What
//! processes of this host choose (command names, cgroups, the ports that they listen at) does so within
//! [`Settings::max_series`]; the rest is counted under `other`.

mod counts;
pub mod families;
pub mod otlp;
pub mod prometheus;
mod snapshot;
#[cfg(test)]
mod tests;
mod times;

use std::{borrow::Cow, cmp::Reverse, collections::BTreeSet};

use rustc_hash::FxHashMap;

use crate::{
    ending::Ending,
    errno,
    event::{Event, TimeSource, Transition, What},
    findings::{Finding, Kind, Phase, Severity},
    losses::Losses,
    outputs::OutputState,
    render::Names,
    state::State,
    table::Table,
};
use counts::{Counts, Services, Whose};
use times::Times;

pub use snapshot::{Distribution, Family, Labels, Series, Snapshot, Value};
pub use times::{BOUNDS, SCALE};

/// How much is told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Has each command name of an owner a series of its own (label `process`)?
    pub by_process: bool,
    /// Each cgroup (label `cgroup`)?
    pub by_cgroup: bool,
    /// Each local port of a service (label `local_port`)?
    pub by_local_port: bool,
    /// Series of one metric by these at most; what comes later is counted under `other`.
    pub max_series: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { by_process: true, by_cgroup: false, by_local_port: false, max_series: 1000 }
    }
}

/// What this process has used; see [`crate::usage`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time, in ns.
    pub cpu_ns: u64,
    /// Resident memory, in bytes.
    pub resident_bytes: u64,
}

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
    endings: Counts<Ending>,
    opened: FxHashMap<Kind, u64>,
    /// Findings that were open at a snapshot, with each severity that they had.
    seen: BTreeSet<(Kind, Severity)>,
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
            seen: BTreeSet::new(),
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
        let whose = Whose::new(&self.settings, event.owner.as_ref(), port);
        match &event.what {
            What::Transition(change) => self.transition(change, whose, now_ns),
            What::Retransmit(_) => self.retransmits.add(whose, (), now_ns),
            What::SynAckRetransmit { .. } => self.synack_retransmits.add(whose, (), now_ns),
            What::ResetSent { reason, .. } => self.resets.add(whose, Reset::Sent(*reason), now_ns),
            What::ResetReceived(_) => self.resets.add(whose, Reset::Received, now_ns),
            What::OwnerChanged => {}
        }
    }

    fn transition(&mut self, change: &Transition, whose: Whose, now_ns: u64) {
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
        if let Some(errno) = ending.errno() {
            self.failures.add(whose, errno, now_ns);
        }
    }

    /// Takes in a finding that is told.
    pub fn finding(&mut self, finding: &Finding) {
        if finding.phase == Phase::Opened {
            *self.opened.entry(finding.sighting.kind).or_default() += 1;
        }
    }

    /// All metrics as of this moment.
    pub fn snapshot(&mut self, moment: &mut Moment<'_>) -> Snapshot {
        self.learn(moment.table);
        let (now_ns, start, now) = (moment.now_ns, self.start_unix_ns, moment.now_unix_ns);
        self.transitions.make_room(now_ns, now);
        self.retransmits.make_room(now_ns, now);
        self.synack_retransmits.make_room(now_ns, now);
        self.resets.make_room(now_ns, now);
        self.failures.make_room(now_ns, now);
        self.endings.make_room(now_ns, now);
        let connections = self.connections(moment);

        let mut all = Snapshot { time_unix_ns: now, families: Vec::with_capacity(families::ALL.len()) };
        all.add(&families::CONNECTIONS, connections);
        let settings = &self.settings;
        let names = &mut *moment.names;
        let pair = |(old, new): (State, State)| vec![("from", old.name().into()), ("to", new.name().into())];
        all.add(&families::TRANSITIONS, by_owner(&self.transitions, settings, names, |pair_of, _| pair(pair_of)));
        all.add_times(
            &families::TRANSITION_LATENCY,
            start,
            self.latencies.iter().map(|(states, times)| (pair(*states), times)),
        );
        let roles = ["client", "server"].map(|role| vec![("role", role.into())]);
        all.add_times(&families::HANDSHAKE_RTT, start, roles.into_iter().zip(&self.handshakes));
        let nothing = |(), _: &Names| Labels::new();
        all.add(&families::RETRANSMITS, by_owner(&self.retransmits, settings, names, nothing));
        all.add(&families::SYNACK_RETRANSMITS, by_owner(&self.synack_retransmits, settings, names, nothing));
        all.add(&families::RESETS, by_owner(&self.resets, settings, names, reset_labels));
        let errno_label =
            |number| vec![("errno", errno::name(number).map_or_else(|| number.to_string().into(), Cow::from))];
        all.add(&families::FAILURES, by_owner(&self.failures, settings, names, |number, _| errno_label(number)));
        let ending = |ending: Ending, _: &Names| vec![("ending", ending.name().into())];
        all.add(&families::ENDINGS, by_owner(&self.endings, settings, names, ending));
        all.add(&families::FINDINGS_OPEN, self.open(moment.open, now));
        let opened = |kind: &Kind| self.opened.get(kind).copied().unwrap_or(0);
        let of_kind = |kind: &Kind| (vec![("finding", kind.id().into())], start, opened(kind));
        all.add(&families::FINDINGS_OPENED, Kind::ALL.iter().map(of_kind));
        let places = moment.losses.fields();
        all.add(&families::LOSSES, places.map(|(place, count)| (vec![("place", place.into())], start, count)));
        all.add_one(&families::RECEIVED, start, Value::Integer(moment.losses.received));
        all.add_one(&families::FILTERED, start, Value::Integer(moment.losses.filtered));
        all.add_outputs(moment.outputs, start);
        all.add(
            &families::OVERFLOW,
            self.overflows().map(|(name, count)| (vec![("metric", name.into())], start, count)),
        );
        all.add(&families::BUILD, [(vec![("version", env!("CARGO_PKG_VERSION").into())], start, 1)]);
        all.add_one(&families::CPU, start, Value::Float(moment.usage.cpu_ns as f64 / 1e9));
        all.add_one(&families::MEMORY, start, Value::Integer(moment.usage.resident_bytes));
        all.add_one(&families::START, start, Value::Float(start as f64 / 1e9));
        all
    }

    /// Sockets by state and owner, those that are most first; each state is there also where no socket is in it.
    fn connections(&mut self, moment: &mut Moment<'_>) -> Vec<(Labels, u64, u64)> {
        let mut groups: FxHashMap<(State, Whose), u64> = FxHashMap::default();
        for known in moment.table.connections() {
            let whose = Whose::new(&self.settings, known.owner().as_ref(), self.services.port(known));
            *groups.entry((known.state, whose)).or_default() += 1;
        }
        for requests in moment.table.half_open() {
            let whose = Whose::new(&self.settings, requests.owner.as_ref(), Some(requests.local.port()));
            *groups.entry((State::SynRecv, whose)).or_default() += requests.count;
        }
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_unstable_by_key(|((state, _), count)| (Reverse(*count), *state));
        for ((_, whose), count) in groups.iter_mut().skip(self.settings.max_series) {
            *whose = Whose::Other;
            self.connections_overflow += *count;
        }
        let state = |state: State| vec![("state", Cow::from(state.name()))];
        let none = State::ALL.into_iter().filter(|state| !groups.iter().any(|((other, _), _)| other == state));
        let mut told: Vec<_> = none.map(|empty| (state(empty), moment.now_unix_ns, 0)).collect();
        for ((of, whose), count) in groups {
            told.push((whose.labels(state(of), &self.settings, moment.names), moment.now_unix_ns, count));
        }
        told
    }

    /// Open findings by kind and severity, with 0 for what was open before.
    fn open(&mut self, open: &[Finding], now_unix_ns: u64) -> Vec<(Labels, u64, u64)> {
        self.seen.extend(open.iter().map(|finding| (finding.sighting.kind, finding.sighting.severity)));
        let count = |kind, severity| {
            let is = |finding: &&Finding| (finding.sighting.kind, finding.sighting.severity) == (kind, severity);
            open.iter().filter(is).count() as u64
        };
        let row = |&(kind, severity): &(Kind, Severity)| {
            let labels = vec![("finding", kind.id().into()), ("severity", severity.name().into())];
            (labels, now_unix_ns, count(kind, severity))
        };
        self.seen.iter().map(row).collect()
    }

    fn overflows(&self) -> [(String, u64); 7] {
        [
            (&families::CONNECTIONS, self.connections_overflow),
            (&families::TRANSITIONS, self.transitions.overflow()),
            (&families::RETRANSMITS, self.retransmits.overflow()),
            (&families::SYNACK_RETRANSMITS, self.synack_retransmits.overflow()),
            (&families::RESETS, self.resets.overflow()),
            (&families::FAILURES, self.failures.overflow()),
            (&families::ENDINGS, self.endings.overflow()),
        ]
        .map(|(family, count)| (family.sample(), count))
    }
}

impl Snapshot {
    fn add_times<'a>(
        &mut self,
        descriptor: &'static families::Descriptor,
        start_unix_ns: u64,
        times: impl Iterator<Item = (Labels, &'a Times)>,
    ) {
        let one = |(labels, times): (Labels, &Times)| Series {
            labels,
            start_unix_ns,
            value: Value::Distribution(times.distribution()),
        };
        let mut series: Vec<_> = times.map(one).collect();
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        self.families.push(Family { descriptor, series });
    }

    fn add_outputs(&mut self, outputs: &[OutputState], start: u64) {
        let name = |output: &OutputState| vec![("output", Cow::from(output.name.clone()))];
        let results = outputs.iter().flat_map(|output| {
            let counts = [("delivered", output.delivered), ("dropped", output.dropped), ("refused", output.refused)];
            counts.map(|(result, count)| ([name(output), vec![("result", result.into())]].concat(), start, count))
        });
        self.add(&families::OUTPUT_RECORDS, results);
        self.add(&families::OUTPUT_RETRIES, outputs.iter().map(|output| (name(output), start, output.retries)));
        let is_up = |output: &OutputState| u64::from(output.trouble.is_none());
        self.add(&families::OUTPUT_UP, outputs.iter().map(|output| (name(output), start, is_up(output))));
        self.add(&families::OUTPUT_QUEUE, outputs.iter().map(|output| (name(output), start, output.queued_bytes)));
    }
}

/// Counters with their labels, and those of their owners.
fn by_owner<K: Copy + Eq + std::hash::Hash>(
    counts: &Counts<K>,
    settings: &Settings,
    names: &mut Names,
    labels: impl Fn(K, &Names) -> Labels,
) -> Vec<(Labels, u64, u64)> {
    let row = |(whose, what, start, count): (Whose, K, u64, u64)| {
        let own = labels(what, names);
        (whose.labels(own, settings, names), start, count)
    };
    counts.iter().map(row).collect()
}

fn reset_labels(reset: Reset, names: &Names) -> Labels {
    let direction = |direction: &'static str| vec![("direction", direction.into())];
    match reset {
        Reset::Received => direction("received"),
        Reset::Sent(reason) => {
            let mut labels = direction("sent");
            let name = |code: u32| names.reset_reason(code).map_or_else(|| code.to_string(), str::to_owned);
            labels.extend(reason.map(|code| ("reason", name(code).into())));
            labels
        }
    }
}
