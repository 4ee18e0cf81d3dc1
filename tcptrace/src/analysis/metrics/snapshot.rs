//! The metrics of a moment, in a form that no encoder owns.

use std::{borrow::Cow, collections::BTreeMap};

use super::families::Descriptor;
use crate::model::printable::escaped;

/// The metrics of a moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The moment, in ns since the epoch.
    pub time_unix_ns: u64,
    /// All metrics.
    pub families: Vec<Family>,
}

/// One metric with its values.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Which.
    pub descriptor: &'static Descriptor,
    /// Its values, by labels; no two have the same.
    pub series: Vec<Series>,
}

/// Names and values of labels. What is not known has none.
pub type Labels = Vec<(&'static str, Cow<'static, str>)>;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its labels.
    pub labels: Labels,
    /// From when on it counts, in ns since the epoch.
    pub start_unix_ns: u64,
    /// The value.
    pub value: Value,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A count, or bytes.
    Integer(u64),
    /// Seconds.
    Float(f64),
    /// Many of them.
    Distribution(Distribution),
}

/// A distribution of times.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    /// How many there are.
    pub count: u64,
    /// Their sum in seconds.
    pub sum: f64,
    /// How many are 0.
    pub zero: u64,
    /// Index of the first of `buckets`. Bucket `i` has the times above `2^((i-1)/2^SCALE)` and up to `2^(i/2^SCALE)`
    /// seconds, [`SCALE`](crate::analysis::metrics::times::SCALE) being Prometheus's schema and OpenTelemetry's scale.
    pub first: i32,
    /// Times in each of consecutive buckets; the first and the last one have some.
    pub buckets: Vec<u64>,
    /// How many are at most so long, in seconds; at the last, which is infinite, all.
    pub classic: Vec<(f64, u64)>,
}

impl Snapshot {
    /// The metric of this name in OpenMetrics.
    #[must_use]
    pub fn family(&self, name: &str) -> Option<&Family> {
        self.families.iter().find(|family| family.descriptor.name == name)
    }

    /// Adds a metric. What has the same labels, such as two cgroups of one path, is added up. No character is in a label that
    /// may not be printed.
    pub(super) fn add(
        &mut self,
        descriptor: &'static Descriptor,
        counts: impl IntoIterator<Item = (Labels, u64, u64)>,
    ) {
        let mut sums: BTreeMap<Labels, (u64, u64)> = BTreeMap::new();
        for (mut labels, start_unix_ns, count) in counts {
            for (_, value) in &mut labels {
                if let Cow::Owned(escaped) = escaped(value) {
                    *value = escaped.into();
                }
            }
            let (start, sum) = sums.entry(labels).or_insert((start_unix_ns, 0));
            *start = start_unix_ns.min(*start);
            *sum += count;
        }
        let series = sums.into_iter().map(|(labels, (start_unix_ns, sum))| Series {
            labels,
            start_unix_ns,
            value: Value::Integer(sum),
        });
        self.families.push(Family { descriptor, series: series.collect() });
    }

    /// Adds a metric of one value.
    pub(super) fn add_one(&mut self, descriptor: &'static Descriptor, start_unix_ns: u64, value: Value) {
        self.families.push(Family { descriptor, series: vec![Series { labels: Labels::new(), start_unix_ns, value }] });
    }
}

impl Family {
    /// The sum of its counts, over all series that have these labels.
    #[must_use]
    pub fn sum(&self, labels: &[(&str, &str)]) -> u64 {
        let has = |series: &&Series| {
            labels.iter().all(|(name, value)| series.labels.iter().any(|(n, v)| n == name && v == value))
        };
        let count = |series: &Series| match &series.value {
            Value::Integer(count) => *count,
            Value::Distribution(times) => times.count,
            Value::Float(_) => 0,
        };
        self.series.iter().filter(has).map(count).sum()
    }
}
