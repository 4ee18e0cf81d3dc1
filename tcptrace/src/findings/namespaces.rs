//! The kernel's TCP counters and settings of each network namespace.

use rustc_hash::FxHashMap;

use crate::model::{
    namespace::{NetCounters, NetSettings},
    snapshot::Snapshot,
};

/// The network namespaces, by inode number.
#[derive(Debug, Default)]
pub struct Namespaces(FxHashMap<u32, NamespaceState>);

/// Settings and counters of one network namespace.
#[derive(Clone, Debug, Default)]
pub struct NamespaceState {
    /// The settings, as last read.
    pub settings: Option<NetSettings>,
    /// When it was last listed, CLOCK_MONOTONIC in ns.
    visited_ns: u64,
    /// The counters, as last read.
    now: Option<NetCounters>,
    /// Two earlier readings with their CLOCK_MONOTONIC in ns: the first is [`MARK_NS`] to twice that old.
    marks: Option<[(u64, NetCounters); 2]>,
}

/// A namespace that was not listed for this long is dropped, in ns.
const FORGET_NS: u64 = 600_000_000_000;
/// Time between the two readings that the current one is compared with, in ns.
const MARK_NS: u64 = 10_000_000_000;

impl Namespaces {
    /// Takes the namespaces of a listing, and drops those that were not listed for a long time.
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
                // A namespace created after the first listing started with counters of 0.
                let first = if is_new { (read.0, NetCounters::default()) } else { read };
                let [older, newer] = state.marks.unwrap_or([first, first]);
                let is_old = read.0.saturating_sub(newer.0) >= MARK_NS;
                state.marks = Some(if is_old { [newer, read] } else { [older, newer] });
                state.now = Some(counters);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The namespace with this inode number.
    #[must_use]
    pub fn of(&self, inode: Option<u32>) -> Option<&NamespaceState> {
        self.0.get(&inode?)
    }
}

impl NamespaceState {
    /// How much a counter grew within the last 10 to 20 s, or since its first reading; `None` if it was never read.
    #[must_use]
    pub fn grew(&self, counter: impl Fn(&NetCounters) -> u64) -> Option<u64> {
        let [(_, before), _] = self.marks.as_ref()?;
        Some(counter(self.now.as_ref()?).saturating_sub(counter(before)))
    }
}
