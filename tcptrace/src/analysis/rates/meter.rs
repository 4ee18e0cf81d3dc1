//! Computes rates: the differences between two samples of the kernel's counters, for one network namespace or the sum of all.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use super::reading::{Counter, Gauge, Reading};

use crate::model::skipped::Skipped;

/// A sample of the counters of all namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    /// CLOCK_MONOTONIC halfway through reading, in ns.
    pub mono_ns: u64,
    /// The values, by the namespace's inode number.
    pub readings: BTreeMap<u32, Reading>,
    /// Namespaces that could not be read.
    pub skipped: Skipped,
}

/// The changes between two samples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Time of the second sample, CLOCK_MONOTONIC in ns.
    pub mono_ns: u64,
    /// Time between the samples, in ns.
    pub span_ns: u64,
    /// Number of namespaces in the second sample.
    pub namespaces: usize,
    /// Number of these that are not in the first sample; their counts are left out.
    pub namespaces_new: usize,
    /// Number of namespaces that are only in the first sample; their counts since then are left out.
    pub namespaces_gone: usize,
    /// Namespaces that could not be read; their counts are left out.
    pub skipped: Skipped,
    /// By [`Counter`]: the growth.
    pub counts: [Option<u64>; Counter::ALL.len()],
    /// By [`Gauge`]: the value in the second sample.
    pub gauges: [Option<u64>; Gauge::ALL.len()],
}

impl Rates {
    /// The growth of a counter; `None` if not known.
    #[must_use]
    pub const fn count(&self, counter: Counter) -> Option<u64> {
        self.counts[counter as usize]
    }

    /// The value of a gauge; `None` if not known.
    #[must_use]
    pub const fn gauge(&self, gauge: Gauge) -> Option<u64> {
        self.gauges[gauge as usize]
    }

    /// The growth of a counter per second.
    #[must_use]
    pub fn per_second(&self, counter: Counter) -> Option<f64> {
        let seconds = self.span_ns as f64 / 1e9;
        self.count(counter).filter(|_| self.span_ns > 0).map(|count| count as f64 / seconds)
    }

    /// Retransmitted segments per 100 others. The kernel's `OutSegs` does not count retransmissions
    /// (`net/ipv4/tcp_output.c`, `__tcp_transmit_skb`; RFC 4022), so this may exceed 100.
    #[must_use]
    pub fn retransmit_percent(&self) -> Option<f64> {
        let sent = self.count(Counter::OutSegs).filter(|sent| *sent > 0)?;
        self.count(Counter::RetransSegs).map(|again| again as f64 * 100.0 / sent as f64)
    }
}

/// Remembers the last sample, and computes the differences to the next.
#[derive(Debug)]
pub struct Meter {
    last: Round,
}

impl Meter {
    /// Starts with this sample.
    #[must_use]
    pub const fn new(first: Round) -> Self {
        Self { last: first }
    }

    /// The changes since the last sample.
    pub fn ingest(&mut self, round: Round) -> Rates {
        let last = std::mem::replace(&mut self.last, round);
        let now = &self.last;
        let pairs: Vec<_> = now
            .readings
            .iter()
            .filter_map(|(inode, after)| last.readings.get(inode).map(|before| (before, after)))
            .filter(|(before, after)| is_same(before, after))
            .collect();
        let growth = |counter: Counter| {
            let of_each = pairs.iter().map(|(before, after)| {
                after.counters[counter as usize]?.checked_sub(before.counters[counter as usize]?)
            });
            total(of_each)
        };
        let level = |gauge: Gauge| {
            let mut of_each = now.readings.values().map(|reading| reading.gauges[gauge as usize]);
            if gauge.is_of_host() { of_each.next_back().flatten() } else { total(of_each) }
        };
        Rates {
            mono_ns: now.mono_ns,
            span_ns: now.mono_ns.saturating_sub(last.mono_ns),
            namespaces: now.readings.len(),
            namespaces_new: now.readings.len() - pairs.len(),
            namespaces_gone: last.readings.len() - pairs.len(),
            skipped: now.skipped,
            counts: Counter::ALL.map(growth),
            gauges: Gauge::ALL.map(level),
        }
    }
}

/// True if both readings are of the same namespace. The inode number of a closed namespace may be reused, which shows in a counter
/// that went backwards. A counter that wrapped on a 32-bit kernel looks the same; then one interval is left out.
fn is_same(before: &Reading, after: &Reading) -> bool {
    before
        .counters
        .iter()
        .zip(after.counters)
        .all(|(before, after)| before.zip(after).is_none_or(|(before, after)| before <= after))
}

/// The sum; `None` if there are no values or one of them is not known.
fn total(mut values: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    let first = values.next()??;
    values.try_fold(first, |sum, value| sum.checked_add(value?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reading(active: u64, resets: Option<u64>, time_wait: u64, orphans: u64) -> Reading {
        let mut reading = Reading::default();
        reading.counters[Counter::ActiveOpens as usize] = Some(active);
        reading.counters[Counter::OutRsts as usize] = resets;
        reading.gauges[Gauge::TimeWait as usize] = Some(time_wait);
        reading.gauges[Gauge::HostOrphans as usize] = Some(orphans);
        reading
    }

    fn round(seconds: u64, readings: &[(u32, Reading)]) -> Round {
        Round { mono_ns: seconds * 1_000_000_000, readings: readings.iter().cloned().collect(), ..Round::default() }
    }

    #[test]
    fn namespaces_are_added_up_and_what_is_of_the_host_is_not() {
        let mut meter = Meter::new(round(10, &[(1, reading(100, Some(5), 0, 1)), (2, reading(7, Some(0), 0, 1))]));
        let rates = meter.ingest(round(12, &[(1, reading(110, Some(5), 3, 4)), (2, reading(8, Some(1), 2, 4))]));
        assert_eq!((rates.mono_ns, rates.span_ns), (12_000_000_000, 2_000_000_000));
        assert_eq!((rates.namespaces, rates.namespaces_new, rates.namespaces_gone), (2, 0, 0));
        assert_eq!((rates.count(Counter::ActiveOpens), rates.per_second(Counter::ActiveOpens)), (Some(11), Some(5.5)));
        assert_eq!(rates.count(Counter::OutRsts), Some(1));
        assert_eq!((rates.gauge(Gauge::TimeWait), rates.gauge(Gauge::HostOrphans)), (Some(5), Some(4)));
        assert_eq!((rates.count(Counter::InErrs), rates.gauge(Gauge::InUseIpv6)), (None, None));
    }

    #[test]
    fn a_namespace_counts_from_its_second_sample_until_it_goes() {
        let mut meter = Meter::new(round(0, &[(1, reading(1, None, 0, 0))]));
        let rates = meter.ingest(round(1, &[(1, reading(2, None, 1, 0)), (2, reading(1000, None, 2, 0))]));
        assert_eq!((rates.namespaces, rates.namespaces_new, rates.namespaces_gone), (2, 1, 0));
        assert_eq!((rates.count(Counter::ActiveOpens), rates.gauge(Gauge::TimeWait)), (Some(1), Some(3)));
        let rates = meter.ingest(round(2, &[(2, reading(1001, None, 2, 0))]));
        assert_eq!((rates.namespaces, rates.namespaces_new, rates.namespaces_gone), (1, 0, 1));
        assert_eq!(rates.count(Counter::ActiveOpens), Some(1));
        let rates = meter.ingest(round(3, &[]));
        assert_eq!((rates.namespaces, rates.namespaces_gone), (0, 1));
        assert_eq!((rates.count(Counter::ActiveOpens), rates.gauge(Gauge::TimeWait)), (None, None));
    }

    #[test]
    fn counters_that_go_backwards_are_another_namespaces() {
        let mut meter = Meter::new(round(0, &[(1, reading(9, Some(1), 0, 0)), (2, reading(5, Some(5), 0, 0))]));
        let rates = meter.ingest(round(1, &[(1, reading(10, Some(0), 0, 0)), (2, reading(6, Some(5), 0, 0))]));
        assert_eq!((rates.namespaces, rates.namespaces_new, rates.namespaces_gone), (2, 1, 1));
        assert_eq!((rates.count(Counter::ActiveOpens), rates.count(Counter::OutRsts)), (Some(1), Some(0)));
        let alone =
            Meter::new(round(0, &[(1, reading(9, Some(1), 0, 0))])).ingest(round(1, &[(1, reading(8, Some(2), 0, 0))]));
        assert_eq!((alone.count(Counter::ActiveOpens), alone.count(Counter::OutRsts)), (None, None));
    }

    #[test]
    fn what_one_namespace_does_not_tell_is_unknown_of_all() {
        let mut meter = Meter::new(round(0, &[(1, reading(1, Some(1), 0, 0)), (2, reading(1, None, 0, 0))]));
        let rates = meter.ingest(round(1, &[(1, reading(1, Some(2), 0, 0)), (2, reading(2, Some(7), 0, 0))]));
        assert_eq!((rates.count(Counter::ActiveOpens), rates.count(Counter::OutRsts)), (Some(1), None));
    }

    #[test]
    fn no_time_and_nothing_sent_have_no_rates() {
        let mut rates = Rates { counts: [Some(2); Counter::ALL.len()], ..Rates::default() };
        assert_eq!((rates.per_second(Counter::InSegs), rates.retransmit_percent()), (None, Some(100.0)));
        rates.counts[Counter::OutSegs as usize] = Some(0);
        assert_eq!(rates.retransmit_percent(), None);
    }

    proptest! {
        #[test]
        fn differences_add_up_to_the_last_value(steps in prop::collection::vec(0_u64..1000, 1..20), start in 0_u64..u64::MAX / 2) {
            let mut meter = Meter::new(round(0, &[(1, reading(start, None, 0, 0))]));
            let (mut now, mut sum) = (start, 0);
            for (second, step) in (1..).zip(&steps) {
                now += step;
                sum += meter.ingest(round(second, &[(1, reading(now, None, 0, 0))])).count(Counter::ActiveOpens).unwrap();
            }
            prop_assert_eq!(sum, now - start);
        }

        #[test]
        fn growth_is_never_more_than_the_value(before: u64, after: u64) {
            let mut meter = Meter::new(round(0, &[(1, reading(before, None, 0, 0))]));
            let count = meter.ingest(round(1, &[(1, reading(after, None, 0, 0))])).count(Counter::ActiveOpens);
            prop_assert!(count.is_none_or(|count| count <= after));
        }
    }
}
