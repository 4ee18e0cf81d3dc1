//! The file in which the kernel shows its types.

use std::{fs::File, io, ops::Deref, os::fd::AsRawFd as _, ptr, slice};

use super::btf::VMLINUX;

/// What is in it. From 6.16 on it can be mapped (`kernel/bpf/sysfs_btf.c`), which saves copying some megabytes in
/// pieces of 4 KiB.
pub enum Vmlinux {
    /// Address and length of a mapping of its own.
    Mapped(*mut libc::c_void, usize),
    /// A copy.
    Read(Vec<u8>),
}

impl Vmlinux {
    /// Maps or reads it.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn open() -> io::Result<Self> {
        let file = File::open(VMLINUX)?;
        let len = usize::try_from(file.metadata()?.len()).unwrap_or(0);
        // SAFETY: a new mapping, which is no business of anything that there is.
        let address =
            unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd(), 0) };
        if address == libc::MAP_FAILED {
            std::fs::read(VMLINUX).map(Self::Read)
        } else {
            Ok(Self::Mapped(address, len))
        }
    }
}

impl Deref for Vmlinux {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            // SAFETY: so many bytes are mapped as long as this lives, and the kernel never changes them.
            Self::Mapped(address, len) => unsafe { slice::from_raw_parts(address.cast(), *len) },
            Self::Read(bytes) => bytes,
        }
    }
}

impl Drop for Vmlinux {
    fn drop(&mut self) {
        if let Self::Mapped(address, len) = self {
            // SAFETY: the mapping is this value's own, and nothing refers to it any more.
            unsafe { libc::munmap(*address, *len) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_give_the_same() {
        match (Vmlinux::open(), std::fs::read(VMLINUX)) {
            (Ok(opened), Ok(read)) => assert!(*opened == *read),
            (Err(_), Err(error)) => eprintln!("not tested: {VMLINUX}: {error}"),
            (opened, read) => panic!("opened: {}, read: {}", opened.is_ok(), read.is_ok()),
        }
    }
}
