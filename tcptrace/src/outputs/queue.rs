//! The queue of an output. It is bounded, and adding to it never blocks.

use std::{
    collections::VecDeque,
    mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{outputs::counters::Counters, pipeline::records::Records};

/// The queue between the main loop and an output's thread.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Records>,
    bytes: usize,
    /// True while the thread delivers records that it took.
    is_busy: bool,
    /// When the thread must end, whether or not everything is delivered.
    ends_at: Option<Instant>,
    /// True if files are to be reopened.
    reopen: bool,
    /// True if the thread has ended or was abandoned.
    is_over: bool,
    /// True if the thread was abandoned while stuck; all its records are counted then.
    is_abandoned: bool,
}

/// What the output's thread does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Deliver(Records),
    Reopen,
    Idle,
    End,
}

impl Queue {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), max_bytes }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds records. If there is no room, the oldest queued records are dropped and counted; the new ones always stay.
    pub(super) fn push(&self, records: Records, counters: &Counters) {
        if records.is_empty() {
            return;
        }
        let mut state = self.lock();
        counters.made.add(records.len());
        let mut dropped = 0;
        if state.is_over {
            dropped = records.len();
        } else {
            state.bytes += records.bytes().len();
            state.waiting.push_back(records);
        }
        while state.bytes > self.max_bytes
            && state.waiting.len() > 1
            && let Some(oldest) = state.waiting.pop_front()
        {
            state.bytes -= oldest.bytes().len();
            dropped += oldest.len();
        }
        counters.dropped.add(dropped);
        counters.queued_bytes.set(state.bytes);
        drop(state);
        self.changed.notify_all();
    }

    /// Waits at most `patience` for the next thing to do.
    pub(super) fn next(&self, counters: &Counters, patience: Duration) -> Next {
        let mut state = self.lock();
        // `drained` waits for this alone, and each notification is a system call.
        if mem::take(&mut state.is_busy) && state.waiting.is_empty() {
            self.changed.notify_all();
        }
        let until = Instant::now() + patience;
        loop {
            if state.is_over {
                return Next::End;
            }
            if mem::take(&mut state.reopen) {
                return Next::Reopen;
            }
            if state.ends_at.is_some_and(|end| Instant::now() >= end) {
                return Next::End;
            }
            if let Some(records) = state.waiting.pop_front() {
                state.bytes -= records.bytes().len();
                counters.queued_bytes.set(state.bytes);
                state.is_busy = true;
                return Next::Deliver(records);
            }
            if state.ends_at.is_some() {
                return Next::End;
            }
            let now = Instant::now();
            if now >= until {
                return Next::Idle;
            }
            state = self.changed.wait_timeout(state, until - now).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits before a retry, or less if the output is to end; returns false if it must end now.
    pub(super) fn pause(&self, patience: Duration) -> bool {
        const AT_THE_END: Duration = Duration::from_millis(100);
        let start = Instant::now();
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            if state.is_over || state.ends_at.is_some_and(|end| now >= end) {
                return false;
            }
            let until = start + if state.ends_at.is_some() { patience.min(AT_THE_END) } else { patience };
            if now >= until || state.reopen {
                return true;
            }
            state = self.changed.wait_timeout(state, until - now).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Marks the thread as ended: records in flight and later ones are dropped.
    pub(super) fn over(&self, counters: &Counters) {
        let _ = self.close(counters, false);
    }

    /// Counts the outcome of records that the thread took, unless it was abandoned in the meantime.
    pub(super) fn count(&self, count: impl FnOnce()) {
        let state = self.lock();
        if !state.is_abandoned {
            count();
        }
    }

    /// Abandons the thread, which may be stuck, unless it has ended: all its records in flight count as dropped,
    /// whatever happens to them. Returns true if it did.
    pub(super) fn abandon(&self, counters: &Counters) -> bool {
        self.close(counters, true)
    }

    fn close(&self, counters: &Counters, is_abandoned: bool) -> bool {
        let mut state = self.lock();
        if state.is_over {
            return false;
        }
        *state = State { is_over: true, is_abandoned, ..State::default() };
        counters.dropped.add(usize::try_from(counters.waiting()).unwrap_or(usize::MAX));
        counters.queued_bytes.set(0);
        drop(state);
        self.changed.notify_all();
        true
    }

    /// True if the thread has ended.
    pub(super) fn is_over(&self) -> bool {
        self.lock().is_over
    }

    pub(super) fn reopen(&self) {
        self.lock().reopen = true;
        self.changed.notify_all();
    }

    /// Returns true if a reopen was requested since the last call.
    pub(super) fn take_reopen(&self) -> bool {
        mem::take(&mut self.lock().reopen)
    }

    /// Tells the thread to end when the queue is empty, or at `at`; the earliest of several times applies.
    pub(super) fn end(&self, at: Instant) {
        let mut state = self.lock();
        state.ends_at = Some(state.ends_at.map_or(at, |end| end.min(at)));
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until everything is delivered or given up, at most until `until`; returns true if it is.
    pub(super) fn drained(&self, until: Instant) -> bool {
        self.wait(until, |state| state.is_over || state.waiting.is_empty() && !state.is_busy)
    }

    /// Waits until the thread has ended.
    pub(super) fn ended(&self, until: Instant) -> bool {
        self.wait(until, |state| state.is_over)
    }

    fn wait(&self, until: Instant, is_so: impl Fn(&State) -> bool) -> bool {
        let mut state = self.lock();
        while !is_so(&state) {
            let now = Instant::now();
            if now >= until {
                return false;
            }
            state = self.changed.wait_timeout(state, until - now).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}
