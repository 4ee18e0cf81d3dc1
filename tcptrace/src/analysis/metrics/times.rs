//! Histograms of times that can be exported as native (Prometheus), exponential (OpenTelemetry) and classic histograms.

use super::snapshot::Distribution;

/// An octave has two to this power buckets, so that a bucket's upper bound is 9 % above the lower one.
pub const SCALE: i32 = 3;
/// Upper bounds of the classic buckets in seconds.
pub const BOUNDS: [f64; 19] = [
    0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
    3600.0,
];

/// The first bucket ends below 1 ns, the last one beyond 2^64 ns.
const FIRST: i32 = -30 << SCALE;
const LAST: i32 = 35 << SCALE;
const BUCKETS: usize = (LAST - FIRST + 1) as usize;

/// A histogram of times; takes 4 KiB.
#[derive(Clone, Debug)]
pub(super) struct Times {
    count: u64,
    sum_ns: u128,
    zero: u64,
    buckets: Box<[u64; BUCKETS]>,
    classic: [u64; BOUNDS.len() + 1],
}

impl Default for Times {
    fn default() -> Self {
        Self { count: 0, sum_ns: 0, zero: 0, buckets: Box::new([0; BUCKETS]), classic: [0; BOUNDS.len() + 1] }
    }
}

impl Times {
    /// Adds a time.
    pub(super) fn record(&mut self, ns: u64) {
        self.record_many(ns, 1);
    }

    /// Adds `times` times of this length.
    pub(super) fn record_many(&mut self, ns: u64, times: u64) {
        self.count += times;
        self.sum_ns += u128::from(ns) * u128::from(times);
        let seconds = ns as f64 / 1e9;
        let bound = BOUNDS.partition_point(|bound| *bound < seconds);
        self.classic.iter_mut().skip(bound).take(1).for_each(|count| *count += times);
        if ns == 0 {
            self.zero += times;
            return;
        }
        let index = (seconds.log2() * f64::from(1 << SCALE)).ceil() as i32;
        let place = usize::try_from(index - FIRST).unwrap_or(0).min(BUCKETS - 1);
        self.buckets[place] += times;
    }

    /// The histogram as a value of a metric.
    pub(super) fn distribution(&self) -> Distribution {
        let first = self.buckets.iter().position(|count| *count > 0).unwrap_or(0);
        let end = self.buckets.iter().rposition(|count| *count > 0).map_or(first, |last| last + 1);
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        let classic = bounds.zip(self.classic).scan(0, |sum, (bound, count)| {
            *sum += count;
            Some((bound, *sum))
        });
        Distribution {
            count: self.count,
            sum: self.sum_ns as f64 / 1e9,
            zero: self.zero,
            first: FIRST + first as i32,
            buckets: self.buckets[first..end].to_vec(),
            classic: classic.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_is_in_the_bucket_that_has_it() {
        for ns in
            (0..64).flat_map(|power| [(1u64 << power) - 1, 1 << power, 3 << power]).chain([u64::MAX, 1_000_000_000])
        {
            let mut times = Times::default();
            times.record(ns);
            let told = times.distribution();
            assert_eq!((told.count, told.sum), (1, ns as f64 / 1e9));
            if ns == 0 {
                assert_eq!((told.zero, told.buckets.len()), (1, 0));
                continue;
            }
            assert_eq!((told.zero, told.buckets), (0, vec![1]), "{ns}");
            let end = |index: i32| (f64::from(index) / f64::from(1 << SCALE)).exp2();
            let seconds = ns as f64 / 1e9;
            let slack = 1.0 + 1e-12; // of logarithms
            assert!(
                end(told.first - 1) < seconds * slack && seconds <= end(told.first) * slack,
                "{ns}: {}",
                told.first
            );
        }
    }

    #[test]
    fn bounds_of_classic_buckets_belong_to_them() {
        let mut times = Times::default();
        for ns in [0, 100_000, 100_001, 1_000_000_000, 3_600_000_000_000, 3_600_000_000_001] {
            times.record(ns);
        }
        let classic = times.distribution().classic;
        let up_to = |bound: f64| classic.iter().find(|(end, _)| *end == bound).unwrap().1;
        assert_eq!([0.0001, 0.0005, 0.5, 1.0, 300.0, 3600.0, f64::INFINITY].map(up_to), [2, 3, 3, 4, 4, 5, 6]);
    }
}
