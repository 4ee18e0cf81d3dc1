//! How often a connection has sent again, lately and in its life.

use crate::model::event::Retransmit;

/// What the retransmissions of a connection told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retransmits {
    /// Timeouts in a row without an answer, at the last one.
    pub timeouts: u8,
    /// Segments in the connection's life, at the last one.
    pub total: u32,
    /// Smoothed round-trip time in µs at the last one, `None` where the kernel had none.
    pub srtt_us: Option<u32>,
    /// CLOCK_MONOTONIC of the last one, in ns; 0 where there was none.
    pub last_ns: u64,
    /// Segments in the [`Retransmits::SLOT_NS`] of the last one, and in the two before.
    slots: [u16; 3],
}

impl Default for Retransmits {
    fn default() -> Self {
        Self::NONE
    }
}

impl Retransmits {
    /// Retransmissions are counted by times of this length, in ns.
    pub const SLOT_NS: u64 = 5_000_000_000;

    /// There were none.
    pub(super) const NONE: Self = Self { timeouts: 0, total: 0, srtt_us: None, last_ns: 0, slots: [0; 3] };

    pub(super) fn add(&mut self, time_ns: u64, told: &Retransmit) {
        let passed = (time_ns / Self::SLOT_NS).saturating_sub(self.last_ns / Self::SLOT_NS);
        for _ in 0..passed.min(3) {
            self.slots = [0, self.slots[0], self.slots[1]];
        }
        self.slots[0] = self.slots[0].saturating_add(u16::from(told.failed.is_none()));
        (self.timeouts, self.total, self.last_ns) = (told.timeouts, told.total_retrans, time_ns);
        self.srtt_us = told.srtt_us.or(self.srtt_us);
    }

    /// How many there were lately, and within what time, in ns: 10 to 15 s.
    #[must_use]
    pub const fn lately(&self, now_ns: u64) -> (u32, u64) {
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
