//! What waits for an output: bounded, and never in the way of who adds to it.

use std::{
    collections::VecDeque,
    mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{outputs::counters::Counters, pipeline::records::Records};

/// The queue between the one who makes records and the thread that delivers them.
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
    /// Is the other side delivering some that it took?
    is_busy: bool,
    /// When the end is reached, with or without all being delivered.
    ends_at: Option<Instant>,
    /// Are files to be opened again?
    reopen: bool,
    /// Has the other side ended, or is it given up?
    is_over: bool,
    /// Was it given up while it was stuck? All is counted then.
    is_abandoned: bool,
}

/// What the delivering side is to do.
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

    /// Adds records. Where there is no room the oldest that wait are dropped, and counted; what is added stays.
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

    /// The next thing to do, after `patience` at the latest.
    pub(super) fn next(&self, counters: &Counters, patience: Duration) -> Next {
        let mut state = self.lock();
        state.is_busy = false;
        self.changed.notify_all();
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

    /// Waits before the next try, less long where the end is awaited; `false` where it is reached.
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

    /// The delivering side ends: what is still on its way is dropped, and so is what comes.
    pub(super) fn over(&self, counters: &Counters) {
        let _ = self.close(counters, false);
    }

    /// Counts what became of records that the delivering side took, unless it was given up meanwhile.
    pub(super) fn count(&self, count: impl FnOnce()) {
        let state = self.lock();
        if !state.is_abandoned {
            count();
        }
    }

    /// Gives the delivering side up, which may be stuck, unless it has ended: all that is on its way counts as dropped from
    /// now on, whatever becomes of it. Tells whether it did.
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

    /// Has the delivering side ended?
    pub(super) fn is_over(&self) -> bool {
        self.lock().is_over
    }

    pub(super) fn reopen(&self) {
        self.lock().reopen = true;
        self.changed.notify_all();
    }

    /// Was it asked, since this was called last, to open files again?
    pub(super) fn take_reopen(&self) -> bool {
        mem::take(&mut self.lock().reopen)
    }

    /// Tells the delivering side to end when nothing waits any more, or at `at`; the earliest that was told counts.
    pub(super) fn end(&self, at: Instant) {
        let mut state = self.lock();
        state.ends_at = Some(state.ends_at.map_or(at, |end| end.min(at)));
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until all is delivered, or given up, and until `until` at the latest; tells whether it is.
    pub(super) fn drained(&self, until: Instant) -> bool {
        self.wait(until, |state| state.is_over || state.waiting.is_empty() && !state.is_busy)
    }

    /// Waits until the delivering side has ended.
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
