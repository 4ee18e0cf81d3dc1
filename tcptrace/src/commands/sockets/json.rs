//! Sockets as JSON, one object per line.

use std::fmt::Write as _;

use bytes::{BufMut, BytesMut};
use serde_json::{Value, json};

use super::fields::{HolderLists, SocketField, visit, visit_group};
use crate::{
    commands::sockets::{
        listing::Listing,
        rows::{Cgroups, Group, Row},
    },
    model::{
        snapshot::Snapshot,
        state::{State, StateCounts},
        time::WallFormat,
    },
    render::{
        SCHEMA_VERSION,
        json::{line, member, text_time},
    },
};

/// The fields that each record has, whatever columns are chosen.
const ALWAYS: [SocketField; 3] = [SocketField::Event, SocketField::Time, SocketField::MonoNs];

/// Writes sockets as JSON.
pub struct Json<'a> {
    listing: Listing<'a>,
    fields: &'a [SocketField],
}

impl<'a> Json<'a> {
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

    pub(super) fn rows(&self, rows: &[Row<'_>], cgroups: &Cgroups) -> BytesMut {
        let (mut to, mut of_row, mut time) = (BytesMut::new(), HolderLists::default(), WallFormat::rfc3339());
        for row in rows {
            of_row.fill(row, cgroups, &mut time);
            let _ = write!(to, "{{\"schema\":{SCHEMA_VERSION}"); // to memory
            let fields = self.fields;
            visit(row, &self.listing, &of_row, |field, value| {
                if fields.is_empty() || fields.contains(&field) || ALWAYS.contains(&field) {
                    member(&mut to, field.name(), value, &mut time);
                }
            });
            to.put_slice(b"}\n");
        }
        to
    }

    pub(super) fn groups(&self, groups: &[Group]) -> BytesMut {
        let (mut to, mut time) = (BytesMut::new(), WallFormat::rfc3339());
        for group in groups {
            let _ = write!(to, "{{\"schema\":{SCHEMA_VERSION}"); // to memory
            visit_group(group, &self.listing, |name, value| member(&mut to, name, value, &mut time));
            let _ = writeln!(to, ",\"states\":{}}}", states(&group.by_state)); // to memory
        }
        to
    }

    pub(super) fn end(&self) -> BytesMut {
        let Listing { snapshot, wall, totals, age_unknown, .. } = self.listing;
        let skipped = snapshot.skipped.fields().into_iter().map(|(name, count)| (name.to_owned(), json!(count)));
        let namespaces = snapshot.namespaces.iter().map(|namespace| {
            json!({
                "inode": namespace.inode, "name": namespace.name,
                "time_wait_overflows": namespace.counters.map(|counters| counters.time_wait_overflows),
            })
        });
        let time = text_time(&mut WallFormat::rfc3339(), wall, snapshot.ended_ns);
        let mut to = BytesMut::new();
        line(
            &mut to,
            &json!({
                "schema": SCHEMA_VERSION, "event": "sockets_end", "time": time, "mono_ns": snapshot.ended_ns,
                "span_ns": snapshot.ended_ns.saturating_sub(snapshot.started_ns), "path": path(snapshot),
                "sockets": totals.iter().sum::<u64>(), "states": states(&totals), "age_unknown": age_unknown,
                "skipped": skipped.collect::<Value>(), "namespaces": namespaces.collect::<Value>(),
            }),
        );
        to
    }
}

fn states(counts: &StateCounts) -> Value {
    State::ALL.iter().zip(counts).map(|(state, count)| (state.name().to_owned(), json!(count))).collect()
}

/// How the sockets were listed; `None` if there are none from which it could be seen.
fn path(snapshot: &Snapshot) -> Option<&'static str> {
    let by_iterator = snapshot.sockets.iter().filter(|socket| socket.sk.is_some()).count();
    match by_iterator {
        _ if snapshot.sockets.is_empty() => None,
        0 => Some("sock_diag"),
        some if some == snapshot.sockets.len() => Some("iterators"),
        _ => Some("mixed"),
    }
}
