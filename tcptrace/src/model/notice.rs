//! What a run says of itself and of the host between its events.

/// Something that the reader of the events must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Events were lost.
    Gap(Gap),
    /// Connections closed without TIME_WAIT, since there were `tcp_max_tw_buckets` already: for them the TIME_WAIT that
    /// events tell of was not.
    TimeWaitOverflow {
        /// CLOCK_MONOTONIC of the listing that found it, in ns.
        time_ns: u64,
        /// Inode number of the network namespace.
        netns: u32,
        /// How many since the listing before.
        count: u64,
    },
}

/// A time in which events were lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gap {
    /// CLOCK_MONOTONIC at which nothing more had been lost yet, in ns.
    pub after_ns: u64,
    /// CLOCK_MONOTONIC at which the loss was noticed.
    pub noticed_ns: u64,
    /// Events lost because a ring was full, by CPU.
    pub ring_by_cpu: Vec<u64>,
    /// Events that the kernel did not show, since it was showing another one on that CPU.
    pub program_busy: u64,
    /// CLOCK_MONOTONIC of the listing that made the table of sockets right again, and what it changed; `None` where the
    /// run ended before.
    pub healed: Option<(u64, Reconciled)>,
}

/// What a listing changed in the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Sockets that the table did not have.
    pub added: u64,
    /// Sockets that it had, and that are no more.
    pub removed: u64,
    /// Sockets that are in another state than it had.
    pub changed: u64,
}

impl Gap {
    /// Events lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.ring_by_cpu.iter().sum::<u64>() + self.program_busy
    }

    /// Takes in a later gap that came before this one was healed.
    pub fn merge(&mut self, later: &Self) {
        self.noticed_ns = later.noticed_ns;
        self.program_busy += later.program_busy;
        self.ring_by_cpu.resize(self.ring_by_cpu.len().max(later.ring_by_cpu.len()), 0);
        for (mine, theirs) in self.ring_by_cpu.iter_mut().zip(&later.ring_by_cpu) {
            *mine += theirs;
        }
    }
}
