//! `tcptrace config check`: reads a config file as the service does.

use std::{
    ffi::OsString,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use clap::{CommandFactory as _, Error, error::ErrorKind};

use crate::{
    cli::{
        args::{Args, Command},
        config,
        settings::Settings,
    },
    printable::printable,
};

/// Says what the file comes to.
///
/// # Errors
/// What it has wrong, as a usage error.
pub fn check(path: &Path) -> Result<ExitCode, Error> {
    let words = ["tcptrace", "daemon", "--config"].map(OsString::from).into_iter().chain([path.into()]);
    let Args { command: Some(Command::Daemon(daemon)), .. } = config::parse(words.collect())? else {
        return Err(Args::command().error(ErrorKind::InvalidSubcommand, "no service"));
    };
    let settings = Settings::from_args(&daemon.trace)?;
    let names = settings.outputs.iter().map(|output| output.name.clone());
    let servers = settings.server.iter().map(|address| format!("prometheus:{address}"));
    let list: String = names.chain(servers).map(|name| format!("  {}\n", printable(&name))).collect();
    // Where nobody reads it (`| head -1`), nothing is wrong either.
    let _ = write!(io::stdout(), "{} is fine. It writes to:\n{list}", printable(&path.to_string_lossy()));
    Ok(ExitCode::SUCCESS)
}
