//! Rates of the kernel's TCP counters: [`reading`] parses them, [`meter`] computes the differences between two samples.

pub mod meter;
pub mod reading;
