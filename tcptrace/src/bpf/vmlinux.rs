//! The file in which the kernel shows its types.

use std::{fs::File, io, ops::Deref, slice};

use super::btf::VMLINUX;
use crate::sys::mmap::Mapping;

/// What is in it. From 6.16 on it can be mapped (`kernel/bpf/sysfs_btf.c`), which saves copying some megabytes in
/// pieces of 4 KiB.
pub struct Vmlinux(Bytes);

enum Bytes {
    Mapped(Mapping),
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
                // SAFETY: so many bytes are mapped as long as this lives, and the kernel never changes them.
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
