//! Work that several threads share for a moment.

use std::{
    io,
    panic::resume_unwind,
    thread::{self, Scope, ScopedJoinHandle},
};

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
    let thread = thread::Builder::new().spawn_scoped(scope, elsewhere(work))?;
    thread::yield_now();
    Ok(thread)
}

/// The same for work that nobody waits for. Where no thread can be started, it is dropped without being done.
pub(crate) fn detached(work: impl FnOnce() + Send + 'static) {
    if thread::Builder::new().spawn(elsewhere(work)).is_ok() {
        thread::yield_now();
    }
}

/// `work` of a new thread that leaves the CPU of this one, which then is to yield: a thread that is on it begins, and is gone.
fn elsewhere<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    // SAFETY: takes nothing.
    let here = unsafe { libc::sched_getcpu() };
    move || {
        leave(here);
        work()
    }
}

/// Moves this thread to another CPU if it is on this one. From there it may go anywhere again. Where it may not run
/// elsewhere, or where there are more CPUs than a `cpu_set_t` knows, it stays.
fn leave(cpu: i32) {
    // SAFETY: takes nothing.
    let (here, Ok(index)) = (unsafe { libc::sched_getcpu() }, usize::try_from(cpu)) else {
        return;
    };
    if here != cpu || index >= libc::CPU_SETSIZE as usize {
        return;
    }
    // SAFETY: all zeroes is a set, which is written and read within its size; the index lies within it, and 0 is this
    // thread.
    unsafe {
        let mut allowed: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of_val(&allowed), &raw mut allowed) != 0 {
            return;
        }
        let mut others = allowed;
        libc::CPU_CLR(index, &mut others);
        // Refused where nothing is left.
        if libc::sched_setaffinity(0, size_of_val(&others), &raw const others) == 0 {
            libc::sched_setaffinity(0, size_of_val(&allowed), &raw const allowed);
        }
    }
}

/// What `work` makes of either half, the second one in another thread if there can be one.
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
