//! What a screen shows of a run: its own filter, which the user changes while it runs, counts since then, the last minutes,
//! and the stories of the latest connections.
//!
//! A session without a screen has none of this, and pays nothing for it.

use crate::{
    analysis::{
        overview::{Overview, SocketId, history::History},
        story::{Limits, Stories, connection::Story},
        summary::Summary,
    },
    findings::Finding,
    model::{
        event::Event,
        filter::{Expr, FilterNames},
        names::Names,
    },
    pipeline::user_filter::UserFilter,
    table::Table,
};

/// Bounds of the stories that are kept in case that the user opens one: 12 MB.
const LIMITS: Limits = Limits { sides: 10_000, events: 100, all_events: 50_000 };

/// The state behind a screen.
pub struct Watch {
    expr: Expr,
    filter: UserFilter,
    summary: Summary,
    history: History,
    stories: Stories,
    /// CLOCK_MONOTONIC in ns since which events are counted.
    since_ns: u64,
}

impl Watch {
    /// Counts from `now_ns` (CLOCK_MONOTONIC) what the filter shows.
    #[must_use]
    pub fn new(expr: Expr, now_ns: u64) -> Self {
        let history = History::new(now_ns);
        let (summary, stories) = (Summary::new(false), Stories::new(None, LIMITS));
        Self { filter: UserFilter::of(&expr), expr, summary, history, stories, since_ns: now_ns }
    }

    /// Changes the filter; counts begin again.
    pub fn set_filter(&mut self, expr: Expr, now_ns: u64) {
        self.filter = UserFilter::of(&expr);
        (self.expr, self.summary, self.since_ns) = (expr, Summary::new(false), now_ns);
        self.history.forget_counts();
    }

    /// Takes an event.
    pub(super) fn ingest(&mut self, event: &Event, names: &mut Names) {
        self.stories.ingest(event);
        self.filter.ingest(event);
        if let Some(earlier) = self.filter.take_held(event) {
            self.count(&earlier, names);
        }
        if !self.filter.hold_back(event) {
            self.count(event, names);
        }
    }

    fn count(&mut self, event: &Event, names: &mut Names) {
        if self.filter.matches_event(event, &mut FilterNames::new(names)) == Some(true) {
            self.summary.ingest(event);
        }
    }

    /// Ends the seconds that are over.
    pub(super) fn advance(&mut self, now_ns: u64, sockets: usize) {
        if self.history.is_due(now_ns) {
            self.history.advance(now_ns, &self.summary, sockets as u64);
        }
    }

    /// The moment `now_ns`.
    pub(super) fn overview(&self, to: &mut Overview, table: &Table, names: &mut Names, now_ns: u64) {
        let (is_active, mut lookup) = (self.filter.is_active(), FilterNames::new(names));
        to.take(table, &self.summary, &self.history, now_ns, |known, holders| {
            !is_active || self.filter.matches_socket(known, holders, &mut lookup, now_ns)
        });
    }

    /// True if the filter shows a finding, or one of the sockets that are its examples.
    pub(super) fn shows(&self, finding: &Finding, names: &mut Names) -> bool {
        let detection = &finding.detection;
        self.expr.is_everything()
            || self.expr.selects(detection, names)
            || detection.examples.iter().any(|example| self.expr.selects(&example.subject(detection), names))
    }

    /// The last minutes.
    #[must_use]
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// The filter.
    #[must_use]
    pub const fn filter(&self) -> &Expr {
        &self.expr
    }

    /// CLOCK_MONOTONIC in ns since which events are counted.
    #[must_use]
    pub const fn since_ns(&self) -> u64 {
        self.since_ns
    }

    /// What has happened to a connection until `now_ns`, if it had events.
    pub(super) fn story(&self, which: &SocketId, now_ns: u64) -> Option<Story> {
        self.stories.peek((which.local, which.remote), which.netns, which.cookie, now_ns)
    }
}
