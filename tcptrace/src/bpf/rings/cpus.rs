//! The possible CPUs, and the write and read positions of their rings.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd},
    sync::atomic::AtomicU64,
};

use aya::{Ebpf, maps::Map};
use tcptrace_common::ring::CpuRing;

use super::sizes::Sizes;
use crate::{
    bpf::error::{Error, failed},
    sys::mmap::Mapping,
};

/// Write and read position of each CPU's ring, by CPU number.
pub(in super::super) struct Cpus(Mapping);

impl Cpus {
    /// Maps the positions; the object keeps the map itself.
    ///
    /// # Errors
    /// If the map is missing, or the kernel refuses.
    pub(in super::super) fn map(ebpf: &Ebpf, sizes: Sizes) -> Result<Self, Error> {
        const NAME: &str = "CPU_RINGS";
        match ebpf.map(NAME).ok_or(Error::NotInObject(NAME))? {
            Map::Array(data) => Self::new(&data.fd().as_fd(), sizes).map_err(|source| failed(NAME, source)),
            _ => Err(failed(NAME, io::ErrorKind::InvalidInput.into())),
        }
    }

    pub(super) fn new(file: &impl AsRawFd, sizes: Sizes) -> io::Result<Self> {
        let len = sizes.cpus as usize * size_of::<CpuRing>();
        Mapping::new(file, 0, len, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED).map(Self)
    }

    pub(super) fn len(&self) -> usize {
        self.0.parts().1 / size_of::<CpuRing>()
    }

    fn at(&self, cpu: usize) -> *const CpuRing {
        assert!(cpu < self.len());
        // SAFETY: within the mapping.
        unsafe { self.0.parts().0.cast::<CpuRing>().add(cpu) }
    }

    /// [`CpuRing::reserved`]; 0 for a CPU that does not exist.
    pub(in super::super) fn reserved(&self, cpu: usize) -> u64 {
        // SAFETY: an integer, which programs may write concurrently.
        if cpu < self.len() { unsafe { (&raw const (*self.at(cpu)).reserved).read_volatile() } } else { 0 }
    }

    /// [`CpuRing::consumed`], which only user space writes.
    pub(super) fn consumed(&self, cpu: usize) -> &AtomicU64 {
        // SAFETY: mapped writable; the programs read the value in one access.
        unsafe { &*(&raw const (*self.at(cpu)).consumed).cast() }
    }
}
