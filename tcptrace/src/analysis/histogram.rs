//! Histograms of times, for percentiles.

use histogram::{Config, Histogram};
use tcptrace_common::aggregate::{BUCKETS, GROUPING_POWER, MAX_VALUE_POWER, OctaveTimes, bucket_max_ns};

/// Upper bound of the relative error of percentiles; they are never too low. It holds for histograms made in user space and in
/// the BPF programs.
pub const RELATIVE_ERROR: f64 = 1.0 / BUCKETS as f64;

/// A histogram of times in ns; takes 25 KiB.
#[derive(Clone)]
pub struct Latencies {
    histogram: Option<Histogram>,
    count: u64,
    max_ns: u64,
}

/// The percentiles that reports show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percentiles {
    /// Median in ns.
    pub p50_ns: u64,
    /// 90th percentile in ns.
    pub p90_ns: u64,
    /// 99th percentile in ns.
    pub p99_ns: u64,
    /// The longest time in ns, which is exact.
    pub max_ns: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        // Fails only for incompatible powers, which the test below would detect.
        let config = Config::new(GROUPING_POWER, MAX_VALUE_POWER).ok();
        Self { histogram: config.as_ref().map(Histogram::with_config), count: 0, max_ns: 0 }
    }
}

impl Latencies {
    /// Adds a time.
    pub fn record(&mut self, ns: u64) {
        self.count += 1;
        self.max_ns = self.max_ns.max(ns);
        if let Some(histogram) = &mut self.histogram {
            // The clamp keeps it in bounds.
            let _ = histogram.increment(ns.min((1 << MAX_VALUE_POWER) - 1));
        }
    }

    /// Adds the times of an octave as counted by the BPF programs. The longest of them is known unless an earlier time in the
    /// same bucket, which is not among these, was longer.
    pub fn add_octave(&mut self, octave: u8, times: &OctaveTimes) {
        let Some(slot) = times.counts.iter().rposition(|count| *count > 0) else { return };
        self.count += times.total();
        self.max_ns = self.max_ns.max(times.max_ns.min(bucket_max_ns(octave, slot)));
        let buckets = self.histogram.as_mut().map(Histogram::as_mut_slice).unwrap_or_default();
        for (bucket, count) in buckets.iter_mut().skip(usize::from(octave) * BUCKETS).zip(times.counts) {
            *bucket += count;
        }
    }

    /// Adds all times of another histogram.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.max_ns = self.max_ns.max(other.max_ns);
        if let (Some(mine), Some(theirs)) = (&self.histogram, &other.histogram)
            && let Ok(sum) = mine.checked_add(theirs)
        {
            self.histogram = Some(sum);
        }
    }

    /// Number of times.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The percentiles; `None` if there are no times.
    #[must_use]
    pub fn percentiles(&self) -> Option<Percentiles> {
        let histogram = self.histogram.as_ref()?;
        let at = |quantile: f64| {
            // The bucket's upper bound, so that the percentile is not too low.
            let bucket = histogram.quantile_bucket(quantile).ok()??;
            Some(bucket.end().min(self.max_ns))
        };
        (self.count > 0).then_some(())?;
        Some(Percentiles { p50_ns: at(0.5)?, p90_ns: at(0.9)?, p99_ns: at(0.99)?, max_ns: self.max_ns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_the_stated_error() {
        let (mut odd, mut even) = (Latencies::default(), Latencies::default());
        assert_eq!(odd.percentiles(), None);
        for us in 1..=1000u64 {
            if us % 2 == 0 { &mut even } else { &mut odd }.record(us * 1000);
        }
        odd.merge(&even);
        let got = odd.percentiles().unwrap();
        assert_eq!((odd.count(), got.max_ns), (1000, 1_000_000));
        for (got, want) in [(got.p50_ns, 500_000.0), (got.p90_ns, 900_000.0), (got.p99_ns, 990_000.0)] {
            let error = (got as f64 - want) / want;
            assert!((0.0..1.0 / 64.0 + 0.002).contains(&error), "{got} for {want}");
        }
    }

    #[test]
    fn the_longest_times_are_kept() {
        let mut times = Latencies::default();
        times.record(u64::MAX);
        times.record(0);
        assert_eq!(times.percentiles().unwrap().max_ns, u64::MAX);
        assert_eq!(times.count(), 2);
    }
}
