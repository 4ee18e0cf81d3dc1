//! Turns facts into checks, as a pure function. The facts contain text from outside, which may be anything.

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

/// Everything that the checks need.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The machine and this process.
    pub machine: Machine,
    /// The result of attaching all programs; `None` if that was not tried.
    pub hooks: Option<Hooks>,
    /// The settings in force.
    pub sysctls: Sysctls,
    /// Content of `/proc/net/sockstat`.
    pub sockstat: String,
    /// The sysctl files in the order in which they are read at boot.
    pub files: Vec<ConfigFile>,
}

/// The first reason why this machine cannot be traced, with its remedy; `None` if there is none.
#[must_use]
pub fn obstacle(machine: &Machine) -> Option<String> {
    let checks = machine::checks(machine, &Sysctls::default());
    let failed = checks.into_iter().find(|check| check.status == Status::Failed)?;
    let Check { title, value, consequence, remedy, .. } = failed;
    let (value, remedy) = (value.unwrap_or_default(), remedy.unwrap_or_default());
    Some(format!("{title} {value}: {consequence}\n  {remedy}"))
}

/// The checks of these areas, in this order.
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
