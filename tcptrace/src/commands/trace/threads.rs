//! Watches the threads of a run: reports one that hangs or has died, replaces it, or ends the run where that cannot be done.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    commands::trace::error::Error,
    outputs::{
        Outputs,
        http::Server,
        messages::{self, info, warn},
    },
    sys::workers::{self, WorkerProblem, WorkerState},
};

/// A run none of whose outputs takes anything goes on for so long.
const ALL_HANG: Duration = Duration::from_secs(60);
/// Threads that are replaced in a run at most.
const MAX_REPLACED: u32 = 3;

/// The threads as they were at the last look.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    states: Vec<WorkerState>,
    all_hang_since: Option<Instant>,
    replaced: u32,
}

impl Threads {
    /// Looks at them, once a second, and tells what is new. `can_replace`: these have others that take their place.
    ///
    /// # Errors
    /// Where one is dead that nothing can replace, or no output takes anything any more.
    pub(crate) fn look(&mut self, outputs: &Outputs, can_replace: &[&str]) -> Result<(), Error> {
        let before = std::mem::replace(&mut self.states, workers::check());
        for state in &self.states {
            let was = before.iter().find(|before| before.name == state.name).and_then(|before| before.problem);
            match state.problem {
                Some(WorkerProblem::Dead) if !can_replace.contains(&state.name.as_str()) => {
                    return Err(Error::Thread(state.clone()));
                }
                now if now == was => {}
                Some(_) => warn(state),
                None => info(format_args!("the thread `{}` goes on", state.name)),
            }
        }
        if !outputs.all_hang() {
            self.all_hang_since = None;
        } else if self.all_hang_since.get_or_insert_with(Instant::now).elapsed() > ALL_HANG {
            return Err(Error::AllHang);
        }
        Ok(())
    }

    /// Another one takes the place of one that hangs or is dead.
    ///
    /// # Errors
    /// Where that happened too often.
    pub(super) fn replace(&mut self, name: &str) -> Result<(), Error> {
        self.replaced += 1;
        if self.replaced > MAX_REPLACED {
            return Err(Error::HangsAgain(name.to_owned()));
        }
        warn(format_args!("another thread takes the place of `{name}`"));
        Ok(())
    }

    /// Another thread serves metrics where the one that did hangs or is dead.
    ///
    /// # Errors
    /// Where that happened too often, or there can be no more threads.
    pub(crate) fn replace_server(&mut self, server: Option<&mut Server>) -> Result<(), Error> {
        let Some(server) = server.filter(|server| server.is_broken()) else { return Ok(()) };
        self.replace("http")?;
        server.replace().map_err(|source| Error::Setup { what: "the server of metrics", source })
    }

    /// Those that hang or are dead, if there are some.
    pub(crate) fn broken(&self) -> Option<String> {
        let broken = self.states.iter().filter(|state| state.problem.is_some());
        let words: Vec<_> = broken.map(ToString::to_string).collect();
        (!words.is_empty()).then(|| words.join("; "))
    }

    /// How they are.
    pub(crate) fn states(&self) -> &[WorkerState] {
        &self.states
    }
}

/// What became of what all outputs had to deliver, the log among them.
pub(crate) fn states(outputs: &Outputs) -> Vec<crate::model::output_state::OutputState> {
    outputs.states().into_iter().chain(messages::state()).collect()
}
