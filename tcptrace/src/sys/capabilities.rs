//! The capabilities of this process (capabilities(7)).

/// The effective capabilities of a process (capabilities(7)).
#[derive(Clone, Copy, Debug)]
pub struct Capabilities(u64);

#[allow(missing_docs, reason = "the names are the kernel's")]
impl Capabilities {
    pub const NET_ADMIN: u32 = 12;
    pub const SYS_PTRACE: u32 = 19;
    pub const SYS_ADMIN: u32 = 21;
    pub const SYS_RESOURCE: u32 = 24;
    pub const PERFMON: u32 = 38;
    pub const BPF: u32 = 39;

    /// The set of these capability numbers.
    #[must_use]
    pub fn of(numbers: &[u32]) -> Self {
        Self(numbers.iter().fold(0, |bits, number| bits | 1 << number))
    }

    /// The capabilities of the calling thread; `None` if capget(2) fails.
    #[must_use]
    pub fn own() -> Option<Self> {
        rustix::thread::capabilities(None).ok().map(|sets| Self(sets.effective.bits()))
    }

    #[must_use]
    pub const fn has(self, capability: u32) -> bool {
        self.0 >> capability & 1 != 0
    }

    /// Whether the process may load tracing programs (`kernel/bpf/syscall.c`, `bpf_prog_load`).
    #[must_use]
    pub const fn can_trace(self) -> bool {
        self.has(Self::SYS_ADMIN) || self.has(Self::BPF) && self.has(Self::PERFMON)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_those_in_effect() {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
        assert_eq!(Capabilities::own().unwrap().0, u64::from_str_radix(line.trim(), 16).unwrap());
    }
}
