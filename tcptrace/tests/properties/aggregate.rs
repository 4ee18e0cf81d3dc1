//! What is counted in buckets tells the truth within the bound that is stated, and no count makes a reader fail.

use proptest::{collection::vec, prelude::*};
use tcptrace::{
    analysis::{histogram::RELATIVE_ERROR, report::Report},
    model::{
        kernel_counts::{By, Counts},
        losses::Losses,
    },
};
use tcptrace_common::{
    aggregate::{BUCKETS, CountKey, OctaveTimes, bucket_max_ns, bucket_of},
    record::KIND_TRANSITION,
    state::{CLOSE_WAIT, LAST_ACK},
};
use zerocopy::FromBytes as _;

fn report(counts: &Counts, by: By) -> Report {
    counts.report(by, |_| None, (true, 0, 0), Losses::default())
}

/// Times of all lengths that are told apart.
fn times() -> impl Strategy<Value = Vec<u64>> {
    vec((0u32..54, any::<u64>()).prop_map(|(power, ns)| ns % (1 << power).max(1)), 1..200)
}

/// As the programs count on two CPUs.
fn counted(counts: &mut Counts, times_ns: &[u64]) {
    for (index, &ns) in times_ns.iter().enumerate() {
        let (octave, slot) = bucket_of(ns);
        let mut times = [OctaveTimes::NONE; 2];
        times[index % 2].counts[slot] = 1;
        times[index % 2].max_ns = ns;
        let key = CountKey { kind: KIND_TRANSITION, old: CLOSE_WAIT, new: LAST_ACK, octave, ..CountKey::default() };
        counts.add_times(key, times.into_iter());
    }
}

proptest! {
    #[test]
    fn a_time_is_in_a_bucket_no_wider_than_the_bound(ns in any::<u64>().prop_flat_map(|ns| (0u32..64).prop_map(move |by| ns >> by))) {
        let (octave, slot) = bucket_of(ns);
        prop_assert!(slot < BUCKETS);
        let end = bucket_max_ns(octave, slot);
        prop_assert!(ns <= end && bucket_of(end) == (octave, slot));
        prop_assert!(ns >= 1 << 54 || end == u64::MAX || (end - ns) as f64 <= ns as f64 * RELATIVE_ERROR);
        prop_assert!(ns == 0 || bucket_of(ns - 1) <= (octave, slot), "longer times are in later buckets");
    }

    #[test]
    fn percentiles_are_never_below_the_true_ones_and_above_them_by_less_than_the_bound(times in times()) {
        let mut counts = Counts::default();
        counted(&mut counts, &times);
        let row = report(&counts, By::Transition).transitions[0];
        let mut sorted = times;
        sorted.sort_unstable();
        let exact = |share: f64| sorted[((share * sorted.len() as f64).ceil() as usize).max(1) - 1];
        let got = row.times.unwrap();
        prop_assert_eq!((row.count, row.timed, got.max_ns), (sorted.len() as u64, row.count, exact(1.0)));
        for (got, exact) in [(got.p50_ns, exact(0.5)), (got.p90_ns, exact(0.9)), (got.p99_ns, exact(0.99))] {
            prop_assert!(got >= exact && (got - exact) as f64 <= exact as f64 * RELATIVE_ERROR, "{} for {}", got, exact);
        }
    }

    #[test]
    fn an_interval_is_what_came_in_it(earlier in times(), later in times()) {
        let mut before = Counts::default();
        counted(&mut before, &earlier);
        let mut after = before.clone();
        counted(&mut after, &later);
        let mut alone = Counts::default();
        counted(&mut alone, &later);
        let (interval, alone) = (report(&after.since(&before), By::Transition), report(&alone, By::Transition));
        let (interval, alone) = (interval.transitions[0], alone.transitions[0]);
        prop_assert_eq!((interval.count, interval.timed), (alone.count, alone.timed));
        let (interval, alone) = (interval.times.unwrap(), alone.times.unwrap());
        let pairs = [
            (interval.p50_ns, alone.p50_ns),
            (interval.p90_ns, alone.p90_ns),
            (interval.p99_ns, alone.p99_ns),
            (interval.max_ns, alone.max_ns),
        ];
        for (got, exact) in pairs {
            prop_assert!(got >= exact && (got - exact) as f64 <= exact as f64 * RELATIVE_ERROR, "{} for {}", got, exact);
        }
    }

    #[test]
    fn no_key_or_count_makes_it_fail(entries in vec((any::<[u8; 16]>(), 0u64..1 << 40, 0usize..BUCKETS), 0..50)) {
        let mut counts = Counts::default();
        let mut sum = 0;
        for (bytes, count, slot) in entries {
            let mut times = OctaveTimes { max_ns: count, ..OctaveTimes::NONE };
            times.counts[slot] = count;
            let key = CountKey::read_from_bytes(&bytes).unwrap();
            for kind in [key.kind, KIND_TRANSITION] {
                counts.add_times(CountKey { kind, ..key }, [times].into_iter());
                counts.add_count(CountKey { kind, ..key }, [count].into_iter());
            }
            sum += 4 * count;
        }
        for by in [By::Transition, By::Port, By::Cgroup] {
            let keys = report(&counts, by).keys.unwrap_or_default();
            prop_assert!(keys.iter().map(|row| row.activity.transitions).sum::<u64>() <= sum);
        }
        let (known, unknown) = counts.totals();
        prop_assert!(known + unknown <= sum);
    }
}
