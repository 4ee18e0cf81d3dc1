//! Output to a file, appended to or replaced at the start. Optionally rotated by size and time; rotated files are
//! compressed, and the oldest removed.

use std::{
    fs::File,
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{rotated, waiting::writable};
use crate::{
    model::number::{digits, duration, size},
    outputs::{
        rotated::Compression,
        sink::{DeliveryError, Sink},
        target::{Content, OutputKind, Target, flag},
    },
    pipeline::records::Records,
    sys::files::{self, Access},
};

/// Settings of a file output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileSettings {
    /// Path of the file.
    pub path: PathBuf,
    /// Whether an existing file is replaced at the start, rather than appended to.
    pub replace: bool,
    /// Size in bytes at which the file is rotated; records are never split. 0: never.
    pub rotate_bytes: u64,
    /// The file is rotated at multiples of this time since the epoch (UTC). Zero: never.
    pub rotate_every: Duration,
    /// Number of rotated files to keep, the latest ones; 0: all.
    pub keep: usize,
    /// Compression of rotated files.
    pub compression: Compression,
    /// Permissions of a new file, before the umask; 0600 if it is not given.
    pub mode: Option<u32>,
    /// First line of each file, if the format has one: the names of the CSV columns.
    pub head: Vec<u8>,
}

/// Writes records to a file.
#[derive(Debug)]
pub struct FileSink {
    settings: FileSettings,
    open: Option<Open>,
    /// Permissions of the previous file, for the next one.
    access: Option<Access>,
    old: rotated::Rotator,
    /// Why the file was not rotated although it was due.
    not_rotated: Option<String>,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Size in bytes, if it is a regular file.
    len: u64,
    is_regular: bool,
    /// Bytes of the first record that were written already and could not be truncated.
    begun: usize,
    /// Index of the `rotate_every` interval in which its first record was written.
    period: Option<u64>,
}

impl FileSink {
    /// Opens the file.
    ///
    /// # Errors
    /// If it cannot be opened now. A named pipe may get its reader later.
    pub fn open(settings: FileSettings) -> io::Result<Self> {
        let old = rotated::Rotator::new(&settings.path, settings.keep, settings.compression);
        let mut sink = Self { open: None, access: None, old, settings, not_rotated: None };
        match sink.opened(sink.settings.replace) {
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {}
            open => sink.open = Some(open?),
        }
        Ok(sink)
    }

    /// The file, which is opened if needed.
    fn file(&mut self) -> io::Result<&mut Open> {
        let open = match self.open.take() {
            Some(open) => open,
            None => self.opened(false)?,
        };
        Ok(self.open.insert(open))
    }

    fn opened(&self, replace: bool) -> io::Result<Open> {
        let mut open = open(&self.settings.path, self.access, self.settings.mode, replace)?;
        open.head(&self.settings.head)?;
        Ok(open)
    }

    /// Closes the file, and remembers its permissions for the next one.
    fn close(&mut self) {
        let known = self.open.take().and_then(|open| open.file.metadata().ok());
        self.access = known.as_ref().map(Access::of).or(self.access);
    }

    fn period(&self) -> u64 {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        since_epoch.as_secs().checked_div(self.settings.rotate_every.as_secs()).unwrap_or(0)
    }

    /// Rotates the file if it has records, and its interval is over or it has no room for `next` more bytes. If it
    /// cannot be moved away, it stays in use.
    fn rotate_if_due(&mut self, next: usize) {
        let (period, limit, head) = (self.period(), self.settings.rotate_bytes, self.settings.head.len() as u64);
        self.old.tidy_once();
        let Some(open) = &self.open else { return };
        let is_over = open.period.is_some_and(|begun| begun != period);
        let is_full = limit > 0 && open.len + next as u64 > limit;
        if !open.is_regular || open.len <= head || !(is_over || is_full) {
            return;
        }
        match self.old.put_away() {
            // It does not matter if others have moved it away already.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                self.not_rotated = Some(format!("cannot rotate: {error}"))
            }
            _ => {
                self.close();
                self.not_rotated = None;
            }
        }
    }

    fn rotated(&self) -> Result<(), DeliveryError> {
        self.not_rotated.clone().map_or(Ok(()), |reason| Err(DeliveryError::Later(reason)))
    }

    fn write(&mut self, records: &mut Records) -> io::Result<()> {
        let period = self.period();
        self.not_rotated = None;
        while !records.is_empty() {
            if self.not_rotated.is_none() {
                self.rotate_if_due(records.iter().next().map_or(0, <[u8]>::len));
            }
            // If rotation failed, the size limit does not apply.
            let limit = if self.not_rotated.is_none() { self.settings.rotate_bytes } else { 0 };
            let open = self.file()?;
            let begun = open.begun;
            open.period.get_or_insert(period);
            // As many as fit, and at least one.
            let room = if limit > 0 && open.is_regular { limit.saturating_sub(open.len) } else { u64::MAX };
            let count = records.within(usize::try_from(room).unwrap_or(usize::MAX)).max(1);
            let len: usize = records.iter().take(count).map(<[u8]>::len).sum();
            let (written, result) = open.append(records.bytes().get(begun..len).unwrap_or_default());
            let written = begun + written;
            let whole = records.within(written);
            let cut = written - records.iter().take(whole).map(<[u8]>::len).sum::<usize>();
            open.begun = if open.cut(cut as u64) { 0 } else { cut };
            records.take(whole);
            if let Err(error) = result {
                if error.kind() == io::ErrorKind::BrokenPipe {
                    self.open = None; // the next reader is another one
                }
                return Err(error);
            }
        }
        Ok(())
    }
}

impl Sink for FileSink {
    fn deliver(&mut self, records: &mut Records) -> Result<(), DeliveryError> {
        self.write(records).map_err(|error| match &self.open {
            // A device such as `/dev/full` never gets space.
            Some(open) if !open.is_regular && error.raw_os_error() == Some(libc::ENOSPC) => {
                DeliveryError::Failed(error.to_string())
            }
            _ => DeliveryError::Later(error.to_string()),
        })?;
        self.rotated()
    }

    fn idle(&mut self) -> Result<(), DeliveryError> {
        self.rotate_if_due(0);
        self.rotated()
    }

    fn reopen(&mut self) {
        if self.open.as_ref().is_some_and(|open| open.is_regular) {
            self.close();
        }
    }

    fn finish(&mut self) -> Result<(), DeliveryError> {
        self.old.tidy_once();
        self.old.finish();
        Ok(())
    }
}

impl Open {
    /// Appends the bytes; returns how many were written.
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
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Err(error) = writable(&self.file) {
                        return (written, Err(error));
                    }
                }
                Err(error) => return (written, Err(error)),
            }
        }
        (written, Ok(()))
    }

    /// Truncates a partly written record; returns false if that is not possible, so that the rest must be appended.
    fn cut(&mut self, bytes: u64) -> bool {
        // Others may have truncated the file or appended to it.
        let is_last = || self.is_regular && self.file.metadata().is_ok_and(|now| now.len() == self.len);
        let is_cut = bytes == 0 || is_last() && self.file.set_len(self.len - bytes).is_ok();
        if is_cut {
            self.len -= bytes;
        }
        is_cut
    }

    /// Writes the first line to an empty file.
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

/// Opens a file for appending; completes an unfinished line first.
fn open(path: &Path, access: Option<Access>, mode: Option<u32>, replace: bool) -> io::Result<Open> {
    let mut file = files::append(path, access, mode)?;
    // A file behind a descriptor is not ours to move away.
    let is_regular = file.metadata()?.is_file() && !files::is_descriptor(path);
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
    Ok(Open { file, len, is_regular, begun: 0, period: None })
}

/// The kind `file`.
pub(super) const KIND: OutputKind = OutputKind {
    name: "file",
    form: "file:PATH",
    parse: |path| match path {
        "" => Err("`file:` lacks a path: file:PATH".into()),
        path => Ok(Box::new(FileSettings { path: path.into(), ..FileSettings::default() })),
    },
};

/// A file that is replaced, as other tools take a path.
pub(super) fn replaced(path: &str) -> Box<dyn Target> {
    Box::new(FileSettings { path: path.into(), replace: true, ..FileSettings::default() })
}

/// Permissions in octal, as chmod(1) takes them, without the bits by which others could change or run the file.
fn mode(value: &str) -> Result<u32, String> {
    let mode = Some(value).filter(|value| value.bytes().all(|digit| digit.is_ascii_digit()));
    let mode = mode.and_then(|value| u32::from_str_radix(value, 8).ok()).filter(|mode| mode & !0o664 == 0);
    let mode = mode.filter(|mode| mode & 0o600 == 0o600);
    mode.ok_or_else(|| "takes permissions in octal, from 0600 to 0664".into())
}

impl Target for FileSettings {
    fn keys(&self) -> &'static [&'static str] {
        &["format", "replace", "mode", "rotate-size", "rotate-every", "keep", "compress"]
    }

    fn extension(&self) -> Option<&str> {
        self.path.extension()?.to_str()
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "replace" => self.replace = flag(value)?,
            "mode" => self.mode = Some(mode(value)?),
            "rotate-size" => self.rotate_bytes = size(value)?,
            "rotate-every" => {
                let time = Some(duration(value)?).filter(|time| *time >= Duration::from_secs(1));
                self.rotate_every = time.ok_or("takes a second or more")?;
            }
            "keep" => self.keep = digits(value).ok_or("takes a number of files")?,
            _ => {
                self.compression = match value {
                    "none" => Compression::None,
                    "gzip" => Compression::Gzip,
                    "zstd" => Compression::Zstd,
                    other => return Err(format!("unknown compression `{other}`; known: none, gzip, zstd")),
                };
            }
        }
        Ok(())
    }

    fn content(&self) -> Content {
        Content::Formatted
    }

    fn path(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn set_head(&mut self, head: &[u8]) {
        self.head = head.to_vec();
    }

    fn open(&self) -> io::Result<Box<dyn Sink>> {
        Ok(Box::new(FileSink::open(self.clone())?))
    }

    fn boxed(&self) -> Box<dyn Target> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_at_the_end_is_cut_off() {
        let path = std::env::temp_dir().join(format!("tcptrace-cut-{}", std::process::id()));
        let mut file = open(&path, None, None, true).unwrap();
        std::fs::remove_file(&path).unwrap();
        file.append(b"abc\nde").1.unwrap();
        assert!(file.cut(2));
        assert_eq!(file.file.metadata().unwrap().len(), 4);
        file.append(b"de").1.unwrap();
        file.file.set_len(0).unwrap(); // as programs do that copy it and truncate
        assert!(!file.cut(2));
        assert_eq!(file.file.metadata().unwrap().len(), 0, "it does not grow by that");
    }
}
