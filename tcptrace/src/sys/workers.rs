//! Health of the run's threads. Each thread announces again and again how long it may be silent ([`silent_for`]); a
//! thread that is silent for longer hangs, and a thread that panicked is dead. The main loop checks all of them once a
//! second.

use std::{
    cell::RefCell,
    fmt, io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::sys::clock::now_ns;

/// Maximum silence of a thread that waits for nothing slow.
pub const SILENT: Duration = Duration::from_secs(10);

/// A thread that [`check`] monitors.
#[derive(Debug)]
pub struct Worker {
    name: String,
    /// CLOCK_MONOTONIC in ns until which it may be silent.
    until_ns: AtomicU64,
    /// `until_ns` if it had expired at the previous check, else 0. A worker hangs only if the same deadline has expired
    /// in two checks: after the whole process was stopped, the deadlines of all threads have expired.
    over_ns: AtomicU64,
    hangs: AtomicBool,
    is_dead: AtomicBool,
}

/// The workers that have not ended.
static ALL: Mutex<Vec<Arc<Worker>>> = Mutex::new(Vec::new());

thread_local! {
    /// The worker that this thread is, or works for.
    static MINE: RefCell<Option<Arc<Worker>>> = const { RefCell::new(None) };
}

/// Health of a worker at a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerState {
    /// What the worker does.
    pub name: String,
    /// What is wrong with it, if anything.
    pub problem: Option<WorkerProblem>,
}

/// What can be wrong with a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerProblem {
    /// It was silent for too long.
    Hangs,
    /// It panicked, a bug in tcptrace.
    Dead,
}

impl fmt::Display for WorkerState {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problem {
            None => write!(to, "the thread `{}` is fine", self.name),
            Some(WorkerProblem::Hangs) => write!(to, "the thread `{}` hangs", self.name),
            Some(WorkerProblem::Dead) => write!(to, "the thread `{}` has crashed (a bug in tcptrace)", self.name),
        }
    }
}

fn all() -> MutexGuard<'static, Vec<Arc<Worker>>> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a thread that is monitored until it ends. `thread` is its name in the operating system.
///
/// # Errors
/// If no thread can be started.
pub fn spawn(
    thread: &str,
    name: String,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<(Arc<Worker>, JoinHandle<()>)> {
    let worker = Arc::new(Worker {
        name,
        until_ns: AtomicU64::new(after(SILENT)),
        over_ns: AtomicU64::new(0),
        hangs: AtomicBool::new(false),
        is_dead: AtomicBool::new(false),
    });
    let its = Arc::clone(&worker);
    all().push(Arc::clone(&worker));
    let started = thread::Builder::new().name(thread.to_owned()).spawn(move || {
        work_for(Some(Arc::clone(&its)));
        let ended = Ended(its);
        work();
        drop(ended);
    });
    match started {
        Ok(joined) => Ok((worker, joined)),
        Err(error) => {
            forget(&worker);
            Err(error)
        }
    }
}

/// Records on drop how a thread ended.
struct Ended(Arc<Worker>);

impl Drop for Ended {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.is_dead.store(true, Relaxed);
        } else {
            self.0.until_ns.store(u64::MAX, Relaxed);
            forget(&self.0);
        }
    }
}

/// Stops monitoring a worker.
pub fn forget(worker: &Arc<Worker>) {
    all().retain(|other| !Arc::ptr_eq(other, worker));
}

/// The worker that this thread is, or works for.
#[must_use]
pub fn mine() -> Option<Arc<Worker>> {
    MINE.with_borrow(Clone::clone)
}

/// From now on this thread works for `worker`: its signs of life count as the worker's.
pub fn work_for(worker: Option<Arc<Worker>>) {
    MINE.set(worker);
}

/// Sign of life: the next one comes within `time` plus [`SILENT`].
pub fn silent_for(time: Duration) {
    MINE.with_borrow(|mine| {
        if let Some(worker) = mine {
            worker.until_ns.store(after(time + SILENT), Relaxed);
        }
    });
}

/// Sign of life: the next one comes within [`SILENT`].
pub fn alive() {
    silent_for(Duration::ZERO);
}

fn after(time: Duration) -> u64 {
    now_ns().saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// Checks all workers; call it once a second.
#[must_use]
pub fn check() -> Vec<WorkerState> {
    let now_ns = now_ns();
    all().iter().map(|worker| worker.check(now_ns)).collect()
}

impl Worker {
    fn check(&self, now_ns: u64) -> WorkerState {
        let until_ns = self.until_ns.load(Relaxed);
        let is_over = until_ns < now_ns;
        let was_over = self.over_ns.swap(if is_over { until_ns } else { 0 }, Relaxed);
        self.hangs.store(is_over && was_over == until_ns, Relaxed);
        WorkerState { name: self.name.clone(), problem: self.problem() }
    }

    /// What was wrong with it at the last check.
    #[must_use]
    pub fn problem(&self) -> Option<WorkerProblem> {
        if self.is_dead.load(Relaxed) {
            return Some(WorkerProblem::Dead);
        }
        self.hangs.load(Relaxed).then_some(WorkerProblem::Hangs)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_worker_that_is_silent_hangs_until_it_gives_a_sign() {
        let (to, from) = mpsc::channel::<()>();
        let (done, signs) = mpsc::channel();
        let work = move || {
            for () in from {
                alive();
                done.send(()).unwrap();
            }
        };
        let (worker, thread) = spawn("test", "some".to_owned(), work).unwrap();
        let begun_ns = now_ns();
        let at = |seconds: u64| worker.check(begun_ns + seconds * 1_000_000_000).problem;
        assert_eq!(at(9), None);
        assert_eq!(at(60), None, "the whole process may have been stopped");
        assert_eq!(at(61), Some(WorkerProblem::Hangs));
        to.send(()).unwrap();
        signs.recv().unwrap();
        assert_eq!(at(9), None);
        drop(to);
        thread.join().unwrap();
        assert!(!all().iter().any(|other| Arc::ptr_eq(other, &worker)), "one that has ended is not missed");
    }

    #[test]
    fn a_worker_that_panics_is_dead() {
        let (worker, thread) = spawn("test", "wrong".to_owned(), || panic!("as it should")).unwrap();
        assert!(thread.join().is_err());
        assert_eq!(worker.problem(), Some(WorkerProblem::Dead));
        let found = check().into_iter().find(|state| state.name == "wrong").unwrap();
        assert_eq!(found.to_string(), "the thread `wrong` has crashed (a bug in tcptrace)");
        forget(&worker);
    }

    #[test]
    fn what_works_for_a_worker_gives_its_signs() {
        let (worker, thread) = spawn("test", "whole".to_owned(), || {
            let mine = mine();
            thread::spawn(move || {
                work_for(mine);
                silent_for(Duration::from_secs(1000));
            })
            .join()
            .unwrap();
        })
        .unwrap();
        assert_eq!(worker.name, "whole");
        thread.join().unwrap();
        assert_eq!(worker.until_ns.load(Relaxed), u64::MAX, "it has ended");
    }
}
