//! The goals of tcptrace, and the figures of the report that show whether it reached them.

use std::fmt;

use crate::figure::{Figure, number};

/// A bound for the median of one figure of the report.
pub(crate) struct Goal {
    /// Its name in the report.
    pub(crate) what: &'static str,
    /// Where the figure is.
    pub(crate) table: &'static str,
    pub(crate) row: &'static str,
    pub(crate) column: &'static str,
    pub(crate) bound: Bound,
}

/// The limit from which on a figure is good.
#[derive(Clone, Copy)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

use Bound::{AtLeast, AtMost};

/// Whether a goal was reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Verdict {
    Met,
    Missed,
    /// There is no such figure.
    Unknown,
}

const fn goal(what: &'static str, [table, row, column]: [&'static str; 3], bound: Bound) -> Goal {
    Goal { what, table, row, column, bound }
}

const JSON: &str = "tcptrace --format json";
const RECORD: &str = "record, connections";

/// All goals.
pub(crate) const GOALS: &[Goal] = &[
    goal("load kept, all to JSON", ["load_one_core", JSON, "ratio"], AtLeast(0.95)),
    goal("load kept, no event matches", ["load_one_core", "tcptrace --state CLOSING", "ratio"], AtLeast(0.97)),
    goal("load kept, 2 of 10 events match", ["load_one_core", "tcptrace --state CLOSE_WAIT", "ratio"], AtLeast(0.97)),
    goal("load kept, aggregate mode", ["load_one_core", "tcptrace --aggregate", "ratio"], AtLeast(0.97)),
    goal("load kept, tcpstates", ["load_one_core", "tcpstates", "ratio"], AtMost(0.5)),
    goal("state program, floors", ["programs", "tcptrace --format json: transition", "floors"], AtMost(4.0)),
    goal("filtered out, floors", ["programs", "tcptrace --state CLOSING: transition", "floors"], AtMost(2.0)),
    goal("decode and table, events/s", ["core", "decode and table, events a second", "figure"], AtLeast(2e6)),
    goal("JSON, lines/s", ["core", "JSON, lines a second", "figure"], AtLeast(1e6)),
    goal("text, lines/s", ["core", "text, lines a second", "figure"], AtLeast(5e5)),
    goal(
        "bytes of one of a million connections",
        ["live", "1000000 connections", "bytes_per_connection"],
        AtMost(160.0),
    ),
    goal("a million connections, MB", ["live", "1000000 connections", "peak_rss_mb"], AtMost(200.0)),
    goal("no loss, events/s, JSON", ["loss", JSON, "without_loss_per_s"], AtLeast(3e5)),
    goal("no loss, events/s, text", ["loss", "tcptrace", "without_loss_per_s"], AtLeast(3e5)),
    goal("start-up until attached, ms", ["start", "tcptrace", "ready_ms"], AtMost(60.0)),
    goal("recording, bytes an event", ["recording", RECORD, "bytes_per_event"], AtMost(40.0)),
    goal("recording, CPU s for a million events", ["recording", RECORD, "cpu_s_per_million_events"], AtMost(1.0)),
    goal("recording 300,000 events/s, missing", ["recording", "record, 300,000 a second", "missing"], AtMost(0.0)),
    goal("replay of a summary, events/s", ["replay", "summary", "events_per_s"], AtLeast(2e6)),
    goal("memory at rest, MB", ["rest", "tcptrace", "rss_mb"], AtMost(20.0)),
];

impl Goal {
    pub(crate) fn verdict(&self, figure: Option<Figure>) -> Verdict {
        match (figure, self.bound) {
            (None, _) => Verdict::Unknown,
            (Some(figure), AtLeast(bound)) if figure.median >= bound => Verdict::Met,
            (Some(figure), AtMost(bound)) if figure.median <= bound => Verdict::Met,
            _ => Verdict::Missed,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AtLeast(bound) => write!(to, "≥ {}", number(*bound)),
            AtMost(bound) => write!(to, "≤ {}", number(*bound)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_compared_with_the_bound() {
        let of = |bound, figure: Option<f64>| {
            goal("it", ["table", "row", "column"], bound).verdict(figure.and_then(|figure| Figure::of([figure])))
        };
        assert_eq!(of(AtLeast(0.95), Some(0.95)), Verdict::Met);
        assert_eq!(of(AtLeast(0.95), Some(0.949)), Verdict::Missed);
        assert_eq!(of(AtMost(60.0), Some(60.0)), Verdict::Met);
        assert_eq!(of(AtMost(60.0), Some(60.1)), Verdict::Missed);
        assert_eq!(of(AtMost(60.0), None), Verdict::Unknown);
    }
}
