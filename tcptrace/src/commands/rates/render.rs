//! Rates as text, JSON and CSV. JSON and CSV have differences and the length of the interval; text has rates per second.

use bytes::BytesMut;

use crate::{
    analysis::rates::meter::{Counter, Gauge, Rates},
    model::{screen::Screen, time::WallOffset},
    render::{
        FieldValue,
        csv::Csv,
        json::Json,
        text::{
            TimeStyle,
            clock::Clock,
            table::{Column, Side, Stream},
        },
    },
};

enum Value {
    /// Growth of a counter per second.
    PerSecond(Counter),
    /// Retransmitted segments per 100 others.
    RetransmitPercent,
    /// Current value of a gauge.
    Level(Gauge),
}

use Value::{Level, PerSecond, RetransmitPercent};

/// The columns after the time, with the order in which they make room on a narrow terminal, the highest first.
const COLUMNS: [(&str, Value, u8); 15] = [
    ("ACTIVE/s", PerSecond(Counter::ActiveOpens), 0),
    ("PASSIVE/s", PerSecond(Counter::PassiveOpens), 0),
    ("FAILED/s", PerSecond(Counter::AttemptFails), 0),
    ("RESETS/s", PerSecond(Counter::EstabResets), 0),
    ("RST-OUT/s", PerSecond(Counter::OutRsts), 4),
    ("SEGS-IN/s", PerSecond(Counter::InSegs), 9),
    ("SEGS-OUT/s", PerSecond(Counter::OutSegs), 10),
    ("RETRANS/s", PerSecond(Counter::RetransSegs), 2),
    ("RETR%", RetransmitPercent, 5),
    ("EST+CW", Level(Gauge::CurrEstab), 1),
    ("TIME_WAIT", Level(Gauge::TimeWait), 3),
    ("ORPHANS", Level(Gauge::HostOrphans), 7),
    ("DROPS/s", PerSecond(Counter::ListenDrops), 6),
    ("COOKIES/s", PerSecond(Counter::SynCookiesSent), 8),
    ("TW-OVER/s", PerSecond(Counter::TimeWaitOverflows), 11),
];

/// Decimals of times.
const DECIMALS: usize = 3;

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
    clock: Clock,
    table: Stream,
}

impl RatesText {
    /// A table with times of this format.
    #[must_use]
    pub fn new(time: TimeStyle, color: bool) -> Self {
        let clock = Clock::new(time);
        let time = Column::new("TIME", Side::Left).wide(clock.width(DECIMALS));
        // Room for the name and for five digits.
        let column = |(name, _, rank): &(&'static str, Value, u8)| Column::new(name, Side::Right).wide(6).rank(*rank);
        let columns = [time].into_iter().chain(COLUMNS.iter().map(column)).collect();
        Self { clock, table: Stream::new(columns, color) }
    }

    /// Writes a line. On a terminal the heading comes again with each screen.
    fn line(&mut self, to: &mut BytesMut, rates: &Rates, wall: WallOffset, screen: Option<Screen>) {
        let Self { clock, table } = self;
        clock.new_day(to, rates.mono_ns, wall);
        let mut time = BytesMut::new();
        clock.write(&mut time, rates.mono_ns, wall, DECIMALS);
        let heading_every = screen.map(|screen| screen.rows.saturating_sub(2).max(1) as u64);
        table.row(to, screen.map(|screen| screen.columns), heading_every, |cells| {
            cells.text(&String::from_utf8_lossy(&time));
            for (_, value, _) in &COLUMNS {
                let value = match *value {
                    PerSecond(counter) => rates.per_second(counter).map(|rate| format!("{rate:.1}")),
                    RetransmitPercent => rates.retransmit_percent().map(|percent| format!("{percent:.1}")),
                    Level(gauge) => rates.gauge(gauge).map(|level| level.to_string()),
                };
                cells.text(value.as_deref().unwrap_or("-"));
            }
        });
    }
}

impl RatesRenderer {
    /// Writes a line; `screen` is the terminal, if it goes to one.
    pub fn rates(&mut self, to: &mut BytesMut, rates: &Rates, wall: WallOffset, screen: Option<Screen>) {
        match self {
            Self::Text(text) => text.line(to, rates, wall, screen),
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
