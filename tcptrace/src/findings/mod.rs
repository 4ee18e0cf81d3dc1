//! Troubles by name: stuck sockets and failures, each with its evidence, its owner and a way out.
//!
//! [`rules::look`] is a pure function from a [`View`] (the table, what happened lately, the namespaces, the time) to
//! [`Sighting`]s, the troubles that there are now. The [`Ledger`] keeps them over time: a finding opens, is updated and
//! closes. [`Recent`] keeps what the table cannot: connections that failed, and how sockets move on.

mod cause;
pub(crate) mod context;
pub(crate) mod detection;
pub(crate) mod history;
mod incident;
mod judge;
mod kills;
mod kind;
mod lossy;
mod namespaces;
mod paths;
mod process_states;
pub mod rules;
mod seen;
mod services;
mod successes;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod thresholds;
pub(crate) mod tracker;

pub use crate::findings::context::{Group, ShownFilter, View};
pub use crate::findings::detection::{Example, Processes, Sighting, Subject, Value};
pub use crate::findings::history::{Incidents, Recent};
pub use crate::findings::tracker::{Finding, Key, Ledger, Phase};
pub use cause::Cause;
pub use incident::{Incident, Peer, PeerEnd};
pub use judge::causes_of;
pub use kind::{Kind, Severity};
pub use namespaces::{NamespaceState, Namespaces};
pub use paths::{Ended, Lately, ResetSent};
pub use process_states::ProcessStates;
pub use seen::{Seen, Waiting};
pub use services::Services;
pub use thresholds::{Expected, ThresholdError, Thresholds};

use std::net::IpAddr;

use crate::{
    model::{event::Event, snapshot::Snapshot},
    table::{Connection, Table},
};

/// All that is needed to find trouble: takes events and listings, gives findings.
#[derive(Debug, Default)]
pub struct Findings {
    thresholds: Thresholds,
    recent: Recent,
    namespaces: Namespaces,
    process_states: ProcessStates,
    ledger: Ledger,
    start_ns: u64,
    wants_listing: bool,
}

impl Findings {
    /// Finds trouble by these thresholds.
    #[must_use]
    pub fn new(thresholds: Thresholds, start_ns: u64) -> Self {
        Self {
            ledger: Ledger::new(&thresholds),
            recent: Recent::new(start_ns),
            thresholds,
            start_ns,
            ..Self::default()
        }
    }

    /// Takes in an event, what was known of the socket that ended with it, and whether the filter shows it.
    pub fn ingest(&mut self, event: &Event, left: Option<&Connection>, is_shown: bool) {
        let incident = rules::incident(event, left, &self.thresholds);
        self.recent.ingest(event, left, incident, &self.thresholds, is_shown);
    }

    /// Takes in what a listing tells of the namespaces.
    pub fn listed(&mut self, snapshot: &Snapshot) {
        self.namespaces.listed(snapshot);
        self.process_states.listed(snapshot);
        self.recent.listed(snapshot);
    }

    /// Looks for trouble; gives what is to be told of it. All sockets are looked at, and a finding is told of where `filter`
    /// shows any of them (`None`: it shows all).
    pub fn look(&mut self, table: &mut Table, now_ns: u64, filter: Option<ShownFilter<'_>>) -> Vec<Finding> {
        let mut wants_listing = false;
        let shown_ns = table.suspects_listed_ns();
        table.suspect(now_ns, |known| {
            let Some(suspicion) = rules::suspicion(known, &self.thresholds) else { return u64::MAX };
            wants_listing |= suspicion.since_ns <= now_ns && suspicion.wants_facts(known, shown_ns, now_ns);
            suspicion.since_ns
        });
        self.judge(table, now_ns);
        let mut view = View::new(table, &self.recent, &self.namespaces, &self.thresholds, now_ns);
        view.filter = filter;
        view.process_states = Some(&self.process_states);
        let mut sightings = rules::look(&view);
        sightings.retain(|sighting| !self.thresholds.ignored.contains(&sighting.kind));
        let told = self.ledger.update(sightings, now_ns);
        self.recent.forget(now_ns, self.thresholds.quiet_after_ns);
        self.wants_listing = wants_listing || self.ledger.is_waiting();
        told
    }

    /// Finds the causes of what failed.
    fn judge(&mut self, table: &Table, now_ns: u64) {
        let due = self.recent.due(now_ns, |end| table.has_address(end.ip()));
        if due.is_empty() {
            return;
        }
        let mut view = View::new(table, &self.recent, &self.namespaces, &self.thresholds, now_ns);
        view.ask(&due);
        let judged: Vec<_> = due.into_iter().filter_map(|incident| judge::judge(&view, incident)).collect();
        judged.into_iter().for_each(|incident| self.recent.add(incident));
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

    /// Destinations that the next hop is to be looked up for, each in a namespace.
    #[must_use]
    pub fn unreachable(&self) -> Vec<(u32, IpAddr)> {
        self.recent.unreachable()
    }

    /// Does a trouble wait for its evidence?
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.ledger.is_waiting() || self.recent.is_waiting()
    }

    /// What was looked at until `now_ns`.
    #[must_use]
    pub fn seen(&self, table: &Table, now_ns: u64) -> Seen {
        Seen::new(table, &self.thresholds, self.start_ns, now_ns)
    }

    /// What has changed in the findings that are open since they were told of: for the end of a run.
    pub fn take_rest(&mut self, now_ns: u64) -> Vec<Finding> {
        self.ledger.take_rest(now_ns)
    }

    /// The findings that are open, worst first.
    #[must_use]
    pub fn open(&self, now_ns: u64) -> Vec<Finding> {
        self.ledger.open(now_ns)
    }
}
