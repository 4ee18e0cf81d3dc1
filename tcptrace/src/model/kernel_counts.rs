//! What the BPF programs counted in aggregate mode. See [`tcptrace_common::aggregate`].

use tcptrace_common::aggregate::{self, OctaveTimes};

use crate::model::keyed::KeyedMap;

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
}

/// All that was counted until a moment, or between two.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    times: KeyedMap<aggregate::CountKey, OctaveTimes>,
    counts: KeyedMap<aggregate::CountKey, u64>,
}

impl Counts {
    /// Takes in the times that each CPU counted under a key.
    pub fn add_times(&mut self, key: aggregate::CountKey, by_cpu: impl Iterator<Item = OctaveTimes>) {
        let sum = self.times.entry(key).or_insert(OctaveTimes::NONE);
        for times in by_cpu {
            sum.max_ns = sum.max_ns.max(times.max_ns);
            sum.counts.iter_mut().zip(times.counts).for_each(|(sum, count)| *sum = sum.wrapping_add(count));
        }
    }

    /// Takes in how often something without a time happened on each CPU.
    pub fn add_count(&mut self, key: aggregate::CountKey, by_cpu: impl Iterator<Item = u64>) {
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

    /// What is not 0.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&aggregate::CountKey, u64, Option<&OctaveTimes>)> {
        let times = self.times.iter().map(|(key, times)| (key, times.total(), Some(times)));
        let counts = self.counts.iter().map(|(key, count)| (key, *count, None));
        times.chain(counts).filter(|(_, count, _)| *count > 0)
    }
}
