//! What became of the records of an output.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

/// A number that several threads may change.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, more: usize) {
        self.0.fetch_add(more as u64, Ordering::Relaxed);
    }

    pub(super) fn set(&self, value: usize) {
        self.0.store(value as u64, Ordering::Relaxed);
    }

    /// Its value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counters of an output. All records that were made for it are delivered, refused, dropped or still on their way.
#[derive(Debug, Default)]
pub struct Counters {
    /// Records that were made for it.
    pub(super) made: Count,
    /// Records that the other end took.
    pub delivered: Count,
    /// Records that waited when there was no room for a newer one, or that were on their way when the output ended.
    pub dropped: Count,
    /// Records that the other end never takes.
    pub refused: Count,
    /// How often a delivery failed and was tried again.
    pub retries: Count,
    /// Bytes that wait.
    pub queued_bytes: Count,
    /// 1 since its reader went for ever.
    pub(super) has_no_reader: Count,
    /// Why the last delivery failed; `None` since one succeeded.
    trouble: Mutex<Option<String>>,
}

impl Counters {
    /// Why nothing is delivered now, if it is so.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets that; gives what it was before.
    pub(super) fn set_trouble(&self, now: Option<String>) -> Option<String> {
        std::mem::replace(&mut *self.trouble.lock().unwrap_or_else(PoisonError::into_inner), now)
    }

    /// Records that were lost here.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.dropped.get() + self.refused.get()
    }

    /// Records that are still on their way.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.made.get().saturating_sub(self.delivered.get() + self.lost())
    }
}
