//! What the rules have checked. "Nothing is wrong" means little without it: `tcptrace stuck` prints how many sockets it saw,
//! for how long, and how close they are to their thresholds.

use crate::{
    findings::thresholds::Thresholds,
    model::{age::Age, state::State},
    table::{Connection, Table},
};

/// What the rules have checked, and for how long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// CLOCK_MONOTONIC, in ns.
    pub now_ns: u64,
    /// Time since the start, in ns.
    pub span_ns: u64,
    /// Number of sockets in the table.
    pub sockets: usize,
    /// How many of them the filter shows.
    pub shown: usize,
    /// The shown sockets by state, for states with a time threshold, in the order of a connection's life.
    pub states: Vec<StateSummary>,
    /// Upper bound of namespaces and kernel replies that a listing could not read.
    pub unlisted: u64,
}

/// The sockets in a state with a time threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateSummary {
    /// The state that is counted.
    pub state: State,
    /// Its threshold in ns.
    pub stuck_after_ns: u64,
    /// Number of sockets below the threshold.
    pub below: u64,
    /// The longest time in the state of these.
    pub oldest: Option<Age>,
    /// Number of sockets beyond the threshold.
    pub beyond: u64,
}

impl Coverage {
    /// Counts the sockets in the table at `now_ns`.
    #[must_use]
    pub fn new(table: &Table, thresholds: &Thresholds, start_ns: u64, now_ns: u64) -> Self {
        let span_ns = now_ns.saturating_sub(start_ns);
        let mut coverage = Self { now_ns, span_ns, sockets: table.len(), ..Self::default() };
        // ESTABLISHED has a threshold for silence, not for the time in the state.
        let states = State::ALL.into_iter().filter(|state| *state != State::Established);
        let row = |state| {
            let stuck_after_ns = thresholds.stuck_after(state)?;
            Some(StateSummary { state, stuck_after_ns, below: 0, oldest: None, beyond: 0 })
        };
        coverage.states = states.filter_map(row).collect();
        for known in table.connections() {
            coverage.shown += 1;
            if let Some(row) = coverage.states.iter_mut().find(|row| row.state == known.state) {
                row.add(known, now_ns);
            }
        }
        coverage.states.retain(|row| row.below + row.beyond > 0);
        coverage
    }
}

impl StateSummary {
    fn add(&mut self, known: &Connection, now_ns: u64) {
        let age = Age { ns: now_ns.saturating_sub(known.since_ns), source: known.since };
        if age.ns >= self.stuck_after_ns {
            self.beyond += 1;
            return;
        }
        self.below += 1;
        if self.oldest.is_none_or(|oldest| oldest.ns < age.ns) {
            self.oldest = Some(age);
        }
    }
}
