//! Counts a connection's retransmissions, recent and in total.

use crate::model::event::Retransmit;

/// Retransmissions of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retransmits {
    /// Consecutive timeouts without a reply, as of the last retransmission.
    pub timeouts: u8,
    /// Segments retransmitted since the connection began, as of the last retransmission.
    pub total: u32,
    /// Smoothed round-trip time in µs as of the last retransmission; `None` if the kernel had none.
    pub srtt_us: Option<u32>,
    /// CLOCK_MONOTONIC of the last retransmission, in ns; 0 if there was none.
    pub last_ns: u64,
    /// Retransmissions in the slot of the last one, and in the two slots before.
    slots: [u16; 3],
}

impl Default for Retransmits {
    fn default() -> Self {
        Self::NONE
    }
}

impl Retransmits {
    /// Length of a slot, in ns.
    pub const SLOT_NS: u64 = 5_000_000_000;

    pub(super) const NONE: Self = Self { timeouts: 0, total: 0, srtt_us: None, last_ns: 0, slots: [0; 3] };

    pub(super) fn add(&mut self, time_ns: u64, event: &Retransmit) {
        let passed = (time_ns / Self::SLOT_NS).saturating_sub(self.last_ns / Self::SLOT_NS);
        for _ in 0..passed.min(3) {
            self.slots = [0, self.slots[0], self.slots[1]];
        }
        self.slots[0] = self.slots[0].saturating_add(u16::from(event.failed.is_none()));
        (self.timeouts, self.total, self.last_ns) = (event.timeouts, event.total_retrans, time_ns);
        self.srtt_us = event.srtt_us.or(self.srtt_us);
    }

    /// Number of recent retransmissions, and the time in ns that they span: 10 to 15 s.
    #[must_use]
    pub const fn recent(&self, now_ns: u64) -> (u32, u64) {
        let passed = (now_ns / Self::SLOT_NS).saturating_sub(self.last_ns / Self::SLOT_NS);
        let [a, b, c] = self.slots;
        let count = match passed {
            0 => a as u32 + b as u32 + c as u32,
            1 => a as u32 + b as u32,
            2 => a as u32,
            _ => 0,
        };
        (count, 2 * Self::SLOT_NS + now_ns % Self::SLOT_NS)
    }
}
