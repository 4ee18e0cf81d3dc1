//! The files of a recording: FILE is the current one, FILE.000000, FILE.000001 and so on are older ones.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::settings::{RecorderSettings, SEGMENTS};
use crate::{
    pipeline::recording::{
        chunk::{Compressor, RawChunk},
        header::Header,
        index::Index,
    },
    sys::files,
};

/// The file that is being written.
pub(super) struct Segments {
    path: PathBuf,
    keep: Option<Duration>,
    max_bytes: Option<u64>,
    file: File,
    len: u64,
    index: Index,
    compressor: Compressor,
    /// True if the file has its index, and only the next one can follow.
    is_ended: bool,
}

impl Segments {
    pub(super) fn create(settings: &RecorderSettings, header: &Header) -> io::Result<Self> {
        let RecorderSettings { path, keep, max_bytes } = settings.clone();
        if keep.is_some() || max_bytes.is_some() {
            put_away(&path)?; // what an earlier run has recorded
        }
        let (file, len) = begin(&path, header)?;
        let (index, compressor) = (Index::default(), Compressor::new()?);
        Ok(Self { path, keep, max_bytes, file, len, index, compressor, is_ended: false })
    }

    /// Size of the current file in bytes.
    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// Begins another file.
    pub(super) fn next(&mut self, header: &Header) -> io::Result<()> {
        self.finish()?;
        put_away(&self.path)?;
        (self.file, self.len) = begin(&self.path, header)?;
        (self.index, self.is_ended) = (Index::default(), false);
        self.remove_old()
    }

    /// Removes the oldest files, so that there is room for the current one.
    fn remove_old(&self) -> io::Result<()> {
        let mut old = older(&self.path)?;
        let known = |path: &PathBuf| fs::symlink_metadata(path).ok();
        let age = |path: &PathBuf| {
            let modified = known(path).and_then(|known| known.modified().ok())?;
            SystemTime::now().duration_since(modified).ok()
        };
        let mut bytes: u64 = old.iter().filter_map(known).map(|known| known.len()).sum();
        let room = self.max_bytes.map(|most| most - most / SEGMENTS);
        while let Some(oldest) = old.first() {
            let is_old = self.keep.zip(age(oldest)).is_some_and(|(keep, age)| age > keep);
            if !is_old && room.is_none_or(|room| bytes <= room) {
                break;
            }
            bytes = bytes.saturating_sub(known(oldest).map_or(0, |known| known.len()));
            fs::remove_file(oldest)?;
            old.remove(0);
        }
        Ok(())
    }

    /// Writes a chunk. If that fails, nothing of it stays.
    pub(super) fn write(&mut self, chunk: &RawChunk) -> io::Result<()> {
        let bytes = self.compressor.encode(chunk)?;
        self.append(&bytes)?;
        self.index.add(self.len, chunk);
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes).inspect_err(|_| {
            let _ = self.file.set_len(self.len); // a reader stops at half a chunk
        })
    }

    /// Writes the index.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        if !self.is_ended {
            let mut bytes = self.compressor.encode(&self.index.to_chunk())?;
            bytes.extend_from_slice(&Index::trailer(self.len));
            self.append(&bytes)?;
            self.is_ended = true;
        }
        Ok(())
    }
}

fn begin(path: &Path, header: &Header) -> io::Result<(File, u64)> {
    let mut file = files::create_private(path)?;
    let bytes = header.encode();
    file.write_all(&bytes)?;
    Ok((file, bytes.len() as u64))
}

/// Renames the current file, if there is one: it gets the next number.
fn put_away(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path).is_ok_and(|known| known.is_file()) {
        return Ok(()); // creating it says what is wrong
    }
    let last = older(path)?.last().and_then(|last| number(path, last)).map_or(0, |number| number + 1);
    fs::rename(path, numbered(path, last))
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{number:06}"));
    name.into()
}

/// The number of an older file of this recording.
fn number(path: &Path, file: &Path) -> Option<u32> {
    let name = file.file_name()?.to_str()?.strip_prefix(path.file_name()?.to_str()?)?;
    let digits =
        name.strip_prefix('.').filter(|digits| digits.len() >= 6 && digits.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse().ok()
}

/// The older files of a recording, the oldest first.
fn older(path: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut old = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if let Some(number) = number(path, Path::new(&name)) {
            old.push((number, folder.join(name)));
        }
    }
    old.sort();
    Ok(old.into_iter().map(|(_, path)| path).collect())
}

/// The files of a recording, the oldest first.
///
/// # Errors
/// If its folder cannot be read.
pub fn segments(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = older(path)?;
    if files.is_empty() || fs::symlink_metadata(path).is_ok() {
        files.push(path.to_owned());
    }
    Ok(files)
}
