//! What was looked at: that nothing is wrong says little without it.

use crate::{
    findings::thresholds::Thresholds,
    model::{age::Age, state::State},
    table::{Connection, Table},
};

/// What was looked at, and for how long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// CLOCK_MONOTONIC, in ns.
    pub now_ns: u64,
    /// For how long, in ns.
    pub span_ns: u64,
    /// All sockets in the table.
    pub sockets: usize,
    /// Those of them that the filter shows.
    pub shown: usize,
    /// Shown sockets in states that have a threshold by time, in the order of a connection's life.
    pub waiting: Vec<Waiting>,
    /// Namespaces and answers of the kernel that a listing could not look at, at most.
    pub unlisted: u64,
}

/// Sockets in a state that is to be left soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The state.
    pub state: State,
    /// From what time in it on a socket is stuck, in ns.
    pub stuck_after_ns: u64,
    /// Sockets that are below that.
    pub below: u64,
    /// How long the oldest of these has been in the state.
    pub oldest: Option<Age>,
    /// Sockets that are beyond it.
    pub beyond: u64,
}

impl Seen {
    /// What is in the table at `now_ns`.
    #[must_use]
    pub fn new(table: &Table, thresholds: &Thresholds, start_ns: u64, now_ns: u64) -> Self {
        let span_ns = now_ns.saturating_sub(start_ns);
        let mut seen = Self { now_ns, span_ns, sockets: table.len(), ..Self::default() };
        // ESTABLISHED is none of them: its threshold is for silence.
        let states = State::ALL.into_iter().filter(|state| *state != State::Established);
        let row = |state| {
            let stuck_after_ns = thresholds.stuck_after(state)?;
            Some(Waiting { state, stuck_after_ns, below: 0, oldest: None, beyond: 0 })
        };
        seen.waiting = states.filter_map(row).collect();
        for known in table.connections() {
            seen.shown += 1;
            if let Some(row) = seen.waiting.iter_mut().find(|row| row.state == known.state) {
                row.add(known, now_ns);
            }
        }
        seen.waiting.retain(|row| row.below + row.beyond > 0);
        seen
    }
}

impl Waiting {
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
