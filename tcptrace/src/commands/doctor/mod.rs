//! `tcptrace doctor`: checks the machine and its TCP settings once, and writes the results.
//!
//! `read.rs` collects the facts, the files next to it check them as pure functions, and `render.rs` writes the checks. A check
//! (see `check.rs`) has a status, the value found, its consequence, and a remedy if something is wrong.

pub mod check;
pub mod config_files;
pub mod hooks;
pub mod judge;
pub mod machine;
pub(crate) mod pressure;
pub(crate) mod privileges;
pub mod read;
pub mod render;
pub(crate) mod settings;
pub mod sysctl;
pub(crate) mod timers;

use std::io::{self, Write};

use bytes::BytesMut;
use clap::ValueEnum as _;
use thiserror::Error;

use crate::{
    cli::{
        args::{Area, DoctorArgs, values::Format},
        terminal::is_colored,
    },
    model::netns_choice::NetnsChoice,
    render::{csv::Csv, json::Json},
    sys::{clock::wall_offset, files},
};
use read::check_up;
use render::DoctorRenderer;

/// Why the checks could not be run or written.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error(transparent)]
    Read(#[from] read::Error),
    #[error("cannot write to {target}: {source}")]
    Output { target: String, source: io::Error },
}

/// Runs the checks and writes them to stdout or a file. Returns true if a check ended with a warning or failed. A reader that
/// stops early (`| head`) is no error.
///
/// # Errors
/// If the chosen namespace does not exist or cannot be entered, or the output cannot be written.
pub fn run(args: &DoctorArgs) -> Result<bool, Error> {
    let target = args.output.as_ref().map_or_else(|| "stdout".to_owned(), |path| path.display().to_string());
    let failed = |source| Error::Output { target, source };
    let areas = if args.areas.is_empty() { Area::value_variants() } else { &args.areas };
    let check_up = check_up(areas, args.netns.as_ref().unwrap_or(&NetnsChoice::Own))?;
    let mut renderer = match args.format {
        _ if args.json => DoctorRenderer::Json(Json::default()),
        Format::Json => DoctorRenderer::Json(Json::default()),
        Format::Csv => DoctorRenderer::Csv(Csv::default()),
        Format::Text => {
            DoctorRenderer::Text { color: is_colored(args.color, args.output.is_none()), verbose: args.verbose }
        }
    };
    let mut text = BytesMut::new();
    renderer.check_up(&mut text, &check_up, wall_offset());
    let written = match &args.output {
        Some(path) => files::replace(path).and_then(|mut file| file.write_all(&text)),
        None => io::stdout().write_all(&text).and_then(|()| io::stdout().flush()),
    };
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(failed(error)),
        _ => Ok(check_up.checks.iter().any(|check| check.status.is_finding())),
    }
}
