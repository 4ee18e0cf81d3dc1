//! Converts the kernel's monotonic times and formats times and durations.

use bytes::BufMut;
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde::{Deserialize, Serialize};

/// How far the wall clock is ahead of CLOCK_MONOTONIC, in ns. Measured by `sys::clock`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WallOffset(pub i64);

impl WallOffset {
    /// Wall-clock time in ns since the epoch.
    #[must_use]
    pub const fn wall_ns(self, monotonic_ns: u64) -> i64 {
        self.0.wrapping_add(monotonic_ns as i64)
    }

    /// As [`Self::wall_ns`], for formats that cannot express times before the epoch: those become 0.
    #[must_use]
    pub fn unix_ns(self, monotonic_ns: u64) -> u64 {
        u64::try_from(self.wall_ns(monotonic_ns)).unwrap_or(0)
    }
}

/// Formats wall-clock times. Caches the last second, since most events share it.
pub struct WallFormat {
    zone: TimeZone,
    pattern: &'static str,
    /// Whether the offset of the zone follows the time.
    has_offset: bool,
    second: i64,
    text: String,
    offset: String,
    date: Option<Date>,
}

const NS_PER_S: i64 = 1_000_000_000;

impl WallFormat {
    /// RFC 3339 in UTC.
    #[must_use]
    pub fn rfc3339() -> Self {
        Self::new(TimeZone::UTC, "%Y-%m-%dT%H:%M:%S")
    }

    /// Time of day in `zone`.
    #[must_use]
    pub fn time_of_day(zone: TimeZone) -> Self {
        Self::new(zone, "%H:%M:%S")
    }

    /// RFC 3339 in `zone`, with its offset.
    #[must_use]
    pub fn with_zone(zone: TimeZone) -> Self {
        Self { has_offset: true, ..Self::new(zone, "%Y-%m-%dT%H:%M:%S") }
    }

    fn new(zone: TimeZone, pattern: &'static str) -> Self {
        let (text, offset) = (String::new(), String::new());
        Self { zone, pattern, has_offset: false, second: i64::MIN, text, offset, date: None }
    }

    /// The date in the zone; `None` for years beyond 9999.
    pub fn date(&mut self, wall_ns: i64) -> Option<Date> {
        self.refresh(wall_ns.div_euclid(NS_PER_S));
        self.date
    }

    fn refresh(&mut self, second: i64) {
        if second == self.second {
            return;
        }
        self.second = second;
        let zoned = Timestamp::from_second(second).map(|time| time.to_zoned(self.zone.clone()));
        let Ok(zoned) = zoned else {
            (self.text, self.offset, self.date) = ("-".to_owned(), String::new(), None);
            return;
        };
        self.text = zoned.strftime(self.pattern).to_string();
        self.date = Some(zoned.date());
        if self.has_offset {
            self.offset = zoned.strftime("%:z").to_string();
        }
    }

    /// Writes the time with `digits` (at most 9) decimal places.
    pub fn write(&mut self, to: &mut impl BufMut, wall_ns: i64, digits: usize) {
        self.refresh(wall_ns.div_euclid(NS_PER_S));
        to.put_slice(self.text.as_bytes());
        if digits > 0 {
            to.put_u8(b'.');
        }
        let mut decimals = [b'0'; 9];
        let mut rest = wall_ns.rem_euclid(NS_PER_S) as u32;
        for digit in decimals.iter_mut().rev() {
            *digit += (rest % 10) as u8;
            rest /= 10;
        }
        to.put_slice(&decimals[..digits.min(9)]);
        to.put_slice(self.offset.as_bytes());
    }
}

/// Formats a duration for people: three digits and a unit, e.g. `85.2µs`, `1.50s`, `2h05m`.
#[must_use]
pub fn human(ns: u64) -> String {
    Human(ns).to_string()
}

/// [`human`] as a `Display` value, without an allocation.
#[derive(Clone, Copy, Debug)]
pub struct Human(pub u64);

impl std::fmt::Display for Human {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        human_to(f, self.0)
    }
}

/// Appends [`human`] without the formatting machinery: a listing has two durations per line.
pub fn write_human(to: &mut String, ns: u64) {
    let _ = human_to(to, ns); // writing to memory does not fail
}

fn human_to(to: &mut impl std::fmt::Write, ns: u64) -> std::fmt::Result {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs")];
    let seconds = ns / 1_000_000_000;
    let mut parts = |whole: u64, point: &str, decimals: u64, digits: usize, unit: &str| {
        let two = [decimals / 10 % 10, decimals % 10].map(|digit| char::from(b'0' + digit as u8));
        to.write_str(itoa::Buffer::new().format(whole))?;
        to.write_str(point)?;
        two[2 - digits..].iter().try_for_each(|digit| to.write_char(*digit))?;
        to.write_str(unit)
    };
    if seconds >= 86_400 {
        return parts(seconds / 86_400, "d", seconds / 3600 % 24, 2, "h");
    }
    if seconds >= 3600 {
        return parts(seconds / 3600, "h", seconds / 60 % 60, 2, "m");
    }
    if seconds >= 60 {
        return parts(seconds / 60, "m", seconds % 60, 2, "s");
    }
    let Some((unit, name)) = UNITS.into_iter().find(|(unit, _)| ns >= *unit) else {
        return parts(ns, "", 0, 0, "ns");
    };
    let (whole, thousandths) = (ns / unit, ns % unit * 1000 / unit);
    match whole {
        0..10 => parts(whole, ".", thousandths / 10, 2, name),
        10..100 => parts(whole, ".", thousandths / 100, 1, name),
        _ => parts(whole, "", 0, 0, name),
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    #[test]
    fn times_are_written_with_all_their_digits() {
        let mut format = WallFormat::rfc3339();
        for (ns, want) in [
            (0, "1970-01-01T00:00:00.000000000"),
            (1_795_260_279_123_456_789, "2026-11-21T11:24:39.123456789"),
            (1_795_260_279_000_000_001, "2026-11-21T11:24:39.000000001"),
            (-1, "1969-12-31T23:59:59.999999999"),
        ] {
            let mut text = BytesMut::new();
            format.write(&mut text, ns, 9);
            assert_eq!(text, want);
        }
        let mut text = BytesMut::new();
        WallFormat::time_of_day(TimeZone::UTC).write(&mut text, 1_795_260_279_123_456_789, 6);
        assert_eq!(text, "11:24:39.123456");
        WallFormat::rfc3339().write(&mut text, i64::MAX, 0);
        WallFormat::rfc3339().write(&mut text, i64::MIN, 12);
    }

    #[test]
    fn durations_have_three_digits_and_a_unit() {
        for (ns, want) in [
            (0, "0ns"),
            (999, "999ns"),
            (1_000, "1.00µs"),
            (85_249, "85.2µs"),
            (412_999, "412µs"),
            (1_500_000_000, "1.50s"),
            (59_999_999_999, "59.9s"),
            (61_000_000_000, "1m01s"),
            (7_500_000_000_000, "2h05m"),
            (90_000_000_000_000, "1d01h"),
        ] {
            assert_eq!(human(ns), want);
        }
        assert!(human(u64::MAX).ends_with('h'));
    }
}
