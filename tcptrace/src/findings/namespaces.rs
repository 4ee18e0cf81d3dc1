//! What the kernel counts and has set in each network namespace.

use rustc_hash::FxHashMap;

use crate::model::{
    namespace::{NetCounters, NetSettings},
    snapshot::Snapshot,
};

/// The namespaces, by inode number.
#[derive(Debug, Default)]
pub struct Namespaces(FxHashMap<u32, NamespaceState>);

/// One namespace.
#[derive(Clone, Debug, Default)]
pub struct NamespaceState {
    /// Its settings, when they were read last.
    pub settings: Option<NetSettings>,
    /// CLOCK_MONOTONIC at which it was visited last, in ns.
    visited_ns: u64,
    /// Its counters, when they were read last.
    now: Option<NetCounters>,
    /// The same [`MARK_NS`] to twice that before, and at some time since, each with its CLOCK_MONOTONIC in ns.
    marks: Option<[(u64, NetCounters); 2]>,
}

/// Namespaces are kept so long after they were visited last, in ns.
const FORGET_NS: u64 = 600_000_000_000;
/// Time between two readings that later ones are compared with, in ns.
const MARK_NS: u64 = 10_000_000_000;

impl Namespaces {
    /// Takes in what a listing tells of them; those that were not visited for long are forgotten.
    pub fn listed(&mut self, snapshot: &Snapshot) {
        let is_later = !self.0.is_empty();
        self.0.retain(|_, state| snapshot.ended_ns.saturating_sub(state.visited_ns) < FORGET_NS);
        for namespace in &snapshot.namespaces {
            let is_new = is_later && !self.0.contains_key(&namespace.inode);
            let state = self.0.entry(namespace.inode).or_default();
            state.visited_ns = snapshot.ended_ns;
            state.settings = namespace.settings.or(state.settings);
            if let Some(counters) = namespace.counters {
                let read = (snapshot.ended_ns, counters);
                // One that came since the first listing had counted nothing before.
                let first = if is_new { (read.0, NetCounters::default()) } else { read };
                let [older, newer] = state.marks.unwrap_or([first, first]);
                let is_old = read.0.saturating_sub(newer.0) >= MARK_NS;
                state.marks = Some(if is_old { [newer, read] } else { [older, newer] });
                state.now = Some(counters);
            }
        }
    }

    /// How many are known.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// One of them.
    #[must_use]
    pub fn of(&self, inode: Option<u32>) -> Option<&NamespaceState> {
        self.0.get(&inode?)
    }
}

impl NamespaceState {
    /// By how much a counter grew in the last 10 to 20 s, or since it was read first; `None` where it was not read.
    #[must_use]
    pub fn grew(&self, counter: impl Fn(&NetCounters) -> u64) -> Option<u64> {
        let [(_, before), _] = self.marks.as_ref()?;
        Some(counter(self.now.as_ref()?).saturating_sub(counter(before)))
    }
}
