//! Waiting for the network in an output's own thread.

use std::{
    fs::{self, File},
    io,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use tokio::{runtime, time};

use crate::{model::printable::printable, sys::workers};

/// An event queue that runs while its owner waits.
#[derive(Debug)]
pub(super) struct Waiting(Option<runtime::Runtime>);

impl Waiting {
    pub(super) fn new() -> io::Result<Self> {
        runtime::Builder::new_current_thread().enable_all().build().map(|runtime| Self(Some(runtime)))
    }

    /// Result of `future`, unless it takes longer than `limit`.
    pub(super) fn wait<T>(&self, limit: Duration, future: impl Future<Output = T>) -> Option<T> {
        workers::silent_for(limit);
        self.0.as_ref()?.block_on(async { time::timeout(limit, future).await.ok() })
    }
}

impl Drop for Waiting {
    /// Does not wait for a pending name lookup, which has no time limit.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// How long to wait for the reader of a pipe before reporting it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Waits until a pipe has room.
///
/// # Errors
/// If that takes too long.
pub(super) fn writable(pipe: &File) -> io::Result<()> {
    workers::silent_for(PATIENCE);
    let limit = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: PATIENCE.subsec_nanos().into() };
    match poll(&mut [PollFd::new(pipe, PollFlags::OUT)], Some(&limit)) {
        Ok(0) => Err(io::Error::new(io::ErrorKind::TimedOut, "its reader has stopped reading")),
        Ok(_) | Err(Errno::INTR) => Ok(()), // noticed by the next write
        Err(error) => Err(error.into()),
    }
}

/// Name of this host, if it can be read.
#[must_use]
pub fn host_name() -> Option<String> {
    first_line("/proc/sys/kernel/hostname")
}

/// The only line of a small file.
pub(super) fn first_line(path: &str) -> Option<String> {
    String::from_utf8_lossy(&fs::read(path).ok()?)
        .lines()
        .next()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(printable)
}
