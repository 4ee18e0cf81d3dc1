//! What was lost, by place. Shown at every end, also when all is zero.

use tcptrace_common::counters::Counters;

/// Counts of what did not reach the outputs, or reached them with less in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Events that the programs wrote to the ring buffer.
    pub sent: u64,
    /// Events that a filter kept back in the kernel.
    pub filtered: u64,
    /// Events lost because the ring buffer was full, by CPU.
    pub ring_by_cpu: Vec<u64>,
    /// Events that the kernel did not show, since it was showing another one on that CPU.
    pub program_busy: u64,
    /// Sockets whose durations and owners are unknown, as the kernel side's table was full.
    pub kernel_table: u64,
    /// Listeners whose connections have no owner before a process uses them, for the same reason.
    pub listener_table: u64,
    /// RSTs in answer to packets that could not be read.
    pub unreadable_packets: u64,
    /// Events read from the ring buffer.
    pub received: u64,
    /// Events that could not be decoded.
    pub undecodable: u64,
    /// Sockets that left the table of user space to make room.
    pub evicted: u64,
    /// Events of processes that the summary had no more room for.
    pub unnamed_process_events: u64,
}

impl Losses {
    /// Takes the counters of all CPUs, and how often the kernel passed a program over.
    pub fn set_kernel(&mut self, by_cpu: &[Counters], passed_over: u64) {
        self.program_busy = passed_over;
        let sum = |field: fn(&Counters) -> u64| by_cpu.iter().map(field).fold(0u64, u64::wrapping_add);
        self.sent = sum(|cpu| cpu.sent);
        self.filtered = sum(|cpu| cpu.filtered);
        self.ring_by_cpu = by_cpu.iter().map(|cpu| cpu.ring_full).collect();
        self.kernel_table = sum(|cpu| cpu.table_full);
        self.listener_table = sum(|cpu| cpu.listeners_full);
        self.unreadable_packets = sum(|cpu| cpu.unreadable);
    }

    /// Events lost because the ring buffer was full.
    #[must_use]
    pub fn ring(&self) -> u64 {
        self.ring_by_cpu.iter().sum()
    }

    /// Was anything lost at all?
    #[must_use]
    pub fn any(&self) -> bool {
        self.fields().iter().any(|(_, count)| *count != 0)
    }

    /// Names and counts of the places at which something can be lost.
    #[must_use]
    pub fn fields(&self) -> [(&'static str, u64); 8] {
        [
            ("ring_buffer", self.ring()),
            ("program_busy", self.program_busy),
            ("kernel_table", self.kernel_table),
            ("listener_table", self.listener_table),
            ("unreadable_packets", self.unreadable_packets),
            ("undecodable", self.undecodable),
            ("evicted", self.evicted),
            ("unnamed_process_events", self.unnamed_process_events),
        ]
    }
}
