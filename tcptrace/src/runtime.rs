//! What runs of all kinds need from the machine: signals, timers and clocks.

use std::{io, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until},
};

use crate::clock::WallOffset;

/// What ends a run from outside.
pub struct Stop {
    interrupt: Signal,
    terminate: Signal,
    /// When its time is over.
    pub deadline: Option<Instant>,
}

impl Stop {
    /// From now on, SIGINT and SIGTERM end the run instead of the process.
    ///
    /// # Errors
    /// Where signals cannot be handled.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            deadline: None,
        })
    }

    /// Waits for the first of them, and names it as the `end` record does.
    pub async fn reached(&mut self) -> &'static str {
        let deadline = self.deadline;
        let time_is_over = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => "interrupted",
            _ = self.terminate.recv() => "terminated",
            () = time_is_over => "duration",
        }
    }
}

/// A timer that first ticks after `period`.
#[must_use]
pub fn every(period: Duration) -> Interval {
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

fn clock_ns(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place to write to; the call does not fail for the clocks used here.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// CLOCK_MONOTONIC in ns, the clock of `bpf_ktime_get_ns`.
#[must_use]
pub fn now_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC) as u64
}

/// How far the wall clock is ahead of it now.
#[must_use]
pub fn wall_offset() -> WallOffset {
    WallOffset(clock_ns(libc::CLOCK_REALTIME) - clock_ns(libc::CLOCK_MONOTONIC))
}
