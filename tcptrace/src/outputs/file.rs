//! A file: appended to, or replaced at the start; with another one begun, and the old ones compressed and removed, by size
//! and time.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{Records, Sink, Trouble, rotated};

/// How a file is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileSettings {
    /// Where it is.
    pub path: PathBuf,
    /// Is what is there at the start replaced? If not, it is appended to.
    pub replace: bool,
    /// Bytes from which on another file is begun; a record is never cut. 0: never.
    pub rotate_bytes: u64,
    /// Another file is begun when a multiple of this time since the epoch (UTC) has come. Zero: never.
    pub rotate_every: Duration,
    /// Files that are kept beside the present one, the latest; 0: all.
    pub keep: usize,
    /// How those are compressed.
    pub compression: Compression,
    /// Is a line of the form's own, which names the columns, at the head of each file?
    pub head: Vec<u8>,
}

/// How a file is compressed that is written to no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
}

/// Writes to a file.
#[derive(Debug)]
pub struct FileSink {
    settings: FileSettings,
    open: Option<Open>,
    old: rotated::Keeper,
    /// Bytes of the first record that are written already, and could not be cut off.
    begun: usize,
    /// Why the present file goes on though another one should have begun.
    not_rotated: Option<String>,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Bytes in it, where it is a regular file.
    len: u64,
    is_regular: bool,
    /// Number of the multiple of `rotate_every` in which its first record was written.
    period: Option<u64>,
}

impl FileSink {
    /// Opens it.
    ///
    /// # Errors
    /// Where that cannot be done now.
    pub fn open(settings: FileSettings) -> io::Result<Self> {
        let mut file = open(&settings.path, settings.replace)?;
        file.head(&settings.head)?;
        let old = rotated::Keeper::new(&settings.path, settings.keep, settings.compression);
        Ok(Self { open: Some(file), old, settings, begun: 0, not_rotated: None })
    }

    /// The file, opened where it is not.
    fn file(&mut self) -> io::Result<&mut Open> {
        match &mut self.open {
            Some(open) => Ok(open),
            none => {
                let mut file = open(&self.settings.path, false)?;
                file.head(&self.settings.head)?;
                Ok(none.insert(file))
            }
        }
    }

    fn period(&self) -> u64 {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        since_epoch.as_secs().checked_div(self.settings.rotate_every.as_secs()).unwrap_or(0)
    }

    /// Begins another file if the present one has records, and its time is over or it has no room for `next` bytes more.
    /// Where the present one cannot be put away it goes on.
    fn rotate_if_due(&mut self, next: usize) {
        let (period, limit, head) = (self.period(), self.settings.rotate_bytes, self.settings.head.len() as u64);
        let Some(open) = &self.open else { return };
        let is_over = open.period.is_some_and(|begun| begun != period);
        let is_full = limit > 0 && open.len + next as u64 > limit;
        if !open.is_regular || open.len <= head || !(is_over || is_full) {
            return;
        }
        match self.old.put_away() {
            Ok(()) => {
                self.open = None;
                self.not_rotated = None;
            }
            Err(error) => self.not_rotated = Some(format!("cannot begin another file: {error}")),
        }
    }

    fn write(&mut self, records: &mut Records) -> io::Result<()> {
        let period = self.period();
        while !records.is_empty() {
            self.rotate_if_due(records.iter().next().map_or(0, <[u8]>::len));
            let (limit, begun) = (self.settings.rotate_bytes, self.begun);
            let open = self.file()?;
            open.period.get_or_insert(period);
            // As many as there is room for, and one at least.
            let room = if limit > 0 && open.is_regular { limit.saturating_sub(open.len) } else { u64::MAX };
            let count = records.within(usize::try_from(room).unwrap_or(usize::MAX)).max(1);
            let len: usize = records.iter().take(count).map(<[u8]>::len).sum();
            let (written, result) = open.append(records.bytes().get(begun..len).unwrap_or_default());
            let written = begun + written;
            let whole = records.within(written);
            let cut = written - records.iter().take(whole).map(<[u8]>::len).sum::<usize>();
            self.begun = if open.cut(cut as u64) { 0 } else { cut };
            records.take(whole);
            result?;
        }
        Ok(())
    }
}

impl Sink for FileSink {
    fn deliver(&mut self, records: &mut Records) -> Result<(), Trouble> {
        self.write(records).map_err(|error| Trouble::Later(error.to_string()))
    }

    fn idle(&mut self) -> Result<(), Trouble> {
        self.rotate_if_due(0);
        self.not_rotated.clone().map_or(Ok(()), |reason| Err(Trouble::Later(reason)))
    }

    fn reopen(&mut self) {
        self.open = None;
    }

    fn finish(&mut self) -> Result<(), Trouble> {
        self.old.finish();
        Ok(())
    }
}

impl Open {
    /// Appends all of it; gives how much was written.
    fn append(&mut self, bytes: &[u8]) -> (usize, io::Result<()>) {
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            match self.file.write(rest) {
                Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => {
                    written += count;
                    self.len += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (written, Err(error)),
            }
        }
        (written, Ok(()))
    }

    /// Cuts off what was written last, a record in part; `false` where that cannot be done, and the rest is to be written
    /// behind it.
    fn cut(&mut self, bytes: u64) -> bool {
        let is_cut = bytes == 0 || self.is_regular && self.file.set_len(self.len - bytes).is_ok();
        if is_cut {
            self.len -= bytes;
        }
        is_cut
    }

    /// Writes the head of a file that is empty.
    fn head(&mut self, head: &[u8]) -> io::Result<()> {
        if self.is_regular && self.len > 0 {
            return Ok(());
        }
        let (written, result) = self.append(head);
        if result.is_err() {
            self.cut(written as u64);
        }
        result
    }
}

/// Opens a file to append to; a line that was left half written is ended first.
fn open(path: &Path, replace: bool) -> io::Result<Open> {
    let to_append = |read| OpenOptions::new().append(true).create(true).read(read).open(path);
    // Read, too, to see how it ends.
    let mut file = to_append(true).or_else(|_| to_append(false))?;
    if replace && file.metadata()?.is_file() {
        file.set_len(0)?;
    }
    let metadata = file.metadata()?;
    let mut len = metadata.len();
    let mut last = [0];
    if metadata.is_file() && len > 0 && file.read_exact_at(&mut last, len - 1).is_ok() && last != *b"\n" {
        file.write_all(b"\n")?;
        len += 1;
    }
    Ok(Open { file, len, is_regular: metadata.is_file(), period: None })
}
