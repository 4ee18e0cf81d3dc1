//! The flags with which a run is recorded.

use std::{path::PathBuf, time::Duration};

use crate::{
    cli::parse::severity,
    findings::Severity,
    model::number::{duration, size},
    outputs::recorder::RecorderSettings,
};

/// Whether and how a run is recorded.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Recording")]
pub struct RecordingArgs {
    /// Also record everything in this file, for tcptrace replay
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,

    /// Keep only this much of the recording, e.g. 2h: in FILE and several older files beside it, of which the oldest is removed
    #[arg(long, value_name = "TIME", value_parser = duration, allow_negative_numbers = true, requires = "record")]
    pub record_keep: Option<Duration>,

    /// Keep at most this much, e.g. 2GiB; the oldest file is removed
    #[arg(long, value_name = "SIZE", value_parser = record_size, requires = "record")]
    pub record_max_size: Option<u64>,

    /// Keep the ten minutes around findings of at least this severity (info, warning or critical) in files of their own
    #[arg(long, value_name = "LEVEL", value_parser = severity, requires = "record")]
    pub record_on_finding: Option<Severity>,
}

impl RecordingArgs {
    /// What to record; `None` for nothing.
    #[must_use]
    pub fn settings(&self) -> Option<RecorderSettings> {
        let path = self.record.clone()?;
        Some(RecorderSettings::new(path, self.record_keep, self.record_max_size, self.record_on_finding))
    }
}

/// A size of at least a MiB.
pub(crate) fn record_size(text: &str) -> Result<u64, String> {
    let size = size(text)?;
    if size >= 1 << 20 { Ok(size) } else { Err(format!("`{text}` is too small: at least 1MiB")) }
}
