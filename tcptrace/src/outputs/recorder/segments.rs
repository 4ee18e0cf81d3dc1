//! Writes the files of a recording.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::{
    around::Around,
    names::{number, numbered, older},
    settings::{RecorderSettings, SEGMENTS},
};
use crate::{
    pipeline::{
        finding_watch::Noticed,
        recording::{
            chunk::{Compressor, RawChunk},
            header::Header,
            index::Index,
        },
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
    /// Keeps what is around findings.
    around: Option<Around>,
}

impl Segments {
    pub(super) fn create(settings: &RecorderSettings, header: &Header) -> io::Result<Self> {
        let RecorderSettings { path, keep, max_bytes, on_finding } = settings.clone();
        if settings.is_bounded() {
            put_away(&path)?; // what an earlier run has recorded
        }
        let (file, len) = begin(&path, header)?;
        let (index, compressor) = (Index::default(), Compressor::new()?);
        let around = on_finding.map(|_| Around::new(&path, max_bytes));
        Ok(Self { path, keep, max_bytes, file, len, index, compressor, is_ended: false, around })
    }

    /// Size of the current file in bytes.
    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// Begins another file.
    pub(super) fn next(&mut self, header: &Header) -> io::Result<()> {
        self.finish()?;
        let older = put_away(&self.path)?;
        (self.file, self.len) = begin(&self.path, header)?;
        let index = std::mem::take(&mut self.index);
        self.is_ended = false;
        if let (Some(around), Some(older)) = (&mut self.around, older) {
            around.next(older, index.times().map_or(header.start_ns, |times| *times.end()));
        }
        self.remove_old()
    }

    /// Keeps what is around a finding, from the files that there are and those that follow.
    pub(super) fn keep(&mut self, noticed: &Noticed) {
        if let Some(around) = &mut self.around {
            around.begin(noticed);
        }
    }

    /// Number of findings around which something was kept.
    pub(super) fn kept(&self) -> u64 {
        self.around.as_ref().map_or(0, |around| around.count)
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
        let room = self.max_bytes.map(|most| most.saturating_sub(self.len.max(most / SEGMENTS)));
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
        append(&mut self.file, self.len, bytes)?;
        self.index.add(self.len, chunk);
        self.len += bytes.len() as u64;
        // A chunk may be larger than its share.
        if self.max_bytes.is_some_and(|most| self.len > most / SEGMENTS) { self.remove_old() } else { Ok(()) }
    }

    /// Writes the index.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        if !self.is_ended {
            let index = self.compressor.encode(&self.index.to_chunk())?;
            append(&mut self.file, self.len, &[index, &Index::trailer(self.len)].concat())?;
            self.is_ended = true;
        }
        Ok(())
    }
}

/// Adds bytes to a file of this length.
fn append(file: &mut File, len: u64, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes).inspect_err(|_| {
        let _ = file.set_len(len); // a reader stops at half a chunk
    })
}

fn begin(path: &Path, header: &Header) -> io::Result<(File, u64)> {
    let mut file = files::create_private(path)?;
    let bytes = header.encode();
    file.write_all(&bytes)?;
    Ok((file, bytes.len() as u64))
}

/// Renames the current file, if there is one: it gets the next number. Returns its new name.
fn put_away(path: &Path) -> io::Result<Option<PathBuf>> {
    if !fs::symlink_metadata(path).is_ok_and(|known| known.is_file()) {
        return Ok(None); // creating it says what is wrong
    }
    let last = older(path)?.last().and_then(|last| number(path, last)).map_or(0, |number| number.saturating_add(1));
    let name = numbered(path, last);
    fs::rename(path, &name)?;
    Ok(Some(name))
}
