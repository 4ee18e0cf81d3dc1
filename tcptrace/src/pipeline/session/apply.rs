//! The only way into a session for a run: one function for all inputs, live or recorded.

use super::Session;
use crate::{
    analysis::summary::Summary,
    pipeline::input::{Input, ListingKind},
    table::Table,
};

/// Approximate size of the pieces in which output is passed on.
pub const PIECE_BYTES: usize = 256 * 1024;

impl Session {
    /// Writes and counts nothing from now on, until [`Session::unmute`].
    pub const fn mute(&mut self) {
        self.is_muted = true;
    }

    /// Writes and counts again, from this time on (CLOCK_MONOTONIC in ns).
    pub fn unmute(&mut self, now_ns: u64) {
        self.decide_all();
        self.is_muted = false;
        self.interval = Summary::new(self.settings.by_process);
        self.total = Summary::new(self.settings.by_process);
        (self.start_ns, self.interval_start_ns) = (now_ns, now_ns);
    }

    /// The sockets that are alive, and their holders as of the last listing.
    #[must_use]
    pub const fn table(&self) -> &Table {
        &self.table
    }

    /// Takes an input. Returns true if more is wanted: a listing of sockets after a loss or for evidence, or names.
    #[inline]
    pub fn apply(&mut self, input: &Input<'_>) -> bool {
        if let Input::Record(record) = input {
            self.ingest(record);
            return false;
        }
        self.apply_rare(input)
    }

    fn apply_rare(&mut self, input: &Input<'_>) -> bool {
        match input {
            Input::Record(record) => self.ingest(record),
            Input::Clock(now_ns, wall) => (self.context.now_ns, self.context.wall) = (*now_ns, *wall),
            Input::NetnsNames(names) => self.context.names.netns = names.iter().cloned().collect(),
            Input::Read(now_ns) => self.tick(*now_ns),
            Input::Counters(counters) => {
                self.losses.outputs = counters.outputs;
                return self.check_losses(&counters.by_cpu(), counters.passed_over, counters.now_ns);
            }
            Input::ListingBegun => self.begin_listing(),
            Input::ListingFailed(is_first) => {
                self.abandon_listing();
                self.losses.unlisted += u64::from(*is_first);
            }
            Input::Listed(ListingKind::All, snapshot) => self.reconcile(snapshot),
            Input::Listed(ListingKind::Poll, snapshot) => self.poll(snapshot),
            Input::Listed(ListingKind::Suspects, snapshot) => self.update_suspects(snapshot),
            Input::Listed(ListingKind::Listeners, snapshot) => self.update_listeners(snapshot),
            Input::Evaluated(now_ns) => return self.evaluate(*now_ns),
            Input::IntervalEnded(now_ns) => self.end_interval(*now_ns),
            Input::Finished(now_ns) => self.finish(*now_ns),
            Input::Process(question, answer) => {
                self.context.names.learn(*question, answer.as_ref().clone());
            }
            Input::Users(users) => self.context.names.users = users.iter().cloned().collect(),
            Input::Services(services) => self.context.names.services = services.iter().cloned().collect(),
            Input::Host(address, name) => self.context.names.hosts.learn(*address, name.clone()),
            Input::Released => return self.release(),
            Input::NamesAsked(now_ns) => return self.ask_for_names(*now_ns),
            Input::Ended(_) => {} // the caller ends it, with the state of the outputs
        }
        false
    }
}
