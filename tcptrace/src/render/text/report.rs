//! The summary.

use std::fmt::Write as _;

use bytes::BytesMut;

use super::{
    TextOptions, losses_line,
    style::{Style, styled},
    table::{
        Cells, Column,
        Side::{Left, Right},
        Table,
    },
    wrap::wrapped,
};
use crate::{
    analysis::{
        histogram::RELATIVE_ERROR,
        report::{Activity, Key, KeyRow, ProcessRow, Report, SocketRow, TransitionRow},
    },
    model::{
        event::{Command, OwnerSource},
        printable::printable,
        state::{State, StateSet},
        time::{Human, human},
    },
    render::text::words::{age_words, errno_words},
};

/// Most rows of sockets.
const SHOWN_SOCKET_ROWS: usize = 40;

// Writing to memory cannot fail, so the results of `write!` are ignored below.

/// Where a report is written, and how.
struct Page<'a> {
    to: &'a mut BytesMut,
    color: bool,
    /// Width of the terminal, if it goes to one.
    width: Option<usize>,
}

impl Page<'_> {
    fn heading(&mut self, text: &str) {
        styled(self.to, &wrapped(text, 2, self.width), Style::Heading, self.color);
        let _ = writeln!(self.to);
    }

    fn line(&mut self, text: &str) {
        let _ = writeln!(self.to, "{}", wrapped(text, 2, self.width));
    }

    fn table(&mut self, mut table: Table) {
        let missing = self.width.and_then(|width| table.fit(width));
        table.write_to(self.to);
        if let Some(missing) = missing {
            self.line(&format!("-- {missing}"));
        }
    }

    fn new_table(&self, columns: &[Column]) -> Table {
        Table::plain(columns, self.color)
    }
}

/// Writes a report; `states` is the user's filter, `width` that of the terminal.
pub(super) fn write(to: &mut BytesMut, report: &Report, options: &TextOptions, states: StateSet, width: Option<usize>) {
    let page = &mut Page { to, color: options.color, width };
    let activity = &report.activity;
    page.heading(&format!(
        "\nSummary of {}{}: {} transitions, {} retransmits, {} RSTs sent, {} received",
        if report.is_final { "" } else { "the last " },
        human(report.span_ns),
        activity.transitions,
        activity.retransmits,
        activity.resets_sent,
        activity.resets_received,
    ));
    if !report.transitions.is_empty() {
        page.line("");
        transitions(page, &report.transitions);
        let error = RELATIVE_ERROR * 100.0;
        page.line(&format!("Times are those in the old state; percentiles are at most {error:.1} % too high."));
    }
    endings(page, report);
    keys(page, report.keys.as_deref().unwrap_or_default());
    processes(page, report.processes.as_deref().unwrap_or_default());
    sockets(page, report, states);
    if report.losses.any() {
        page.line(&format!("\n{}", losses_line(&report.losses)));
    }
}

const TRANSITIONS: [Column; 8] = [
    Column::new("OLD STATE", Left).wide(11),
    Column::new("   NEW STATE", Left).wide(14),
    Column::new("COUNT", Right).wide(9),
    Column::new("P50", Right).wide(9),
    Column::new("P90", Right).wide(9).rank(2),
    Column::new("P99", Right).wide(9).rank(1),
    Column::new("MAX", Right).wide(9).rank(3),
    Column::new("", Left).rank(4),
];

fn transitions(page: &mut Page<'_>, rows: &[TransitionRow]) {
    let mut table = page.new_table(&TRANSITIONS);
    for row in rows {
        table.row(|cells| {
            cells.text(row.old.name());
            cells.value(format_args!("-> {}", row.new));
            cells.number(row.count);
            match row.times {
                Some(times) => {
                    let times = [times.p50_ns, times.p90_ns, times.p99_ns, times.max_ns];
                    times.into_iter().for_each(|ns| cells.value(Human(ns)));
                }
                None => (0..4).for_each(|_| cells.text("-")),
            }
            if row.times.is_some() && row.timed < row.count {
                cells.value(format_args!("known for {}", row.timed));
            }
        });
    }
    page.table(table);
}

fn endings(page: &mut Page<'_>, report: &Report) {
    if report.endings.is_empty() {
        return;
    }
    page.line("");
    let mut table = page.new_table(&[Column::new("COUNT", Right).wide(9), Column::new("ENDED BY", Left).least(20)]);
    for (ending, count) in &report.endings {
        let errno = ending.errno().map(|errno| format!(" ({})", errno_words(errno))).unwrap_or_default();
        table.row(|cells| {
            cells.number(*count);
            cells.value(format_args!("{}{errno}", ending.words()));
        });
    }
    page.table(table);
}

/// Columns of what happened to sockets.
const ACTIVITY: [Column; 4] = [
    Column::new("TRANSITIONS", Right),
    Column::new("RETRANSMITS", Right).rank(1),
    Column::new("RST SENT", Right).wide(9).rank(2),
    Column::new("RST RECEIVED", Right).rank(3),
];

fn activity(cells: &mut Cells<'_>, activity: &Activity) {
    let Activity { transitions, retransmits, resets_sent, resets_received } = activity;
    [transitions, retransmits, resets_sent, resets_received].into_iter().for_each(|count| cells.number(*count));
}

/// Most ports or cgroups with a table of transitions; those with the most events come first.
const SHOWN_KEYS: usize = 10;

fn keys(page: &mut Page<'_>, rows: &[KeyRow]) {
    if rows.is_empty() {
        return;
    }
    page.line("");
    let [transitions, retransmits, sent, received] = ACTIVITY;
    let mut table = page.new_table(&[transitions, retransmits, sent, received, Column::new("OF", Left).least(20)]);
    for row in rows {
        table.row(|cells| {
            activity(cells, &row.activity);
            cells.text(&key_words(&row.key));
        });
    }
    page.table(table);
    for row in rows.iter().filter(|row| !row.transitions.is_empty()).take(SHOWN_KEYS) {
        page.heading(&format!("\nTransitions of {}", key_words(&row.key)));
        self::transitions(page, &row.transitions);
    }
}

fn key_words(key: &Key) -> String {
    match key {
        Key::Port(Some(port)) => format!("port {port}"),
        Key::Port(None) => "unknown service ports".to_owned(),
        Key::Cgroup(Some((_, Some(path)))) => format!("cgroup {}", printable(path)),
        Key::Cgroup(Some((id, None))) => format!("cgroup {id}"),
        Key::Cgroup(None) => "unknown owners".to_owned(),
        Key::Other => "all others".to_owned(),
    }
}

fn processes(page: &mut Page<'_>, rows: &[ProcessRow]) {
    if rows.is_empty() {
        return;
    }
    page.line("");
    let [transitions, retransmits, sent, received] = ACTIVITY;
    let (of_pid, of_command) = (Column::new("PID", Right).wide(7), Column::new("COMMAND", Left).wide(15));
    let mut table = page.new_table(&[of_pid, of_command, transitions, retransmits, sent, received]);
    for row in rows {
        table.row(|cells| {
            cells.text(&pid(row));
            cells.text(&command(row));
            activity(cells, &row.activity);
        });
    }
    page.table(table);
    for row in rows.iter().filter(|row| !row.transitions.is_empty()) {
        page.heading(&format!("\nTransitions of {} {}", pid(row), command(row)));
        self::transitions(page, &row.transitions);
    }
}

fn pid(row: &ProcessRow) -> String {
    row.process.map_or_else(|| "-".to_owned(), |(pid, _)| pid.to_string())
}

fn command(row: &ProcessRow) -> String {
    row.process.map_or_else(|| "owner unknown".to_owned(), |(_, command)| printable(&command.to_text()))
}

/// Most holders that a row names.
const SHOWN_HOLDERS: usize = 4;

/// The other processes involved: those that created and accepted the sockets, and the holders other than the owner.
fn others(row: &SocketRow) -> String {
    let name = |(pid, command): &(u32, Command)| format!("{}/{pid}", printable(&command.to_text()));
    let creator = row.creator.as_ref().map(|process| format!(", made by {}", name(process)));
    let acceptor = row.acceptor.as_ref().filter(|acceptor| row.creator.as_ref() != Some(acceptor));
    let acceptor = acceptor.map(|process| format!(", accepted by {}", name(process)));
    [creator, acceptor].into_iter().flatten().chain([held_by(row)]).collect()
}

/// The processes that hold the sockets, unless that is only the owner.
fn held_by(row: &SocketRow) -> String {
    let owner = row.owner.as_ref().map(|owner| owner.pid);
    let holders = match row.holders.as_deref() {
        None | Some([]) => return String::new(),
        Some([(pid, _)]) if Some(*pid) == owner => return String::new(),
        Some(holders) => holders,
    };
    let shown = holders.iter().take(SHOWN_HOLDERS);
    let mut names: Vec<_> = shown.map(|(pid, command)| format!("{}/{pid}", printable(&command.to_text()))).collect();
    if holders.len() > SHOWN_HOLDERS {
        names.push(format!("{} more", holders.len() - SHOWN_HOLDERS));
    }
    let how = match &row.owner {
        Some(owner) if owner.source == OwnerSource::Shared => "", // the column before says "shared"
        _ if holders.len() > 1 => ", shared",
        _ => ", held",
    };
    format!("{how} by {}", names.join(", "))
}

const SOCKETS: [Column; 6] = [
    Column::new("STATE", Left).wide(11),
    Column::new("SOCKETS", Right),
    Column::new("OLDEST", Right).wide(9),
    Column::new("PID", Right).wide(7),
    Column::new("COMMAND", Left).wide(15),
    Column::new("BY", Left).least(10),
];

fn sockets(page: &mut Page<'_>, Report { sockets, half_open, .. }: &Report, states: StateSet) {
    let (Some(rows), Some(half_open)) = (sockets, half_open) else {
        page.line("\nProcesses and sockets are unknown: --aggregate only counts in the kernel.");
        return;
    };
    if rows.is_empty() && half_open.is_empty() {
        if !states.is_empty() {
            page.line("\nNo sockets are in these states now.");
        }
        return;
    }
    let in_state = |state: State| rows.iter().filter(|row| row.state == state).map(|row| row.count).sum::<u64>();
    let now = State::ALL.map(|state| (state, in_state(state)));
    let half_open_now: u64 = half_open.iter().map(|row| row.count).sum();
    let half_open_now = (half_open_now > 0).then(|| format!("{half_open_now} half open"));
    let now: Vec<_> = now
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(state, count)| format!("{count} {state}"))
        .chain(half_open_now)
        .collect();
    page.line(&format!("\nSockets now: {}", now.join(", ")));
    let mut table = page.new_table(&SOCKETS);
    for row in rows.iter().take(SHOWN_SOCKET_ROWS) {
        table.row(|cells| {
            cells.text(row.state.name());
            cells.number(row.count);
            cells.text(&age_words(row.oldest));
            match &row.owner {
                Some(owner) => {
                    cells.number(owner.pid.into());
                    cells.text(&printable(&owner.command.to_text()));
                }
                None => (0..2).for_each(|_| cells.text("-")),
            }
            let source = row.owner.as_ref().map_or("unknown", |owner| owner.source.name());
            cells.value(format_args!("{source}{}", others(row)));
        });
    }
    page.table(table);
    if let Some(rest) = rows.get(SHOWN_SOCKET_ROWS..).filter(|rest| !rest.is_empty()) {
        let sockets: u64 = rest.iter().map(|row| row.count).sum();
        page.line(&format!("and {sockets} sockets in {} more rows", rest.len()));
    }
    for row in half_open {
        let retransmitted = match row.retransmitted {
            0 => String::new(),
            count => format!(", {count} with a retransmitted SYN-ACK"),
        };
        let owner = match &row.owner {
            Some(owner) => format!("listener owned by {} {}", owner.pid, printable(&owner.command.to_text())),
            None => "listener's owner unknown".to_owned(),
        };
        page.line(&format!("{} half-open connections to {}{retransmitted}; {owner}", row.count, row.local));
    }
}
