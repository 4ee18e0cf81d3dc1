//! Look-ups that renderers need besides the record.

use crate::model::{names::Names, screen::Screen, time::WallOffset};

/// The wall clock and the names that turn a record into output.
pub struct Context {
    /// Converts CLOCK_MONOTONIC to the wall clock.
    pub wall: WallOffset,
    /// Names of namespaces, cgroups, executables and RST reasons.
    pub names: Names,
    /// The size of the terminal at stdout, if there is one.
    pub screen: Option<Screen>,
}
