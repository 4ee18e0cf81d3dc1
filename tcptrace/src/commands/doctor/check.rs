//! A check: what was looked at, how it came out, what follows, and what to do about it.

use crate::cli::args::Area;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nothing is wrong.
    Ok,
    /// Something is harmful, near a limit, or kept from tcptrace.
    Warning,
    /// tcptrace cannot trace, or a limit is reached.
    Failed,
    /// It could not be looked at.
    Unknown,
}

impl Status {
    /// Its name in all outputs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }

    /// Is something to be done?
    #[must_use]
    pub const fn is_finding(self) -> bool {
        matches!(self, Self::Warning | Self::Failed)
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its stable name.
    pub id: &'static str,
    /// The part that it belongs to.
    pub area: Area,
    /// How it came out.
    pub status: Status,
    /// What was looked at, for people.
    pub title: String,
    /// What was found; `None` where nothing could be read.
    pub value: Option<String>,
    /// What the thing is for.
    pub meaning: &'static str,
    /// What follows from the value.
    pub consequence: String,
    /// What helps, where something is wrong.
    pub remedy: Option<String>,
    /// Where this is to be found: the kernel's file and function, its documentation, or an RFC.
    pub source: &'static str,
}

/// What follows from a value.
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

/// What is the same whenever something is looked at.
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

/// A check-up.
#[derive(Clone, Debug, Default)]
pub struct CheckUp {
    /// CLOCK_MONOTONIC when all was read, in ns.
    pub mono_ns: u64,
    /// The kernel's release.
    pub release: String,
    /// The network namespace whose settings these are: its inode number, and its name.
    pub netns: Option<(u32, Option<String>)>,
    /// All checks, in order.
    pub checks: Vec<Check>,
}

impl CheckUp {
    /// How many checks came out so.
    #[must_use]
    pub fn count(&self, status: Status) -> usize {
        self.checks.iter().filter(|check| check.status == status).count()
    }
}

pub(crate) const fn subject(id: &'static str, meaning: &'static str, source: &'static str) -> Subject {
    Subject { id, area: Area::Machine, meaning, source }
}
