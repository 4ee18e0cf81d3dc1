//! The outputs of a run.

use std::{
    iter,
    time::{Duration, Instant},
};

use super::output::HANGS;
use crate::{model::output_state::OutputState, outputs::output::Output, pipeline::records::Records};

/// How long shutdown waits for undelivered records.
const PATIENCE: Duration = Duration::from_secs(5);

/// The outputs of a run, in the order in which they were configured.
#[derive(Debug, Default)]
pub struct Outputs {
    all: Vec<Output>,
    /// Indices of the outputs that take metrics.
    of_metrics: Vec<usize>,
}

impl Outputs {
    /// Takes each output, and whether it takes metrics.
    #[must_use]
    pub fn new(outputs: Vec<(Output, bool)>) -> Self {
        let of_metrics = (0..).zip(&outputs).filter(|(_, (_, takes))| *takes).map(|(place, _)| place).collect();
        Self { all: outputs.into_iter().map(|(output, _)| output).collect(), of_metrics }
    }

    /// Passes metrics to the outputs that take them.
    pub fn push_metrics(&self, metrics: &Records) {
        let takers = self.of_metrics.iter().filter_map(|place| self.all.get(*place));
        takers.for_each(|output| output.push(metrics.clone()));
    }

    /// Passes each output its records. Never blocks.
    pub fn push(&self, records: impl Iterator<Item = Records>) {
        iter::zip(&self.all, records).for_each(|(output, records)| output.push(records));
    }

    /// True if there are outputs, and none will deliver anything any more.
    #[must_use]
    pub fn are_over(&self) -> bool {
        !self.all.is_empty() && self.all.iter().all(Output::is_over)
    }

    /// True if there are outputs, and all that have not ended hang.
    #[must_use]
    pub fn all_hang(&self) -> bool {
        let hang = self.all.iter().any(Output::hangs);
        hang && self.all.iter().all(|output| output.hangs() || output.is_over())
    }

    /// Reopens files that may have been moved away.
    pub fn reopen(&self) {
        self.all.iter().for_each(Output::reopen);
    }

    /// State of each output.
    #[must_use]
    pub fn states(&self) -> Vec<OutputState> {
        self.all.iter().map(Output::state).collect()
    }

    /// Number of records that the outputs lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.all.iter().map(|output| output.state().lost()).sum()
    }

    /// Waits until the outputs have delivered everything, however long that takes; not for those that are over.
    pub fn wait(&self) {
        const TURN: Duration = Duration::from_secs(1);
        while !self.all.iter().all(|output| output.is_over() || output.drained(Instant::now() + TURN)) {}
    }

    /// Waits a few seconds at most until everything is delivered. Outputs that have not finished by then are ended, so
    /// that the records they give up are counted, even if they hang.
    pub fn drain(&self) {
        let until = Instant::now() + PATIENCE;
        let late: Vec<_> = self.all.iter().filter(|output| !output.drained(until)).collect();
        let now = Instant::now();
        late.iter().for_each(|output| output.end_at(now));
        late.iter().for_each(|output| output.end(now));
    }

    /// Ends all outputs when their records are delivered, or after a few seconds.
    ///
    /// # Errors
    /// Names the outputs that could not deliver everything, and why.
    pub fn end(self) -> Result<(), String> {
        let until = Instant::now() + PATIENCE;
        self.all.iter().for_each(|output| output.end_at(until));
        let failed = self.all.iter().filter_map(|output| {
            let has_ended = output.has_ended(until);
            let state = output.state();
            match &state.trouble {
                _ if output.has_no_reader() => None, // `| head` has read enough
                Some(trouble) => Some(format!("cannot write to {}: {trouble}{}", state.name, lost_words(&state))),
                // An output that is only cleaning up is fine.
                None if !has_ended && !output.drained(until) => {
                    Some(format!("cannot write to {}: {HANGS}{}", state.name, lost_words(&state)))
                }
                None => None,
            }
        });
        let failed: Vec<_> = failed.collect();
        if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
    }
}

fn lost_words(state: &OutputState) -> String {
    if state.lost() == 0 { String::new() } else { format!("; {} of {} records are lost", state.lost(), state.made()) }
}
