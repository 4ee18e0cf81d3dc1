//! CPU time and memory used by this process.

use std::fs;

use rustix::param::page_size;

use crate::sys::clock::process_cpu_ns;

/// Resources that this process has used since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time, in ns.
    pub cpu_ns: u64,
    /// Resident memory, in bytes.
    pub resident_bytes: u64,
}

/// Reads the current usage; memory is 0 if `/proc` is not mounted.
#[must_use]
pub fn usage() -> Usage {
    // proc_pid_statm(5): the second number is the resident size in pages.
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    Usage { cpu_ns: process_cpu_ns(), resident_bytes: pages * page_size() as u64 }
}

#[cfg(test)]
mod tests {
    #[test]
    fn usage_is_that_of_this_process() {
        let before = super::usage();
        assert!(before.cpu_ns > 0 && before.resident_bytes > 1 << 20, "{before:?}");
        let memory = vec![1u8; 64 << 20];
        let after = super::usage();
        assert!(after.resident_bytes > before.resident_bytes + (32 << 20), "{after:?} with {}", memory.len());
        assert!(after.cpu_ns > before.cpu_ns);
    }
}
