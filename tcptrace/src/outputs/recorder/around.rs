//! The minutes around a finding: the files of the recording that cover them get further names (hard links), under which
//! they stay when the recorder removes its own.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use super::{
    names::{folder, numbered, segments},
    settings::AROUND,
};
use crate::{
    findings::Kind,
    outputs::messages::{info, warn},
    pipeline::finding_watch::Noticed,
};

/// Most findings around which something is kept; then the oldest goes.
const MAX_KEPT: usize = 16;
/// Largest size of all that is kept, in bytes, unless the recording has another bound.
const MAX_BYTES: u64 = 2 << 30;
const AROUND_NS: u64 = AROUND.as_nanos() as u64;

/// Keeps the minutes around findings.
#[derive(Debug)]
pub(super) struct Around {
    /// The file of the recording.
    path: PathBuf,
    max_bytes: u64,
    /// Files of this run that have ended, and the time of their last input: CLOCK_MONOTONIC in ns.
    ended: Vec<(PathBuf, u64)>,
    /// The finding whose minutes are not over yet.
    current: Option<Kept>,
    /// Number of findings around which something was kept.
    pub(super) count: u64,
}

/// What is kept around a finding.
#[derive(Debug)]
struct Kept {
    path: PathBuf,
    /// Number of its older files.
    older: u32,
    /// CLOCK_MONOTONIC in ns.
    until_ns: u64,
}

impl Around {
    pub(super) fn new(path: &Path, max_bytes: Option<u64>) -> Self {
        let max_bytes = max_bytes.unwrap_or(MAX_BYTES);
        Self { path: path.to_owned(), max_bytes, ended: Vec::new(), current: None, count: 0 }
    }

    /// Begins to keep what is around a finding, unless that is being done for another one: a storm of findings makes one
    /// file.
    pub(super) fn begin(&mut self, noticed: &Noticed) {
        if self.current.is_some() {
            return;
        }
        let path = self.named(noticed);
        let mut kept = Kept { path, older: 0, until_ns: noticed.time_ns.saturating_add(AROUND_NS) };
        match self.link_all(&mut kept, noticed.time_ns) {
            Ok(()) => {
                self.count += 1;
                info(format_args!("keeping the minutes around {}: {}", noticed.kind.id(), kept.path.display()));
            }
            Err(error) => {
                warn(format_args!("cannot keep {}: {error}", kept.path.display()));
                kept.until_ns = 0; // nothing more is tried before the next file, so that a storm makes one message
            }
        }
        self.current = Some(kept);
        self.remove_old();
    }

    /// The name of what is kept around a finding.
    fn named(&self, noticed: &Noticed) -> PathBuf {
        let time = Timestamp::from_nanosecond(noticed.unix_ns.into()).unwrap_or_default();
        let mut name = prefix(&self.path);
        name.push(time.strftime("%Y%m%dT%H%M%SZ-").to_string());
        name.push(noticed.kind.id());
        name.into()
    }

    fn link_all(&self, kept: &mut Kept, now_ns: u64) -> io::Result<()> {
        for (file, last_ns) in &self.ended {
            if last_ns.saturating_add(AROUND_NS) < now_ns {
                continue;
            }
            match fs::hard_link(file, numbered(&kept.path, kept.older)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {} // --keep is shorter
                linked => {
                    linked?;
                    kept.older += 1;
                }
            }
        }
        fs::hard_link(&self.path, &kept.path)
    }

    /// The current file became an older one with this name, `last_ns` is the time of its last input, and the next one has
    /// begun.
    pub(super) fn next(&mut self, older: PathBuf, last_ns: u64) {
        self.ended.retain(|(_, ended_ns)| ended_ns.saturating_add(AROUND_NS) >= last_ns);
        self.ended.push((older, last_ns));
        let Some(mut kept) = self.current.take() else { return };
        let bytes = size(&segments(&kept.path).unwrap_or_default());
        if last_ns < kept.until_ns && bytes < self.max_bytes {
            if let Err(error) = self.follow(&mut kept) {
                warn(format_args!("{}: cannot go on: {error}", kept.path.display()));
            }
            self.current = Some(kept);
        }
        self.remove_old();
    }

    fn follow(&self, kept: &mut Kept) -> io::Result<()> {
        fs::rename(&kept.path, numbered(&kept.path, kept.older))?;
        kept.older += 1;
        fs::hard_link(&self.path, &kept.path)
    }

    /// Removes the oldest, until those that are left are within the bounds.
    fn remove_old(&self) {
        let Ok(mut all) = self.all() else { return };
        let mut bytes: u64 = all.values().map(|files| size(files)).sum();
        while all.len() > MAX_KEPT || bytes > self.max_bytes {
            let Some((oldest, files)) = all.pop_first() else { return };
            if self.current.as_ref().is_some_and(|kept| kept.path == oldest) {
                return; // it ends when its file does
            }
            bytes = bytes.saturating_sub(size(&files));
            match files.iter().try_for_each(fs::remove_file) {
                Ok(()) => info(format_args!("removed the oldest of {} findings: {}", all.len() + 1, oldest.display())),
                Err(error) => warn(format_args!("cannot remove {}: {error}", oldest.display())),
            }
        }
    }

    /// What is kept around findings, of earlier runs too, by its name: the oldest first.
    fn all(&self) -> io::Result<BTreeMap<PathBuf, Vec<PathBuf>>> {
        let mut all = BTreeMap::<PathBuf, Vec<PathBuf>>::new();
        let prefix = PathBuf::from(prefix(&self.path));
        let Some(begin) = prefix.file_name().and_then(|name| name.to_str()) else { return Ok(all) };
        for entry in fs::read_dir(folder(&self.path))? {
            let name = entry?.file_name();
            let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(begin)) else { continue };
            let (rest, older) = rest.split_once('.').unwrap_or((rest, ""));
            let is_time = |text: &str| text.len() == 16 && text.ends_with('Z') && !text.contains('-');
            let is_ours = rest.split_once('-').is_some_and(|(time, kind)| {
                is_time(time)
                    && Kind::ALL.iter().any(|known| known.id() == kind)
                    && older.bytes().all(|b| b.is_ascii_digit())
            });
            if is_ours {
                let file = folder(&self.path).join(&name);
                let base = if older.is_empty() { file.clone() } else { file.with_extension("") };
                all.entry(base).or_default().push(file);
            }
        }
        Ok(all)
    }
}

fn prefix(path: &Path) -> OsString {
    let mut name = OsString::from(path);
    name.push(".finding-");
    name
}

fn size(files: &[PathBuf]) -> u64 {
    files.iter().filter_map(|file| fs::symlink_metadata(file).ok()).map(|known| known.len()).sum()
}
