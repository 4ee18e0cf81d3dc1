//! Work that two threads share.

use std::{panic::resume_unwind, thread};

/// What `work` makes of either half, the second one in another thread if there can be one.
pub(crate) fn in_two<'a, T: Sync, R: Send>(all: &'a [T], work: impl Fn(&'a [T]) -> R + Sync) -> [R; 2] {
    let (first, second) = all.split_at(all.len() / 2);
    thread::scope(|scope| {
        let beside = thread::Builder::new().spawn_scoped(scope, || work(second));
        let done = work(first);
        let other = beside.map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        [done, other.unwrap_or_else(|_| work(second))]
    })
}
