//! Files of the kernel in this process's memory.

use std::{io, os::fd::AsRawFd, ptr};

/// A part of a file, mapped as long as this lives.
pub(crate) struct Mapping {
    address: *mut libc::c_void,
    len: usize,
}

// SAFETY: what is mapped is the process's, not a thread's.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps `len` bytes from `offset` on; `access` and `kind` as mmap(2) takes them.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub(crate) fn new(file: &impl AsRawFd, offset: usize, len: usize, access: i32, kind: i32) -> io::Result<Self> {
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        // SAFETY: a new mapping, which is no business of anything that there is.
        let address = unsafe { libc::mmap(ptr::null_mut(), len, access, kind, file.as_raw_fd(), offset) };
        if address == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Self { address, len }) }
    }

    /// Where it begins, and how many bytes it has.
    pub(crate) const fn parts(&self) -> (*const u8, usize) {
        (self.address.cast_const().cast(), self.len)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and nothing refers to it any more.
        unsafe { libc::munmap(self.address, self.len) };
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use std::{fs::File, os::fd::FromRawFd as _};

    use super::*;

    /// A file of zeros that takes the place of a map.
    pub(crate) fn file(len: u64) -> File {
        // SAFETY: the name is NUL-terminated; what comes is checked, and nobody else's.
        let file = unsafe {
            let fd = libc::memfd_create(c"map".as_ptr(), libc::MFD_CLOEXEC);
            assert!(fd >= 0, "{}", io::Error::last_os_error());
            File::from_raw_fd(fd)
        };
        file.set_len(len).unwrap();
        file
    }
}
