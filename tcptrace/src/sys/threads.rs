//! Work that several threads share for a moment.

use std::{
    io,
    thread::{self, Scope, ScopedJoinHandle},
};

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

/// Works in a thread beside this one: on another CPU, and from now on. Left alone, a new thread was often put on its parent's
/// CPU though another one was idle, and waited there for milliseconds until it was moved, or for the parent to wait for it
/// (seen on Linux 6.18 with two CPUs).
///
/// # Errors
/// Where no thread can be started.
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

/// Moves this thread to another CPU if it is on this one. From there it may go anywhere again. Where it may not run
/// elsewhere, or where there are more CPUs than a `CpuSet` knows, it stays.
fn leave(cpu: usize) {
    if cpu >= CpuSet::MAX_CPU || sched_getcpu() != cpu {
        return;
    }
    let Ok(allowed) = sched_getaffinity(None) else { return };
    let mut others = allowed;
    others.unset(cpu);
    // Refused where nothing is left.
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
