//! The columns of `tcptrace sockets`: what `--columns` and `--sort` know, how they look, and what they stand for in CSV and
//! JSON.

use std::{cmp::Ordering, net::IpAddr};

use crate::{
    commands::sockets::{
        fields::{HolderLists, SocketField, visit},
        listing::Listing,
        rows::{Cgroups, Row},
    },
    model::nearest::nearest,
    render::{
        FieldValue,
        text::table::{
            Column,
            Side::{Left, Right},
        },
    },
};

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketColumn {
    /// State.
    State,
    /// Bytes to be read, or connections to be accepted.
    ReceiveQueue,
    /// Bytes not acknowledged, or the limit of the accept queue.
    SendQueue,
    /// Local end.
    Local,
    /// Remote end.
    Remote,
    /// Time in the state.
    Age,
    /// The running timer.
    Timer,
    /// Network namespace.
    Netns,
    /// User of the socket's file.
    Uid,
    /// The process responsible.
    Owner,
    /// How it is known.
    By,
    /// The processes that hold the socket.
    Holders,
    /// Their cgroups.
    Cgroup,
    /// The processes at the other end, with where they run.
    Peer,
    /// What else is to be said.
    Note,
    /// A field as in CSV.
    Field(SocketField),
}

use SocketColumn::{
    Age, By, Cgroup, Holders, Local, Netns, Note, Owner, Peer, ReceiveQueue, Remote, SendQueue, State, Timer, Uid,
};

/// What a column is called, how it looks, and its fields in CSV and JSON.
struct Shape {
    column: SocketColumn,
    name: &'static str,
    look: Column,
    fields: &'static [SocketField],
}

const fn shape(column: SocketColumn, name: &'static str, look: Column, fields: &'static [SocketField]) -> Shape {
    Shape { column, name, look, fields }
}

/// The columns of the table, in its order. On a narrow terminal the highest ranks make room first.
const SHAPES: [Shape; 15] = [
    shape(State, "state", Column::new("STATE", Left).styled(), &[SocketField::State]),
    shape(
        ReceiveQueue,
        "recv-q",
        Column::new("RECV-Q", Right).rank(6),
        &[SocketField::ReceiveQueue, SocketField::AcceptQueue],
    ),
    shape(
        SendQueue,
        "send-q",
        Column::new("SEND-Q", Right).rank(7),
        &[SocketField::SendQueue, SocketField::AcceptLimit],
    ),
    shape(Local, "local", Column::new("LOCAL", Left).rank(2), &[SocketField::LocalAddress, SocketField::LocalPort]),
    shape(Remote, "remote", Column::new("REMOTE", Left), &[SocketField::RemoteAddress, SocketField::RemotePort]),
    shape(Age, "age", Column::new("AGE", Right).rank(1), &[SocketField::AgeNs, SocketField::AgeSource]),
    shape(Timer, "timer", Column::new("TIMER", Left).rank(5), &[SocketField::Timer, SocketField::TimerLeftNs]),
    shape(Netns, "netns", Column::new("NETNS", Left).rank(9), &[SocketField::Netns, SocketField::NetnsName]),
    shape(Uid, "uid", Column::new("UID", Right).rank(10), &[SocketField::SocketUid]),
    shape(Owner, "owner", Column::new("OWNER", Left).rank(8), &[SocketField::Pid, SocketField::Command]),
    shape(By, "by", Column::new("BY", Left).rank(11), &[SocketField::OwnerSource]),
    shape(Holders, "holders", Column::new("HOLDERS", Left).least(12), &[SocketField::HeldBy, SocketField::Holders]),
    shape(Cgroup, "cgroup", Column::new("CGROUP", Left).least(24).rank(4), &[SocketField::Holders]),
    shape(Peer, "peer", Column::new("PEER", Left).least(12).rank(12), &[SocketField::PeerHolders]),
    shape(Note, "note", Column::new("NOTE", Left).least(12).rank(3), &[SocketField::HalfOpen]),
];

impl SocketColumn {
    /// The names of the table's columns.
    pub fn names() -> impl Iterator<Item = &'static str> {
        SHAPES.iter().map(|shape| shape.name)
    }

    /// The column with this name: one of the table, or any field of CSV.
    ///
    /// # Errors
    /// The known columns, if it is none of them.
    pub fn named(name: &str) -> Result<Self, String> {
        let of_table = SHAPES.iter().find(|shape| shape.name == name).map(|shape| shape.column);
        let same = |field: &&SocketField| field.name() == name.replace('-', "_");
        let of_csv = || SocketField::ALL.iter().find(same).map(|field| Self::Field(*field));
        of_table.or_else(of_csv).ok_or_else(|| {
            let fields = SocketField::ALL.iter().map(|field| field.name());
            let nearest = nearest(name, Self::names().chain(fields));
            let nearest = if nearest.is_empty() { "." } else { &nearest };
            let known = Self::names().collect::<Vec<_>>().join(", ");
            format!(
                "unknown column `{name}`{nearest} Known are {known}, and each field of CSV (tcptrace explain socket)"
            )
        })
    }

    /// How it looks.
    pub(super) fn look(self) -> Column {
        match self {
            Self::Field(field) => Column::new(field.name(), Left),
            column => {
                SHAPES.iter().find(|shape| shape.column == column).map_or(Column::new("", Left), |shape| shape.look)
            }
        }
    }

    /// Its fields in CSV and JSON.
    pub(super) fn fields(self) -> Vec<SocketField> {
        match self {
            Self::Field(field) => vec![field],
            column => {
                SHAPES.iter().filter(|shape| shape.column == column).flat_map(|shape| shape.fields).copied().collect()
            }
        }
    }
}

/// The fields of these columns, each once.
pub(super) fn fields_of(columns: &[SocketColumn]) -> Vec<SocketField> {
    let mut fields = Vec::new();
    for field in columns.iter().flat_map(|column| column.fields()) {
        if !fields.contains(&field) {
            fields.push(field);
        }
    }
    fields
}

/// What rows are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SortKey {
    /// The column.
    pub column: SocketColumn,
    /// The largest first.
    pub descending: bool,
}

/// Sorts rows by these keys, one after another. Rows of which a value is not known come last in both directions; equal rows
/// stay in the order of the listing.
pub(super) fn sort_rows(rows: &mut [Row<'_>], keys: &[SortKey], listing: &Listing<'_>, cgroups: &Cgroups) {
    rows.sort_by_cached_key(|row| {
        keys.iter()
            .map(|key| Ordered { value: value(key.column, row, listing, cgroups), descending: key.descending })
            .collect::<Vec<_>>()
    });
}

/// A value to sort by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    Number(u64),
    Address(IpAddr, u16),
    Text(String),
}

/// A value in a direction; the unknown is the largest in both.
#[derive(PartialEq, Eq)]
struct Ordered {
    value: Option<Value>,
    descending: bool,
}

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.value, &other.value) {
            (Some(one), Some(other)) if self.descending => other.cmp(one),
            (Some(one), Some(other)) => one.cmp(other),
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
        }
    }
}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn value(column: SocketColumn, row: &Row<'_>, listing: &Listing<'_>, cgroups: &Cgroups) -> Option<Value> {
    let socket = row.socket;
    let number = |number: u64| Some(Value::Number(number));
    match column {
        State => number(socket.state.index() as u64),
        ReceiveQueue | SendQueue if socket.is_unlisted => None,
        ReceiveQueue => number(socket.receive_queue.into()),
        SendQueue => number(socket.send_queue.into()),
        Local => Some(Value::Address(socket.local.ip(), socket.local.port())),
        Remote => Some(Value::Address(socket.remote.ip(), socket.remote.port())),
        Age => row.age.map(|age| Value::Number(age.ns)),
        Timer => socket.timer.map(|timer| Value::Number(timer.left_ns)),
        Netns => number(socket.netns.into()),
        Uid => socket.uid.map(|uid| Value::Number(uid.into())),
        Owner => socket.owner.as_ref().map(|owner| Value::Text(owner.command.to_text().into_owned())),
        By => socket.owner.as_ref().map(|owner| Value::Text(owner.source.name().to_owned())),
        Holders => row.holders.first().map(|holder| Value::Text(holder.command.to_text().into_owned())),
        Cgroup => {
            row.holders.first().and_then(|holder| cgroups.of(holder.pid)).map(|names| Value::Text(names.path.clone()))
        }
        Peer => {
            let first = row.peer.and_then(<[_]>::first);
            first.map(|holder| Value::Text(holder.command.to_text().into_owned()))
        }
        Note => row.half_open.map(Value::Number),
        SocketColumn::Field(field) => of_field(field, row, listing),
    }
}

fn of_field(wanted: SocketField, row: &Row<'_>, listing: &Listing<'_>) -> Option<Value> {
    let mut found = None;
    visit(row, listing, &HolderLists::default(), |field, value| {
        if field == wanted {
            found = match value {
                FieldValue::Null | FieldValue::Nulls(_) | FieldValue::Json(_) => None,
                FieldValue::List(words) => Some(Value::Text(words.join(" "))),
                FieldValue::Text(text) | FieldValue::Word(text) => Some(Value::Text(text.to_owned())),
                FieldValue::Number(number) | FieldValue::Pointer(number) => Some(Value::Number(number)),
                FieldValue::Time(ns) => Some(Value::Number(ns as u64)),
                FieldValue::Address(address) => Some(Value::Address(address, 0)),
                FieldValue::Flag(flag) => Some(Value::Number(flag.into())),
            };
        }
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_the_names_of_the_table_and_of_csv() {
        for name in SocketColumn::names() {
            let column = SocketColumn::named(name).unwrap();
            assert!(!column.fields().is_empty(), "{name}");
        }
        for field in SocketField::ALL {
            assert!(SocketColumn::named(field.name()).is_ok(), "{}", field.name());
        }
        assert_eq!(SocketColumn::named("srtt-us"), Ok(SocketColumn::Field(SocketField::SrttUs)));
        let error = SocketColumn::named("recvq").unwrap_err();
        assert!(
            error.starts_with("unknown column `recvq`: did you mean `recv-q`? Known are state, recv-q,"),
            "{error}"
        );
    }

    #[test]
    fn what_is_not_known_comes_last_in_both_directions() {
        let sorted = |descending| {
            let mut all = [None, Some(2), Some(3), None, Some(1)]
                .map(|value| Ordered { value: value.map(Value::Number), descending });
            all.sort();
            all.map(|ordered| match ordered.value {
                Some(Value::Number(number)) => number,
                _ => 0,
            })
        };
        assert_eq!((sorted(false), sorted(true)), ([1, 2, 3, 0, 0], [3, 2, 1, 0, 0]));
    }
}
