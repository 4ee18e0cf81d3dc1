//! Events and reports as text, JSON and CSV. All render the same values, so they cannot disagree.

mod aggregate;
pub mod context;
pub mod csv;
pub(crate) mod fields;
pub mod json;
pub mod metrics;
pub mod text;

pub use fields::{Field, FieldValue};

/// Version of the JSON and CSV schema, in each JSON record.
pub const SCHEMA_VERSION: u32 = 1;
