//! Runs listings in a separate thread, so that reading the rings never waits for them. A thread that hangs is replaced.

use std::{
    io,
    sync::{Arc, mpsc},
    time::Duration,
};

use tokio::sync::mpsc as answers;

use crate::{
    listing::{Error, Lister, Wanted},
    model::snapshot::Snapshot,
    sys::workers::{self, Worker},
};

/// Handle to the listing thread, which ends when this is dropped.
pub struct Watch {
    questions: mpsc::Sender<Wanted>,
    answers: answers::UnboundedReceiver<Answer>,
    worker: Arc<Worker>,
}

/// An idle thread gives a sign of life this often.
const IDLE_EVERY: Duration = Duration::from_secs(1);

/// Result of a listing.
pub type Answer = Result<Snapshot, Error>;

impl Watch {
    /// Starts the thread, which first calls `make` for its lister.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(make: impl FnOnce() -> Lister + Send + 'static) -> io::Result<Self> {
        let (questions, to_do) = mpsc::channel::<Wanted>();
        let (done, answers) = answers::unbounded_channel();
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
        let (worker, _) = workers::spawn("listing", "listing".to_owned(), work)?;
        Ok(Self { questions, answers, worker })
    }

    /// Whether the thread hangs or panicked.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.worker.trouble().is_some()
    }

    /// Replaces the thread; outstanding requests are forgotten. The old thread ends as soon as it continues.
    ///
    /// # Errors
    /// See [`Watch::start`].
    pub fn replace(&mut self, make: impl FnOnce() -> Lister + Send + 'static) -> io::Result<()> {
        workers::forget(&self.worker);
        *self = Self::start(make)?;
        Ok(())
    }

    /// Requests a listing.
    pub fn ask(&self, wanted: Wanted) {
        let _ = self.questions.send(wanted); // the thread lives as long as `self`
    }

    /// Waits for the next result; forever if nothing was requested. Cancel-safe.
    pub async fn answer(&mut self) -> Answer {
        match self.answers.recv().await {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }
}
