//! The times at the beginning of lines.

use std::fmt::Write as _;

use bytes::BytesMut;
use jiff::{civil::Date, tz::TimeZone};

use crate::model::time::{Human, WallFormat, WallOffset};

/// Format of the times in text.
#[derive(Clone, Debug)]
pub enum TimeStyle {
    /// Time of day in a time zone.
    Wall(TimeZone),
    /// RFC 3339 with date and zone.
    Iso(TimeZone),
    /// CLOCK_MONOTONIC, in seconds.
    Monotonic,
    /// Time since the previous line.
    Delta,
}

/// Writes the time of each line. Where times have no date, it also notices that another day has begun.
pub(crate) struct Clock {
    style: TimeStyle,
    wall: Option<WallFormat>,
    last_ns: Option<u64>,
    day: Option<Date>,
}

impl Clock {
    pub(crate) fn new(style: TimeStyle) -> Self {
        let wall = match &style {
            TimeStyle::Wall(zone) => Some(WallFormat::time_of_day(zone.clone())),
            TimeStyle::Iso(zone) => Some(WallFormat::with_zone(zone.clone())),
            TimeStyle::Monotonic | TimeStyle::Delta => None,
        };
        Self { style, wall, last_ns: None, day: None }
    }

    /// Width of a time with so many decimals.
    pub(crate) fn width(&self, decimals: usize) -> usize {
        match self.style {
            TimeStyle::Wall(_) => "HH:MM:SS.".len() + decimals,
            TimeStyle::Iso(_) => "2026-11-30T23:59:59.+01:00".len() + decimals,
            TimeStyle::Monotonic | TimeStyle::Delta => "1234567.".len() + decimals,
        }
    }

    /// Writes a line with the date if another day has begun since the last line.
    pub(crate) fn new_day(&mut self, to: &mut BytesMut, time_ns: u64, wall: WallOffset) {
        let Self { style: TimeStyle::Wall(_), wall: Some(format), day, .. } = self else { return };
        let date = format.date(wall.wall_ns(time_ns));
        if date == *day {
            return;
        }
        let before = std::mem::replace(day, date);
        if let (Some(_), Some(date)) = (before, date) {
            let _ = writeln!(to, "-- {date}"); // to memory
        }
    }

    /// Writes a time with so many decimals.
    pub(crate) fn write(&mut self, to: &mut BytesMut, time_ns: u64, wall: WallOffset, decimals: usize) {
        let since_ns = self.last_ns.replace(time_ns).unwrap_or(time_ns);
        // To memory, which cannot fail.
        let _ = match (&self.style, &mut self.wall) {
            (_, Some(format)) => {
                format.write(to, wall.wall_ns(time_ns), decimals);
                Ok(())
            }
            (TimeStyle::Delta, _) => write!(to, "+{}", Human(time_ns.saturating_sub(since_ns))),
            _ => write!(to, "{}.{:06}", time_ns / 1_000_000_000, time_ns / 1000 % 1_000_000),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    /// 2026-11-30T23:59:58Z.
    const WALL: WallOffset = WallOffset(1_796_083_198_000_000_000);

    fn lines(style: TimeStyle, seconds: &[u64]) -> String {
        let (mut clock, mut to) = (Clock::new(style), BytesMut::new());
        for second in seconds {
            clock.new_day(&mut to, second * S, WALL);
            let from = to.len();
            clock.write(&mut to, second * S, WALL, 6);
            assert!(to.len() - from <= clock.width(6));
            to.extend_from_slice(b"\n");
        }
        String::from_utf8(to.to_vec()).unwrap()
    }

    #[test]
    fn a_line_says_that_another_day_has_begun() {
        let utc = lines(TimeStyle::Wall(TimeZone::UTC), &[0, 1, 2, 3, 90_000]);
        assert_eq!(
            utc,
            "23:59:58.000000\n23:59:59.000000\n-- 2026-12-01\n00:00:00.000000\n00:00:01.000000\n-- 2026-12-02\n\
             00:59:58.000000\n"
        );
        let east = TimeZone::fixed(jiff::tz::offset(1));
        assert!(!lines(TimeStyle::Wall(east), &[0, 1, 2, 3]).contains("--"), "there it began an hour ago");
    }

    #[test]
    fn times_with_a_date_need_no_such_line() {
        let east = TimeZone::fixed(jiff::tz::offset(1));
        assert_eq!(lines(TimeStyle::Iso(east), &[0]), "2026-12-01T00:59:58.000000+01:00\n");
        let utc = lines(TimeStyle::Iso(TimeZone::UTC), &[1, 2]);
        assert_eq!(utc, "2026-11-30T23:59:59.000000+00:00\n2026-12-01T00:00:00.000000+00:00\n");
        assert_eq!(lines(TimeStyle::Monotonic, &[1, 2]), "1.000000\n2.000000\n");
        assert_eq!(lines(TimeStyle::Delta, &[1, 3]), "+0ns\n+2.00s\n");
    }
}
