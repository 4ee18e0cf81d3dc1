//! Splitting short work between threads.

use std::{
    io,
    panic::resume_unwind,
    thread::{self, Scope, ScopedJoinHandle},
};

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
    let thread = thread::Builder::new().spawn_scoped(scope, elsewhere(work))?;
    thread::yield_now();
    Ok(thread)
}

/// As [`beside`], for work that nobody waits for. If no thread can be started, the work is dropped without being done.
pub(crate) fn detached(work: impl FnOnce() + Send + 'static) {
    if thread::Builder::new().spawn(elsewhere(work)).is_ok() {
        thread::yield_now();
    }
}

/// Wraps the `work` of a new thread so that it first leaves the CPU of its parent. The parent yields after starting it,
/// so that a thread on the same CPU can run and migrate.
fn elsewhere<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    // SAFETY: takes no arguments.
    let here = unsafe { libc::sched_getcpu() };
    move || {
        leave(here);
        work()
    }
}

/// Moves this thread to another CPU if it is on `cpu`; afterwards it may run on any CPU again. It stays if its affinity
/// permits no other CPU, or if the CPU number does not fit in a `cpu_set_t`.
fn leave(cpu: i32) {
    // SAFETY: takes no arguments.
    let (here, Ok(index)) = (unsafe { libc::sched_getcpu() }, usize::try_from(cpu)) else {
        return;
    };
    if here != cpu || index >= libc::CPU_SETSIZE as usize {
        return;
    }
    // SAFETY: all zeros is a valid set, which is read and written within its size; the index is in range, and 0 is this
    // thread.
    unsafe {
        let mut allowed: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of_val(&allowed), &raw mut allowed) != 0 {
            return;
        }
        let mut others = allowed;
        libc::CPU_CLR(index, &mut others);
        // Fails if the set is empty.
        if libc::sched_setaffinity(0, size_of_val(&others), &raw const others) == 0 {
            libc::sched_setaffinity(0, size_of_val(&allowed), &raw const allowed);
        }
    }
}

/// Applies `work` to both halves, to the second in another thread if possible.
pub(crate) fn in_two<'a, T: Sync, R: Send>(all: &'a [T], work: impl Fn(&'a [T]) -> R + Sync) -> [R; 2] {
    let (first, second) = all.split_at(all.len() / 2);
    thread::scope(|scope| {
        let other = beside(scope, || work(second));
        let done = work(first);
        let other = other.map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        [done, other.unwrap_or_else(|_| work(second))]
    })
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

    #[test]
    fn halves_are_kept_apart() {
        assert_eq!(in_two(&[1, 2, 3, 4, 5], |half| half.to_vec()), [vec![1, 2], vec![3, 4, 5]]);
        assert_eq!(in_two(&[0; 0], <[i32]>::len), [0, 0]);
    }
}
