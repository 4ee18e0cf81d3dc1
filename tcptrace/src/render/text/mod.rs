//! Events and reports for people.

mod columns;
mod report;

use std::fmt::Write as _;

use bytes::BytesMut;
use jiff::tz::TimeZone;

use super::Context;
use crate::{
    clock::{WallFormat, WallOffset, human},
    ending::Ending,
    errno,
    event::{Event, TimeSource, Transition, What},
    losses::Losses,
    state::State,
    summary::Report,
};
use columns::{Address, Columns, Style};

/// How the column of times is written.
#[derive(Clone, Debug)]
pub enum TimeStyle {
    /// Wall clock in a time zone.
    Wall(TimeZone),
    /// CLOCK_MONOTONIC, in seconds.
    Monotonic,
    /// Since the event before it.
    Delta,
}

/// What people chose for the text.
#[derive(Clone, Debug)]
pub struct TextOptions {
    /// Column of times.
    pub time: TimeStyle,
    /// Colour.
    pub color: bool,
    /// All columns on the owner, and processes first in the summary.
    pub owner_columns: bool,
}

/// Writes text.
pub struct Text {
    options: TextOptions,
    wall: Option<WallFormat>,
    columns: Columns,
    last_ns: Option<u64>,
}

impl Text {
    /// A writer that did not write its heading yet.
    #[must_use]
    pub fn new(options: TextOptions) -> Self {
        let wall = match &options.time {
            TimeStyle::Wall(zone) => Some(WallFormat::time_of_day(zone.clone())),
            TimeStyle::Monotonic | TimeStyle::Delta => None,
        };
        Self { columns: Columns::new(options.color, options.owner_columns), options, wall, last_ns: None }
    }

    /// Writes an event as a line, and the heading before it where the columns are new.
    pub fn event(&mut self, to: &mut BytesMut, event: &Event, context: &mut Context) {
        if event.what == What::OwnerChanged {
            return; // the lines that follow show the owner
        }
        let (local, remote) = (Address(event.socket.local), Address(event.socket.remote));
        self.columns.fit(to, &local, &remote, event.owner.as_ref());
        let mut time = BytesMut::new();
        self.time(&mut time, event.time_ns, context.wall);
        self.columns.time(to, &String::from_utf8_lossy(&time));
        self.columns.owner(to, event.owner.as_ref());
        self.columns.addresses(to, &local, &remote);
        let (what, style) = headline(event);
        self.columns.states(to, event.socket.state, &what, style);
        self.columns.duration(to, &time_in_old(event));
        self.columns.note(to, &note(event, context));
    }

    fn time(&mut self, to: &mut BytesMut, time_ns: u64, wall: WallOffset) {
        let since = self.last_ns.replace(time_ns);
        // To memory, which cannot fail.
        let _ = match (&self.options.time, &mut self.wall) {
            (TimeStyle::Wall(_), Some(format)) => {
                format.write(to, wall.wall_ns(time_ns), 6);
                Ok(())
            }
            (TimeStyle::Delta, _) => {
                write!(to, "+{}", human(time_ns.saturating_sub(since.unwrap_or(time_ns))))
            }
            _ => write!(to, "{}.{:06}", time_ns / 1_000_000_000, time_ns / 1000 % 1_000_000),
        };
    }

    /// Writes a report.
    pub fn report(&self, to: &mut BytesMut, report: &Report, states: crate::state::StateSet) {
        report::write(to, report, &self.options, states);
    }
}

/// The line that ends every run on stderr.
#[must_use]
pub fn losses_line(losses: &Losses) -> String {
    let lost: Vec<_> =
        losses.fields().into_iter().map(|(place, count)| format!("{} {count}", place.replace('_', " "))).collect();
    format!("{} events received; lost: {}", losses.received, lost.join(", "))
}

/// What stands beside the socket's state: `-> ` and the new one, or what happened.
fn headline(event: &Event) -> (String, Style) {
    match event.what {
        What::Transition(transition) => {
            let style = match transition.ending {
                Some(Ending::Normal) | None if transition.new == State::CloseWait => Style::Attention,
                Some(Ending::Normal) | None => Style::Plain,
                Some(_) => Style::Trouble,
            };
            (format!("-> {}", transition.new), style)
        }
        What::Retransmit(_) => ("   retransmit".to_owned(), Style::Attention),
        What::SynAckRetransmit { .. } => ("   SYN-ACK again".to_owned(), Style::Attention),
        What::ResetSent { .. } => ("   RST sent".to_owned(), Style::Trouble),
        What::ResetReceived => ("   RST received".to_owned(), Style::Trouble),
        What::OwnerChanged => ("   owner".to_owned(), Style::Plain),
    }
}

fn time_in_old(event: &Event) -> String {
    let What::Transition(transition) = event.what else {
        return String::new();
    };
    match transition.time_in_old {
        None => "-".to_owned(),
        Some(time) if time.source == TimeSource::HandshakeLowerBound => format!("≥{}", human(time.ns)),
        Some(time) => human(time.ns),
    }
}

fn note(event: &Event, context: &mut Context) -> String {
    let mut parts = match event.what {
        What::Transition(transition) => transition_note(&transition),
        What::Retransmit(retransmit) => {
            let mut parts = vec![format!("{} so far", retransmit.total_retrans)];
            if retransmit.timeouts > 0 {
                parts.push(format!("timeouts in a row: {}", retransmit.timeouts));
            }
            parts.extend(retransmit.srtt_us.map(|srtt| format!("srtt {}", human(u64::from(srtt) * 1000))));
            parts.extend(retransmit.failed.map(|errno| format!("not sent: {}", errno_words(errno))));
            parts
        }
        What::SynAckRetransmit { count } => vec![format!("{count} times")],
        What::ResetSent { reason } => reason
            .map(|code| {
                let name = context.names.reset_reason(code).map(str::to_owned);
                format!("reason: {}", name.unwrap_or_else(|| code.to_string()))
            })
            .into_iter()
            .collect(),
        What::ResetReceived | What::OwnerChanged => Vec::new(),
    };
    if event.socket.sk.is_none() && parts.is_empty() {
        parts.push("no socket".to_owned());
    }
    parts.join(", ")
}

fn transition_note(transition: &Transition) -> Vec<String> {
    let mut parts = Vec::new();
    if let Some(ending) = transition.ending {
        parts.push(ending.words().to_owned());
        parts.extend(ending.errno().map(errno_words));
    } else if transition.inferred {
        parts.push("orphan, the peer has not closed".to_owned());
    }
    if transition.inferred {
        parts.push("inferred".to_owned());
    }
    parts.extend(transition.handshake_rtt_ns.map(|ns| format!("handshake rtt {}", human(ns))));
    if transition.ending.is_some() && transition.total_retrans > 0 {
        parts.push(format!("{} retransmits", transition.total_retrans));
    }
    parts
}

fn errno_words(errno: i32) -> String {
    errno::name(errno).map_or_else(|| format!("errno {errno}"), str::to_owned)
}
