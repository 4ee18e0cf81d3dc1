//! Lists sockets in a thread of its own, so that reading the rings never waits for it. One that hangs is replaced.

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

/// The way to the thread. It ends with this.
pub struct Watch {
    questions: mpsc::Sender<Wanted>,
    answers: answers::UnboundedReceiver<Answer>,
    worker: Arc<Worker>,
}

/// A thread that has nothing to do gives a sign of life this often.
const IDLE_EVERY: Duration = Duration::from_secs(1);

/// What became of a listing.
pub type Answer = Result<Snapshot, Error>;

impl Watch {
    /// Starts the thread, which makes its lister first.
    ///
    /// # Errors
    /// Where there can be no more threads.
    pub fn start(make: impl FnOnce() -> Lister + Send + 'static) -> io::Result<Self> {
        let (questions, to_do) = mpsc::channel::<Wanted>();
        let (done, answers) = answers::unbounded_channel();
        let work = move || {
            let mut lister = make();
            loop {
                workers::alive();
                match to_do.recv_timeout(IDLE_EVERY) {
                    // Nobody waits for it any more where the run has ended.
                    Ok(wanted) => _ = done.send(lister.list(&wanted)),
                    Err(mpsc::RecvTimeoutError::Timeout) => {}
                    Err(mpsc::RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        let (worker, _) = workers::spawn("listing", "listing".to_owned(), work)?;
        Ok(Self { questions, answers, worker })
    }

    /// Does the thread hang, or did it panic?
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.worker.trouble().is_some()
    }

    /// Puts another thread in its place, which knows nothing of what was asked for. Where this one goes on, it ends.
    ///
    /// # Errors
    /// As [`Watch::start`].
    pub fn replace(&mut self, make: impl FnOnce() -> Lister + Send + 'static) -> io::Result<()> {
        workers::forget(&self.worker);
        *self = Self::start(make)?;
        Ok(())
    }

    /// Asks for a listing.
    pub fn ask(&self, wanted: Wanted) {
        let _ = self.questions.send(wanted); // the thread lives as long as this
    }

    /// The next answer; waits for ever where nothing was asked. Safe to be dropped while it waits.
    pub async fn answer(&mut self) -> Answer {
        match self.answers.recv().await {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }
}
