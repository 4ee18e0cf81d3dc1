//! Rotated files: compresses them, and removes the oldest, in a separate thread.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use jiff::Timestamp;

use crate::sys::files::{self, Access};

/// Rotates the file at one path.
#[derive(Debug)]
pub(super) struct Rotator {
    path: PathBuf,
    keep: usize,
    compression: Compression,
    /// Held by the thread that cleans up: one at a time.
    tidying: Arc<Mutex<()>>,
    /// True if another thread is already waiting for it, which will see all files.
    waits: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// True if it has cleaned up after earlier runs.
    has_tidied: bool,
}

impl Rotator {
    /// Rotates the file at `path`; the latest `keep` rotated files are kept (0: all).
    pub(super) fn new(path: &Path, keep: usize, compression: Compression) -> Self {
        let (tidying, waits) = (Arc::default(), Arc::default());
        Self { path: path.to_owned(), keep, compression, tidying, waits, thread: None, has_tidied: false }
    }

    /// Cleans up after earlier runs, once. Not at the start: no thread runs before all have given up their rights.
    pub(super) fn tidy_once(&mut self) {
        if !self.has_tidied {
            self.tidy();
        }
    }

    /// Renames the current file to its name followed by the time (UTC).
    pub(super) fn put_away(&mut self) -> io::Result<()> {
        let time = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        // Several in one second are distinguished by a number.
        let names = (0..10_000).map(|number| with_suffix(&self.path, &format!(".{time}.{number:04}")));
        let is_free = |name: &PathBuf| {
            [Compression::None, Compression::Gzip, Compression::Zstd]
                .iter()
                .all(|compression| fs::symlink_metadata(with_suffix(name, compression.suffix())).is_err())
        };
        let name = names.into_iter().find(is_free).ok_or(io::ErrorKind::AlreadyExists)?;
        fs::rename(&self.path, name)?;
        self.tidy();
        Ok(())
    }

    fn tidy(&mut self) {
        self.has_tidied = true;
        let has_work = self.keep > 0 || self.compression != Compression::None;
        if !has_work || self.waits.swap(true, Ordering::AcqRel) {
            return;
        }
        let (path, keep, compression) = (self.path.clone(), self.keep, self.compression);
        let (one, waits) = (Arc::clone(&self.tidying), Arc::clone(&self.waits));
        // A file that could not be cleaned up is handled after the next rotation.
        let thread = thread::Builder::new().name("rotation".to_owned()).spawn(move || {
            let _one = one.lock().unwrap_or_else(PoisonError::into_inner);
            waits.store(false, Ordering::Release);
            let _ = tidy(&path, keep, compression);
        });
        self.waits.fetch_and(thread.is_ok(), Ordering::AcqRel);
        self.thread = thread.ok();
    }

    /// Waits until the cleanup is done.
    pub(super) fn finish(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Compression {
    const fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
        }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Suffix of a file that is being compressed.
const UNFINISHED: &str = ".unfinished";

/// Removes the oldest files, and compresses the others.
fn tidy(path: &Path, keep: usize, compression: Compression) -> io::Result<()> {
    let mut old = put_away_from(path)?;
    let surplus = if keep > 0 { old.len().saturating_sub(keep) } else { 0 };
    for name in old.drain(..surplus) {
        fs::remove_file(name)?;
    }
    if compression != Compression::None {
        let compress = |name: &PathBuf| compress(name, compression);
        // A file that cannot be compressed does not prevent the others from being so.
        return old.iter().filter(|name| is_plain(name)).map(compress).fold(Ok(()), io::Result::and);
    }
    Ok(())
}

/// True if it is not compressed yet.
fn is_plain(name: &Path) -> bool {
    name.extension().is_some_and(|last| last.as_encoded_bytes().iter().all(u8::is_ascii_digit))
}

/// The rotated files of `path`, oldest first.
fn put_away_from(path: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Some(name) = path.file_name() else { return Ok(Vec::new()) };
    let prefix = [name.as_encoded_bytes(), b"."].concat();
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // A link or a pipe of this name is not ours.
        if !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let file = entry.file_name();
        let Some(rest) = file.as_encoded_bytes().strip_prefix(&prefix[..]) else { continue };
        if is_ours(rest) {
            found.push(folder.join(file));
        }
    }
    found.sort();
    Ok(found)
}

/// True for a suffix that [`Rotator::put_away`] adds, whether compressed or not: `20261121T235012Z.0000`.
fn is_ours(rest: &[u8]) -> bool {
    let form = b"00000000T000000Z.0000";
    let same = |(byte, like): (&u8, &u8)| if *like == b'0' { byte.is_ascii_digit() } else { byte == like };
    rest.len() >= form.len()
        && rest.iter().zip(form).all(same)
        && matches!(rest.get(form.len()..), Some(b"" | b".gz" | b".zst"))
}

/// Compresses a file. The original is removed once the result is on disk, so that nothing is lost if the process is
/// killed.
fn compress(name: &Path, compression: Compression) -> io::Result<()> {
    if compression == Compression::None {
        return Ok(());
    }
    let unfinished = with_suffix(name, UNFINISHED);
    let _ = fs::remove_file(&unfinished); // left over by a killed run, or planted: removes a link, not its target
    let written = write_compressed(name, &unfinished, compression);
    let renamed = written.and_then(|()| fs::rename(&unfinished, with_suffix(name, compression.suffix())));
    renamed.inspect_err(|_| _ = fs::remove_file(&unfinished))?;
    fs::remove_file(name)
}

/// Compresses a file into a new one with the same permissions.
fn write_compressed(name: &Path, to: &Path, compression: Compression) -> io::Result<()> {
    let mut from = files::read(name)?;
    let to = files::create(to, Some(Access::of(&from.metadata()?)))?;
    let to = match compression {
        Compression::None => return Ok(()),
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(to, flate2::Compression::default());
            io::copy(&mut from, &mut encoder)?;
            encoder.finish()?
        }
        Compression::Zstd => {
            let mut encoder = zstd::Encoder::new(to, zstd::DEFAULT_COMPRESSION_LEVEL)?;
            io::copy(&mut from, &mut encoder)?;
            encoder.finish()?
        }
    };
    to.sync_all()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("tcptrace-rotated-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        path
    }

    #[test]
    fn two_threads_at_most_tidy_up() {
        let folder = folder("threads");
        let path = folder.join("out");
        let mut keeper = Rotator::new(&path, 0, Compression::Gzip);
        keeper.finish();
        let tidying = Arc::clone(&keeper.tidying);
        let busy = tidying.lock().unwrap();
        for _ in 0..50 {
            fs::write(&path, "some\n").unwrap();
            keeper.put_away().unwrap();
        }
        assert_eq!(Arc::strong_count(&tidying), 3, "here, the keeper's, and that of one thread that waits");
        drop(busy);
        keeper.finish();
        let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(names.iter().filter(|name| name.extension().unwrap() == "gz").count(), 50, "{names:?}");
    }

    #[test]
    fn compression_that_fails_leaves_what_was_there() {
        let folder = folder("fails");
        let old = folder.join("out.20260101T000000Z.0000");
        fs::write(&old, "some\n").unwrap();
        fs::create_dir(with_suffix(&old, ".gz")).unwrap();
        let later = folder.join("out.20260101T000000Z.0001");
        fs::write(&later, "some\n").unwrap();
        assert!(tidy(&folder.join("out"), 0, Compression::Gzip).is_err());
        let is_there = (old.exists(), with_suffix(&old, UNFINISHED).exists());
        assert!(!later.exists() && with_suffix(&later, ".gz").exists(), "the next one is compressed all the same");
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(is_there, (true, false));
    }
}

/// Compression of rotated files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Rotated files stay as they are.
    #[default]
    None,
    /// gzip (RFC 1952), suffix `.gz`.
    Gzip,
    /// Zstandard (RFC 8878), suffix `.zst`.
    Zstd,
}
