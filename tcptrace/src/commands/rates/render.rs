//! Rates as text, JSON and CSV. JSON and CSV have differences and the length of the interval; text has rates per second.

use std::fmt::Write as _;

use bytes::BytesMut;
use jiff::tz::TimeZone;

use crate::{
    commands::rates::meter::{Counter, Gauge, Rates},
    model::time::{WallFormat, WallOffset},
    render::{FieldValue, csv::Csv, json::Json},
};

/// Lines between two headings on a terminal.
const HEADING_EVERY: u64 = 20;

enum Column {
    /// Growth of a counter per second.
    PerSecond(Counter),
    /// Retransmitted segments per 100 others.
    RetransmitPercent,
    /// Current value of a gauge.
    Level(Gauge),
}

/// The columns after the time.
const COLUMNS: [(&str, Column); 15] = [
    ("ACTIVE/s", Column::PerSecond(Counter::ActiveOpens)),
    ("PASSIVE/s", Column::PerSecond(Counter::PassiveOpens)),
    ("FAILED/s", Column::PerSecond(Counter::AttemptFails)),
    ("RESETS/s", Column::PerSecond(Counter::EstabResets)),
    ("RST-OUT/s", Column::PerSecond(Counter::OutRsts)),
    ("SEGS-IN/s", Column::PerSecond(Counter::InSegs)),
    ("SEGS-OUT/s", Column::PerSecond(Counter::OutSegs)),
    ("RETRANS/s", Column::PerSecond(Counter::RetransSegs)),
    ("RETR%", Column::RetransmitPercent),
    ("EST+CW", Column::Level(Gauge::CurrEstab)),
    ("TIME_WAIT", Column::Level(Gauge::TimeWait)),
    ("ORPHANS", Column::Level(Gauge::HostOrphans)),
    ("DROPS/s", Column::PerSecond(Counter::ListenDrops)),
    ("COOKIES/s", Column::PerSecond(Counter::SynCookiesSent)),
    ("TW-OVER/s", Column::PerSecond(Counter::TimeWaitOverflows)),
];

/// Writes rates in one of the formats.
pub enum RatesRenderer {
    /// A line per interval, with rates per second.
    Text(RatesText),
    /// One object per line.
    Json(Json),
    /// A row per interval.
    Csv(Csv),
}

/// Writes rates as text.
pub struct RatesText {
    time: WallFormat,
    on_terminal: bool,
    lines: u64,
}

impl RatesText {
    /// Prints times in `zone`. On a terminal the heading is repeated.
    #[must_use]
    pub fn new(zone: TimeZone, on_terminal: bool) -> Self {
        Self { time: WallFormat::time_of_day(zone), on_terminal, lines: 0 }
    }

    fn line(&mut self, to: &mut BytesMut, rates: &Rates, wall: WallOffset) {
        // Writing to memory cannot fail, so the results of `write!` are ignored.
        if self.lines == 0 || (self.on_terminal && self.lines.is_multiple_of(HEADING_EVERY)) {
            let _ = write!(to, "{:<12}", "TIME");
            for (name, _) in &COLUMNS {
                let _ = write!(to, " {:>w$}", name, w = width(name));
            }
            let _ = writeln!(to);
        }
        self.lines += 1;
        self.time.write(to, wall.wall_ns(rates.mono_ns), 3);
        for (name, column) in &COLUMNS {
            let value = match *column {
                Column::PerSecond(counter) => rates.per_second(counter).map(|rate| format!("{rate:.1}")),
                Column::RetransmitPercent => rates.retransmit_percent().map(|percent| format!("{percent:.1}")),
                Column::Level(gauge) => rates.gauge(gauge).map(|level| level.to_string()),
            };
            let _ = write!(to, " {:>w$}", value.as_deref().unwrap_or("-"), w = width(name));
        }
        let _ = writeln!(to);
    }
}

/// Room for the name and for five digits.
fn width(name: &str) -> usize {
    name.len().max(6)
}

impl RatesRenderer {
    /// Writes a line.
    pub fn rates(&mut self, to: &mut BytesMut, rates: &Rates, wall: WallOffset) {
        match self {
            Self::Text(text) => text.line(to, rates, wall),
            Self::Json(json) => json.object(to, fields(rates, wall)),
            Self::Csv(csv) => csv.row(to, fields(rates, wall)),
        }
    }
}

/// The fields of machine-readable outputs.
fn fields(rates: &Rates, wall: WallOffset) -> impl Iterator<Item = (&'static str, FieldValue<'static>)> + Clone {
    let known = |value: Option<u64>| value.map_or(FieldValue::Null, FieldValue::Number);
    let facts = [
        ("event", FieldValue::Text("rates")),
        ("time", FieldValue::Time(wall.wall_ns(rates.mono_ns))),
        ("mono_ns", FieldValue::Number(rates.mono_ns)),
        ("span_ns", FieldValue::Number(rates.span_ns)),
        ("namespaces", FieldValue::Number(rates.namespaces as u64)),
        ("namespaces_new", FieldValue::Number(rates.namespaces_new as u64)),
        ("namespaces_gone", FieldValue::Number(rates.namespaces_gone as u64)),
        ("namespaces_denied", FieldValue::Number(rates.skipped.namespaces_denied)),
        ("processes_denied", FieldValue::Number(rates.skipped.processes_denied)),
    ];
    let counters =
        Counter::ALL.into_iter().zip(rates.counts).map(move |(counter, count)| (counter.name(), known(count)));
    let gauges = Gauge::ALL.into_iter().zip(rates.gauges).map(move |(gauge, level)| (gauge.name(), known(level)));
    facts.into_iter().chain(counters).chain(gauges)
}
