//! What can be done besides tracing.

pub mod rates;
