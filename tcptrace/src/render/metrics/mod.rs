//! Metrics in the forms that scrapers and collectors read.

pub mod otlp;
pub mod prometheus;
