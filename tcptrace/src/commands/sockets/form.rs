//! The output formats of `tcptrace sockets`.

use bytes::BytesMut;

use crate::commands::sockets::{
    listing::PIECE_ROWS,
    rows::{Cgroups, Group, Row},
};

/// A writer for one of the formats.
#[allow(missing_docs, reason = "the names say it")]
pub enum Form<'a> {
    Text(crate::commands::sockets::text::Text<'a>),
    Json(crate::commands::sockets::json::Json<'a>),
    Csv(crate::commands::sockets::csv::Csv<'a>),
}

impl Form<'_> {
    /// Passes the output for a list of sockets to `take`, in pieces.
    ///
    /// # Errors
    /// An error of `take`.
    pub fn rows<E>(
        &self,
        rows: &[Row<'_>],
        cgroups: &Cgroups,
        mut take: impl FnMut(BytesMut) -> Result<(), E>,
    ) -> Result<(), E> {
        match self {
            Self::Text(text) => text.rows(rows, cgroups, take),
            Self::Json(json) => {
                in_pieces(rows, |rows| json.rows(rows, cgroups), &mut take)?;
                take(json.end())
            }
            Self::Csv(csv) => {
                take(csv.header())?;
                in_pieces(rows, |rows| csv.rows(rows, cgroups), &mut take)
            }
        }
    }

    /// Passes the output for counted sockets to `take`, in pieces.
    ///
    /// # Errors
    /// An error of `take`.
    pub fn groups<E>(&self, groups: &[Group], mut take: impl FnMut(BytesMut) -> Result<(), E>) -> Result<(), E> {
        match self {
            Self::Text(text) => text.groups(groups, take),
            Self::Json(json) => {
                in_pieces(groups, |groups| json.groups(groups), &mut take)?;
                take(json.end())
            }
            Self::Csv(csv) => {
                take(csv.header())?;
                in_pieces(groups, |groups| csv.groups(groups), &mut take)
            }
        }
    }
}

/// Renders `all` in chunks, and passes each piece on.
pub(crate) fn in_pieces<T, E>(
    all: &[T],
    render: impl Fn(&[T]) -> BytesMut,
    take: &mut impl FnMut(BytesMut) -> Result<(), E>,
) -> Result<(), E> {
    all.chunks(PIECE_ROWS).map(render).try_for_each(take)
}
