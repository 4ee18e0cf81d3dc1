//! The capabilities of this process (capabilities(7)).

use std::io;

use rustix::{
    io::Errno,
    thread::{
        CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
        remove_capability_from_bounding_set, set_capabilities,
    },
};

/// A set of capabilities (capabilities(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities(u64);

#[allow(missing_docs, reason = "the names are the kernel's")]
impl Capabilities {
    pub const CHOWN: u32 = 0;
    pub const DAC_OVERRIDE: u32 = 1;
    pub const DAC_READ_SEARCH: u32 = 2;
    pub const FOWNER: u32 = 3;
    pub const SETPCAP: u32 = 8;
    pub const NET_BIND_SERVICE: u32 = 10;
    pub const NET_ADMIN: u32 = 12;
    pub const SYS_PTRACE: u32 = 19;
    pub const SYS_ADMIN: u32 = 21;
    pub const SYS_RESOURCE: u32 = 24;
    pub const PERFMON: u32 = 38;
    pub const BPF: u32 = 39;

    /// The set of these capability numbers.
    #[must_use]
    pub const fn of(numbers: &[u32]) -> Self {
        let (mut bits, mut rest) = (0, numbers);
        while let [number, others @ ..] = rest {
            (bits, rest) = (bits | 1 << *number, others);
        }
        Self(bits)
    }

    /// The capabilities of the calling thread; `None` if capget(2) fails.
    #[must_use]
    pub fn own() -> Option<Self> {
        capabilities(None).ok().map(|sets| Self(sets.effective.bits()))
    }

    /// Gives up all other capabilities, in each set of the calling thread and of the threads that it starts. There is no way
    /// back, except by a program with capabilities of its own, unless `no_new_privs` is set.
    ///
    /// # Errors
    /// If the kernel or a seccomp filter refuses.
    pub fn keep(self) -> io::Result<()> {
        let kept = CapabilitySet::from_bits_retain(self.0);
        let all = (0..u64::BITS).map(|number| CapabilitySet::from_bits_retain(1 << number));
        // The kernel refuses the numbers that it does not know.
        let all = all.take_while(|one| capability_is_in_bounding_set(*one).is_ok());
        for other in all.filter(|one| !kept.contains(*one)) {
            match remove_capability_from_bounding_set(other) {
                // Without CAP_SETPCAP the bounding set stays: it adds nothing to a thread with `no_new_privs`.
                Err(Errno::PERM) => break,
                removed => removed?,
            }
        }
        clear_ambient_capability_set()?;
        self.raise()
    }

    #[must_use]
    pub const fn has(self, capability: u32) -> bool {
        self.0 >> capability & 1 != 0
    }

    /// Gives up all other capabilities, and makes these effective as far as they are permitted.
    ///
    /// # Errors
    /// See [`Self::keep`].
    pub fn raise(self) -> io::Result<()> {
        let permitted = capabilities(None)?.permitted & CapabilitySet::from_bits_retain(self.0);
        let sets = CapabilitySets { effective: permitted, permitted, inheritable: CapabilitySet::empty() };
        Ok(set_capabilities(None, sets)?)
    }

    /// The capabilities of both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
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

    #[test]
    fn what_is_given_up_is_gone_from_each_set_of_the_thread() {
        // A thread of its own: only that one gives them up.
        let given_up = || {
            let before = Capabilities::own().unwrap().0;
            Capabilities::of(&[Capabilities::BPF, Capabilities::PERFMON]).keep().unwrap();
            let sets = capabilities(None).unwrap();
            let kept = Capabilities::of(&[Capabilities::BPF, Capabilities::PERFMON]).0 & before;
            assert_eq!((sets.effective.bits(), sets.permitted.bits(), sets.inheritable.bits()), (kept, kept, 0));
            before
        };
        let before = std::thread::spawn(given_up).join().unwrap();
        assert_eq!(Capabilities::own().unwrap().0, before);
    }
}
