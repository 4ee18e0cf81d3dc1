//! Sockets as a table for people.

use std::{fmt::Write as _, net::SocketAddr};

use bytes::BytesMut;

use super::fields::{HolderLists, SocketField, names, visit};
use crate::{
    cli::args::GroupBy,
    commands::sockets::{
        columns::SocketColumn::{
            self, Age, By, Cgroup, Holders, Local, Netns, Note, Owner, Peer, ReceiveQueue, Remote, SendQueue, State,
            Timer, Uid,
        },
        listing::Listing,
        rows::{Cgroups, Common, Group, HeldBy, Row, by_process},
    },
    model::{
        event::Command,
        printable::Printable,
        socket::{self, Kind, TimerKind},
        state as model,
        time::{WallFormat, human, write_human},
    },
    render::{
        FieldValue,
        csv::cell,
        text::{
            style::Style,
            table::{
                Cells, Column,
                Side::{Left, Right},
                Table,
            },
            wrap::wrapped,
        },
    },
    sys::cgroup::names::CgroupNames,
};

/// Options of text output.
#[derive(Clone, Debug, Default)]
pub struct TextOptions {
    /// Whether to use colour.
    pub color: bool,
    /// Whether to show everything known about the holders.
    pub more: bool,
    /// Whether to show the network namespaces.
    pub netns: bool,
    /// Whether to show how owners are known.
    pub owner_source: bool,
    /// The columns, all of them whole; the usual ones if there are none.
    pub columns: Vec<SocketColumn>,
    /// Width of the terminal to which the usual columns are fitted.
    pub width: Option<usize>,
}

/// Writes sockets as text, once all cells are known.
pub struct Text<'a> {
    listing: Listing<'a>,
    options: TextOptions,
    columns: Vec<SocketColumn>,
}

// Writing to memory cannot fail, so the results of `write!` are ignored below.

impl<'a> Text<'a> {
    /// A writer for a listing.
    #[must_use]
    pub fn new(listing: &Listing<'a>, options: TextOptions) -> Self {
        let TextOptions { more, netns, owner_source, .. } = options;
        let usual = [
            Some(State),
            Some(ReceiveQueue),
            Some(SendQueue),
            Some(Local),
            Some(Remote),
            Some(Age),
            Some(Timer),
            netns.then_some(Netns),
            more.then_some(Uid),
            Some(Owner),
            owner_source.then_some(By),
            Some(Holders),
            more.then_some(Cgroup),
            more.then_some(Peer),
            Some(Note),
        ];
        let columns =
            if options.columns.is_empty() { usual.into_iter().flatten().collect() } else { options.columns.clone() };
        Self { listing: *listing, options, columns }
    }

    pub(super) fn rows<E>(
        &self,
        rows: &[Row<'_>],
        cgroups: &Cgroups,
        take: impl FnMut(BytesMut) -> Result<(), E>,
    ) -> Result<(), E> {
        let columns = self.columns.iter().map(|column| column.look()).collect();
        self.table(columns, rows, |table, row| self.row(table, row, cgroups), 0, take)
    }

    pub(super) fn groups<E>(&self, groups: &[Group], take: impl FnMut(BytesMut) -> Result<(), E>) -> Result<(), E> {
        let grouped = groups.iter().map(|group| group.sockets).sum();
        self.table(self.group_columns(), groups, |table, group| self.group(table, group), grouped, take)
    }

    fn row(&self, table: &mut Cells<'_>, row: &Row<'_>, cgroups: &Cgroups) {
        let (socket, more) = (row.socket, self.options.more);
        for column in &self.columns {
            match column {
                State => table.text(socket.state.name()),
                ReceiveQueue | SendQueue if socket.is_unlisted => table.text("-"),
                ReceiveQueue => table.number(socket.receive_queue.into()),
                SendQueue => table.number(socket.send_queue.into()),
                Local => table.cell(|to| address(to, socket.local)),
                Remote => table.cell(|to| address(to, socket.remote)),
                Age => table.cell(|to| age(to, row)),
                Timer => table.cell(|to| timer(to, row)),
                Netns => match row.netns_name {
                    Some(name) => table.value(Printable(name)),
                    None => table.number(socket.netns.into()),
                },
                Uid => match socket.uid {
                    Some(uid) => table.number(uid.into()),
                    None => table.text("-"),
                },
                Owner => match &socket.owner {
                    Some(owner) => table.cell(|to| process(to, &owner.command, owner.pid)),
                    None => table.text("-"),
                },
                By => table.text(socket.owner.map_or("-", |owner| owner.source.name())),
                Holders => table.cell(|to| holders(to, row, more)),
                Cgroup => table.cell(|to| cgroups_of(to, row, cgroups)),
                Peer => table.cell(|to| peer(to, row, cgroups)),
                Note => table.cell(|to| note(to, row)),
                SocketColumn::Field(field) => table.cell(|to| self.field(to, *field, row, cgroups)),
            }
        }
    }

    /// A field as CSV has it, but durations as people read them.
    fn field(&self, to: &mut String, wanted: SocketField, row: &Row<'_>, cgroups: &Cgroups) {
        let (mut of_row, mut text, mut time) = (HolderLists::default(), Vec::new(), WallFormat::rfc3339());
        of_row.fill(row, cgroups, &mut time);
        visit(row, &self.listing, &of_row, |field, value| match value {
            _ if field != wanted => {}
            FieldValue::Number(ns) if field.name().ends_with("_ns") && field != SocketField::MonoNs => {
                text.extend_from_slice(human(ns).as_bytes());
            }
            value => cell(&mut text, value, &mut time),
        });
        let text = String::from_utf8_lossy(&text);
        let _ = write!(to, "{}", Printable(if text.is_empty() { "-" } else { &text }));
    }

    fn has_state(&self) -> bool {
        self.listing.by.contains(&GroupBy::State)
    }

    fn group(&self, table: &mut Cells<'_>, group: &Group) {
        table.number(group.sockets);
        if !self.has_state() {
            for (count, _) in group.by_state.iter().zip(self.listing.totals).filter(|(_, total)| *total > 0) {
                table.number(*count);
            }
        }
        for (by, common) in self.listing.by.iter().zip([Some(&group.common), group.second.as_ref()]) {
            match common {
                Some(common) => table.value(Printable(&common.to_string())),
                None => table.text("-"),
            }
            match by {
                GroupBy::Pid => match &group.command {
                    Some(command) => table.value(Printable(&command.to_text())),
                    None => table.text("-"),
                },
                GroupBy::Cgroup => {
                    // The path already contains the unit.
                    let is_more = |names: &CgroupNames| names.container_id.is_some() || names.pod_uid.is_some();
                    match names(group).filter(is_more) {
                        Some(names) => table.value(names),
                        None => table.text(""),
                    }
                }
                _ => {}
            }
        }
    }

    fn group_columns(&self) -> Vec<Column> {
        let mut columns = vec![Column::new("SOCKETS", Right)];
        if !self.has_state() {
            let states = model::State::ALL.iter().zip(self.listing.totals).filter(|(_, total)| *total > 0);
            columns.extend(states.map(|(state, _)| Column::new(state.name(), Right).rank(1)));
        }
        for by in self.listing.by {
            columns.push(match by {
                GroupBy::State => Column::new("STATE", Left).styled(),
                GroupBy::Pid => Column::new("PID", Right),
                GroupBy::Comm => Column::new("COMMAND", Left),
                GroupBy::Uid => Column::new("UID", Right),
                GroupBy::Port => Column::new("LOCAL PORT", Right),
                GroupBy::RemotePort => Column::new("REMOTE PORT", Right),
                GroupBy::Local => Column::new("LOCAL", Left),
                GroupBy::Remote => Column::new("REMOTE", Left),
                GroupBy::Netns => Column::new("NETNS", Left),
                GroupBy::Family => Column::new("FAMILY", Left),
                GroupBy::Cgroup => Column::new("CGROUP", Left).least(24),
                GroupBy::Unit => Column::new("UNIT", Left).least(24),
                GroupBy::Container => Column::new("CONTAINER", Left).least(24),
                GroupBy::Pod => Column::new("POD", Left).least(24),
            });
            match by {
                GroupBy::Pid => columns.push(Column::new("COMMAND", Left)),
                GroupBy::Cgroup => columns.push(Column::new("CONTAINER", Left).least(16)),
                _ => {}
            }
        }
        columns
    }

    /// Writes the table; `grouped` is the sum over all groups, in which a socket may be counted several times.
    fn table<T: Sync, E>(
        &self,
        columns: Vec<Column>,
        rows: &[T],
        write: impl Fn(&mut Cells<'_>, &T) + Sync,
        grouped: u64,
        mut take: impl FnMut(BytesMut) -> Result<(), E>,
    ) -> Result<(), E> {
        let attention =
            |state: &str| if state == model::State::CloseWait.name() { Style::Attention } else { Style::Plain };
        let mut table = Table::new(columns, self.options.color, attention);
        table.rows(rows, write);
        let width = self.options.width.filter(|_| self.options.columns.is_empty());
        let missing = width.and_then(|width| table.fit(width));
        table.write(&mut take)?;
        take(self.end(grouped, missing))
    }

    fn end(&self, grouped: u64, missing: Option<String>) -> BytesMut {
        let mut to = BytesMut::new();
        let mut line = |text: &str| {
            let _ = writeln!(to, "{}", wrapped(text, 2, self.options.width));
        };
        let total: u64 = self.listing.totals.iter().sum();
        let states = model::State::ALL.iter().zip(self.listing.totals).filter(|(_, count)| *count > 0);
        let states: Vec<_> = states.map(|(state, count)| format!("{count} {state}")).collect();
        let states = if states.is_empty() { String::new() } else { format!(": {}", states.join(", ")) };
        line("");
        line(&format!("Total {total}{states}"));
        if grouped > total {
            line("A socket that several processes hold is counted for each of them.");
        }
        if let Some(unknown @ 1..) = self.listing.age_unknown {
            line(&format!("Left out: {unknown} whose time in the state is not known"));
        }
        if let Some(missing) = missing {
            line(&format!("{missing} (--columns chooses, a pipe gets all)"));
        }
        to
    }
}

fn number(to: &mut String, number: impl itoa::Integer) {
    to.push_str(itoa::Buffer::new().format(number));
}

/// One end of a connection; `*` stands for no port, as in ss.
fn address(to: &mut String, end: SocketAddr) {
    match end {
        SocketAddr::V4(end) => {
            for (index, octet) in end.ip().octets().into_iter().enumerate() {
                to.push_str(if index == 0 { "" } else { "." });
                number(to, octet);
            }
        }
        SocketAddr::V6(end) => _ = write!(to, "[{}]", end.ip()),
    }
    to.push(':');
    match end.port() {
        0 => to.push('*'),
        port => number(to, port),
    }
}

fn age(to: &mut String, row: &Row<'_>) {
    let Some(age) = row.age else {
        return to.push('-');
    };
    to.push_str(age.source.mark());
    write_human(to, age.ns);
}

/// The timer, the time left, and the number of unanswered segments or probes.
fn timer(to: &mut String, row: &Row<'_>) {
    let (Some(socket::Timer { kind, left_ns }), Some(name)) = (row.socket.timer, row.socket.timer_name()) else {
        return to.push('-');
    };
    to.push_str(name);
    to.push(' ');
    match left_ns {
        0 => to.push_str("due"),
        left_ns => write_human(to, left_ns),
    }
    let unanswered = match kind {
        TimerKind::Retransmit => row.socket.timeouts,
        TimerKind::Keepalive | TimerKind::Probe => row.socket.probes,
        TimerKind::TimeWait => 0,
    };
    if unanswered > 0 {
        to.push('/');
        number(to, unanswered);
    }
}

fn process(to: &mut String, command: &Command, pid: u32) {
    match command.as_bytes() {
        // The usual case.
        name if name.iter().all(|byte| matches!(byte, b' '..=b'~')) => to.push_str(&command.to_text()),
        _ => _ = write!(to, "{}", Printable(&command.to_text())),
    }
    to.push('/');
    number(to, pid);
}

fn holders(to: &mut String, row: &Row<'_>, more: bool) {
    match row.held_by {
        HeldBy::Kernel => return to.push('-'),
        HeldBy::Unknown => return to.push_str("unknown"),
        HeldBy::Processes => {}
    }
    for (index, descriptors) in row.processes().enumerate() {
        let holder = &descriptors[0];
        to.push_str(if index == 0 { "" } else { ", " });
        process(to, &holder.command, holder.pid);
        if holder.ns_pid != holder.pid {
            let _ = write!(to, " ({} in its container)", holder.ns_pid);
        }
        if more {
            let _ = write!(to, " uid {}", holder.uid);
        }
        for (index, holder) in descriptors.iter().enumerate() {
            to.push_str(if index == 0 { " fd " } else { "," });
            number(to, holder.fd);
        }
    }
    if row.is_shared() {
        to.push_str(" (shared)");
    }
}

/// The processes at the other end, each with where it runs.
fn peer(to: &mut String, row: &Row<'_>, cgroups: &Cgroups) {
    let holders = row.peer.unwrap_or_default();
    if holders.is_empty() {
        return to.push('-');
    }
    for (index, descriptors) in by_process(holders).enumerate() {
        let holder = &descriptors[0];
        to.push_str(if index == 0 { "" } else { ", " });
        process(to, &holder.command, holder.pid);
        if let Some(place) = &cgroups.names_of(holder).place {
            let _ = write!(to, " ({})", Printable(&place.to_string()));
        }
    }
}

/// The cgroups of the holders, without duplicates.
fn cgroups_of(to: &mut String, row: &Row<'_>, cgroups: &Cgroups) {
    let mut names: Vec<String> = Vec::new();
    for descriptors in row.processes() {
        let name = cgroups.of(descriptors[0].pid).map_or_else(|| "unknown".to_owned(), |names| names.to_string());
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let _ = match names.is_empty() {
        true => write!(to, "-"),
        false => write!(to, "{}", Printable(&names.join(", "))),
    };
}

fn note(to: &mut String, row: &Row<'_>) {
    if let Some(half_open @ 1..) = row.half_open {
        let _ = write!(to, "half-open {half_open}");
    }
    if row.held_by == HeldBy::Kernel && row.socket.kind == Kind::Full {
        to.push_str(match row.socket.state {
            // A child of a listener gets a file when it is accepted (`net/ipv4/af_inet.c`, `inet_accept`).
            model::State::SynRecv | model::State::Established | model::State::CloseWait => "not accepted yet",
            model::State::FinWait1 | model::State::FinWait2 | model::State::Closing | model::State::LastAck => "orphan",
            _ => "",
        });
    }
}

impl std::fmt::Display for Common {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::State(state) => state.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Port(0) | Self::None => f.write_str("none"),
            Self::Port(port) => port.fmt(f),
            Self::Address(address) => address.fmt(f),
            Self::Name(text) | Self::Cgroup(text) => f.write_str(text),
            Self::Unknown => f.write_str("unknown"),
            Self::Kernel => f.write_str("kernel"),
        }
    }
}
