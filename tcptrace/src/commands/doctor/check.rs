//! The result of a check: its status, the value found, the consequence, and the remedy.

use crate::cli::args::Area;

/// The status of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// No problem.
    Ok,
    /// Something is harmful, near a limit, or not accessible to tcptrace.
    Warning,
    /// tcptrace cannot trace, or a limit is reached.
    Failed,
    /// The value could not be read.
    Unknown,
}

impl Status {
    /// The name in all outputs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }

    /// True for a warning or failure, which has a remedy.
    #[must_use]
    pub const fn is_finding(self) -> bool {
        matches!(self, Self::Warning | Self::Failed)
    }
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The stable name.
    pub id: &'static str,
    /// The group of checks that it belongs to.
    pub area: Area,
    /// The result.
    pub status: Status,
    /// What was checked, for people.
    pub title: String,
    /// The value found; `None` if it could not be read.
    pub value: Option<String>,
    /// What the checked thing is for.
    pub meaning: &'static str,
    /// The consequence of the value.
    pub consequence: String,
    /// The remedy, if something is wrong.
    pub remedy: Option<String>,
    /// Source of these facts: the kernel's file and function, its documentation, or an RFC.
    pub source: &'static str,
}

/// The assessment of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) status: Status,
    pub(crate) consequence: String,
    pub(crate) remedy: Option<String>,
}

impl Verdict {
    fn new(status: Status, consequence: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { status, consequence: consequence.into(), remedy: Some(remedy.into()) }
    }

    pub(crate) fn ok(consequence: impl Into<String>) -> Self {
        Self { status: Status::Ok, consequence: consequence.into(), remedy: None }
    }

    pub(crate) fn warning(consequence: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Status::Warning, consequence, remedy)
    }

    pub(crate) fn failed(consequence: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Status::Failed, consequence, remedy)
    }

    pub(crate) fn unknown(consequence: impl Into<String>) -> Self {
        Self { status: Status::Unknown, consequence: consequence.into(), remedy: None }
    }
}

/// The constant parts of a check.
#[derive(Clone, Copy)]
pub(crate) struct Subject {
    pub(crate) id: &'static str,
    pub(crate) area: Area,
    pub(crate) meaning: &'static str,
    pub(crate) source: &'static str,
}

impl Subject {
    pub(crate) fn check(self, title: impl Into<String>, value: Option<String>, verdict: Verdict) -> Check {
        let Self { id, area, meaning, source } = self;
        let Verdict { status, consequence, remedy } = verdict;
        Check { id, area, status, title: title.into(), value, meaning, consequence, remedy, source }
    }
}

/// The results of all checks.
#[derive(Clone, Debug, Default)]
pub struct CheckUp {
    /// When the facts were read, CLOCK_MONOTONIC in ns.
    pub mono_ns: u64,
    /// The kernel's release.
    pub release: String,
    /// Inode number and name of the network namespace whose settings were checked.
    pub netns: Option<(u32, Option<String>)>,
    /// The checks in the order of output.
    pub checks: Vec<Check>,
}

impl CheckUp {
    /// The number of checks with this status.
    #[must_use]
    pub fn count(&self, status: Status) -> usize {
        self.checks.iter().filter(|check| check.status == status).count()
    }
}

pub(crate) const fn subject(id: &'static str, meaning: &'static str, source: &'static str) -> Subject {
    Subject { id, area: Area::Machine, meaning, source }
}
