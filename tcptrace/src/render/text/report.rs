//! The summary.

use std::fmt::Write as _;

use bytes::BytesMut;

use super::{
    TextOptions,
    columns::{Style, styled},
    losses_line,
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
        time::human,
    },
    render::text::words::{age_words, errno_words},
};

/// Most rows of sockets.
const SHOWN_SOCKET_ROWS: usize = 40;

// Writing to memory cannot fail, so the results of `write!` are ignored below.

/// Writes a report; `states` is the user's filter.
pub(super) fn write(to: &mut BytesMut, report: &Report, options: &TextOptions, states: StateSet) {
    let activity = &report.activity;
    let title = format!(
        "\nSummary of {}{}: {} transitions, {} retransmits, {} RSTs sent, {} received",
        if report.is_final { "" } else { "the last " },
        human(report.span_ns),
        activity.transitions,
        activity.retransmits,
        activity.resets_sent,
        activity.resets_received,
    );
    heading(to, options, &title);
    if !report.transitions.is_empty() {
        let _ = writeln!(to);
    }
    transitions(to, options, &report.transitions);
    endings(to, options, report);
    keys(to, options, report.keys.as_deref().unwrap_or_default());
    processes(to, options, report.processes.as_deref().unwrap_or_default());
    sockets(to, options, report, states);
    if report.losses.any() {
        let _ = writeln!(to, "\n{}", losses_line(&report.losses));
    }
}

fn heading(to: &mut BytesMut, options: &TextOptions, text: &str) {
    styled(to, text, Style::Heading, options.color);
    let _ = writeln!(to);
}

fn transitions(to: &mut BytesMut, options: &TextOptions, rows: &[TransitionRow]) {
    if rows.is_empty() {
        return;
    }
    let title = format!(
        "{:<11}    {:<11} {:>9} {:>9} {:>9} {:>9} {:>9}   time in the old state; percentiles at most {:.1} % too high",
        "OLD STATE",
        "NEW STATE",
        "COUNT",
        "P50",
        "P90",
        "P99",
        "MAX",
        RELATIVE_ERROR * 100.0,
    );
    heading(to, options, &title);
    for row in rows {
        let _ = write!(to, "{:<11} -> {:<11} {:>9}", row.old, row.new, row.count);
        match row.times {
            Some(times) => {
                for ns in [times.p50_ns, times.p90_ns, times.p99_ns, times.max_ns] {
                    let _ = write!(to, " {:>9}", human(ns));
                }
                if row.timed < row.count {
                    let _ = write!(to, "   known for {}", row.timed);
                }
            }
            None => {
                let _ = write!(to, " {:>9} {:>9} {:>9} {:>9}", "-", "-", "-", "-");
            }
        }
        let _ = writeln!(to);
    }
}

fn endings(to: &mut BytesMut, options: &TextOptions, report: &Report) {
    if report.endings.is_empty() {
        return;
    }
    heading(to, options, &format!("\n{:>9} ENDED BY", "COUNT"));
    for (ending, count) in &report.endings {
        let errno = ending.errno().map(|errno| format!(" ({})", errno_words(errno))).unwrap_or_default();
        let _ = writeln!(to, "{count:>9} {}{errno}", ending.words());
    }
}

/// Most ports or cgroups with a table of transitions; those with the most events come first.
const SHOWN_KEYS: usize = 10;

fn keys(to: &mut BytesMut, options: &TextOptions, rows: &[KeyRow]) {
    if rows.is_empty() {
        return;
    }
    let title = format!("\n{:>11} {:>11} {:>9} {:>12} OF", "TRANSITIONS", "RETRANSMITS", "RST SENT", "RST RECEIVED");
    heading(to, options, &title);
    for row in rows {
        let Activity { transitions, retransmits, resets_sent, resets_received } = row.activity;
        let of = key_words(&row.key);
        let _ = writeln!(to, "{transitions:>11} {retransmits:>11} {resets_sent:>9} {resets_received:>12} {of}");
    }
    for row in rows.iter().filter(|row| !row.transitions.is_empty()).take(SHOWN_KEYS) {
        heading(to, options, &format!("\nTransitions of {}", key_words(&row.key)));
        transitions(to, options, &row.transitions);
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

fn processes(to: &mut BytesMut, options: &TextOptions, rows: &[ProcessRow]) {
    if rows.is_empty() {
        return;
    }
    let title = format!(
        "\n{:>7} {:<15} {:>11} {:>11} {:>9} {:>12}",
        "PID", "COMMAND", "TRANSITIONS", "RETRANSMITS", "RST SENT", "RST RECEIVED"
    );
    heading(to, options, &title);
    for row in rows {
        let activity = &row.activity;
        let _ = writeln!(
            to,
            "{:>7} {:<15} {:>11} {:>11} {:>9} {:>12}",
            pid(row),
            command(row),
            activity.transitions,
            activity.retransmits,
            activity.resets_sent,
            activity.resets_received,
        );
    }
    for row in rows.iter().filter(|row| !row.transitions.is_empty()) {
        heading(to, options, &format!("\nTransitions of {} {}", pid(row), command(row)));
        transitions(to, options, &row.transitions);
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

fn sockets(to: &mut BytesMut, options: &TextOptions, Report { sockets, half_open, .. }: &Report, states: StateSet) {
    let (Some(rows), Some(half_open)) = (sockets, half_open) else {
        let _ = writeln!(to, "\nProcesses and sockets are unknown: --aggregate only counts in the kernel.");
        return;
    };
    if rows.is_empty() && half_open.is_empty() {
        if !states.is_empty() {
            let _ = writeln!(to, "\nNo sockets are in these states now.");
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
    let _ = writeln!(to, "\nSockets now: {}", now.join(", "));
    let title = format!("{:<11} {:>7} {:>9} {:>7} {:<15} BY", "STATE", "SOCKETS", "OLDEST", "PID", "COMMAND");
    heading(to, options, &title);
    for row in rows.iter().take(SHOWN_SOCKET_ROWS) {
        let _ = write!(to, "{:<11} {:>7} {:>9} ", row.state, row.count, age_words(row.oldest));
        let _ = match &row.owner {
            Some(owner) => {
                write!(to, "{:>7} {:<15} {}", owner.pid, printable(&owner.command.to_text()), owner.source.name())
            }
            None => write!(to, "{:>7} {:<15} unknown", "-", "-"),
        };
        let _ = writeln!(to, "{}", others(row));
    }
    if let Some(rest) = rows.get(SHOWN_SOCKET_ROWS..).filter(|rest| !rest.is_empty()) {
        let sockets: u64 = rest.iter().map(|row| row.count).sum();
        let _ = writeln!(to, "and {sockets} sockets in {} more rows", rest.len());
    }
    for row in half_open {
        let _ = write!(to, "{} half-open connections to {}", row.count, row.local);
        if row.retransmitted > 0 {
            let _ = write!(to, ", {} with a retransmitted SYN-ACK", row.retransmitted);
        }
        let _ = match &row.owner {
            Some(owner) => writeln!(to, "; listener owned by {} {}", owner.pid, printable(&owner.command.to_text())),
            None => writeln!(to, "; listener's owner unknown"),
        };
    }
}
