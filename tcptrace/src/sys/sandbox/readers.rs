//! Starts threads that read other processes.

use std::{
    io,
    sync::{
        Arc, OnceLock,
        mpsc::{self, Sender},
    },
    thread::{self, JoinHandle},
};

use super::seccomp;
use crate::sys::{
    signals::leave_to_others,
    workers::{self, Worker},
};

type Job = Box<dyn FnOnce() + Send>;

/// Gives jobs to the thread that starts them, if there is one.
static STARTER: OnceLock<Sender<Job>> = OnceLock::new();

/// Starts the thread that starts others from now on. It changes no file, and neither do these; it is not confined by
/// Landlock if the calling thread is not yet.
///
/// # Errors
/// If no thread can be started, or it cannot be confined.
pub(super) fn start() -> io::Result<()> {
    let (jobs, to_do) = mpsc::channel::<Job>();
    let (confined, is_confined) = mpsc::channel();
    thread::Builder::new().name("readers".to_owned()).spawn(move || {
        leave_to_others();
        let _ = confined.send(if seccomp::is_available() { seccomp::confine_to_reading() } else { Ok(()) });
        to_do.into_iter().for_each(|job| job());
    })?;
    let _ = STARTER.set(jobs); // it is called once
    is_confined.recv().unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// As [`workers::spawn`], for a thread that reads other processes.
///
/// # Errors
/// If no thread can be started.
pub fn spawn(
    thread: &'static str,
    name: String,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<(Arc<Worker>, JoinHandle<()>)> {
    let Some(starter) = STARTER.get() else { return workers::spawn(thread, name, work) };
    let (started, is_started) = mpsc::channel();
    let job = move || _ = started.send(workers::spawn(thread, name, work));
    starter.send(Box::new(job)).map_err(|_| io::ErrorKind::BrokenPipe)?; // it has panicked
    is_started.recv().map_err(io::Error::other)?
}
