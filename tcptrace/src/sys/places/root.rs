//! Reads files below a root folder, as a process with that root would see them.
//!
//! The files belong to others: links are resolved within the root (`RESOLVE_IN_ROOT` of openat2(2), since Linux 5.6),
//! so that neither a link of a container nor an absolute link of a host mounted at `/host` leads elsewhere; only regular
//! files are opened, never a FIFO or a device; and at most a given number of bytes is read.

use std::{
    ffi::CString,
    fs::File,
    io::{self, Read as _},
    mem::MaybeUninit,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
    path::Path,
};

use rustix::fs::{FileType, Mode, OFlags, RawDir, ResolveFlags, Stat, fstat, open};

/// `struct open_how` of `include/uapi/linux/openat2.h`.
#[repr(C)]
#[derive(Debug)]
pub(in crate::sys) struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

impl OpenHow {
    const fn within(flags: OFlags) -> Self {
        let resolve = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);
        Self { flags: flags.union(OFlags::CLOEXEC).bits() as u64, mode: 0, resolve: resolve.bits() }
    }
}

/// The ways in which files are opened: for their path, and as a folder. They are constants, so that a filter of system calls
/// knows them by their place (`sandbox/seccomp.rs`).
pub(in crate::sys) static HOW: [OpenHow; 2] =
    [OpenHow::within(OFlags::PATH), OpenHow::within(OFlags::RDONLY.union(OFlags::DIRECTORY))];

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

    fn locate(&self, path: &str, how: &'static OpenHow) -> io::Result<OwnedFd> {
        let path = CString::new(path)?;
        // SAFETY: a string and a struct that live as long as the call, which only reads them.
        let result = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                self.0.as_raw_fd(),
                path.as_ptr(),
                std::ptr::from_ref(how),
                size_of::<OpenHow>(),
            )
        };
        match RawFd::try_from(result) {
            // SAFETY: the kernel has just created it for this process; it has no other owner.
            Ok(descriptor @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Version of a file or folder.
    pub(super) fn version(&self, path: &str) -> io::Result<Version> {
        Ok(Version::new(&fstat(self.locate(path, &HOW[0])?)?))
    }

    /// Reads a regular file of at most `max` bytes.
    pub(super) fn read(&self, path: &str, max: usize) -> io::Result<Vec<u8>> {
        // Neither opening a FIFO or a device for its path alone nor asking for its type does anything to it.
        let located = self.locate(path, &HOW[0])?;
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
        let folder = self.locate(path, &HOW[1])?;
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
