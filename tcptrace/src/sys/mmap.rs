//! Memory mappings of files and BPF maps.

use std::{io, os::fd::AsRawFd, ptr};

/// Part of a file, mapped until dropped.
pub(crate) struct Mapping {
    address: *mut libc::c_void,
    len: usize,
}

// SAFETY: mappings belong to the process, not to a thread.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps `len` bytes from `offset`; `access` and `kind` are the protection and flags of mmap(2).
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(crate) fn new(file: &impl AsRawFd, offset: usize, len: usize, access: i32, kind: i32) -> io::Result<Self> {
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        // SAFETY: creates a new mapping, which overlaps no existing memory.
        let address = unsafe { libc::mmap(ptr::null_mut(), len, access, kind, file.as_raw_fd(), offset) };
        if address == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Self { address, len }) }
    }

    /// Start address and length in bytes.
    pub(crate) const fn parts(&self) -> (*const u8, usize) {
        (self.address.cast_const().cast(), self.len)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this value owns the mapping, and nothing refers to it any more.
        unsafe { libc::munmap(self.address, self.len) };
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use std::{fs::File, os::fd::FromRawFd as _};

    use super::*;

    /// A file of zeros that stands in for a BPF map.
    pub(crate) fn file(len: u64) -> File {
        // SAFETY: the name is NUL-terminated; the descriptor is checked and has no other owner.
        let file = unsafe {
            let fd = libc::memfd_create(c"map".as_ptr(), libc::MFD_CLOEXEC);
            assert!(fd >= 0, "{}", io::Error::last_os_error());
            File::from_raw_fd(fd)
        };
        file.set_len(len).unwrap();
        file
    }
}
