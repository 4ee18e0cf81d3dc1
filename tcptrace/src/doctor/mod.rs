//! What `tcptrace doctor` tells: what this machine lets tcptrace see, and what its TCP settings come to.
//!
//! All but [`read`] is pure: [`Facts`] in, [`Check`]s out. What was read is text from outside, and may be anything.

mod files;
mod hooks;
mod machine;
mod pressure;
mod privileges;
pub mod read;
mod settings;
mod sysctl;
mod timers;

use clap::ValueEnum;

pub use crate::sys::capabilities::Capabilities;
pub use crate::sys::kernel::version;
pub use files::ConfigFile;
pub use hooks::{Hook, Hooks};
pub use machine::{Machine, Types};
pub use sysctl::Sysctls;

/// A part of the check-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Area {
    /// What tcptrace needs: kernel, BTF, capabilities
    Machine,
    /// The hooks in the kernel: all programs are attached, and detached again
    Hooks,
    /// The TCP settings in force, and what they come to
    Settings,
    /// How near the limits are now
    Pressure,
    /// The files that set TCP settings at boot
    Files,
}

impl Area {
    /// Its name in all outputs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Hooks => "hooks",
            Self::Settings => "settings",
            Self::Pressure => "pressure",
            Self::Files => "files",
        }
    }
}

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
struct Verdict {
    status: Status,
    consequence: String,
    remedy: Option<String>,
}

impl Verdict {
    fn new(status: Status, consequence: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { status, consequence: consequence.into(), remedy: Some(remedy.into()) }
    }

    fn ok(consequence: impl Into<String>) -> Self {
        Self { status: Status::Ok, consequence: consequence.into(), remedy: None }
    }

    fn warning(consequence: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Status::Warning, consequence, remedy)
    }

    fn failed(consequence: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Status::Failed, consequence, remedy)
    }

    fn unknown(consequence: impl Into<String>) -> Self {
        Self { status: Status::Unknown, consequence: consequence.into(), remedy: None }
    }
}

/// What is the same whenever something is looked at.
#[derive(Clone, Copy)]
struct Subject {
    id: &'static str,
    area: Area,
    meaning: &'static str,
    source: &'static str,
}

impl Subject {
    fn check(self, title: impl Into<String>, value: Option<String>, verdict: Verdict) -> Check {
        let Self { id, area, meaning, source } = self;
        let Verdict { status, consequence, remedy } = verdict;
        Check { id, area, status, title: title.into(), value, meaning, consequence, remedy, source }
    }
}

/// All that was read.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Of the machine and the process.
    pub machine: Machine,
    /// Of the attempt to attach; `None` where none was made.
    pub hooks: Option<Hooks>,
    /// The settings in force.
    pub sysctls: Sysctls,
    /// `/proc/net/sockstat`.
    pub sockstat: String,
    /// The files that set settings, in the order in which they are read at boot.
    pub files: Vec<ConfigFile>,
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

/// What keeps this machine from being traced, with the way out, as its check says it; `None` if nothing is known to.
#[must_use]
pub fn obstacle(machine: &Machine) -> Option<String> {
    let checks = machine::checks(machine, &Sysctls::default());
    let failed = checks.into_iter().find(|check| check.status == Status::Failed)?;
    let Check { title, value, consequence, remedy, .. } = failed;
    let (value, remedy) = (value.unwrap_or_default(), remedy.unwrap_or_default());
    Some(format!("{title} {value}: {consequence}\n  {remedy}"))
}

/// The checks of these areas, in order.
#[must_use]
pub fn checks(facts: &Facts, areas: &[Area]) -> Vec<Check> {
    let of = |area: &Area| match area {
        Area::Machine => machine::checks(&facts.machine, &facts.sysctls),
        Area::Hooks => hooks::checks(facts.hooks.as_ref()),
        Area::Settings => settings::checks(&facts.sysctls),
        Area::Pressure => pressure::checks(&facts.sockstat, &facts.sysctls),
        Area::Files => files::checks(&facts.files, &facts.sysctls),
    };
    areas.iter().flat_map(of).collect()
}
