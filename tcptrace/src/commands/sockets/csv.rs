//! Sockets as CSV (RFC 4180). The first line names the columns; holders are JSON in one cell.

use bytes::{BufMut, BytesMut};

use super::fields::{HolderLists, visit, visit_group};
use crate::{
    commands::sockets::{
        fields::{COUNT_COLUMNS, SocketField},
        listing::Listing,
        rows::{Cgroups, Group, Row},
    },
    model::{state::State, time::WallFormat},
    render::{FieldValue, csv::cell},
};

/// Writes sockets as CSV.
pub struct Csv<'a> {
    listing: Listing<'a>,
    fields: &'a [SocketField],
}

impl<'a> Csv<'a> {
    /// A writer for a listing.
    #[must_use]
    pub fn new(listing: Listing<'a>) -> Self {
        Self { listing, fields: &[] }
    }

    /// With only these fields, if there are any.
    #[must_use]
    pub fn only(self, fields: &'a [SocketField]) -> Self {
        Self { fields, ..self }
    }

    pub(super) fn header(&self) -> BytesMut {
        let names: Vec<_> = match (self.listing.by, self.fields) {
            ([], []) => SocketField::ALL.iter().map(|field| field.name()).collect(),
            ([], fields) => fields.iter().map(|field| field.name()).collect(),
            _ => COUNT_COLUMNS.into_iter().chain(State::ALL.map(State::name)).collect(),
        };
        (names.join(",") + "\n").as_bytes().into()
    }

    pub(super) fn rows(&self, rows: &[Row<'_>], cgroups: &Cgroups) -> BytesMut {
        let (mut to, mut of_row, mut time) = (BytesMut::new(), HolderLists::default(), WallFormat::rfc3339());
        for row in rows {
            of_row.fill(row, cgroups, &mut time);
            let mut separator = None;
            if self.fields.is_empty() {
                visit(row, &self.listing, &of_row, |_, value| {
                    to.extend(separator.replace(b','));
                    cell(&mut to, value, &mut time);
                });
            } else {
                self.chosen(&mut to, row, &of_row, &mut time);
            }
            to.put_u8(b'\n');
        }
        to
    }

    /// Writes the chosen fields, in their order.
    fn chosen(&self, to: &mut BytesMut, row: &Row<'_>, of_row: &HolderLists, time: &mut WallFormat) {
        let fields = self.fields;
        let mut cells = vec![Vec::new(); fields.len()];
        visit(row, &self.listing, of_row, |field, value| {
            if let Some(at) = fields.iter().position(|wanted| *wanted == field) {
                cell(&mut cells[at], value, time);
            }
        });
        to.put_slice(&cells.join(&b','));
    }

    pub(super) fn groups(&self, groups: &[Group]) -> BytesMut {
        let (mut to, mut time) = (BytesMut::new(), WallFormat::rfc3339());
        for group in groups {
            let mut separator = None;
            visit_group(group, &self.listing, |_, value| {
                to.extend(separator.replace(b','));
                cell(&mut to, value, &mut time);
            });
            for count in group.by_state {
                to.put_u8(b',');
                cell(&mut to, FieldValue::Number(count), &mut time);
            }
            to.put_u8(b'\n');
        }
        to
    }
}
