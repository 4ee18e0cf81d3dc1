//! The input of all writers.

use crate::{
    cli::args::GroupBy,
    model::{snapshot::Snapshot, state::StateCounts, time::WallOffset},
};

/// A listing with what writers need besides the rows.
#[derive(Clone, Copy)]
pub struct Listing<'a> {
    /// The listed sockets, holders and namespaces.
    pub snapshot: &'a Snapshot,
    /// Converts CLOCK_MONOTONIC to the wall clock.
    pub wall: WallOffset,
    /// Number of wanted sockets by state.
    pub totals: StateCounts,
    /// What sockets are counted by, at most two things; empty if each one is listed.
    pub by: &'a [GroupBy],
    /// Number of sockets that were left out because their age is not known; `None` if none were left out by age.
    pub age_unknown: Option<u64>,
}

/// Rows in a piece of output.
pub(crate) const PIECE_ROWS: usize = 512;
