//! The names of network namespaces, read again when they may have changed.

use std::{
    fs::{self},
    time::{Duration, SystemTime},
};

use super::netns::NAMES;
use crate::listing::netns::names;

/// Names of namespaces by inode number, re-read when the folder of names changes.
#[derive(Debug, Default)]
pub(crate) struct NameWatch {
    /// Modification time of the folder, if any later change would produce a later time.
    changed: Option<SystemTime>,
}

/// Worst resolution of file times (a jiffy).
pub(crate) const FILE_TIME: Duration = Duration::from_millis(20);

impl NameWatch {
    /// Returns all names if any were added or removed since the last call.
    pub(crate) fn changed(&mut self) -> Option<Vec<(u32, String)>> {
        let changed = fs::metadata(NAMES).and_then(|folder| folder.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        if self.changed == Some(changed) {
            return None;
        }
        let is_settled = changed.elapsed().is_ok_and(|since| since > FILE_TIME);
        self.changed = is_settled.then_some(changed);
        Some(names().into_iter().filter_map(|found| Some((found.inode, found.name?))).collect())
    }

    /// Makes [`NameWatch::changed`] return all names the next time.
    pub(crate) const fn forget(&mut self) {
        self.changed = None;
    }
}
