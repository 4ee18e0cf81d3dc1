//! `tcptrace config check`.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::{CommandFactory as _, Error, error::ErrorKind};

use crate::{
    cli::{
        args::{Args, Command, DaemonArgs},
        config::{self, Notice, Parsed},
    },
    commands::{notify, settings::Settings},
    model::printable::printable,
};

/// Checks the file, and describes the outputs that it sets up.
///
/// # Errors
/// A usage error with the first mistake.
pub(crate) fn check(path: &Path) -> Result<String, Error> {
    let (_, settings) = daemon(Some(path.to_owned()), &[])?;
    let names = settings.outputs.iter().map(|output| output.name.clone());
    let servers = settings.server.iter().map(|address| format!("prometheus:{address}"));
    let list: String = names.chain(servers).map(|name| format!("  {}\n", printable(&name))).collect();
    Ok(format!("{} is valid. Outputs:\n{list}", printable(&path.to_string_lossy())))
}

/// What `tcptrace daemon` would do with this file and these flags.
pub(super) fn daemon(config: Option<PathBuf>, flags: &[OsString]) -> Result<(DaemonArgs, Settings), Error> {
    let config = config.into_iter().flat_map(|path| ["--config".into(), path.into_os_string()]);
    let words = ["tcptrace", "daemon"].map(OsString::from).into_iter().chain(config).chain(flags.iter().cloned());
    let Parsed { args, notices } = config::parse(words.collect())?;
    let Some(Command::Daemon(daemon)) = args.command else {
        return Err(Args::command().error(ErrorKind::InvalidSubcommand, "no service"));
    };
    let settings = Settings::from_args(&daemon.trace)?;
    notify(notices.into_iter().filter(|notice| matches!(notice, Notice::Warning(_))));
    Ok((daemon, settings))
}
