//! `tcptrace config check`.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::{CommandFactory as _, Error, error::ErrorKind};
use serde_json::json;

use crate::{
    cli::{
        args::{Args, Command, DaemonArgs},
        config::{self, Notice, Parsed},
    },
    commands::{notify, settings::Settings},
    model::printable::printable,
};

/// Checks the file; returns the names of the outputs that it sets up.
///
/// # Errors
/// A usage error with the first mistake.
pub(crate) fn check(path: &Path) -> Result<Vec<String>, Error> {
    let (_, settings) = daemon(Some(path.to_owned()), &[])?;
    let names = settings.outputs.into_iter().map(|output| output.name);
    Ok(names.chain(settings.server.iter().map(|address| format!("prometheus:{address}"))).collect())
}

/// The result for people.
pub(crate) fn checked_text(path: &Path, outputs: &[String]) -> String {
    let list: String = outputs.iter().map(|name| format!("  {}\n", printable(name))).collect();
    format!("{} is valid. Outputs:\n{list}", printable(&path.to_string_lossy()))
}

/// The result as an object.
pub(crate) fn checked_json(path: &Path, result: &Result<Vec<String>, Error>) -> String {
    let message = |error: &Error| {
        let text = error.to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        text.split("\n\nUsage:").next().unwrap_or_default().trim_end().to_owned()
    };
    let object = json!({
        "file": path.to_string_lossy(),
        "valid": result.is_ok(),
        "error": result.as_ref().err().map(message),
        "outputs": result.as_ref().ok(),
    });
    format!("{object}\n")
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
