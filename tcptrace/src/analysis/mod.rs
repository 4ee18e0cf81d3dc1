//! What follows from the events of a run: counts and distributions, reports, stories of connections, metrics.

pub mod histogram;
pub mod kernel_counts;
pub mod metrics;
pub mod report;
pub mod story;
pub mod summary;
