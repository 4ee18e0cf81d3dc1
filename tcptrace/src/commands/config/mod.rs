//! `tcptrace config`: checks a config file just as the service does when it starts, and shows what is in force.

mod check;
mod show;
mod value;

use std::io::{self, Write as _};

use anyhow::anyhow;

pub(crate) use self::{
    check::{check, checked_json, checked_text},
    show::show,
};

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
