//! `tcptrace config`: checks a config file just as the service does when it starts, and shows what is in force.

mod show;
mod value;

use std::{
    ffi::OsString,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::anyhow;
use clap::{CommandFactory as _, Error, error::ErrorKind};

pub(crate) use show::show;

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
pub fn check(path: &Path) -> Result<String, Error> {
    let (_, settings) = daemon(Some(path.to_owned()), &[])?;
    let names = settings.outputs.iter().map(|output| output.name.clone());
    let servers = settings.server.iter().map(|address| format!("prometheus:{address}"));
    let list: String = names.chain(servers).map(|name| format!("  {}\n", printable(&name))).collect();
    Ok(format!("{} is valid. Outputs:\n{list}", printable(&path.to_string_lossy())))
}

/// What `tcptrace daemon` would do with this file and these flags.
fn daemon(config: Option<PathBuf>, flags: &[OsString]) -> Result<(DaemonArgs, Settings), Error> {
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

/// Prints to stdout. A reader that stops early (`| head -1`) is no error.
///
/// # Errors
/// If stdout cannot be written.
pub fn print(words: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(words.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(anyhow!("cannot write to stdout: {error}")),
        _ => Ok(()),
    }
}
