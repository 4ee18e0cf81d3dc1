//! Lists sockets in a thread of its own, so that reading the rings never waits for it.

use std::{io, sync::mpsc, thread};

use tokio::sync::mpsc as answers;

use crate::{
    listing::{Error, Lister, Wanted},
    snapshot::Snapshot,
};

/// The way to the thread. It ends with this.
pub struct Watch {
    questions: mpsc::Sender<Wanted>,
    answers: answers::UnboundedReceiver<Answer>,
}

/// What became of a listing.
pub type Answer = Result<Snapshot, Error>;

impl Watch {
    /// Starts the thread.
    ///
    /// # Errors
    /// Where there can be no more threads.
    pub fn start(mut lister: Lister) -> io::Result<Self> {
        let (questions, to_do) = mpsc::channel::<Wanted>();
        let (done, answers) = answers::unbounded_channel();
        thread::Builder::new().name("listing".to_owned()).spawn(move || {
            for wanted in to_do {
                // Nobody waits for it any more where the run has ended.
                let _ = done.send(lister.list(&wanted));
            }
        })?;
        Ok(Self { questions, answers })
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
