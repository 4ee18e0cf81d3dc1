//! Constants that user space sets before loading. They sit in a frozen read-only map, so the verifier folds each
//! read of them and removes the branches that they rule out.

use tcptrace_common::config::Config;

/// The constants. Read it through [`config!`] only: the compiler must not see its value.
#[unsafe(no_mangle)]
pub(crate) static CONFIG: Config =
    // SAFETY: made of integers only.
    unsafe { core::mem::zeroed() };

/// Loads one field of [`CONFIG`].
macro_rules! config {
    ($($field:tt)+) => {{
        #[allow(unused_unsafe, reason = "it may stand in an unsafe block")]
        // SAFETY: the static is valid and aligned; volatile, because user space changes it before loading.
        unsafe { (&raw const $crate::config::CONFIG.$($field)+).read_volatile() }
    }};
}
pub(crate) use config;
