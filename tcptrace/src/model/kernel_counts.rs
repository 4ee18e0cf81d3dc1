//! Counts made by the BPF programs in aggregate mode. See [`tcptrace_common::aggregate`].

use tcptrace_common::aggregate::{self, OctaveTimes};

use crate::model::keyed::KeyedMap;

/// Key by which the programs group their counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Only by transition, not separately by port or cgroup.
    Transition,
    /// By transition and service port.
    Port,
    /// By transition and cgroup of the owner.
    Cgroup,
}

impl By {
    /// The programs' number for it: one of [`aggregate::by`].
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Transition => aggregate::by::TRANSITION,
            Self::Port => aggregate::by::PORT,
            Self::Cgroup => aggregate::by::CGROUP,
        }
    }
}

/// Everything counted so far, or between two readings.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    times: KeyedMap<aggregate::CountKey, OctaveTimes>,
    counts: KeyedMap<aggregate::CountKey, u64>,
}

impl Counts {
    /// Adds the times that each CPU recorded under a key.
    pub fn add_times(&mut self, key: aggregate::CountKey, by_cpu: impl Iterator<Item = OctaveTimes>) {
        let sum = self.times.entry(key).or_insert(OctaveTimes::NONE);
        for times in by_cpu {
            sum.max_ns = sum.max_ns.max(times.max_ns);
            sum.counts.iter_mut().zip(times.counts).for_each(|(sum, count)| *sum = sum.wrapping_add(count));
        }
    }

    /// Adds the per-CPU counts of something that has no duration.
    pub fn add_count(&mut self, key: aggregate::CountKey, by_cpu: impl Iterator<Item = u64>) {
        let sum = self.counts.entry(key).or_default();
        by_cpu.for_each(|count| *sum = sum.wrapping_add(count));
    }

    /// The difference to an earlier reading. The longest time per octave remains the maximum since the start.
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

    /// All counts that are not 0.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&aggregate::CountKey, u64, Option<&OctaveTimes>)> {
        let times = self.times.iter().map(|(key, times)| (key, times.total(), Some(times)));
        let counts = self.counts.iter().map(|(key, count)| (key, *count, None));
        times.chain(counts).filter(|(_, count, _)| *count > 0)
    }
}
