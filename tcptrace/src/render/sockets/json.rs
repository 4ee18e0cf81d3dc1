//! Sockets as JSON, one object a line.

use std::fmt::Write as _;

use bytes::{BufMut, BytesMut};
use serde_json::{Value, json};

use super::{
    Listing,
    fields::{holders, visit, visit_group},
};
use crate::{
    clock::WallFormat,
    render::{
        SCHEMA_VERSION,
        json::{line, member, text_time},
    },
    snapshot::Snapshot,
    sockets::{Cgroups, Group, Row, StateCounts},
    state::State,
};

/// Writes JSON.
pub struct Json<'a> {
    listing: Listing<'a>,
    time: WallFormat,
    holders: BytesMut,
}

impl<'a> Json<'a> {
    /// Writes what `listing` has.
    #[must_use]
    pub fn new(listing: Listing<'a>) -> Self {
        Self { listing, time: WallFormat::rfc3339(), holders: BytesMut::new() }
    }

    pub(super) fn row(&mut self, to: &mut BytesMut, row: &Row<'_>, cgroups: &mut Cgroups) {
        self.holders.clear();
        holders(&mut self.holders, row, cgroups, &mut self.time);
        let _ = write!(to, "{{\"schema\":{SCHEMA_VERSION}"); // to memory
        visit(row, &self.listing, &self.holders, |field, value| member(to, field.name(), value, &mut self.time));
        to.put_slice(b"}\n");
    }

    pub(super) fn group(&mut self, to: &mut BytesMut, group: &Group) {
        let _ = write!(to, "{{\"schema\":{SCHEMA_VERSION}"); // to memory
        visit_group(group, &self.listing, |name, value| member(to, name, value, &mut self.time));
        let _ = writeln!(to, ",\"states\":{}}}", states(&group.by_state)); // to memory
    }

    pub(super) fn end(&mut self, to: &mut BytesMut) {
        let Listing { snapshot, wall, totals, .. } = self.listing;
        let skipped = snapshot.skipped.fields().into_iter().map(|(name, count)| (name.to_owned(), json!(count)));
        let namespaces = snapshot.namespaces.iter().map(|namespace| {
            json!({
                "inode": namespace.inode, "name": namespace.name,
                "time_wait_overflows": namespace.counters.map(|counters| counters.time_wait_overflows),
            })
        });
        let time = text_time(&mut self.time, wall, snapshot.ended_ns);
        line(
            to,
            &json!({
                "schema": SCHEMA_VERSION, "event": "sockets_end", "time": time, "mono_ns": snapshot.ended_ns,
                "span_ns": snapshot.ended_ns.saturating_sub(snapshot.started_ns), "path": path(snapshot),
                "sockets": totals.iter().sum::<u64>(), "states": states(&totals),
                "skipped": skipped.collect::<Value>(), "namespaces": namespaces.collect::<Value>(),
            }),
        );
    }
}

fn states(counts: &StateCounts) -> Value {
    State::ALL.iter().zip(counts).map(|(state, count)| (state.name().to_owned(), json!(count))).collect()
}

/// The way by which the sockets were listed; `None` where there are none, which would show it.
fn path(snapshot: &Snapshot) -> Option<&'static str> {
    let by_iterator = snapshot.sockets.iter().filter(|socket| socket.sk.is_some()).count();
    match by_iterator {
        _ if snapshot.sockets.is_empty() => None,
        0 => Some("sock_diag"),
        some if some == snapshot.sockets.len() => Some("iterators"),
        _ => Some("mixed"),
    }
}
