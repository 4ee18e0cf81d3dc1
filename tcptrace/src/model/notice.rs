//! Messages in the event stream about the run itself and about the host.

/// Something that a reader of the events needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Events were lost in this interval.
    Gap(Gap),
    /// Connections closed without TIME_WAIT because there were already `tcp_max_tw_buckets`: the TIME_WAIT in their
    /// events did not take place.
    TimeWaitOverflow {
        /// CLOCK_MONOTONIC in ns of the listing that found it.
        time_ns: u64,
        /// Inode number of the network namespace.
        netns: u32,
        /// Number of such connections since the previous listing.
        count: u64,
    },
}

/// An interval in which events were lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gap {
    /// CLOCK_MONOTONIC in ns of the last check without a new loss.
    pub after_ns: u64,
    /// CLOCK_MONOTONIC in ns at which the loss was noticed.
    pub noticed_ns: u64,
    /// Events lost because a ring was full, by CPU.
    pub ring_by_cpu: Vec<u64>,
    /// Events that the kernel skipped because the same program was already running on that CPU.
    pub program_busy: u64,
    /// CLOCK_MONOTONIC in ns of the listing that corrected the socket table, and its corrections; `None` if the run
    /// ended first.
    pub healed: Option<(u64, Reconciled)>,
}

/// Corrections that a listing made to the socket table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Sockets that were missing from the table.
    pub added: u64,
    /// Sockets in the table that no longer existed.
    pub removed: u64,
    /// Sockets whose state in the table was wrong.
    pub changed: u64,
}

impl Gap {
    /// Number of events lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.ring_by_cpu.iter().sum::<u64>() + self.program_busy
    }

    /// Merges a later gap that began before this one was healed.
    pub fn merge(&mut self, later: &Self) {
        self.noticed_ns = later.noticed_ns;
        self.program_busy += later.program_busy;
        self.ring_by_cpu.resize(self.ring_by_cpu.len().max(later.ring_by_cpu.len()), 0);
        for (mine, theirs) in self.ring_by_cpu.iter_mut().zip(&later.ring_by_cpu) {
            *mine += theirs;
        }
    }
}
