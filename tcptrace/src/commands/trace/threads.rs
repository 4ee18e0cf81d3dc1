//! Watches the threads of a run: reports a thread that hangs or has died, and replaces it or, if it cannot, ends the run.

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

/// How long a run continues while all outputs hang.
const ALL_HANG: Duration = Duration::from_secs(60);
/// Most threads that are replaced in a run.
const MAX_REPLACED: u32 = 3;

/// The state of the threads at the last check.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    states: Vec<WorkerState>,
    all_hang_since: Option<Instant>,
    replaced: u32,
}

impl Threads {
    /// Checks the threads, once a second, and reports changes. Threads named in `can_replace` may die.
    ///
    /// # Errors
    /// If another thread has died, or all outputs have been hanging for [`ALL_HANG`].
    pub(crate) fn check(&mut self, outputs: &Outputs, can_replace: &[&str]) -> Result<(), Error> {
        let before = std::mem::replace(&mut self.states, workers::check());
        for state in &self.states {
            let was = before.iter().find(|before| before.name == state.name).and_then(|before| before.problem);
            match state.problem {
                Some(WorkerProblem::Dead) if !can_replace.contains(&state.name.as_str()) => {
                    return Err(Error::Thread(state.clone()));
                }
                now if now == was => {}
                Some(_) => warn(state),
                None => info(format_args!("the thread `{}` has recovered", state.name)),
            }
        }
        if !outputs.all_hang() {
            self.all_hang_since = None;
        } else if self.all_hang_since.get_or_insert_with(Instant::now).elapsed() > ALL_HANG {
            return Err(Error::AllHang);
        }
        Ok(())
    }

    /// Counts and reports the replacement of a thread that hangs or has died.
    ///
    /// # Errors
    /// If too many threads were replaced.
    pub(super) fn replace(&mut self, name: &str) -> Result<(), Error> {
        self.replaced += 1;
        if self.replaced > MAX_REPLACED {
            return Err(Error::HangsAgain(name.to_owned()));
        }
        warn(format_args!("replacing the thread `{name}`"));
        Ok(())
    }

    /// Replaces the thread that serves metrics if it hangs or has died.
    ///
    /// # Errors
    /// If too many threads were replaced, or no thread can be started.
    pub(crate) fn replace_server(&mut self, server: Option<&mut Server>) -> Result<(), Error> {
        let Some(server) = server.filter(|server| server.is_broken()) else { return Ok(()) };
        self.replace("http")?;
        server.replace().map_err(|source| Error::Setup { what: "the metrics server", source })
    }

    /// A description of the threads that hang or have died, if any.
    pub(crate) fn broken(&self) -> Option<String> {
        let broken = self.states.iter().filter(|state| state.problem.is_some());
        let words: Vec<_> = broken.map(ToString::to_string).collect();
        (!words.is_empty()).then(|| words.join("; "))
    }

    pub(crate) fn states(&self) -> &[WorkerState] {
        &self.states
    }
}

/// The delivery state of all outputs, including stderr.
pub(crate) fn states(outputs: &Outputs) -> Vec<crate::model::output_state::OutputState> {
    outputs.states().into_iter().chain(messages::state()).collect()
}
