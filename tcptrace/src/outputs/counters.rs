//! Counters of an output's records.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

/// A counter that several threads may modify.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, more: usize) {
        self.0.fetch_add(more as u64, Ordering::Relaxed);
    }

    pub(super) fn set(&self, value: usize) {
        self.0.store(value as u64, Ordering::Relaxed);
    }

    /// The current value of the counter.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counters of an output. Every record made for it is delivered, refused, suppressed, dropped or in flight.
#[derive(Debug, Default)]
pub struct Counters {
    /// Records made for it.
    pub(super) made: Count,
    /// Records that the receiver accepted.
    pub delivered: Count,
    /// Records dropped because newer ones needed their space in the queue, or because the output ended.
    pub dropped: Count,
    /// Records that the receiver will never accept.
    pub refused: Count,
    /// Records that exceed the rate that the user wants.
    pub suppressed: Count,
    /// Failed deliveries that were retried.
    pub retries: Count,
    /// Size of the queue in bytes.
    pub queued_bytes: Count,
    /// 1 once its reader has gone for good.
    pub(super) has_no_reader: Count,
    /// Why the last delivery failed; `None` after a success.
    trouble: Mutex<Option<String>>,
}

impl Counters {
    /// Why nothing is being delivered, if so.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets the reason; returns the previous one.
    pub(super) fn set_trouble(&self, now: Option<String>) -> Option<String> {
        std::mem::replace(&mut *self.trouble.lock().unwrap_or_else(PoisonError::into_inner), now)
    }

    /// Number of records lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.dropped.get() + self.refused.get()
    }

    /// Number of records in flight.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.made.get().saturating_sub(self.delivered.get() + self.suppressed.get() + self.lost())
    }
}
