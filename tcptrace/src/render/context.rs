//! What a renderer needs besides the record.

use crate::model::{names::Names, time::WallOffset};

/// What a renderer needs besides the event.
pub struct Context {
    /// The wall clock.
    pub wall: WallOffset,
    /// Names.
    pub names: Names,
}
