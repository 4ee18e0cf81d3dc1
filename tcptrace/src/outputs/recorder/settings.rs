//! What is recorded, and how much is kept.

use std::{path::PathBuf, time::Duration};

use crate::findings::Severity;

/// A recording with bounds consists of about this many files, of which the oldest goes.
pub(super) const SEGMENTS: u64 = 8;
/// How much is kept before a finding, and after it.
pub(super) const AROUND: Duration = Duration::from_secs(300);

/// What to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecorderSettings {
    /// The file.
    pub path: PathBuf,
    /// How far back the recording reaches; `None` for everything.
    pub keep: Option<Duration>,
    /// Largest size of all its files together, in bytes.
    pub max_bytes: Option<u64>,
    /// Lowest severity of the findings around which the recording is kept in files of their own.
    pub on_finding: Option<Severity>,
}

impl RecorderSettings {
    /// Settings that keep the minutes around findings, if nothing says how much is kept.
    #[must_use]
    pub fn new(path: PathBuf, keep: Option<Duration>, max_bytes: Option<u64>, on_finding: Option<Severity>) -> Self {
        let around = on_finding.filter(|_| max_bytes.is_none()).map(|_| 2 * AROUND);
        Self { path, keep: keep.or(around), max_bytes, on_finding }
    }

    /// True if there are older files.
    pub(super) const fn is_bounded(&self) -> bool {
        self.keep.is_some() || self.max_bytes.is_some()
    }

    /// The age at which a file ends and the next one begins. A finding gets whole files, so they must be short.
    pub(super) fn file_age(&self) -> Option<Duration> {
        let share = self.keep.map(|keep| keep / SEGMENTS as u32);
        share.into_iter().chain(self.on_finding.map(|_| AROUND / 2)).min()
    }
}
