//! Builds a snapshot of all metrics from the counters and the current state.

use std::{borrow::Cow, cmp::Reverse, hash::Hash, net::SocketAddr};

use super::{
    Metrics, Moment, OpenFinding, Reset,
    counts::{Counts, OwnerLabels},
    families::{self, Descriptor},
    snapshot::{Family, Labels, Series, Snapshot, Value},
    times::Times,
};
use crate::{
    analysis::metrics::settings::Settings,
    findings::{Finding, Kind},
    model::{
        close_reason::CloseReason, errno, keyed::KeyedMap, losses::Losses, names::Names, output_state::OutputState,
        state::State,
    },
    sys::{process::Usage, workers::WorkerState},
};

impl Metrics {
    /// All metrics at this moment.
    pub fn snapshot(&mut self, moment: &mut Moment<'_>) -> Snapshot {
        self.learn(moment.table);
        let (start, now) = (self.start_unix_ns, moment.now_unix_ns);
        self.transitions.is_shown(now);
        self.retransmits.is_shown(now);
        self.synack_retransmits.is_shown(now);
        self.resets.is_shown(now);
        self.failures.is_shown(now);
        self.endings.is_shown(now);
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
        all.add(&families::FAILURES, by_owner(&self.failures, settings, names, |number, _| errno_label(number)));
        let ending = |ending: CloseReason, _: &Names| vec![("ending", ending.name().into())];
        all.add(&families::ENDINGS, by_owner(&self.endings, settings, names, ending));
        let open = self.open(moment.open, moment.now_ns);
        all.add(&families::FINDINGS_OPEN, open);
        let opened = |kind: &Kind| self.opened.get(kind).copied().unwrap_or(0);
        let of_kind = |kind: &Kind| (vec![("finding", kind.id().into())], start, opened(kind));
        all.add(&families::FINDINGS_OPENED, Kind::ALL.iter().map(of_kind));
        all.add_losses(moment.losses, start);
        all.add_outputs(moment.outputs, start);
        all.add_workers(moment.workers, start);
        all.add(
            &families::OVERFLOW,
            self.overflows().map(|(name, count)| (vec![("metric", name.into())], start, count)),
        );
        all.add_process(moment.usage, start);
        all
    }

    /// Sockets by state and owner, the largest groups first; states without sockets are included as 0.
    fn connections(&mut self, moment: &mut Moment<'_>) -> Vec<(Labels, u64, u64)> {
        let mut groups: KeyedMap<(State, OwnerLabels), u64> = KeyedMap::default();
        for known in moment.table.connections() {
            let whose = OwnerLabels::new(&self.settings, known.owner().as_ref(), self.services.port(known));
            *groups.entry((known.state, whose)).or_default() += 1;
        }
        for requests in moment.table.half_open_matching() {
            let whose = OwnerLabels::new(&self.settings, requests.owner.as_ref(), Some(requests.local.port()));
            *groups.entry((State::SynRecv, whose)).or_default() += requests.count;
        }
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_unstable_by_key(|((state, _), count)| (Reverse(*count), *state));
        for ((_, whose), count) in groups.iter_mut().skip(self.settings.max_series) {
            *whose = OwnerLabels::Other;
            self.connections_overflow += *count;
        }
        let state = |state: State| vec![("state", Cow::from(state.name()))];
        let none = State::ALL.into_iter().filter(|state| !groups.iter().any(|((other, _), _)| other == state));
        let mut told: Vec<_> = none.map(|empty| (state(empty), self.start_unix_ns, 0)).collect();
        for ((of, whose), count) in groups {
            told.push((whose.labels(state(of), &self.settings, moment.names), self.start_unix_ns, count));
        }
        told
    }

    /// Open findings, and 0 for findings that were open within the last hour.
    fn open(&mut self, open: &[Finding], now_ns: u64) -> Vec<(Labels, u64, u64)> {
        self.seen.retain(|_, seen_ns| now_ns.saturating_sub(*seen_ns) < SHOWN_FOR_NS);
        let mut counts: KeyedMap<OpenFinding, u64> = self.seen.keys().map(|trouble| (*trouble, 0)).collect();
        for finding in open {
            let mut trouble = OpenFinding::of(finding, &self.settings);
            if counts.len() >= self.settings.max_series && !counts.contains_key(&trouble) {
                (trouble.whose, trouble.ports) = (OwnerLabels::Other, [None; 2]);
                self.findings_overflow += 1;
            }
            *counts.entry(trouble).or_default() += 1;
            self.seen.insert(trouble, now_ns);
        }
        counts.into_iter().map(|(trouble, count)| (trouble.labels(), self.start_unix_ns, count)).collect()
    }

    fn overflows(&self) -> [(String, u64); 8] {
        [
            (&families::FINDINGS_OPEN, self.findings_overflow),
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

/// How long a closed finding is exported as 0.
const SHOWN_FOR_NS: u64 = 3_600_000_000_000;

impl OpenFinding {
    fn of(finding: &Finding, settings: &Settings) -> Self {
        let detection = &finding.detection;
        let (local, remote) = detection.subject.ends();
        let port = |end: Option<SocketAddr>| end.map(|end| end.port()).filter(|port| *port != 0);
        let by_process = Settings { by_process: settings.by_process, ..Settings::default() };
        Self {
            kind: detection.kind,
            severity: detection.severity,
            whose: OwnerLabels::new(&by_process, detection.owner.as_ref(), None),
            ports: [port(local), port(remote)],
        }
    }

    /// The labels of a finding for which there is no room: only kind and severity remain.
    fn labels(self) -> Labels {
        let mut labels = vec![("finding", self.kind.id().into()), ("severity", self.severity.name().into())];
        let (process, ports) = match self.whose {
            OwnerLabels::Other => (Some("other".into()), [None, None]),
            OwnerLabels::Of(command, ..) => {
                let process = command.map(|command| command.to_text().into_owned().into());
                (process, self.ports.map(|port| port.map(|port| port.to_string().into())))
            }
        };
        let [local, remote] = ports;
        let named = [("process", process), ("local_port", local), ("remote_port", remote)];
        labels.extend(named.into_iter().filter_map(|(name, value)| Some((name, value?))));
        labels
    }
}

impl Snapshot {
    pub(super) fn add_losses(&mut self, losses: &Losses, start: u64) {
        let places = losses.fields();
        self.add(&families::LOSSES, places.map(|(place, count)| (vec![("place", place.into())], start, count)));
        self.add_one(&families::RECEIVED, start, Value::Integer(losses.received));
        self.add_one(&families::FILTERED, start, Value::Integer(losses.all_filtered()));
    }

    /// For each thread, whether it is alive.
    pub(super) fn add_workers(&mut self, workers: &[WorkerState], start: u64) {
        let row = |worker: &WorkerState| {
            (vec![("worker", worker.name.clone().into())], start, u64::from(worker.problem.is_none()))
        };
        self.add(&families::WORKER_UP, workers.iter().map(row));
    }

    /// Version, CPU time, memory and start time of tcptrace.
    pub(super) fn add_process(&mut self, usage: Usage, start: u64) {
        self.add(&families::BUILD, [(vec![("version", env!("CARGO_PKG_VERSION").into())], start, 1)]);
        self.add_one(&families::CPU, start, Value::Float(usage.cpu_ns as f64 / 1e9));
        self.add_one(&families::MEMORY, start, Value::Integer(usage.resident_bytes));
        self.add_one(&families::START, start, Value::Float(start as f64 / 1e9));
    }

    pub(super) fn add_times<'a>(
        &mut self,
        descriptor: &'static Descriptor,
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

    pub(super) fn add_outputs(&mut self, outputs: &[OutputState], start: u64) {
        let name = |output: &OutputState| vec![("output", Cow::from(output.name.clone()))];
        let results = outputs.iter().flat_map(|output| {
            let counts = [
                ("delivered", output.delivered),
                ("dropped", output.dropped),
                ("refused", output.refused),
                ("suppressed", output.suppressed),
            ];
            counts.map(|(result, count)| ([name(output), vec![("result", result.into())]].concat(), start, count))
        });
        self.add(&families::OUTPUT_RECORDS, results);
        self.add(&families::OUTPUT_RETRIES, outputs.iter().map(|output| (name(output), start, output.retries)));
        let is_up = |output: &OutputState| u64::from(output.trouble.is_none());
        self.add(&families::OUTPUT_UP, outputs.iter().map(|output| (name(output), start, is_up(output))));
        self.add(&families::OUTPUT_QUEUE, outputs.iter().map(|output| (name(output), start, output.queued_bytes)));
    }
}

/// Counters with their own labels and those of owners.
fn by_owner<K: Copy + Eq + Hash>(
    counts: &Counts<K>,
    settings: &Settings,
    names: &mut Names,
    labels: impl Fn(K, &Names) -> Labels,
) -> Vec<(Labels, u64, u64)> {
    let row = |(whose, what, start, count): (OwnerLabels, K, u64, u64)| {
        let own = labels(what, names);
        (whose.labels(own, settings, names), start, count)
    };
    counts.iter().map(row).collect()
}

pub(super) fn errno_label(number: i32) -> Labels {
    let name = if number == super::GIVEN_UP { Some("given_up") } else { errno::name(number) };
    vec![("errno", name.map_or_else(|| number.to_string().into(), Cow::from))]
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
