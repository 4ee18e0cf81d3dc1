//! Reads files below a root folder, as a process with that root would see them.
//!
//! The files belong to others: links are resolved within the root (`RESOLVE_IN_ROOT` of openat2(2), since Linux 5.6),
//! so that neither a link of a container nor an absolute link of a host mounted at `/host` leads elsewhere; only regular
//! files are opened, never a FIFO or a device; and at most a given number of bytes is read.

use std::{
    fs::File,
    io::{self, Read as _},
    mem::MaybeUninit,
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
};

use rustix::fs::{FileType, Mode, OFlags, RawDir, ResolveFlags, Stat, fstat, open, openat2};

/// Identifies the content of a file or folder: it differs after each change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    file: (u64, u64),
    size: i64,
    changed: (i64, u64),
}

impl Version {
    const fn new(stat: &Stat) -> Self {
        let changed = (stat.st_mtime, stat.st_mtime_nsec);
        Self { file: (stat.st_dev, stat.st_ino), size: stat.st_size, changed }
    }

    /// Whether it is of the same file or folder, now or earlier.
    pub(super) fn is_of_same_file(&self, other: &Self) -> bool {
        self.file == other.file
    }
}

/// A root folder.
#[derive(Debug)]
pub(super) struct Root(OwnedFd);

impl Root {
    /// Opens the folder at `path`, whose own links are followed.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?))
    }

    fn locate(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Ok(openat2(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
    }

    /// Version of a file or folder.
    pub(super) fn version(&self, path: &str) -> io::Result<Version> {
        Ok(Version::new(&fstat(self.locate(path, OFlags::PATH)?)?))
    }

    /// Reads a regular file of at most `max` bytes.
    pub(super) fn read(&self, path: &str, max: usize) -> io::Result<Vec<u8>> {
        // Neither opening a FIFO or a device for its path alone nor asking for its type does anything to it.
        let located = self.locate(path, OFlags::PATH)?;
        let stat = fstat(&located)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("it is not a regular file"));
        }
        // The path of the descriptor leads to the same file, whatever has its name now.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(open(format!("/proc/self/fd/{}", located.as_raw_fd()), flags, Mode::empty())?);
        let mut bytes = Vec::new();
        file.take(max as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > max {
            return Err(io::Error::other(format!("it has over {max} bytes")));
        }
        Ok(bytes)
    }

    /// Calls `visit` with the names in a folder, of which at most `max` are read; names that are not UTF-8 are passed
    /// over.
    pub(super) fn list(&self, path: &str, max: usize, mut visit: impl FnMut(&str)) -> io::Result<()> {
        let folder = self.locate(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut entries = RawDir::new(folder, &mut buffer);
        for _ in 0..max {
            let Some(entry) = entries.next() else { break };
            match entry?.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => visit(name),
            }
        }
        Ok(())
    }
}
