//! `tcptrace config check`: reads a config file as the service does.

use std::{
    ffi::OsString,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use clap::{CommandFactory as _, Error, error::ErrorKind};

use crate::cli::{
    args::{Args, Command},
    config,
    settings::Settings,
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
    let mut to = io::stdout().lock();
    writeln!(to, "{} is fine. It writes to:", path.display())?;
    settings.outputs.iter().try_for_each(|output| writeln!(to, "  {}", output.name))?;
    settings.server.iter().try_for_each(|address| writeln!(to, "  prometheus:{address}"))?;
    Ok(ExitCode::SUCCESS)
}
