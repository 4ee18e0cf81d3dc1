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

use bytes::BytesMut;
use clap::ValueEnum as _;
use thiserror::Error;

use crate::{
    cli::{
        args::{Area, DoctorArgs, values::Format},
        terminal::is_colored,
    },
    commands::delivery::{self, Writer},
    model::netns_choice::NetnsChoice,
    render::{csv::Csv, json::Json},
    sys::{clock::wall_offset, terminal::screen},
};
use read::check_up;
use render::DoctorRenderer;

/// Why the checks could not be run or written.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error(transparent)]
    Read(#[from] read::Error),
    #[error(transparent)]
    Output(#[from] delivery::Error),
}

/// Runs the checks and writes them. Returns true if a check ended with a warning or failed. A reader that stops early
/// (`| head`) is no error.
///
/// # Errors
/// If the chosen namespace does not exist or cannot be entered, or the output cannot be written.
pub fn run(args: &DoctorArgs) -> Result<bool, Error> {
    let areas = if args.areas.is_empty() { Area::value_variants() } else { &args.areas };
    let check_up = check_up(areas, args.netns.as_ref().unwrap_or(&NetnsChoice::Own))?;
    for spec in &args.output.to {
        let mut renderer = match args.output.format_of(spec) {
            Format::Json => DoctorRenderer::Json(Json::default()),
            Format::Csv => DoctorRenderer::Csv(Csv::default()),
            Format::Text | Format::Nagios => DoctorRenderer::Text {
                color: is_colored(args.output.color, spec.target.is_stdout()),
                verbose: args.verbose,
                width: screen().filter(|_| spec.target.is_stdout()).map(|screen| screen.columns),
            },
        };
        let mut text = BytesMut::new();
        renderer.check_up(&mut text, &check_up, wall_offset());
        let mut output = Writer::open(spec)?;
        output.write(&text)?;
        output.end()?;
    }
    Ok(check_up.checks.iter().any(|check| check.status.is_finding()))
}
