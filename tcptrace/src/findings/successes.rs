//! Which processes opened a connection lately: an attempt that is given up then has lost a race (RFC 8305).

use rustc_hash::FxHashMap;

use crate::model::{
    event::{Event, Transition},
    state::State,
};

/// Processes that are remembered at most.
const MAX_PROCESSES: usize = 4096;

/// CLOCK_MONOTONIC at which a process opened a connection last, in ns, by its PID.
#[derive(Debug, Default)]
pub(super) struct Successes(FxHashMap<u32, u64>);

impl Successes {
    /// What is given up within this time after a success has lost the race, in ns.
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
