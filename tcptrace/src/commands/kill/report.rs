//! Writes what became of each socket, as text, JSON or CSV.

use std::{fmt::Write as _, net::SocketAddr};

use bytes::{BufMut as _, BytesMut};
use serde_json::{Value, json};

use crate::{
    cli::{
        args::{KillArgs, values::Format},
        terminal::is_colored,
    },
    commands::{
        delivery::Writer,
        kill::{
            choose::{Reason, Target},
            end::Outcome,
        },
    },
    model::{
        printable::Printable,
        snapshot::Snapshot,
        time::{WallFormat, WallOffset, write_human},
    },
    render::{
        FieldValue::{self, Address, Flag, Json, Null, Number, Text, Time},
        SCHEMA_VERSION,
        csv::cell,
        fields::{fields, number, port},
        json::{line, member, text, text_time},
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
    sys::terminal::screen,
};

fields! {
    /// A field of a socket that was chosen, in the order of CSV's columns.
    KillField {
        Event = "event": "Kind of the record.",
        Time = "time": "Wall-clock time of the listing.",
        MonoNs = "mono_ns": "CLOCK_MONOTONIC of the listing's end in ns.",
        Result = "result": "What became of it.",
        Detail = "detail": "Why it was not ended.",
        DryRun = "dry_run": "Whether nothing was to be ended.",
        ChosenBy = "chosen_by": "Why it was chosen.",
        Finding = "finding": "The finding that it belongs to.",
        Cause = "cause": "The cause of that finding.",
        Cookie = "cookie": "Socket cookie.",
        Netns = "netns": "Inode number of the network namespace.",
        NetnsName = "netns_name": "Name of the network namespace.",
        LocalAddress = "local_address": "Local address.",
        LocalPort = "local_port": "Local port.",
        RemoteAddress = "remote_address": "Remote address.",
        RemotePort = "remote_port": "Remote port.",
        State = "state": "State.",
        AgeNs = "age_ns": "Time in the state, in ns.",
        AgeSource = "age_source": "How that time is known.",
        Holders = "holders": "The descriptors that processes have of it.",
    }
}

/// The results of a run.
pub struct Report<'a> {
    /// The chosen sockets.
    pub targets: &'a [Target],
    /// What became of each.
    pub outcomes: &'a [Outcome],
    /// The listing that they were chosen from.
    pub snapshot: &'a Snapshot,
    /// Converts CLOCK_MONOTONIC to the wall clock.
    pub wall: WallOffset,
    /// True if nothing was to be ended.
    pub is_dry_run: bool,
    /// Whether text shows network namespaces.
    pub netns: bool,
}

impl Report<'_> {
    /// Writes to the outputs that the flags name. A reader that stops early is no error.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, args: &KillArgs) -> anyhow::Result<()> {
        for spec in &args.output.to {
            let bytes = match args.output.format_of(spec) {
                Format::Json => self.json(),
                Format::Text | Format::Nagios => self.text(
                    is_colored(args.output.color, spec.target.is_stdout()),
                    screen().filter(|_| spec.target.is_stdout()).map(|screen| screen.columns),
                ),
                Format::Csv => self.csv(),
            };
            let mut output = Writer::open(spec)?;
            output.write(&bytes)?;
            output.end()?;
        }
        Ok(())
    }

    fn rows(&self) -> impl Iterator<Item = (&Target, &Outcome)> {
        self.targets.iter().zip(self.outcomes)
    }

    fn count(&self, name: &str) -> usize {
        self.outcomes.iter().filter(|outcome| outcome.name() == name).count()
    }

    /// All records as JSON, one object per line.
    #[must_use]
    pub fn json(&self) -> BytesMut {
        let (mut to, mut time) = (BytesMut::new(), WallFormat::rfc3339());
        for (target, outcome) in self.rows() {
            to.put_slice(format!("{{\"schema\":{SCHEMA_VERSION}").as_bytes());
            self.visit(target, outcome, |field, value| member(&mut to, field.name(), value, &mut time));
            to.put_slice(b"}\n");
        }
        let mono_ns = self.snapshot.ended_ns;
        line(
            &mut to,
            &json!({
                "schema": SCHEMA_VERSION, "event": "kill_end", "time": text_time(&mut time, self.wall, mono_ns),
                "mono_ns": mono_ns, "dry_run": self.is_dry_run, "chosen": self.targets.len(),
                "ended": self.count("ended"), "changed": self.count("changed"), "gone": self.count("gone"),
                "failed": self.count("failed"),
            }),
        );
        to
    }

    /// All records as CSV.
    #[must_use]
    pub fn csv(&self) -> BytesMut {
        let (mut to, mut time) = (BytesMut::new(), WallFormat::rfc3339());
        let names: Vec<_> = KillField::ALL.iter().map(|field| field.name()).collect();
        to.put_slice((names.join(",") + "\n").as_bytes());
        for (target, outcome) in self.rows() {
            let mut separator = None;
            self.visit(target, outcome, |_, value| {
                to.extend(separator.replace(b','));
                cell(&mut to, value, &mut time);
            });
            to.put_u8(b'\n');
        }
        to
    }

    /// Passes all fields to `show`, in order.
    fn visit(&self, target: &Target, outcome: &Outcome, mut show: impl FnMut(KillField, FieldValue<'_>)) {
        use KillField as Field;
        let Target { socket, age, reason, .. } = target;
        let (finding, cause) = match reason {
            Reason::Finding(kind, cause) => (Text(kind.id()), Text(cause.name())),
            Reason::Cookie | Reason::Filter => (Null, Null),
        };
        let holders = target.holders.iter().map(|holder| {
            json!({
                "pid": holder.pid, "ns_pid": holder.ns_pid, "fd": holder.fd, "command": holder.command.to_text(),
                "uid": holder.uid,
            })
        });
        let holders = text(&holders.collect::<Value>());
        show(Field::Event, Text("kill"));
        show(Field::Time, Time(self.wall.wall_ns(self.snapshot.ended_ns)));
        show(Field::MonoNs, Number(self.snapshot.ended_ns));
        show(Field::Result, Text(outcome.name()));
        show(Field::Detail, outcome.detail().map_or(Null, Text));
        show(Field::DryRun, Flag(self.is_dry_run));
        show(Field::ChosenBy, Text(reason.name()));
        show(Field::Finding, finding);
        show(Field::Cause, cause);
        show(Field::Cookie, number(socket.cookie));
        show(Field::Netns, Number(socket.netns.into()));
        show(Field::NetnsName, target.netns_name.as_deref().map_or(Null, Text));
        show(Field::LocalAddress, Address(socket.local.ip()));
        show(Field::LocalPort, port(socket.local));
        show(Field::RemoteAddress, Address(socket.remote.ip()));
        show(Field::RemotePort, port(socket.remote));
        show(Field::State, Text(socket.state.name()));
        show(Field::AgeNs, number(age.map(|age| age.ns)));
        show(Field::AgeSource, age.map_or(Null, |age| Text(age.source.name())));
        show(Field::Holders, Json(holders.as_bytes()));
    }

    /// A table for people, which fits the width of the terminal if it goes to one.
    #[must_use]
    pub fn text(&self, color: bool, width: Option<usize>) -> BytesMut {
        let mut to = BytesMut::new();
        if self.targets.is_empty() {
            to.put_slice(b"No socket was chosen.\n");
            return to;
        }
        let mut columns = vec![
            Column::new("RESULT", Left).styled(),
            Column::new("STATE", Left).rank(3),
            Column::new("LOCAL", Left),
            Column::new("REMOTE", Left),
            Column::new("AGE", Right).rank(2),
        ];
        columns.extend(self.netns.then_some(Column::new("NETNS", Left).rank(4)));
        columns.extend([
            Column::new("HOLDERS", Left).least(12),
            Column::new("CHOSEN BY", Left).least(12).rank(1),
            Column::new("NOTE", Left).least(12),
        ]);
        let style = |result: &str| match result {
            "changed" | "failed" => Style::Trouble,
            _ => Style::Plain,
        };
        let mut table = Table::new(columns, color, style);
        let rows: Vec<_> = self.rows().collect();
        table.rows(&rows, |cells, (target, outcome)| self.row(cells, target, outcome));
        let missing = width.and_then(|width| table.fit(width));
        table.write_to(&mut to);
        to.put_slice(self.totals().as_bytes());
        if let Some(missing) = missing {
            to.put_slice(wrapped(&missing, 2, width).as_bytes());
            to.put_u8(b'\n');
        }
        to
    }

    fn row(&self, cells: &mut Cells<'_>, target: &Target, outcome: &Outcome) {
        let socket = &target.socket;
        cells.text(match outcome {
            Outcome::WouldEnd => "would end",
            other => other.name(),
        });
        cells.text(socket.state.name());
        cells.value(socket_end(socket.local));
        cells.value(socket_end(socket.remote));
        match target.age {
            Some(age) => cells.cell(|to| {
                to.push_str(age.source.mark());
                write_human(to, age.ns);
            }),
            None => cells.text("-"),
        }
        if self.netns {
            match &target.netns_name {
                Some(name) => cells.value(Printable(name)),
                None => cells.number(socket.netns.into()),
            }
        }
        cells.cell(|to| holders(to, target));
        match target.reason {
            Reason::Finding(kind, cause) => cells.value(format_args!("{} ({})", kind.id(), cause.name())),
            Reason::Cookie | Reason::Filter => cells.text(target.reason.name()),
        }
        cells.text(outcome.detail().unwrap_or_default());
    }

    fn totals(&self) -> String {
        let count = self.targets.len();
        let sockets = if count == 1 { "1 socket".to_owned() } else { format!("{count} sockets") };
        if self.is_dry_run {
            return format!("\nDry run: {sockets} would be ended. --yes ends them.\n");
        }
        let [ended, changed, gone, failed] = ["ended", "changed", "gone", "failed"].map(|name| self.count(name));
        format!("\nOf {sockets}: {ended} ended, {changed} changed meanwhile, {gone} gone, {failed} failed\n")
    }
}

/// One end of a connection; `*` stands for any port, as in ss(8).
fn socket_end(end: SocketAddr) -> String {
    match (end.port(), end) {
        (0, SocketAddr::V4(end)) => format!("{}:*", end.ip()),
        (0, SocketAddr::V6(end)) => format!("[{}]:*", end.ip()),
        _ => end.to_string(),
    }
}

/// The processes that hold it, each with its descriptors.
fn holders(to: &mut String, target: &Target) {
    for (index, of_process) in target.holders.chunk_by(|one, other| one.pid == other.pid).enumerate() {
        let Some(first) = of_process.first() else { continue };
        // To memory.
        let separator = if index == 0 { "" } else { ", " };
        let _ = write!(to, "{separator}{}[{}] fd", Printable(&first.command.to_text()), first.pid);
        of_process.iter().for_each(|holder| _ = write!(to, " {}", holder.fd));
    }
    if target.holders.is_empty() {
        to.push_str(if target.has_unknown_holder() { "unknown" } else { "kernel" });
    }
}
