//! Runs listings in a separate thread, so that reading the rings never waits for them. A thread that hangs is replaced.

use std::{
    io,
    sync::{Arc, mpsc},
    time::Duration,
};

use tokio::sync::mpsc as results;

use crate::{
    listing::{Error, Lister, ListingOptions},
    model::snapshot::Snapshot,
    sys::{
        sandbox::readers,
        workers::{self, Worker},
    },
};

/// Handle to the listing thread, which ends when this is dropped.
pub struct ListingWorker {
    requests: mpsc::Sender<ListingOptions>,
    results: results::UnboundedReceiver<ListingResult>,
    worker: Arc<Worker>,
}

/// An idle thread gives a sign of life this often.
const IDLE_EVERY: Duration = Duration::from_secs(1);

/// Result of a listing.
pub type ListingResult = Result<Snapshot, Error>;

impl ListingWorker {
    /// Starts the thread, which first calls `make` for its lister.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(make: impl FnOnce() -> Lister + Send + 'static) -> io::Result<Self> {
        let (requests, to_do) = mpsc::channel::<ListingOptions>();
        let (done, results) = results::unbounded_channel();
        let work = move || {
            let mut lister = make();
            loop {
                workers::alive();
                match to_do.recv_timeout(IDLE_EVERY) {
                    // The receiver is gone if the run has ended.
                    Ok(wanted) => _ = done.send(lister.list(&wanted)),
                    Err(mpsc::RecvTimeoutError::Timeout) => {}
                    Err(mpsc::RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        let (worker, _) = readers::spawn("listing", "listing".to_owned(), work)?;
        Ok(Self { requests, results, worker })
    }

    /// Whether the thread hangs or panicked.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.worker.problem().is_some()
    }

    /// Replaces the thread; outstanding requests are forgotten. The old thread ends as soon as it continues.
    ///
    /// # Errors
    /// See [`ListingWorker::start`].
    pub fn replace(&mut self, make: impl FnOnce() -> Lister + Send + 'static) -> io::Result<()> {
        workers::forget(&self.worker);
        *self = Self::start(make)?;
        Ok(())
    }

    /// Requests a listing; its result comes from [`Self::next_result`].
    pub fn request(&self, wanted: ListingOptions) {
        let _ = self.requests.send(wanted); // the thread lives as long as `self`
    }

    /// Waits for the next result; forever if nothing was requested. Cancel-safe.
    pub async fn next_result(&mut self) -> ListingResult {
        match self.results.recv().await {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }
}
