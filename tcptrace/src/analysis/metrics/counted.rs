//! Metrics of aggregate mode, from the counts of the BPF programs. They have no sockets, findings or handshakes.

use std::borrow::Cow;

use rustc_hash::FxHashMap;
use tcptrace_common::aggregate::bucket_max_ns;

use super::{
    families,
    gather::errno_label,
    snapshot::{Labels, Snapshot},
    times::Times,
};
use crate::{
    analysis::{kernel_counts::CountedEvent, report::Key},
    model::{
        close_reason::CloseReason,
        event_kind::Counter,
        kernel_counts::{By, Counts},
        losses::Losses,
        output_state::OutputState,
        state::State,
    },
    sys::{process::Usage, workers::WorkerState},
};

/// What a snapshot needs besides the counts.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// Start of the run, in ns since the epoch.
    pub start_unix_ns: u64,
    /// The current time, in ns since the epoch.
    pub now_unix_ns: u64,
    /// Losses since the start.
    pub losses: &'a Losses,
    /// Delivery states of the outputs.
    pub outputs: &'a [OutputState],
    /// States of the threads.
    pub workers: &'a [WorkerState],
    /// CPU time and memory of tcptrace.
    pub usage: Usage,
}

/// A snapshot of the counts, separated by `by`; `path` looks up the path of a cgroup. Each time counts as the upper bound of its
/// bucket in the BPF programs, which is at most 1/64 too long.
pub fn snapshot(counts: &Counts, by: By, path: impl FnMut(u64) -> Option<String>, run: Run<'_>) -> Snapshot {
    let start = run.start_unix_ns;
    let mut latencies: FxHashMap<(State, State), Times> = FxHashMap::default();
    let [mut transitions, mut retransmits, mut synacks, mut resets, mut failures, mut endings] =
        [const { Vec::new() }; 6];
    for (key, counted) in counts.each(by, path) {
        let with = |mut labels: Labels| {
            labels.extend(label(by, &key));
            (labels, start, counted.count)
        };
        let ended = |ending: CloseReason| with(vec![("ending", ending.name().into())]);
        let reset = |direction: &'static str| with(vec![("direction", direction.into())]);
        match counted.what {
            CountedEvent::Transition(old, new) => {
                transitions.push(with(pair(old, new)));
                if new == State::TimeWait {
                    endings.push(ended(CloseReason::Normal));
                }
                let Some((octave, times)) = counted.times else { continue };
                let all = latencies.entry((old, new)).or_default();
                for (slot, count) in times.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                    all.record_many(bucket_max_ns(octave, slot).min(times.max_ns), *count);
                }
            }
            CountedEvent::Other(Counter::Retransmits) => retransmits.push(with(Labels::new())),
            CountedEvent::Other(Counter::SynAckRetransmits) => synacks.push(with(Labels::new())),
            CountedEvent::Other(Counter::ResetsSent) => resets.push(reset("sent")),
            CountedEvent::Other(Counter::ResetsReceived) => resets.push(reset("received")),
            CountedEvent::Other(Counter::Transitions) => {} // they come with their states
            CountedEvent::CloseReason(ending) => {
                endings.push(ended(ending));
                failures.extend(ending.errno().map(|errno| with(errno_label(errno))));
            }
        }
    }
    let mut all = Snapshot { time_unix_ns: run.now_unix_ns, families: Vec::with_capacity(families::ALL.len()) };
    all.add(&families::TRANSITIONS, transitions);
    let latencies = latencies.iter().map(|(&(old, new), times)| (pair(old, new), times));
    all.add_times(&families::TRANSITION_LATENCY, start, latencies);
    all.add(&families::RETRANSMITS, retransmits);
    all.add(&families::SYNACK_RETRANSMITS, synacks);
    all.add(&families::RESETS, resets);
    all.add(&families::FAILURES, failures);
    all.add(&families::ENDINGS, endings);
    all.add_losses(run.losses, start);
    all.add_outputs(run.outputs, start);
    all.add_workers(run.workers, start);
    all.add_process(run.usage, start);
    all
}

fn pair(old: State, new: State) -> Labels {
    vec![("from", old.name().into()), ("to", new.name().into())]
}

/// The label of separate counts: `service_port` (at either end), or `cgroup`.
fn label(by: By, key: &Key) -> Option<(&'static str, Cow<'static, str>)> {
    let name = if by == By::Cgroup { "cgroup" } else { "service_port" };
    let value = match key {
        _ if by == By::Transition => None,
        Key::Port(port) => port.map(|port| port.to_string()),
        Key::Cgroup(known) => known.as_ref().map(|(id, path)| path.clone().unwrap_or_else(|| format!("id:{id}"))),
        Key::Other => Some("other".to_owned()),
    };
    value.map(|value| (name, value.into()))
}

#[cfg(test)]
mod tests {
    use tcptrace_common::{
        aggregate::{self, bucket_of},
        record::{KIND_RESET_SENT, KIND_TRANSITION},
    };

    use super::*;

    #[test]
    fn what_the_programs_counted_is_what_metrics_tell() {
        let mut counts = Counts::default();
        let (old, new) = (State::FinWait2, State::TimeWait);
        for (port, ns) in [(80, 1_000_000), (80, 3_000_000), (aggregate::OTHER, 5)] {
            let (octave, slot) = bucket_of(ns);
            let mut times = aggregate::OctaveTimes { max_ns: ns, ..aggregate::OctaveTimes::NONE };
            times.counts[slot] = 1;
            let (old, new) = (old as u8, new as u8);
            let key = aggregate::CountKey {
                group: port,
                kind: KIND_TRANSITION,
                old,
                new,
                octave,
                ..aggregate::CountKey::default()
            };
            counts.add_times(key, [times].into_iter());
        }
        let reset = aggregate::CountKey { group: 80, kind: KIND_RESET_SENT, ..aggregate::CountKey::default() };
        counts.add_count(reset, [2, 3].into_iter());
        let losses = Losses { received: 8, ..Losses::default() };
        let run = Run {
            start_unix_ns: 1,
            now_unix_ns: 2,
            losses: &losses,
            outputs: &[],
            workers: &[],
            usage: Usage::default(),
        };
        let of = |by| snapshot(&counts, by, |_| None, run);

        let by_port = of(By::Port);
        let sum = |name: &str, labels: &[(&str, &str)]| by_port.family(name).unwrap().sum(labels);
        assert_eq!(sum("tcptrace_transitions", &[("from", "FIN_WAIT2"), ("service_port", "80")]), 2);
        assert_eq!(sum("tcptrace_transitions", &[("service_port", "other")]), 1);
        assert_eq!(sum("tcptrace_connection_endings", &[("ending", "normal")]), 3);
        assert_eq!(sum("tcptrace_resets", &[("direction", "sent"), ("service_port", "80")]), 5);
        let latency = &by_port.family("tcptrace_transition_latency_seconds").unwrap().series;
        let super::super::Value::Distribution(times) = &latency[0].value else { panic!("{latency:?}") };
        assert_eq!(times.count, 3);
        assert!((0.004..0.004 * (1.0 + 1.0 / 64.0)).contains(&times.sum), "{}", times.sum);
        let together = of(By::Transition);
        assert_eq!(together.family("tcptrace_transitions").unwrap().series.len(), 1, "no label tells them apart");
        assert_eq!(together.family("tcptrace_events_received").unwrap().sum(&[]), 8);
    }
}
