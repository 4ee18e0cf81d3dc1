//! What runs of all kinds need from the machine: signals and timers.

use std::{io, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until},
};

/// Gives memory that is free back to the system. What starts a run, and a listing of many sockets, needs much for a
/// moment, and glibc keeps it.
pub fn release_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) takes a number only, and may be called in any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

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

/// SIGHUP, which asks for files to be opened again.
pub struct Hangup(Option<Signal>);

impl Hangup {
    /// With `is_taken` SIGHUP is waited for from now on; else it ends the process, as ever.
    ///
    /// # Errors
    /// Where signals cannot be handled.
    pub fn new(is_taken: bool) -> io::Result<Self> {
        is_taken.then(|| signal(SignalKind::hangup())).transpose().map(Self)
    }

    /// Waits for it.
    pub async fn came(&mut self) {
        match &mut self.0 {
            Some(hangup) => _ = hangup.recv().await,
            None => std::future::pending().await,
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
