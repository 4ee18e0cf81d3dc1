//! Which records an output takes.

use crate::{
    findings::{Finding, Kind, Severity},
    model::{
        event::{Event, EventKind},
        event_kind::EventGroup,
        filter::{EventSubject, Expr},
        names::Names,
    },
};

/// Kinds of records that an output can select.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "as docs/json.md names them")]
pub enum RecordKind {
    Transitions,
    Retransmits,
    Resets,
    Owners,
    Findings,
    Summaries,
    Notices,
    /// The last record of a run.
    End,
    /// Metrics, which are not records of the session but counts of them.
    Metrics,
}

impl RecordKind {
    /// All kinds of records.
    pub const ALL: [Self; 9] = [
        Self::Transitions,
        Self::Retransmits,
        Self::Resets,
        Self::Owners,
        Self::Findings,
        Self::Summaries,
        Self::Notices,
        Self::End,
        Self::Metrics,
    ];
    /// The kinds that are single events.
    pub const EVENTS: [Self; 4] = [Self::Transitions, Self::Retransmits, Self::Resets, Self::Owners];

    /// Its name in settings, for example `transitions`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transitions => "transitions",
            Self::Retransmits => "retransmits",
            Self::Resets => "resets",
            Self::Owners => "owners",
            Self::Findings => "findings",
            Self::Summaries => "summaries",
            Self::Notices => "notices",
            Self::End => "end",
            Self::Metrics => "metrics",
        }
    }

    const fn of(what: &EventKind) -> Self {
        match what.row().group {
            EventGroup::Transitions => Self::Transitions,
            EventGroup::Retransmits => Self::Retransmits,
            EventGroup::Resets => Self::Resets,
            EventGroup::Owners => Self::Owners,
        }
    }
}

/// Which records an output takes. An empty criterion matches everything; all criteria must match, each by any of its
/// values.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct RecordFilter {
    /// Kinds of records to take.
    pub records: Vec<RecordKind>,
    /// Kinds of findings to take.
    pub findings: Vec<Kind>,
    /// Minimum severity of findings.
    pub severity: Option<Severity>,
    /// True to leave out what was checked (`looked`), for outputs that act on findings.
    pub without_coverage: bool,
    /// What events and findings must match; `None` for all.
    pub only: Option<Expr>,
}

impl RecordFilter {
    /// Takes only what matches this, too.
    pub fn add(&mut self, expr: Expr) {
        self.only = Some(Expr::all(self.only.take().into_iter().chain([expr])));
    }

    pub(super) fn kind(&self, kind: RecordKind) -> bool {
        self.records.is_empty() || self.records.contains(&kind)
    }

    pub(super) fn event(&self, event: &Event, names: &mut Names) -> bool {
        self.kind(RecordKind::of(&event.what))
            && self.only.as_ref().is_none_or(|only| only.selects(&EventSubject(event), names))
    }

    pub(super) fn finding(&self, finding: &Finding, names: &mut Names) -> bool {
        let detection = &finding.detection;
        self.kind(RecordKind::Findings)
            && (self.findings.is_empty() || self.findings.contains(&detection.kind))
            && self.severity.is_none_or(|least| detection.severity >= least)
            && self.only.as_ref().is_none_or(|only| only.selects(detection, names))
    }
}
