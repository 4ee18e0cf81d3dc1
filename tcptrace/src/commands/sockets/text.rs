//! Sockets as a table for people.

use std::{fmt::Write as _, net::SocketAddr};

use bytes::BytesMut;

use super::fields::names;
use crate::{
    cli::args::GroupBy,
    commands::sockets::{
        listing::Listing,
        rows::{Cgroups, Common, Group, HeldBy, Row, StateCounts},
    },
    model::{
        event::Command,
        printable::Printable,
        socket::{Kind, Timer, TimerKind},
        state::State,
        time::write_human,
    },
    render::text::{
        columns::Style,
        table::{
            Cells,
            Side::{self, Left, Right},
            Table,
        },
    },
    sys::cgroup::names::CgroupNames,
};

/// Options of text output.
#[derive(Clone, Copy, Debug)]
pub struct TextOptions {
    /// Whether to use colour.
    pub color: bool,
    /// Whether to show everything known about the holders.
    pub more: bool,
    /// Whether to show the network namespaces.
    pub netns: bool,
    /// Whether to show how owners are known.
    pub owner_source: bool,
}

/// Writes sockets as text, once all cells are known.
pub struct Text {
    options: TextOptions,
    totals: StateCounts,
    by: Option<GroupBy>,
}

// Writing to memory cannot fail, so the results of `write!` are ignored below.

impl Text {
    /// A writer for a listing.
    #[must_use]
    pub fn new(listing: &Listing<'_>, options: TextOptions) -> Self {
        let Listing { totals, by, .. } = *listing;
        Self { options, totals, by }
    }

    pub(super) fn rows<E>(
        &self,
        rows: &[Row<'_>],
        cgroups: &Cgroups,
        take: impl FnMut(BytesMut) -> Result<(), E>,
    ) -> Result<(), E> {
        self.table(rows, |table, row| self.row(table, row, cgroups), 0, take)
    }

    pub(super) fn groups<E>(&self, groups: &[Group], take: impl FnMut(BytesMut) -> Result<(), E>) -> Result<(), E> {
        let grouped = groups.iter().map(|group| group.sockets).sum();
        self.table(groups, |table, group| self.group(table, group), grouped, take)
    }

    fn row(&self, table: &mut Cells<'_>, row: &Row<'_>, cgroups: &Cgroups) {
        let (socket, options) = (row.socket, self.options);
        table.text(socket.state.name());
        table.number(socket.receive_queue.into());
        table.number(socket.send_queue.into());
        table.cell(|to| address(to, socket.local));
        table.cell(|to| address(to, socket.remote));
        table.cell(|to| age(to, row));
        table.cell(|to| timer(to, row));
        if options.netns {
            match row.netns_name {
                Some(name) => table.value(Printable(name)),
                None => table.number(socket.netns.into()),
            }
        }
        if options.more {
            match socket.uid {
                Some(uid) => table.number(uid.into()),
                None => table.text("-"),
            }
        }
        match &socket.owner {
            Some(owner) => table.cell(|to| process(to, &owner.command, owner.pid)),
            None => table.text("-"),
        }
        if options.owner_source {
            table.text(socket.owner.map_or("-", |owner| owner.source.name()));
        }
        table.cell(|to| holders(to, row, options.more));
        if options.more {
            table.cell(|to| cgroups_of(to, row, cgroups));
        }
        table.cell(|to| note(to, row));
    }

    fn group(&self, table: &mut Cells<'_>, group: &Group) {
        table.number(group.sockets);
        if self.by != Some(GroupBy::State) {
            for (count, _) in group.by_state.iter().zip(self.totals).filter(|(_, total)| *total > 0) {
                table.number(*count);
            }
        }
        table.value(Printable(&group.common.to_string()));
        match self.by {
            Some(GroupBy::Pid) => match &group.command {
                Some(command) => table.value(Printable(&command.to_text())),
                None => table.text("-"),
            },
            Some(GroupBy::Cgroup) => {
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

    /// Writes the table; `grouped` is the sum over all groups, in which a socket may be counted several times.
    fn table<T: Sync, E>(
        &self,
        rows: &[T],
        write: impl Fn(&mut Cells<'_>, &T) + Sync,
        grouped: u64,
        mut take: impl FnMut(BytesMut) -> Result<(), E>,
    ) -> Result<(), E> {
        let attention = |state: &str| if state == State::CloseWait.name() { Style::Attention } else { Style::Plain };
        let columns = match self.by {
            None => row_columns(self.options),
            Some(by) => group_columns(by, &self.totals),
        };
        let mut table = Table::new(columns, self.options.color, attention);
        table.rows(rows, write);
        table.write(&mut take)?;
        take(self.end(grouped))
    }

    fn end(&self, grouped: u64) -> BytesMut {
        let mut to = BytesMut::new();
        let total: u64 = self.totals.iter().sum();
        let _ = write!(to, "\nTotal {total}");
        let states = State::ALL.iter().zip(self.totals).filter(|(_, count)| *count > 0);
        for (index, (state, count)) in states.enumerate() {
            let _ = write!(to, "{}{count} {state}", if index == 0 { ": " } else { ", " });
        }
        let _ = writeln!(to);
        if grouped > total {
            let _ = writeln!(to, "A socket that several processes hold is counted for each of them.");
        }
        to
    }
}

fn row_columns(options: TextOptions) -> Vec<(&'static str, Side)> {
    let always = [
        ("STATE", Left),
        ("RECV-Q", Right),
        ("SEND-Q", Right),
        ("LOCAL", Left),
        ("REMOTE", Left),
        ("AGE", Right),
        ("TIMER", Left),
    ];
    let mut columns = Vec::from(always);
    columns.extend(options.netns.then_some(("NETNS", Left)));
    columns.extend(options.more.then_some(("UID", Right)));
    columns.push(("OWNER", Left));
    columns.extend(options.owner_source.then_some(("BY", Left)));
    columns.push(("HOLDERS", Left));
    columns.extend(options.more.then_some(("CGROUP", Left)));
    columns.push(("NOTE", Left));
    columns
}

fn group_columns(by: GroupBy, totals: &StateCounts) -> Vec<(&'static str, Side)> {
    let mut columns = vec![("SOCKETS", Right)];
    if by != GroupBy::State {
        let states = State::ALL.iter().zip(totals).filter(|(_, total)| **total > 0);
        columns.extend(states.map(|(state, _)| (state.name(), Right)));
    }
    columns.extend(
        match by {
            GroupBy::State => [Some(("STATE", Left)), None],
            GroupBy::Pid => [Some(("PID", Right)), Some(("COMMAND", Left))],
            GroupBy::Port => [Some(("LOCAL PORT", Right)), None],
            GroupBy::Remote => [Some(("REMOTE", Left)), None],
            GroupBy::Cgroup => [Some(("CGROUP", Left)), Some(("CONTAINER", Left))],
        }
        .into_iter()
        .flatten(),
    );
    columns
}

fn number(to: &mut String, number: impl itoa::Integer) {
    to.push_str(itoa::Buffer::new().format(number));
}

/// One end of a connection; `-` stands for port 0.
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
        0 => to.push('-'),
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
    let (Some(Timer { kind, left_ns }), Some(name)) = (row.socket.timer, row.socket.timer_name()) else {
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
            State::SynRecv | State::Established | State::CloseWait => "not accepted yet",
            State::FinWait1 | State::FinWait2 | State::Closing | State::LastAck => "orphan",
            _ => "",
        });
    }
}

impl std::fmt::Display for Common {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::State(state) => state.fmt(f),
            Self::Process(pid) => pid.fmt(f),
            Self::Port(0) => f.write_str("none"),
            Self::Port(port) => port.fmt(f),
            Self::Remote(address) => address.fmt(f),
            Self::Cgroup(path) => f.write_str(path),
            Self::Unknown => f.write_str("unknown"),
            Self::Kernel => f.write_str("kernel"),
        }
    }
}
