//! Events and reports as text, JSON and CSV. All render the same values, so they cannot disagree.

mod aggregate;
pub mod csv;
pub mod doctor;
mod fields;
pub mod json;
pub mod metrics;
pub mod rates;
pub mod sockets;
pub mod text;

use crate::model::{names::Names, time::WallOffset};

pub use fields::{Field, FieldValue};
pub use sockets::SocketField;

/// Version of the JSON and CSV schema, in each JSON record.
pub const SCHEMA_VERSION: u32 = 1;

/// What a renderer needs besides the event.
pub struct Context {
    /// The wall clock.
    pub wall: WallOffset,
    /// Names.
    pub names: Names,
}
