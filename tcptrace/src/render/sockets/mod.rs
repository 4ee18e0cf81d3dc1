//! Listed sockets and counts of them as text, JSON and CSV.

pub mod csv;
mod fields;
pub mod json;
mod table;
pub mod text;

use bytes::BytesMut;

use crate::{
    clock::WallOffset,
    snapshot::Snapshot,
    sockets::{By, Cgroups, Group, Row, StateCounts},
};

pub use fields::{COUNT_COLUMNS, SocketField};

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
    pub by: Option<By>,
}

/// A form of output.
#[allow(missing_docs, reason = "the names say it")]
pub enum Form<'a> {
    Text(text::Text),
    Json(json::Json<'a>),
    Csv(csv::Csv<'a>),
}

impl Form<'_> {
    /// Writes a socket.
    pub fn row(&mut self, to: &mut BytesMut, row: &Row<'_>, cgroups: &mut Cgroups) {
        match self {
            Self::Text(text) => text.row(row, cgroups),
            Self::Json(json) => json.row(to, row, cgroups),
            Self::Csv(csv) => csv.row(to, row, cgroups),
        }
    }

    /// Writes a group of sockets.
    pub fn group(&mut self, to: &mut BytesMut, group: &Group) {
        match self {
            Self::Text(text) => text.group(group),
            Self::Json(json) => json.group(to, group),
            Self::Csv(csv) => csv.group(to, group),
        }
    }

    /// Writes what is left, and what stands at the end.
    pub fn end(&mut self, to: &mut BytesMut) {
        match self {
            Self::Text(text) => text.end(to),
            Self::Json(json) => json.end(to),
            Self::Csv(csv) => csv.header(to),
        }
    }
}
