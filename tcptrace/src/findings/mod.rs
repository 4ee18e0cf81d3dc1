//! Troubles by name: stuck sockets and failures, each with its evidence, its owner and a way out.
//!
//! [`rules::look`] is a pure function from a [`View`] (the table, what happened lately, the namespaces, the time) to
//! [`Sighting`]s, the troubles that there are now. The [`Ledger`] keeps them over time: a finding opens, is updated and
//! closes. [`Recent`] keeps what the table cannot: connections that failed, and how sockets move on.

mod kind;
mod ledger;
mod namespaces;
mod recent;
pub mod rules;
mod sighting;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod thresholds;
mod view;

pub use kind::{Kind, Severity};
pub use ledger::{Finding, Ledger, Phase};
pub use namespaces::{NamespaceState, Namespaces};
pub use recent::{Incident, Incidents, Recent};
pub use sighting::{Example, Sighting, Subject, Value};
pub use thresholds::{Expected, ThresholdError, Thresholds};
pub use view::{Group, View};

use crate::{
    event::Event,
    snapshot::Snapshot,
    table::{Connection, Table},
};

/// All that is needed to find trouble: takes events and listings, gives findings.
#[derive(Debug, Default)]
pub struct Findings {
    thresholds: Thresholds,
    recent: Recent,
    namespaces: Namespaces,
    ledger: Ledger,
    is_partial: bool,
    wants_listing: bool,
}

impl Findings {
    /// Finds trouble by these thresholds. With `is_partial` a filter keeps sockets out of the table: that one is not there
    /// says nothing.
    #[must_use]
    pub fn new(thresholds: Thresholds, is_partial: bool, start_ns: u64) -> Self {
        Self {
            ledger: Ledger::new(&thresholds),
            recent: Recent::new(start_ns),
            thresholds,
            is_partial,
            ..Self::default()
        }
    }

    /// Takes in an event, and what was known of the socket that ended with it.
    pub fn ingest(&mut self, event: &Event, left: Option<&Connection>) {
        self.recent.ingest(event, left, &self.thresholds);
    }

    /// Takes in what a listing tells of the namespaces.
    pub fn listed(&mut self, snapshot: &Snapshot) {
        self.namespaces.listed(snapshot);
    }

    /// Looks for trouble; gives what is to be told of it.
    pub fn look(&mut self, table: &mut Table, now_ns: u64) -> Vec<Finding> {
        let mut wants_listing = false;
        let shown_ns = table.shown_until_ns();
        table.suspect(now_ns, |known| {
            let Some(suspicion) = rules::suspicion(known, &self.thresholds) else { return u64::MAX };
            wants_listing |= suspicion.since_ns <= now_ns && suspicion.wants_facts(known, shown_ns, now_ns);
            suspicion.since_ns
        });
        let mut view = View::new(table, &self.recent, &self.namespaces, &self.thresholds, now_ns);
        view.is_partial = self.is_partial;
        let mut sightings = rules::look(&view);
        sightings.retain(|sighting| !self.thresholds.ignored.contains(&sighting.kind));
        let told = self.ledger.update(sightings, now_ns);
        self.recent.forget(now_ns, self.thresholds.quiet_after_ns);
        self.wants_listing = wants_listing || self.ledger.is_waiting();
        told
    }

    /// How much is kept of each kind, by name.
    #[must_use]
    pub fn sizes(&self) -> Vec<(&'static str, usize)> {
        let (failures, flows) = self.recent.len();
        vec![("failures", failures), ("flows", flows), ("finding_namespaces", self.namespaces.len())]
    }

    /// Should all sockets be listed, with their holders, since some are suspected of trouble and little is known of them?
    #[must_use]
    pub const fn wants_listing(&self) -> bool {
        self.wants_listing
    }

    /// Does a trouble wait for its evidence?
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.ledger.is_waiting()
    }

    /// The findings that are open, worst first.
    #[must_use]
    pub fn open(&self, now_ns: u64) -> Vec<Finding> {
        self.ledger.open(now_ns)
    }
}
