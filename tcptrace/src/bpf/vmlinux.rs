//! The file in which the kernel exposes its BTF.

use std::{fs::File, io, ops::Deref, slice};

use super::btf::VMLINUX;
use crate::sys::mmap::Mapping;

/// Content of the file. Since 6.16 it can be mapped (`kernel/bpf/sysfs_btf.c`), which avoids copying several megabytes
/// in pieces of 4 KiB.
pub struct Vmlinux(Bytes);

enum Bytes {
    Mapped(Mapping),
    Read(Vec<u8>),
}

impl Vmlinux {
    /// Maps the file, or reads it if it cannot be mapped.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn open() -> io::Result<Self> {
        let file = File::open(VMLINUX)?;
        let len = usize::try_from(file.metadata()?.len()).unwrap_or(0);
        let mapped = Mapping::new(&file, 0, len, libc::PROT_READ, libc::MAP_PRIVATE).map(Bytes::Mapped);
        mapped.or_else(|_| std::fs::read(VMLINUX).map(Bytes::Read)).map(Self)
    }
}

impl Deref for Vmlinux {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Mapped(mapping) => {
                let (address, len) = mapping.parts();
                // SAFETY: that many bytes remain mapped while this lives, and the kernel never changes them.
                unsafe { slice::from_raw_parts(address, len) }
            }
            Bytes::Read(bytes) => bytes,
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
