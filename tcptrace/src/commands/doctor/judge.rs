//! Facts in, checks out. What was read is text from outside, and may be anything.

use crate::{
    cli::args::Area,
    commands::doctor::{
        check::{Check, Status},
        config_files::{self, ConfigFile},
        hooks::{self, Hooks},
        machine::{self, Machine},
        pressure, settings,
        sysctl::Sysctls,
    },
};

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
        Area::Files => config_files::checks(&facts.files, &facts.sysctls),
    };
    areas.iter().flat_map(of).collect()
}
