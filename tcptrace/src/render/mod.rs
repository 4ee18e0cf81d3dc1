//! Events and reports as text, JSON and CSV. All render the same values, so they cannot disagree.

mod aggregate;
pub mod csv;
pub(crate) mod fields;
pub mod json;
pub mod metrics;
pub mod text;

use crate::model::{names::Names, time::WallOffset};

pub use crate::commands::sockets::listing::SocketField;
pub use fields::{Field, FieldValue};

/// Version of the JSON and CSV schema, in each JSON record.
pub const SCHEMA_VERSION: u32 = 1;

/// What a renderer needs besides the event.
pub struct Context {
    /// The wall clock.
    pub wall: WallOffset,
    /// Names.
    pub names: Names,
}
