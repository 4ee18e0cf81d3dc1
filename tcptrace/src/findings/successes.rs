//! Processes that opened a connection recently. An attempt that they give up then has only lost a race (RFC 8305, happy
//! eyeballs).

use rustc_hash::FxHashMap;

use crate::model::{
    event::{Event, Transition},
    state::State,
};

/// Most processes to remember.
const MAX_PROCESSES: usize = 4096;

/// When each process last opened a connection, CLOCK_MONOTONIC in ns, by PID.
#[derive(Debug, Default)]
pub(super) struct Successes(FxHashMap<u32, u64>);

impl Successes {
    /// An attempt given up within this time after a success has lost the race, in ns.
    pub(super) const NEAR_NS: u64 = 1_000_000_000;

    pub(super) fn ingest(&mut self, event: &Event, transition: &Transition) {
        let Some(owner) =
            event.owner.filter(|_| transition.old == State::SynSent && transition.new == State::Established)
        else {
            return;
        };
        if self.0.len() >= MAX_PROCESSES && !self.0.contains_key(&owner.pid) {
            self.0.retain(|_, ns| event.time_ns.saturating_sub(*ns) < Self::NEAR_NS);
            if self.0.len() >= MAX_PROCESSES {
                return;
            }
        }
        self.0.insert(owner.pid, event.time_ns);
    }

    pub(super) fn of(&self, event: &Event) -> Option<u64> {
        self.0.get(&event.owner?.pid).copied()
    }
}
