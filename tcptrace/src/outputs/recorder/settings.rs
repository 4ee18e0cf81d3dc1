//! What is recorded, and how much is kept.

use std::{path::PathBuf, time::Duration};

/// A recording with bounds consists of about this many files, of which the oldest goes.
pub(super) const SEGMENTS: u64 = 8;

/// What to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecorderSettings {
    /// The file.
    pub path: PathBuf,
    /// How far back the recording reaches; `None` for everything.
    pub keep: Option<Duration>,
    /// Largest size of all its files together, in bytes.
    pub max_bytes: Option<u64>,
}
