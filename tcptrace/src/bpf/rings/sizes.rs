//! Sizes of the rings, and whether CPUs can have rings of their own.

use std::path::Path;

use tcptrace_common::ring::{MAX_RECORD, Slot};

use crate::bpf::error::Error;

/// Sizes of the rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Sizes {
    /// Highest possible CPU number plus one.
    pub(in super::super) cpus: u32,
    /// Slots in the ring of each CPU, a power of two; 0 if CPUs have no rings of their own.
    pub(in super::super) slots: u32,
    /// Size of the shared ring buffer in bytes.
    pub(in super::super) shared: u32,
}

impl Sizes {
    /// Minimum number of slots in the ring of a CPU.
    const MIN_SLOTS: u32 = 8;
    /// Size of the shared ring buffer in bytes if it carries only wake-ups.
    const SHARED: u32 = 1 << 16;

    /// Sizes for about `bytes` in total, a power of two and at least one page. CPUs have no rings if `is_shared`, or if
    /// they cannot.
    ///
    /// # Errors
    /// If the possible CPUs cannot be read.
    pub(in super::super) fn of(bytes: u32, is_shared: bool) -> Result<Self, Error> {
        let cpus = possible_cpus()?.into_iter().max().map_or(1, |last| last + 1);
        Ok(Self::for_cpus(bytes, cpus, !is_shared && are_ordered()))
    }

    fn for_cpus(bytes: u32, cpus: u32, has_rings: bool) -> Self {
        if !has_rings {
            return Self { cpus, slots: 0, shared: bytes };
        }
        let slots = (bytes / size_of::<Slot>() as u32 / cpus.max(1)).max(Self::MIN_SLOTS);
        Self { cpus, slots: 1 << slots.ilog2(), shared: bytes.min(Self::SHARED) }
    }

    /// Number of records between two checks of the fill level on one CPU, a power of two, minus one: together, the CPUs
    /// check at least once per eighth of the bytes at which user space is woken.
    pub(in super::super) fn wake_mask(self) -> u32 {
        let records = (self.shared / 32 / MAX_RECORD as u32 / self.cpus.max(1)).clamp(1, 64);
        (1 << records.ilog2()) - 1
    }
}

/// Whether a CPU can have a ring without a lock. Stores must become visible in order (x86 guarantees that, and BPF on
/// older kernels has no instruction for it), and tasks must not preempt the programs, as they may with PREEMPT_RT
/// (`kernel/ksysfs.c`, `realtime`).
fn are_ordered() -> bool {
    cfg!(target_arch = "x86_64") && !Path::new("/sys/kernel/realtime").exists()
}

/// The possible CPU numbers in ascending order. There may be gaps (not on x86).
///
/// # Errors
/// If the kernel does not report them.
pub(in super::super) fn possible_cpus() -> Result<Vec<u32>, Error> {
    const PATH: &str = "/sys/devices/system/cpu/possible";
    let text = std::fs::read_to_string(PATH).map_err(|source| Error::Cpus { path: PATH, source })?;
    ranges(&text).ok_or_else(|| Error::Cpus { path: PATH, source: std::io::ErrorKind::InvalidData.into() })
}

/// Parses a list of ranges such as `0-3,8` (`Documentation/core-api/printk-formats.rst`, `%*pbl`).
pub(crate) fn ranges(text: &str) -> Option<Vec<u32>> {
    /// Upper limit on NR_CPUS (`arch/x86/Kconfig`).
    const MOST_CPUS: u32 = 8192;
    let mut numbers = Vec::new();
    for range in text.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let last = last.parse().ok().filter(|last| *last < MOST_CPUS)?;
        numbers.extend(first.parse::<u32>().ok()?..=last);
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_share_what_was_asked_for() {
        let of = |bytes, cpus| Sizes::for_cpus(bytes, cpus, true);
        assert_eq!(of(8 << 20, 2), Sizes { cpus: 2, slots: 16384, shared: 65536 });
        assert_eq!(of(8 << 20, 128), Sizes { cpus: 128, slots: 256, shared: 65536 });
        assert_eq!(of(4096, 2), Sizes { cpus: 2, slots: 8, shared: 4096 });
        assert_eq!(of(4096, 512).slots, 8, "never too small to be used");
        assert_eq!(Sizes::for_cpus(8 << 20, 2, false), Sizes { cpus: 2, slots: 0, shared: 8 << 20 });
        assert_eq!((of(4096, 2).wake_mask(), of(8 << 20, 2).wake_mask()), (0, 3));
    }

    #[test]
    fn cpus_are_numbered_as_the_kernel_says() {
        assert_eq!(possible_cpus().unwrap().len(), aya::util::nr_cpus().unwrap());
        assert_eq!(ranges("0\n").unwrap(), [0]);
        assert_eq!(ranges("0-2,8,10-11\n").unwrap(), [0, 1, 2, 8, 10, 11]);
        for wrong in ["", "x", "0-", "-1", "1,,2", "0-8192", "4294967295"] {
            assert_eq!(ranges(wrong), None, "{wrong}");
        }
    }
}
