//! The CPUs that there may be, and how far the ring of each is written and read.

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

/// How far the ring of each CPU is written and read, in the order of their numbers.
pub(in super::super) struct Cpus(Mapping);

impl Cpus {
    /// Maps it; the object keeps the map.
    ///
    /// # Errors
    /// Where the map is missing, or the kernel refuses.
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
        // SAFETY: within what is mapped.
        unsafe { self.0.parts().0.cast::<CpuRing>().add(cpu) }
    }

    /// [`CpuRing::reserved`]; 0 for a CPU that there is not.
    pub(in super::super) fn reserved(&self, cpu: usize) -> u64 {
        // SAFETY: an integer; programs write it meanwhile.
        if cpu < self.len() { unsafe { (&raw const (*self.at(cpu)).reserved).read_volatile() } } else { 0 }
    }

    /// [`CpuRing::consumed`], which user space alone writes.
    pub(super) fn consumed(&self, cpu: usize) -> &AtomicU64 {
        // SAFETY: mapped to be written, and read by programs as a whole.
        unsafe { &*(&raw const (*self.at(cpu)).consumed).cast() }
    }
}
