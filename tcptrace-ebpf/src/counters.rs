//! Counts what the programs cannot report. See [`tcptrace_common::counters`].

use tcptrace_common::counters::Counters;

use crate::maps::COUNTERS;

/// Adds 1 to a counter of this CPU. `field` returns a pointer into the [`Counters`]; use [`count!`] instead.
#[inline(always)]
pub(crate) fn add_one(field: impl FnOnce(*mut Counters) -> *mut u64) {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: within the counters of this CPU.
        unsafe { *field(counters) += 1 };
    }
}

/// Adds 1 to a field of this CPU's [`Counters`].
macro_rules! count {
    ($field:ident) => {
        $crate::counters::add_one(|counters| {
            #[allow(unused_unsafe, reason = "the caller may be in an unsafe block")]
            // SAFETY: a field of the counters.
            unsafe {
                &raw mut (*counters).$field
            }
        })
    };
}
pub(crate) use count;
