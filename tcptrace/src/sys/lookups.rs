//! Lookups that may take long, in a thread of their own: questions go in, answers come out later. Nobody waits for it.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError, SyncSender},
    },
    time::Duration,
};

use tokio::sync::mpsc as answers;

use crate::sys::{
    sandbox::readers,
    workers::{self, Worker},
};

/// Maximum number of questions that wait.
const MAX_WAITING: usize = 1024;
/// An idle thread gives a sign of life this often.
const IDLE_EVERY: Duration = Duration::from_secs(1);

/// Handle to the thread, which ends when this and all askers are dropped.
pub struct Lookups<Q, A> {
    questions: SyncSender<Q>,
    answers: answers::UnboundedReceiver<A>,
    worker: Arc<Worker>,
}

impl<Q: Send + 'static, A: Send + 'static> Lookups<Q, A> {
    /// Starts a thread of this name that calls `prepare` and then answers with `answer`. A single answer may take as long as `longest`; a thread that
    /// is silent for longer hangs ([`workers`]).
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(
        name: &'static str,
        longest: Duration,
        prepare: impl FnOnce() + Send + 'static,
        mut answer: impl FnMut(Q) -> A + Send + 'static,
    ) -> io::Result<Self> {
        let (questions, to_answer) = mpsc::sync_channel(MAX_WAITING);
        let (done, answers) = answers::unbounded_channel();
        let work = move || {
            workers::silent_for(longest);
            prepare();
            loop {
                workers::silent_for(longest);
                match to_answer.recv_timeout(IDLE_EVERY) {
                    // The receiver is gone if the run has ended.
                    Ok(question) => _ = done.send(answer(question)),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        let (worker, _) = readers::spawn(name, name.to_owned(), work)?;
        Ok(Self { questions, answers, worker })
    }

    /// A function that passes questions on. It returns false if too many are waiting.
    pub fn asker(&self) -> impl FnMut(Q) -> bool + 'static {
        let questions = self.questions.clone();
        move |question| questions.try_send(question).is_ok()
    }

    /// Waits for the next answer; forever if nothing was asked. Cancel-safe.
    pub async fn next(&mut self) -> A {
        match self.answers.recv().await {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }

    /// The next answer, if there is one already.
    pub fn try_next(&mut self) -> Option<A> {
        self.answers.try_recv().ok()
    }

    /// Whether the thread hangs or panicked.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.worker.problem().is_some()
    }

    /// No longer watches the thread, before it is replaced. It ends as soon as it continues.
    pub fn forget(&self) {
        workers::forget(&self.worker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn questions_are_answered_in_order_and_never_wait_for_room() {
        let (go, gate) = mpsc::channel::<()>();
        let mut lookups = Lookups::start(
            "test-lookups",
            Duration::ZERO,
            || {},
            move |question: usize| {
                let _ = gate.recv();
                question * 2
            },
        )
        .unwrap();
        let mut ask = lookups.asker();
        assert_eq!(lookups.try_next(), None);
        let taken = (0..2 * MAX_WAITING).take_while(|question| ask(*question)).count();
        assert!((MAX_WAITING..=MAX_WAITING + 1).contains(&taken), "{taken}");
        drop(go);
        for question in 0..taken {
            assert_eq!(lookups.next().await, question * 2);
        }
        assert!(ask(7) && !lookups.is_broken());
        assert_eq!(lookups.next().await, 14);
    }
}
