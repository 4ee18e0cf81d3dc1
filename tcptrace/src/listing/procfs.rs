//! Reads directories in `/proc` without building paths or allocating: a walk visits each thread and descriptor of the
//! host.

use std::{
    ffi::CStr,
    fs::File,
    io::{self, Read as _},
    mem::MaybeUninit,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use crate::model::skipped::Skipped;

pub(super) struct Directory(OwnedFd);

impl Directory {
    pub(super) fn open(path: &CStr) -> io::Result<Self> {
        open_at(libc::AT_FDCWD, path, libc::O_DIRECTORY).map(Self)
    }

    /// Opens the directory at `path` relative to this one.
    pub(super) fn directory(&self, path: &CStr) -> io::Result<Self> {
        open_at(self.0.as_raw_fd(), path, libc::O_DIRECTORY).map(Self)
    }

    /// Reads the file at `path` relative to this directory.
    pub(super) fn read(&self, path: &CStr) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::from(open_at(self.0.as_raw_fd(), path, 0)?).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The number N in a link `KIND:[N]` at `path`; `None` for other link texts.
    pub(super) fn link(&self, path: &CStr, kind: &str) -> io::Result<Option<u64>> {
        let mut target = [0_u8; 64];
        // SAFETY: `path` is NUL-terminated, and the kernel writes at most `target.len()` bytes to `target`.
        let length =
            unsafe { libc::readlinkat(self.0.as_raw_fd(), path.as_ptr(), target.as_mut_ptr().cast(), target.len()) };
        match usize::try_from(length) {
            Ok(length) => Ok(inode(&target[..length], kind)),
            Err(_) => Err(gone_or_denied(io::Error::last_os_error(), || self.exists(path))),
        }
    }

    /// Checks that `path` exists relative to this directory, without following links.
    fn exists(&self, path: &CStr) -> io::Result<()> {
        let mut status = MaybeUninit::<libc::stat>::uninit();
        // SAFETY: `path` is NUL-terminated, and the kernel writes to `status`, which is not used.
        match unsafe {
            libc::fstatat(self.0.as_raw_fd(), path.as_ptr(), status.as_mut_ptr(), libc::AT_SYMLINK_NOFOLLOW)
        } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Calls `visit` for each entry whose name is a number.
    pub(super) fn numbers(&self, mut visit: impl FnMut(&CStr, u32)) -> io::Result<()> {
        let mut buffer = [0_u8; 16 << 10];
        loop {
            // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`.
            let length =
                unsafe { libc::syscall(libc::SYS_getdents64, self.0.as_raw_fd(), buffer.as_mut_ptr(), buffer.len()) };
            match usize::try_from(length) {
                Ok(0) => return Ok(()),
                Ok(length) => numbered(&buffer[..length], &mut visit),
                Err(_) => return Err(io::Error::last_os_error()),
            }
        }
    }
}

fn open_at(directory: i32, path: &CStr, flags: i32) -> io::Result<OwnedFd> {
    // SAFETY: `path` is NUL-terminated.
    descriptor(unsafe { libc::openat(directory, path.as_ptr(), flags | libc::O_RDONLY | libc::O_CLOEXEC) })
}

/// Takes the descriptor that a system call returned.
pub(super) fn descriptor(result: i32) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just created it for this process; it has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(result) })
}

/// Joins `name` and `rest` in `buffer`, NUL-terminated.
pub(super) fn joined<'a>(buffer: &'a mut Vec<u8>, name: &CStr, rest: &CStr) -> &'a CStr {
    buffer.clear();
    buffer.extend_from_slice(name.to_bytes());
    buffer.extend_from_slice(rest.to_bytes_with_nul());
    CStr::from_bytes_until_nul(buffer).unwrap_or_default()
}

/// Parses directory entries in the format of getdents64(2): inode, offset (8 bytes each), length (2), type (1), name,
/// NUL.
fn numbered(mut entries: &[u8], visit: &mut impl FnMut(&CStr, u32)) {
    while let Some(&[low, high]) = entries.get(16..18) {
        let length = usize::from(u16::from_ne_bytes([low, high]));
        let Some((entry, rest)) = entries.split_at_checked(length) else { return };
        let Some(name) = entry.get(19..).and_then(|name| CStr::from_bytes_until_nul(name).ok()) else { return };
        if let Some(number) = number(name.to_bytes()) {
            visit(name, number);
        }
        entries = rest;
    }
}

fn number<N: std::str::FromStr>(digits: &[u8]) -> Option<N> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// N in `KIND:[N]`.
fn inode(target: &[u8], kind: &str) -> Option<u64> {
    number(target.strip_prefix(kind.as_bytes())?.strip_prefix(b":[")?.strip_suffix(b"]")?)
}

/// Whether the error means that the object no longer exists.
pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

/// Why a link of `/proc` was not followed. The kernel also returns EACCES if the task ended while the path was resolved
/// (`fs/proc/namespaces.c`, `proc_ns_get_link`; `fs/proc/base.c`, `proc_pid_get_link`). A second lookup, `exists`, then
/// returns ENOENT or ESRCH, and that error is the right one.
pub(super) fn gone_or_denied(error: io::Error, exists: impl FnOnce() -> io::Result<()>) -> io::Error {
    let gone = || exists().err().filter(is_gone);
    if is_denied(&error) { gone().unwrap_or(error) } else { error }
}

/// Whether the error means missing permission.
pub(super) fn is_denied(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM))
}

/// Counts a process that could not be read.
pub(super) fn count(skipped: &mut Skipped, pid: u32, error: &io::Error) {
    if is_gone(error) {
        skipped.processes_gone += 1;
    } else {
        skipped.processes_denied += 1;
        skipped.denied.add(pid, error.raw_os_error().unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_parsed() {
        assert_eq!(inode(b"net:[4026531840]", "net"), Some(4_026_531_840));
        assert_eq!(inode(b"socket:[7]", "socket"), Some(7));
        let others: [&[u8]; 7] = [
            b"",
            b"/dev/null",
            b"net:[7]",
            b"socket:[7",
            b"socket:[]",
            b"socket:[\xff]",
            b"socket:[99999999999999999999]",
        ];
        for other in others {
            assert_eq!(inode(other, "socket"), None, "{other:?}");
        }
    }

    #[test]
    fn a_task_that_ended_is_gone_and_not_denied() {
        let error = |number| io::Error::from_raw_os_error(number);
        let judged = |first, second: Option<i32>| {
            gone_or_denied(error(first), || second.map_or(Ok(()), |second| Err(error(second)))).raw_os_error().unwrap()
        };
        assert_eq!(judged(libc::EACCES, Some(libc::ENOENT)), libc::ENOENT);
        assert_eq!(judged(libc::EACCES, Some(libc::ESRCH)), libc::ESRCH);
        assert_eq!(judged(libc::EACCES, Some(libc::EACCES)), libc::EACCES, "it may not even be looked up");
        assert_eq!(judged(libc::EACCES, None), libc::EACCES);
        assert_eq!(judged(libc::EMFILE, Some(libc::ENOENT)), libc::EMFILE);
    }

    #[test]
    fn entries_that_are_cut_or_wrong_are_no_trouble() {
        let entry = |name: &str| {
            let length = 19 + name.len() as u16 + 1;
            [&[0; 16][..], &length.to_ne_bytes(), &[4], name.as_bytes(), &[0]].concat()
        };
        let whole = [entry("."), entry("12"), entry("self"), entry("345")].concat();
        let seen = |bytes: &[u8]| {
            let mut numbers = Vec::new();
            numbered(bytes, &mut |name, number| {
                assert_eq!(name.to_str().unwrap(), number.to_string());
                numbers.push(number);
            });
            numbers
        };
        assert_eq!(seen(&whole), [12, 345]);
        for end in 0..whole.len() {
            assert!([12, 345].starts_with(&seen(&whole[..end])));
        }
        for at in 0..whole.len() {
            let mut wrong = whole.clone();
            wrong[at] ^= 0xff;
            numbered(&wrong, &mut |_, _| ());
        }
        let mut empty = whole;
        empty[16..18].fill(0);
        assert!(seen(&empty).is_empty(), "an entry of no length ends the walk");
    }
}
