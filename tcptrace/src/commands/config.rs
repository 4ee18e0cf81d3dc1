//! `tcptrace config check`: checks a config file just as the service does when it starts.

use std::{
    ffi::OsString,
    io::{self, Write as _},
    path::Path,
};

use anyhow::anyhow;
use clap::{CommandFactory as _, Error, error::ErrorKind};

use crate::{
    cli::{
        args::{Args, Command},
        config,
    },
    commands::settings::Settings,
    model::printable::printable,
};

/// Checks the file, and describes the outputs that it sets up.
///
/// # Errors
/// A usage error with the first mistake.
pub fn check(path: &Path) -> Result<String, Error> {
    let words = ["tcptrace", "daemon", "--config"].map(OsString::from).into_iter().chain([path.into()]);
    let Args { command: Some(Command::Daemon(daemon)), .. } = config::parse(words.collect())? else {
        return Err(Args::command().error(ErrorKind::InvalidSubcommand, "no service"));
    };
    let settings = Settings::from_args(&daemon.trace)?;
    let names = settings.outputs.iter().map(|output| output.name.clone());
    let servers = settings.server.iter().map(|address| format!("prometheus:{address}"));
    let list: String = names.chain(servers).map(|name| format!("  {}\n", printable(&name))).collect();
    Ok(format!("{} is valid. Outputs:\n{list}", printable(&path.to_string_lossy())))
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
