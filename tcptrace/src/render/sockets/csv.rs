//! Sockets as CSV (RFC 4180), with a first line that names the columns. The holders are JSON in a cell.

use bytes::{BufMut, BytesMut};

use super::{
    COUNT_COLUMNS, Listing, SocketField,
    fields::{holders, visit, visit_group},
};
use crate::{
    clock::WallFormat,
    render::{FieldValue, csv::cell},
    sockets::{Cgroups, Group, Row},
    state::State,
};

/// Writes CSV.
pub struct Csv<'a> {
    listing: Listing<'a>,
    time: WallFormat,
    holders: BytesMut,
    header_written: bool,
}

impl<'a> Csv<'a> {
    /// Writes what `listing` has.
    #[must_use]
    pub fn new(listing: Listing<'a>) -> Self {
        Self { listing, time: WallFormat::rfc3339(), holders: BytesMut::new(), header_written: false }
    }

    /// Writes the first line, if it was not written yet.
    pub(super) fn header(&mut self, to: &mut BytesMut) {
        if std::mem::replace(&mut self.header_written, true) {
            return;
        }
        let names: Vec<_> = match self.listing.by {
            None => SocketField::ALL.iter().map(|field| field.name()).collect(),
            Some(_) => COUNT_COLUMNS.into_iter().chain(State::ALL.map(State::name)).collect(),
        };
        to.put_slice(names.join(",").as_bytes());
        to.put_u8(b'\n');
    }

    pub(super) fn row(&mut self, to: &mut BytesMut, row: &Row<'_>, cgroups: &mut Cgroups) {
        self.header(to);
        self.holders.clear();
        holders(&mut self.holders, row, cgroups, &mut self.time);
        let mut separator = None;
        visit(row, &self.listing, &self.holders, |_, value| {
            to.extend(separator.replace(b','));
            cell(to, value, &mut self.time);
        });
        to.put_u8(b'\n');
    }

    pub(super) fn group(&mut self, to: &mut BytesMut, group: &Group) {
        self.header(to);
        let mut separator = None;
        visit_group(group, &self.listing, |_, value| {
            to.extend(separator.replace(b','));
            cell(to, value, &mut self.time);
        });
        for count in group.by_state {
            to.put_u8(b',');
            cell(to, FieldValue::Number(count), &mut self.time);
        }
        to.put_u8(b'\n');
    }
}
