//! Finds problems and names them: stuck sockets and failures, each with its cause, evidence, owner and remedy.
//!
//! A *rule* looks at the state of the host and detects one kind of problem. All rules together are the pure function
//! [`rules::evaluate`] from a [`RuleContext`] (the socket table, the [`History`] of recent failures, the namespaces, the
//! time) to [`Detection`]s, the problems that exist now. The [`Tracker`] follows detections over time and turns them into
//! [`Finding`]s, which open, are updated and close.
//!
//! Example: a server that forgets `close()` has 40 sockets in CLOSE_WAIT for over a minute. The rule for
//! `close-wait-leak` detects them at each evaluation; the tracker opens one finding, updates it while the count rises, and
//! closes it when the server is restarted.
//!
//! The owner of this state is [`Findings`]: it takes events and listings in, and gives findings out.

mod cause;
pub(crate) mod context;
mod coverage;
pub(crate) mod detection;
mod diagnosis;
pub(crate) mod history;
mod incident;
mod kills;
mod kind;
mod lossy;
mod namespaces;
mod paths;
mod process_states;
pub mod rules;
mod services;
mod subject;
mod successes;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod thresholds;
pub(crate) mod tracker;

pub use crate::findings::context::{RuleContext, ShownFilter, SocketGroup};
pub use crate::findings::detection::{Detection, Example, Processes, Subject, Value};
pub use crate::findings::history::{History, Incidents};
pub use crate::findings::tracker::{Finding, Key, Phase, Tracker};
pub use cause::Cause;
pub use coverage::{Coverage, StateSummary};
pub use diagnosis::causes_of;
pub use incident::{Incident, Peer, PeerEnd};
pub use kind::{Kind, Severity};
pub use namespaces::{NamespaceState, Namespaces};
pub use paths::{EndEvents, EndedSocket, ResetSent};
pub use process_states::ProcessStates;
pub use services::Services;
pub use thresholds::{Expected, ThresholdError, Thresholds};

use std::net::IpAddr;

use crate::{
    model::{event::Event, snapshot::Snapshot},
    table::{Connection, Table},
};

/// The state behind findings: takes events and listings, gives findings.
#[derive(Debug, Default)]
pub struct Findings {
    thresholds: Thresholds,
    history: History,
    namespaces: Namespaces,
    process_states: ProcessStates,
    tracker: Tracker,
    start_ns: u64,
    wants_listing: bool,
}

impl Findings {
    /// Starts without findings at `start_ns`, in CLOCK_MONOTONIC.
    #[must_use]
    pub fn new(thresholds: Thresholds, start_ns: u64) -> Self {
        Self {
            tracker: Tracker::new(&thresholds),
            history: History::new(start_ns),
            thresholds,
            start_ns,
            ..Self::default()
        }
    }

    /// Takes an event, the table's entry of the socket that ended with it, and whether the user's filter shows the socket.
    pub fn ingest(&mut self, event: &Event, left: Option<&Connection>, is_shown: bool) {
        let incident = rules::incident(event, left, &self.thresholds);
        self.history.ingest(event, left, incident, &self.thresholds, is_shown);
    }

    /// Takes a listing: its namespaces, processes and listeners.
    pub fn listed(&mut self, snapshot: &Snapshot) {
        self.namespaces.listed(snapshot);
        self.process_states.listed(snapshot);
        self.history.listed(snapshot);
    }

    /// Runs all rules and returns the findings to report: those that opened, changed or closed. Rules see all sockets; a
    /// finding is reported if `filter` shows at least one of its sockets (`None` shows all).
    pub fn evaluate(&mut self, table: &mut Table, now_ns: u64, filter: Option<ShownFilter<'_>>) -> Vec<Finding> {
        let mut wants_listing = false;
        let shown_ns = table.suspects_listed_ns();
        table.suspect(now_ns, |known| {
            let Some(suspicion) = rules::suspicion(known, &self.thresholds) else { return u64::MAX };
            wants_listing |= suspicion.since_ns <= now_ns && suspicion.wants_facts(known, shown_ns, now_ns);
            suspicion.since_ns
        });
        self.diagnose(table, now_ns);
        let mut context = RuleContext::new(table, &self.history, &self.namespaces, &self.thresholds, now_ns);
        context.filter = filter;
        context.process_states = Some(&self.process_states);
        let mut detections = rules::evaluate(&context);
        detections.retain(|detection| !self.thresholds.ignored.contains(&detection.kind));
        let reported = self.tracker.update(detections, now_ns);
        self.history.forget(now_ns, self.thresholds.quiet_after_ns);
        self.wants_listing = wants_listing || self.tracker.is_waiting();
        reported
    }

    /// Finds the causes of failed connections.
    fn diagnose(&mut self, table: &Table, now_ns: u64) {
        let due = self.history.due(now_ns, |end| table.has_address(end.ip()));
        if due.is_empty() {
            return;
        }
        let mut context = RuleContext::new(table, &self.history, &self.namespaces, &self.thresholds, now_ns);
        context.ask(&due);
        let diagnosed: Vec<_> =
            due.into_iter().filter_map(|incident| diagnosis::diagnose(&context, incident)).collect();
        diagnosed.into_iter().for_each(|incident| self.history.add(incident));
    }

    /// Sizes of the internal tables, by name.
    #[must_use]
    pub fn sizes(&self) -> Vec<(&'static str, usize)> {
        let (failures, flows) = self.history.len();
        vec![("failures", failures), ("flows", flows), ("finding_namespaces", self.namespaces.len())]
    }

    /// True if all sockets and their holders should be listed, because a suspicious socket lacks evidence.
    #[must_use]
    pub const fn wants_listing(&self) -> bool {
        self.wants_listing
    }

    /// Unreachable destinations whose next hop should be looked up, each with its network namespace.
    #[must_use]
    pub fn unreachable(&self) -> Vec<(u32, IpAddr)> {
        self.history.unreachable()
    }

    /// True if a problem waits for evidence before it is reported.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.tracker.is_waiting() || self.history.is_waiting()
    }

    /// What the rules have seen until `now_ns`.
    #[must_use]
    pub fn coverage(&self, table: &Table, now_ns: u64) -> Coverage {
        Coverage::new(table, &self.thresholds, self.start_ns, now_ns)
    }

    /// Changes of open findings that were not reported yet: for the end of a run.
    pub fn take_final_updates(&mut self, now_ns: u64) -> Vec<Finding> {
        self.tracker.take_final_updates(now_ns)
    }

    /// The open findings, worst first.
    #[must_use]
    pub fn open(&self, now_ns: u64) -> Vec<Finding> {
        self.tracker.open(now_ns)
    }
}
