//! Splitting short work between threads.

use std::{
    io,
    thread::{self, Scope, ScopedJoinHandle},
};

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

/// Runs `work` in a new thread on another CPU, at once. Left alone, the scheduler often put a new thread on its
/// parent's CPU although another was idle, where it waited for milliseconds until it was migrated or the parent blocked
/// (seen on Linux 6.18 with two CPUs).
///
/// # Errors
/// If no thread can be started.
pub(crate) fn beside<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    let here = sched_getcpu();
    let thread = thread::Builder::new().spawn_scoped(scope, move || {
        leave(here);
        work()
    })?;
    thread::yield_now();
    Ok(thread)
}

/// Moves this thread to another CPU if it is on `cpu`; afterwards it may run on any CPU again. It stays if its affinity
/// permits no other CPU, or if the CPU number does not fit in a [`CpuSet`].
fn leave(cpu: usize) {
    if cpu >= CpuSet::MAX_CPU || sched_getcpu() != cpu {
        return;
    }
    let Ok(allowed) = sched_getaffinity(None) else { return };
    let mut others = allowed;
    others.unset(cpu);
    // Fails if the set is empty.
    if sched_setaffinity(None, &others).is_ok() {
        let _ = sched_setaffinity(None, &allowed);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        time::{Duration, Instant},
    };

    use super::*;

    #[test]
    fn it_works_while_this_thread_does() {
        if thread::available_parallelism().map_or(1, usize::from) == 1 {
            return;
        }
        for _ in 0..20 {
            let begun = AtomicBool::new(false);
            thread::scope(|scope| {
                let other = beside(scope, || begun.store(true, Ordering::Relaxed)).unwrap();
                let start = Instant::now();
                while !begun.load(Ordering::Relaxed) {
                    assert!(start.elapsed() < Duration::from_secs(30), "it waits for this thread");
                }
                other.join().unwrap();
            });
        }
    }
}
