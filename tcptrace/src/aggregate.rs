//! What the programs counted in aggregate mode, as reports. See [`tcptrace_common::aggregate`].

use std::collections::HashMap;

use rustc_hash::FxHashMap;
use tcptrace_common::{
    aggregate::{self, KIND_ENDING, OCTAVES, Times, UNKNOWN, ending_flag},
    record::{KIND_RESET_RECEIVED, KIND_RESET_SENT, KIND_RETRANSMIT, KIND_SYNACK_RETRANSMIT, KIND_TRANSITION},
};

use crate::{
    ending::Ending,
    latency::Latencies,
    losses::Losses,
    report::{Activity, Key, KeyRow, Report, TransitionRow, ending_rows, in_order_of_life},
    state::State,
};

/// What is counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Transitions alone.
    Transition,
    /// Ports of services.
    Port,
    /// Cgroups of owners.
    Cgroup,
}

impl By {
    /// The programs' number for it, one of [`aggregate::by`].
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Transition => aggregate::by::TRANSITION,
            Self::Port => aggregate::by::PORT,
            Self::Cgroup => aggregate::by::CGROUP,
        }
    }

    fn key(self, key: u64, path: &mut impl FnMut(u64) -> Option<String>) -> Key {
        match (self, key) {
            (_, aggregate::OTHER) => Key::Other,
            (Self::Cgroup, UNKNOWN) => Key::Cgroup(None),
            (Self::Cgroup, id) => Key::Cgroup(Some((id, path(id)))),
            (_, port) => Key::Port(u16::try_from(port).ok().filter(|port| *port != 0)),
        }
    }
}

/// All that was counted until a moment, or between two.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    times: FxHashMap<aggregate::Key, Times>,
    counts: FxHashMap<aggregate::Key, u64>,
}

impl Counts {
    /// Takes in the times that each CPU counted under a key.
    pub fn add_times(&mut self, key: aggregate::Key, by_cpu: impl Iterator<Item = Times>) {
        let sum = self.times.entry(key).or_insert(Times::NONE);
        for times in by_cpu {
            sum.max_ns = sum.max_ns.max(times.max_ns);
            sum.counts.iter_mut().zip(times.counts).for_each(|(sum, count)| *sum = sum.wrapping_add(count));
        }
    }

    /// Takes in how often something without a time happened on each CPU.
    pub fn add_count(&mut self, key: aggregate::Key, by_cpu: impl Iterator<Item = u64>) {
        let sum = self.counts.entry(key).or_default();
        by_cpu.for_each(|count| *sum = sum.wrapping_add(count));
    }

    /// What came since `before`. The longest time of an octave stays that of all.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut since = self.clone();
        for (key, earlier) in &before.times {
            if let Some(times) = since.times.get_mut(key) {
                times.counts.iter_mut().zip(earlier.counts).for_each(|(count, less)| *count = count.wrapping_sub(less));
            }
        }
        for (key, earlier) in &before.counts {
            since.counts.entry(*key).and_modify(|count| *count = count.wrapping_sub(*earlier));
        }
        since
    }

    /// How many events there are, and how many under keys that do not exist.
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

    /// The report on these counts, by `by`; `path` finds the path of a cgroup.
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
                tallies.entry(key.key).or_default().add(key, count, times);
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

    /// What is not 0.
    fn entries(&self) -> impl Iterator<Item = (&aggregate::Key, u64, Option<&Times>)> {
        let times = self.times.iter().map(|(key, times)| (key, times.total(), Some(times)));
        let counts = self.counts.iter().map(|(key, count)| (key, *count, None));
        times.chain(counts).filter(|(_, count, _)| *count > 0)
    }
}

/// Counts of one key, or of all.
#[derive(Default)]
struct Tally {
    activity: Activity,
    transitions: HashMap<(State, State), (u64, Latencies)>,
    endings: HashMap<Ending, u64>,
}

impl Tally {
    /// Takes in what was counted under a key; `None` where there is no such key.
    fn add(&mut self, key: &aggregate::Key, count: u64, times: Option<&Times>) -> Option<()> {
        let add = |to: &mut u64| *to = to.wrapping_add(count);
        match key.kind {
            KIND_TRANSITION if usize::from(key.octave) < OCTAVES => {
                let (old, new) = (State::from_raw(key.old)?, State::from_raw(key.new)?);
                let (all, known) = self.transitions.entry((old, new)).or_default();
                add(all);
                add(&mut self.activity.transitions);
                if let Some(times) = times {
                    known.add_octave(key.octave, times);
                }
                if new == State::TimeWait {
                    add(self.endings.entry(Ending::Normal).or_default());
                }
            }
            KIND_RETRANSMIT | KIND_SYNACK_RETRANSMIT => add(&mut self.activity.retransmits),
            KIND_RESET_SENT => add(&mut self.activity.resets_sent),
            KIND_RESET_RECEIVED => add(&mut self.activity.resets_received),
            KIND_ENDING => {
                let is = |flag: u16| key.flags & flag != 0;
                let (port, unread) = (is(ending_flag::HAS_PORT).into(), is(ending_flag::UNREAD).into());
                let ending = Ending::of_close(State::from_raw(key.old)?, key.err.into(), key.flags, port, unread);
                add(self.endings.entry(ending).or_default());
            }
            _ => return None,
        }
        Some(())
    }

    fn rows(self) -> (Activity, Vec<TransitionRow>, Vec<(Ending, u64)>) {
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
