//! `tcptrace stuck --once --format nagios`: ends as a plugin of Nagios does, also where it could not check.

use std::{
    ffi::OsString,
    io::{self, Write as _},
    process::{self, ExitCode},
};

use crate::{
    cli::terminal,
    commands::trace::{error::Error, run::Ended},
    findings::Severity,
    render::text::nagios::{self, Status},
};

/// True if this command line asks for a plugin, even if it is wrong.
pub(crate) fn is_wanted(words: &[OsString]) -> bool {
    words.iter().any(|word| word == "nagios" || word == "--format=nagios" || word == "-fnagios")
}

/// Ends the program because of wrong usage. A plugin also says so on stdout, and its exit code is another.
pub(crate) fn exit(is_plugin: bool, error: clap::Error) -> ! {
    if is_plugin && error.use_stderr() {
        process::exit(unknown(&terminal::print(&error)).into());
    }
    terminal::exit(error)
}

/// The exit code of a plugin whose check ended so.
pub(crate) fn exit_code(ended: Result<Ended, Error>, fail_on: Severity) -> ExitCode {
    ExitCode::from(match ended {
        Ok(ended) => Status::of(ended.worst(), fail_on) as u8,
        Err(error) => unknown(&error.to_string()),
    })
}

/// Prints that the check failed, and returns the exit code for that.
fn unknown(reason: &str) -> u8 {
    let _ = io::stdout().write_all(nagios::unknown(reason).as_bytes());
    Status::Unknown as u8
}
