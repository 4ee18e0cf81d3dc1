//! `tcptrace config check`: reads a config file as the service does.

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

/// What the file comes to, in words.
///
/// # Errors
/// What it has wrong, as a usage error.
pub fn check(path: &Path) -> Result<String, Error> {
    let words = ["tcptrace", "daemon", "--config"].map(OsString::from).into_iter().chain([path.into()]);
    let Args { command: Some(Command::Daemon(daemon)), .. } = config::parse(words.collect())? else {
        return Err(Args::command().error(ErrorKind::InvalidSubcommand, "no service"));
    };
    let settings = Settings::from_args(&daemon.trace)?;
    let names = settings.outputs.iter().map(|output| output.name.clone());
    let servers = settings.server.iter().map(|address| format!("prometheus:{address}"));
    let list: String = names.chain(servers).map(|name| format!("  {}\n", printable(&name))).collect();
    Ok(format!("{} is fine. It writes to:\n{list}", printable(&path.to_string_lossy())))
}

/// Prints these words. Where nobody reads them (`| head -1`), nothing is wrong either.
///
/// # Errors
/// Where they cannot be written.
pub fn print(words: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(words.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(anyhow!("cannot write to stdout: {error}")),
        _ => Ok(()),
    }
}
