//! Turns the counts of the BPF programs (`--aggregate`) into reports. See [`tcptrace_common::aggregate`].

use std::collections::HashMap;

use tcptrace_common::{
    aggregate::{self, KIND_CLOSED, OCTAVES, OctaveTimes, UNKNOWN, close_flag},
    record::{KIND_RESET_RECEIVED, KIND_RESET_SENT, KIND_RETRANSMIT, KIND_SYNACK_RETRANSMIT, KIND_TRANSITION},
};

use crate::{
    analysis::{
        histogram::Latencies,
        report::{Activity, Key, KeyRow, Report, TransitionRow, ending_rows, in_order_of_life},
    },
    model::{
        close_reason::CloseReason,
        event_kind::Counter,
        kernel_counts::{By, Counts},
        losses::Losses,
        state::State,
    },
};

impl By {
    fn key(self, key: u64, path: &mut impl FnMut(u64) -> Option<String>) -> Key {
        match (self, key) {
            (_, aggregate::OTHER) => Key::Other,
            (Self::Cgroup, UNKNOWN) => Key::Cgroup(None),
            (Self::Cgroup, id) => Key::Cgroup(Some((id, path(id)))),
            (_, port) => Key::Port(u16::try_from(port).ok().filter(|port| *port != 0)),
        }
    }
}

impl Counts {
    /// The number of events, and the number under unknown keys.
    #[must_use]
    pub fn totals(&self) -> (u64, u64) {
        let mut all = Tally::default();
        let unreadable = self.entries().filter_map(|(key, count, times)| match all.add(key, count, times) {
            Some(()) => None,
            None => Some(count),
        });
        let unreadable = unreadable.fold(0, u64::wrapping_add);
        (all.activity.total(), unreadable)
    }

    /// The report for these counts, separated by `by`; `path` looks up the path of a cgroup.
    #[must_use]
    pub fn report(
        &self,
        by: By,
        mut path: impl FnMut(u64) -> Option<String>,
        (is_final, now_ns, span_ns): (bool, u64, u64),
        losses: Losses,
    ) -> Report {
        let mut all = Tally::default();
        let mut tallies: HashMap<u64, Tally> = HashMap::new();
        for (key, count, times) in self.entries() {
            if all.add(key, count, times).is_some() {
                tallies.entry(key.group).or_default().add(key, count, times);
            }
        }
        let rows = tallies.into_iter().map(|(key, tally)| {
            let (activity, transitions, endings) = tally.rows();
            KeyRow { key: by.key(key, &mut path), activity, transitions, endings }
        });
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by(|a, b| b.activity.total().cmp(&a.activity.total()).then_with(|| a.key.cmp(&b.key)));
        let (activity, transitions, endings) = all.rows();
        Report {
            is_final,
            now_ns,
            span_ns,
            activity,
            transitions,
            endings,
            processes: None,
            sockets: None,
            half_open: None,
            keys: (by != By::Transition).then_some(rows),
            losses,
        }
    }

    /// The separate counts with their owners, for metrics.
    pub fn each(&self, by: By, mut path: impl FnMut(u64) -> Option<String>) -> Vec<(Key, Counted<'_>)> {
        let counted =
            self.entries().filter_map(|(key, count, times)| Some((key.group, Counted::of(key, count, times)?)));
        counted.map(|(key, counted)| (by.key(key, &mut path), counted)).collect()
    }
}

/// A decoded key with its count.
#[derive(Clone, Copy, Debug)]
pub struct Counted<'a> {
    /// The kind of event.
    pub what: CountedEvent,
    /// The number of events.
    pub count: u64,
    /// The octave of their times, and the counts in it.
    pub times: Option<(u8, &'a OctaveTimes)>,
}

/// A kind of event that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountedEvent {
    /// A transition.
    Transition(State, State),
    /// Another event.
    Other(Counter),
    /// A connection ended without TIME_WAIT.
    CloseReason(CloseReason),
}

impl<'a> Counted<'a> {
    /// Decodes a key; `None` if it is unknown.
    fn of(key: &aggregate::CountKey, count: u64, times: Option<&'a OctaveTimes>) -> Option<Self> {
        let what = match key.kind {
            KIND_TRANSITION if usize::from(key.octave) < OCTAVES => {
                CountedEvent::Transition(State::from_raw(key.old)?, State::from_raw(key.new)?)
            }
            KIND_RETRANSMIT => CountedEvent::Other(Counter::Retransmits),
            KIND_SYNACK_RETRANSMIT => CountedEvent::Other(Counter::SynAckRetransmits),
            KIND_RESET_SENT => CountedEvent::Other(Counter::ResetsSent),
            KIND_RESET_RECEIVED => CountedEvent::Other(Counter::ResetsReceived),
            KIND_CLOSED => {
                let is = |flag: u16| key.flags & flag != 0;
                let (syn, unread) = (is(close_flag::SENT_SYN), is(close_flag::UNREAD).into());
                CountedEvent::CloseReason(CloseReason::classify(
                    State::from_raw(key.old)?,
                    key.err.into(),
                    key.flags,
                    syn,
                    unread,
                ))
            }
            _ => return None,
        };
        Some(Self { what, count, times: times.map(|times| (key.octave, times)) })
    }
}

/// The counts of one port or cgroup, or of all together.
#[derive(Default)]
struct Tally {
    activity: Activity,
    transitions: HashMap<(State, State), (u64, Latencies)>,
    endings: HashMap<CloseReason, u64>,
}

impl Tally {
    /// Adds the count of a key; `None` if the key is unknown.
    fn add(&mut self, key: &aggregate::CountKey, count: u64, times: Option<&OctaveTimes>) -> Option<()> {
        let add = |to: &mut u64| *to = to.wrapping_add(count);
        let counted = Counted::of(key, count, times)?;
        match counted.what {
            CountedEvent::Transition(old, new) => {
                let (all, known) = self.transitions.entry((old, new)).or_default();
                add(all);
                self.activity.add(Counter::Transitions, count);
                if let Some((octave, times)) = counted.times {
                    known.add_octave(octave, times);
                }
                if new == State::TimeWait {
                    add(self.endings.entry(CloseReason::Normal).or_default());
                }
            }
            CountedEvent::Other(counter) => self.activity.add(counter, count),
            CountedEvent::CloseReason(ending) => add(self.endings.entry(ending).or_default()),
        }
        Some(())
    }

    fn rows(self) -> (Activity, Vec<TransitionRow>, Vec<(CloseReason, u64)>) {
        let row = |(&(old, new), (count, times)): (&_, &(u64, Latencies))| TransitionRow {
            old,
            new,
            count: *count,
            timed: times.count(),
            times: times.percentiles(),
        };
        let mut transitions: Vec<_> = self.transitions.iter().map(row).collect();
        in_order_of_life(&mut transitions);
        (self.activity, transitions, ending_rows(&self.endings))
    }
}

#[cfg(test)]
mod tests {
    use histogram::Histogram;
    use tcptrace_common::aggregate::{BUCKETS, GROUPING_POWER, MAX_VALUE_POWER, OTHER, bucket_max_ns, bucket_of};

    use super::*;

    const SPAN: (bool, u64, u64) = (true, 1000, 500);

    fn key(key: u64, kind: u8, old: State, new: State) -> aggregate::CountKey {
        let new = if kind == KIND_CLOSED { 0 } else { new as u8 };
        aggregate::CountKey { group: key, kind, old: old as u8, new, ..aggregate::CountKey::default() }
    }

    fn transition(of: u64, octave: u8) -> aggregate::CountKey {
        aggregate::CountKey { octave, ..key(of, KIND_TRANSITION, State::CloseWait, State::LastAck) }
    }

    /// As the programs count these times.
    fn counted(counts: &mut Counts, of: u64, times_ns: &[u64]) {
        for &ns in times_ns {
            let (octave, slot) = bucket_of(ns);
            let mut times = OctaveTimes { max_ns: ns, ..OctaveTimes::NONE };
            times.counts[slot] = 1;
            counts.add_times(transition(of, octave), [times].into_iter());
        }
    }

    fn report(counts: &Counts, by: By) -> Report {
        counts.report(by, |id| Some(format!("/{id}")), SPAN, Losses::default())
    }

    #[test]
    fn each_time_is_in_the_bucket_that_ends_with_the_longest_of_it() {
        let mut next = 0;
        for (octave, slot) in (0..OCTAVES as u8).flat_map(|octave| (0..BUCKETS).map(move |slot| (octave, slot))) {
            let last = bucket_max_ns(octave, slot);
            assert_eq!((bucket_of(next), bucket_of(last)), ((octave, slot), (octave, slot)), "{next} to {last}");
            // Within the bound that is stated, but for times that are not told apart any more.
            assert!(
                last == u64::MAX || (last - next) as f64 <= next as f64 * crate::analysis::histogram::RELATIVE_ERROR
            );
            next = last.wrapping_add(1);
        }
        assert_eq!(next, 0, "no time is without a bucket");
    }

    #[test]
    fn buckets_are_those_of_the_histograms_that_events_are_counted_in() {
        let around = (0..MAX_VALUE_POWER).flat_map(|power| [-1, 0, 1, 12345].map(|off| (1i64 << power) + off));
        for ns in around.filter_map(|ns| u64::try_from(ns).ok()).filter(|ns| *ns < 1 << MAX_VALUE_POWER) {
            let mut histogram = Histogram::new(GROUPING_POWER, MAX_VALUE_POWER).unwrap();
            histogram.increment(ns).unwrap();
            let (octave, slot) = bucket_of(ns);
            assert_eq!(histogram.as_slice()[usize::from(octave) * BUCKETS + slot], 1, "{ns}");
            assert_eq!(histogram.as_slice().len(), OCTAVES * BUCKETS);
        }
    }

    #[test]
    fn counts_of_all_cpus_octaves_and_keys_add_up() {
        let mut counts = Counts::default();
        let times: Vec<_> = (1..=1000).map(|us| us * 1000).collect();
        counted(&mut counts, 80, &times[..400]);
        counted(&mut counts, 443, &times[400..]);
        counts.add_count(transition(443, 0), [2, 0, 3].into_iter());
        let whole = report(&counts, By::Port);
        let [row] = whole.transitions[..] else { panic!("{:?}", whole.transitions) };
        assert_eq!((row.old, row.new, row.count, row.timed), (State::CloseWait, State::LastAck, 1005, 1000));
        let mut latencies = Latencies::default();
        times.iter().for_each(|ns| latencies.record(*ns));
        assert_eq!(row.times, latencies.percentiles(), "the same as where each is sent");
        let by_key: Vec<_> = whole
            .keys
            .unwrap()
            .into_iter()
            .map(|row| (row.key, row.activity.transitions, row.transitions[0].timed))
            .collect();
        assert_eq!(by_key, [(Key::Port(Some(443)), 605, 600), (Key::Port(Some(80)), 400, 400)]);
        assert_eq!(counts.totals(), (1005, 0));
        assert!(report(&counts, By::Transition).keys.is_none());
    }

    #[test]
    fn an_interval_has_what_came_in_it() {
        let mut before = Counts::default();
        counted(&mut before, UNKNOWN, &[1_000, 1_020, 9_000_000]);
        before.add_count(key(UNKNOWN, KIND_RETRANSMIT, State::Established, State::Close), [7].into_iter());
        let mut after = before.clone();
        counted(&mut after, UNKNOWN, &[1_001, 1_002]);
        after.add_count(key(UNKNOWN, KIND_RESET_SENT, State::Close, State::Close), [1].into_iter());
        let interval = report(&after.since(&before), By::Transition);
        assert_eq!(interval.activity, Activity { transitions: 2, resets_sent: 1, ..Activity::default() });
        let times = interval.transitions[0].times.unwrap();
        // The longest of the octave was before: what is known is the bucket.
        assert_eq!((times.p50_ns, times.max_ns), (1_007, 1_007));
        let none = report(&after.since(&after), By::Port);
        assert_eq!((none.activity, none.transitions.len()), (Activity::default(), 0));
        assert_eq!(none.keys.unwrap().len(), 0);
    }

    #[test]
    fn keys_are_named() {
        let named = |by: By| {
            let mut counts = Counts::default();
            [UNKNOWN, 7, 70_000, OTHER].iter().zip(1..).for_each(|(of, count)| {
                counts.add_count(transition(*of, 0), [count].into_iter());
            });
            report(&counts, by).keys.unwrap().into_iter().map(|row| row.key).collect::<Vec<_>>()
        };
        assert_eq!(named(By::Port), [Key::Other, Key::Port(None), Key::Port(Some(7)), Key::Port(None)]);
        let cgroup = |id: u64| Key::Cgroup(Some((id, Some(format!("/{id}")))));
        assert_eq!(named(By::Cgroup), [Key::Other, cgroup(70_000), cgroup(7), Key::Cgroup(None)]);
    }

    #[test]
    fn endings_follow_from_the_facts_that_are_counted() {
        use tcptrace_common::{aggregate::CLOSE_FLAGS, state};
        let errors = [0, libc::ECONNREFUSED, libc::ECONNRESET, libc::EPIPE, libc::ETIMEDOUT, libc::EHOSTUNREACH];
        let states = State::ALL.into_iter().filter(|old| *old as u8 != state::TIME_WAIT);
        for (old, err) in states.flat_map(|old| errors.map(|err| (old, err))) {
            for flags in 0..1 << 13 {
                for (syn, unread) in [(false, 9), (true, 0)] {
                    let want = CloseReason::classify(old, err, flags, syn, unread);
                    let facts = flags & CLOSE_FLAGS
                        | if syn { close_flag::SENT_SYN } else { 0 }
                        | if unread > 0 { close_flag::UNREAD } else { 0 };
                    let key =
                        aggregate::CountKey { err: err as u16, flags: facts, ..key(0, KIND_CLOSED, old, State::Close) };
                    let mut tally = Tally::default();
                    tally.add(&key, 1, None).unwrap();
                    assert_eq!(tally.endings.get(&want), Some(&1), "{old} {err} {flags:#x} {syn} {unread}");
                }
            }
        }
    }

    #[test]
    fn what_goes_to_time_wait_has_ended() {
        let mut counts = Counts::default();
        counts.add_count(key(0, KIND_TRANSITION, State::FinWait2, State::TimeWait), [4].into_iter());
        counts.add_count(key(0, KIND_CLOSED, State::LastAck, State::Close), [2].into_iter());
        assert_eq!(report(&counts, By::Transition).endings, [(CloseReason::Normal, 6)]);
        assert_eq!(counts.totals().0, 4, "an ending is no event of its own");
    }

    #[test]
    fn keys_that_do_not_exist_are_counted() {
        let mut counts = Counts::default();
        let good = transition(0, 0);
        let bad = [
            aggregate::CountKey { kind: 77, ..good },
            aggregate::CountKey { old: 0, ..good },
            aggregate::CountKey { new: 200, ..good },
            aggregate::CountKey { octave: OCTAVES as u8, ..good },
        ];
        bad.into_iter().for_each(|key| counts.add_count(key, [10].into_iter()));
        counts.add_times(bad[3], [OctaveTimes { counts: [u64::MAX; BUCKETS], max_ns: 1 }].into_iter());
        counts.add_count(good, [1].into_iter());
        assert_eq!(counts.totals(), (1, 40u64.wrapping_add(u64::MAX.wrapping_mul(BUCKETS as u64))));
        assert_eq!(report(&counts, By::Port).activity.transitions, 1);
    }
}
