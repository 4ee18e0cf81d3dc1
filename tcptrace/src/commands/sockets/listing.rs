//! Listed sockets and counts of them as text, JSON and CSV.

use crate::{
    cli::args::GroupBy,
    commands::sockets::rows::StateCounts,
    model::{snapshot::Snapshot, time::WallOffset},
};

/// What is told of.
#[derive(Clone, Copy)]
pub struct Listing<'a> {
    /// What was listed.
    pub snapshot: &'a Snapshot,
    /// The wall clock.
    pub wall: WallOffset,
    /// The wanted sockets by state.
    pub totals: StateCounts,
    /// What they are counted by; `None` where each is shown.
    pub by: Option<GroupBy>,
}

/// Rows of a piece of output.
pub(crate) const PIECE_ROWS: usize = 512;
