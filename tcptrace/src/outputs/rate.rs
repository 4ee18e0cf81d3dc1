//! Limits how many findings an output passes on, so that an incident does not flood people and programs.

use std::{
    collections::BTreeSet,
    str::FromStr,
    time::{Duration, Instant},
};

use serde_json::{Map, Value};

use crate::model::number::digits;

/// Most records in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    count: u32,
    per: Duration,
}

impl Rate {
    /// One a second on average, with a minute's worth at once.
    pub(super) const DEFAULT: Self = Self { count: 60, per: Duration::from_secs(60) };
}

/// Longest number of records.
const MOST: u32 = 1_000_000;

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a rate: give COUNT/s, /m, /h or /d, e.g. 10/m, or off");
        let (count, unit) = text.split_once('/').ok_or_else(wrong)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return Err(wrong()),
        };
        let count = digits::<u32>(count).filter(|count| (1..=MOST).contains(count)).ok_or_else(wrong)?;
        Ok(Self { count, per: Duration::from_secs(seconds) })
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unit = match self.per.as_secs() {
            1 => "second",
            60 => "minute",
            3600 => "hour",
            _ => "day",
        };
        write!(to, "{} per {unit}", self.count)
    }
}

/// Reads a rate, or `off`.
pub(super) fn rate(text: &str) -> Result<Option<Rate>, String> {
    if text == "off" { Ok(None) } else { text.parse().map(Some) }
}

/// Decides which records are within a rate: a token bucket. The end of a finding always passes if the finding did, and
/// never if it did not: a receiver knows what is open.
#[derive(Debug)]
pub(super) struct Limiter {
    rate: Option<Rate>,
    /// Records that may pass now.
    tokens: f64,
    counted: Instant,
    /// Numbers of the open findings that passed, and of those that did not.
    passed: BTreeSet<u64>,
    suppressed: BTreeSet<u64>,
}

/// Most open findings that are remembered; of more, those with the lowest numbers are forgotten.
const MOST_OPEN: usize = 4096;

impl Limiter {
    pub(super) fn new(rate: Option<Rate>, now: Instant) -> Self {
        let tokens = rate.map_or(0.0, |rate| rate.count.into());
        Self { rate, tokens, counted: now, passed: BTreeSet::new(), suppressed: BTreeSet::new() }
    }

    /// Why records are suppressed.
    pub(super) fn reason(&self) -> String {
        self.rate.map_or_else(String::new, |rate| format!("more than {rate}"))
    }

    /// True if this record may pass.
    pub(super) fn admits(&mut self, record: &Map<String, Value>, now: Instant) -> bool {
        let Some(rate) = self.rate else { return true };
        let number = record.get("number").and_then(Value::as_u64);
        let is_over = matches!(record.get("phase").and_then(Value::as_str), Some("closed" | "merged"));
        if let (Some(number), true) = (number, is_over) {
            if self.passed.remove(&number) {
                return true;
            }
            if self.suppressed.remove(&number) {
                return false;
            }
        }
        let most = f64::from(rate.count);
        let earned = now.saturating_duration_since(self.counted).as_secs_f64() / rate.per.as_secs_f64() * most;
        (self.tokens, self.counted) = ((self.tokens + earned).min(most), now);
        let admits = self.tokens >= 1.0;
        if admits {
            self.tokens -= 1.0;
        }
        if let (Some(number), false) = (number, is_over) {
            let (into, out_of) = if admits {
                (&mut self.passed, &mut self.suppressed)
            } else {
                (&mut self.suppressed, &mut self.passed)
            };
            // An update that is suppressed leaves a finding that passed as it is.
            if admits || !out_of.contains(&number) {
                out_of.remove(&number);
                into.insert(number);
                if into.len() > MOST_OPEN {
                    into.pop_first();
                }
            }
        }
        admits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u64, phase: &str) -> Map<String, Value> {
        let fields = [("event", "finding".into()), ("number", number.into()), ("phase", phase.into())];
        fields.map(|(name, value): (&str, Value)| (name.to_owned(), value)).into_iter().collect()
    }

    #[test]
    fn rates_are_read() {
        assert_eq!(rate("10/m"), Ok(Some(Rate { count: 10, per: Duration::from_secs(60) })));
        assert_eq!(rate("1/d").map(|rate| rate.map(|rate| rate.to_string())), Ok(Some("1 per day".to_owned())));
        assert_eq!(rate("off"), Ok(None));
        for wrong in ["", "10", "10/", "/m", "0/m", "1000001/s", "-1/s", "+1/s", "1/w", "1/m/m", "ten/m"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_burst_passes_up_to_the_rate_and_later_ones_as_time_goes_on() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut limiter = Limiter::new(rate("3/m").unwrap(), start);
        let mut passed = |number, at| limiter.admits(&record(number, "opened"), at);
        assert_eq!([1, 2, 3, 4, 5].map(|number| passed(number, start)), [true, true, true, false, false]);
        assert!(!passed(6, after(19)) && passed(7, after(21)) && !passed(8, after(22)));
        assert_eq!(
            [9, 10, 11, 12].map(|number| passed(number, after(1000))),
            [true, true, true, false],
            "not saved up"
        );
        let mut off = Limiter::new(None, start);
        assert!((0..10_000).all(|number| off.admits(&record(number, "opened"), start)));
    }

    #[test]
    fn what_was_passed_on_is_also_ended() {
        let start = Instant::now();
        let mut limiter = Limiter::new(rate("1/h").unwrap(), start);
        let mut passed = |number, phase| limiter.admits(&record(number, phase), start);
        assert!(passed(1, "opened") && !passed(2, "opened"));
        assert!(!passed(1, "updated"), "one of many");
        assert!(passed(1, "closed") && !passed(2, "closed"));
        assert!(!passed(1, "closed"), "it is over");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let start = Instant::now();
        let mut limiter = Limiter::new(rate("1/d").unwrap(), start);
        for number in 0..3 * MOST_OPEN as u64 {
            limiter.admits(&record(number, "opened"), start);
        }
        assert_eq!((limiter.passed.len(), limiter.suppressed.len()), (1, MOST_OPEN));
    }
}
