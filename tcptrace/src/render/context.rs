//! Look-ups that renderers need besides the record.

use crate::model::{names::Names, screen::Screen, time::WallOffset};

/// The wall clock and the names that turn a record into output.
pub struct Context {
    /// Converts CLOCK_MONOTONIC to the wall clock.
    pub wall: WallOffset,
    /// Names of processes, namespaces, cgroups and RST reasons.
    pub names: Names,
    /// The size of the terminal at stdout, if there is one.
    pub screen: Option<Screen>,
    /// CLOCK_MONOTONIC in ns, as of the last time that records were read.
    pub now_ns: u64,
    /// How long a record may wait for the names of its processes, in ns.
    pub names_within_ns: u64,
}

impl Context {
    /// A context at no particular time.
    #[must_use]
    pub const fn new(wall: WallOffset, names: Names) -> Self {
        Self { wall, names, screen: None, now_ns: 0, names_within_ns: 50_000_000 }
    }
}
