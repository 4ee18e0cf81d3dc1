//! Reads directories in `/proc` without building paths or allocating: a walk visits each thread and descriptor of the
//! host.

use std::{
    ffi::CStr,
    fs::File,
    io::{self, Read as _},
    mem::MaybeUninit,
    os::fd::{AsFd, FromRawFd as _, OwnedFd},
};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir, openat, readlinkat_raw, statat};

use crate::model::skipped::Skipped;

pub(super) struct Directory(OwnedFd);

impl Directory {
    pub(super) fn open(path: &CStr) -> io::Result<Self> {
        open_at(CWD, path, OFlags::DIRECTORY).map(Self)
    }

    /// Opens the directory at `path` relative to this one.
    pub(super) fn directory(&self, path: &CStr) -> io::Result<Self> {
        open_at(&self.0, path, OFlags::DIRECTORY).map(Self)
    }

    /// Reads the file at `path` relative to this directory.
    pub(super) fn read(&self, path: &CStr) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::from(open_at(&self.0, path, OFlags::empty())?).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The number N in a link `KIND:[N]` at `path`; `None` for other link texts.
    pub(super) fn link(&self, path: &CStr, kind: &str) -> io::Result<Option<u64>> {
        let mut target = [0_u8; 64];
        match readlinkat_raw(&self.0, path, &mut target[..]) {
            Ok(length) => Ok(inode(&target[..length], kind)),
            Err(error) => Err(gone_or_denied(error.into(), || self.exists(path))),
        }
    }

    /// Checks that `path` exists relative to this directory, without following links.
    fn exists(&self, path: &CStr) -> io::Result<()> {
        Ok(statat(&self.0, path, AtFlags::SYMLINK_NOFOLLOW).map(drop)?)
    }

    /// Calls `visit` for each entry whose name is a number.
    pub(super) fn numbers(&self, mut visit: impl FnMut(&CStr, u32)) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut entries = RawDir::new(&self.0, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            if let Some(number) = number(entry.file_name().to_bytes()) {
                visit(entry.file_name(), number);
            }
        }
        Ok(())
    }
}

fn open_at(directory: impl AsFd, path: &CStr, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(openat(directory, path, flags | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
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
    use std::ffi::CString;

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
    fn entries_whose_names_are_no_numbers_are_left_out() {
        let folder = std::env::temp_dir().join(format!("tcptrace-procfs-{}", std::process::id()));
        for name in ["12", "self", "345", "-1", "4294967296"] {
            std::fs::create_dir_all(folder.join(name)).unwrap();
        }
        let mut numbers = Vec::new();
        let path = CString::new(folder.as_os_str().as_encoded_bytes()).unwrap();
        let visit = |name: &CStr, number: u32| {
            assert_eq!(name.to_str().unwrap(), number.to_string());
            numbers.push(number);
        };
        Directory::open(&path).unwrap().numbers(visit).unwrap();
        std::fs::remove_dir_all(folder).unwrap();
        numbers.sort_unstable();
        assert_eq!(numbers, [12, 345]);
    }
}
