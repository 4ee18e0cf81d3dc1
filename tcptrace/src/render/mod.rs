//! Turns records (events, findings, notices, reports, stories, metrics) into bytes: text, JSON, CSV, Prometheus and OTLP.
//!
//! All formats render the same values, so they cannot disagree; for example, JSON and CSV share the list of an event's
//! fields ([`Field`]). Renderers write to a buffer that the caller gives them and know nothing about outputs. What a
//! record lacks, such as names of cgroups, they look up in a [`context::Context`].

mod aggregate;
pub mod context;
pub mod csv;
mod field;
pub(crate) mod fields;
pub mod finding_columns;
pub mod html;
pub mod json;
pub mod metrics;
mod names;
pub mod screen;
pub mod text;

pub use fields::{Field, FieldValue};

/// Version of the JSON and CSV schema; every JSON record has it.
pub const SCHEMA_VERSION: u32 = 1;
