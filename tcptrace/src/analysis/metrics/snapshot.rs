//! The metrics at one moment, independent of any encoding.

use std::{borrow::Cow, collections::BTreeMap};

use super::families::Descriptor;
use crate::model::printable::escaped;

/// All metrics at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The time, in ns since the epoch.
    pub time_unix_ns: u64,
    /// All metrics.
    pub families: Vec<Family>,
}

/// One metric with its values.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// The metric's description.
    pub descriptor: &'static Descriptor,
    /// The values; no two have the same labels.
    pub series: Vec<Series>,
}

/// Names and values of labels; unknown values are left out.
pub type Labels = Vec<(&'static str, Cow<'static, str>)>;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The labels.
    pub labels: Labels,
    /// Start of counting, in ns since the epoch.
    pub start_unix_ns: u64,
    /// The value.
    pub value: Value,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A count or a number of bytes.
    Integer(u64),
    /// Seconds.
    Float(f64),
    /// A histogram.
    Distribution(Distribution),
}

/// A histogram of times.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    /// Number of times.
    pub count: u64,
    /// Sum in seconds.
    pub sum: f64,
    /// Number of times that are 0.
    pub zero: u64,
    /// Index of the first bucket in `buckets`. Bucket `i` has the times above `2^((i-1)/2^SCALE)` and up to `2^(i/2^SCALE)`
    /// seconds, where [`SCALE`](crate::analysis::metrics::times::SCALE) is Prometheus's schema and OpenTelemetry's scale.
    pub first: i32,
    /// Number of times in consecutive buckets; the first and the last one are not empty.
    pub buckets: Vec<u64>,
    /// Classic buckets: upper bound in seconds, and the number of times up to it. The last bound is infinite.
    pub classic: Vec<(f64, u64)>,
}

impl Snapshot {
    /// The metric of this name in OpenMetrics.
    #[must_use]
    pub fn family(&self, name: &str) -> Option<&Family> {
        self.families.iter().find(|family| family.descriptor.name == name)
    }

    /// Adds a metric. Values with the same labels (two cgroups with the same path, for example) are summed. Unprintable
    /// characters in labels are replaced.
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

    /// Adds a metric with a single value.
    pub(super) fn add_one(&mut self, descriptor: &'static Descriptor, start_unix_ns: u64, value: Value) {
        self.families.push(Family { descriptor, series: vec![Series { labels: Labels::new(), start_unix_ns, value }] });
    }
}

impl Family {
    /// The sum of a metric's counts over all series that have these labels.
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
