//! What a run adds up to, computed from its events: summaries with latency distributions, stories of single connections, and
//! metrics.
//!
//! Everything here is pure and bounded. For example, [`summary`] counts each transition with a histogram of its times; a
//! [`report::Report`] is made from it at the end of an interval, and all outputs render that same value.

pub mod histogram;
pub mod kernel_counts;
pub mod metrics;
pub mod overview;
pub mod postmortem;
pub mod rates;
pub mod report;
pub mod story;
pub mod summary;
