//! The maps that hold the counts of aggregate mode.

use aya::{
    Ebpf,
    maps::{MapData, MapError, PerCpuHashMap},
};
use tcptrace_common::aggregate::{CountKey, OctaveTimes};

use crate::{
    bpf::{
        error::Error,
        maps::{Plain, take_map},
    },
    model::kernel_counts::Counts,
};

/// The maps. They remain readable after the programs are detached.
pub struct CountTables {
    times: PerCpuHashMap<MapData, Plain<CountKey>, Plain<OctaveTimes>>,
    counts: PerCpuHashMap<MapData, Plain<CountKey>, u64>,
}

impl CountTables {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, Error> {
        Ok(Self { times: take_map(ebpf, "TIMES")?, counts: take_map(ebpf, "COUNTS")? })
    }

    /// Reads all counts so far. Entries are never removed, so that a count made during the reading is in this reading
    /// or in the next one.
    ///
    /// # Errors
    /// If a map cannot be read.
    pub fn read(&self) -> Result<Counts, MapError> {
        let mut all = Counts::default();
        for entry in self.times.iter() {
            let (key, by_cpu) = entry?;
            all.add_times(key.0, by_cpu.iter().map(|times| times.0));
        }
        for entry in self.counts.iter() {
            let (key, by_cpu) = entry?;
            all.add_count(key.0, by_cpu.iter().copied());
        }
        Ok(all)
    }
}
