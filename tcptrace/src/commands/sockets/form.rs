//! The forms of the output.

use bytes::BytesMut;

use crate::commands::sockets::{
    listing::PIECE_ROWS,
    rows::{Cgroups, Group, Row},
};

/// A form of output.
#[allow(missing_docs, reason = "the names say it")]
pub enum Form<'a> {
    Text(crate::commands::sockets::text::Text),
    Json(crate::commands::sockets::json::Json<'a>),
    Csv(crate::commands::sockets::csv::Csv<'a>),
}

impl Form<'_> {
    /// Hands over, in pieces, all that is told where each socket is shown.
    ///
    /// # Errors
    /// That of `take`.
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

    /// Hands over, in pieces, all that is told where sockets are counted.
    ///
    /// # Errors
    /// That of `take`.
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

/// Hands over what `render` makes of `all`, some of them at a time.
pub(crate) fn in_pieces<T, E>(
    all: &[T],
    render: impl Fn(&[T]) -> BytesMut,
    take: &mut impl FnMut(BytesMut) -> Result<(), E>,
) -> Result<(), E> {
    all.chunks(PIECE_ROWS).map(render).try_for_each(take)
}
