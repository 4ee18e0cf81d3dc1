//! Work that two threads share.

use std::{panic::resume_unwind, sync::Mutex, thread};

/// Does `work` on each of `items`, and gives what comes of them in their order. A second thread helps where there is more
/// than one; where it cannot be had, all takes longer.
pub fn in_order<T: Send, R: Send>(
    items: impl ExactSizeIterator<Item = T> + Send,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let are_many = items.len() > 1;
    let left = Mutex::new(items.enumerate());
    let work = || {
        let next = || left.lock().ok()?.next();
        let mut done = Vec::new();
        while let Some((place, item)) = next() {
            done.push((place, work(item)));
        }
        done
    };
    let mut done = thread::scope(|scope| {
        let helper = are_many.then(|| thread::Builder::new().spawn_scoped(scope, work));
        let mut done = work();
        if let Some(Ok(helper)) = helper {
            done.extend(helper.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        done
    });
    done.sort_unstable_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_is_in_order_whoever_did_it() {
        for count in [0, 1, 2, 1000] {
            let squares = in_order(0..count, |number| number * number);
            assert_eq!(squares, (0..count).map(|number| number * number).collect::<Vec<i32>>());
        }
    }
}
