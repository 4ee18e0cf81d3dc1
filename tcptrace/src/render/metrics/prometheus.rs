//! Metrics in the formats that Prometheus scrapes.
//!
//! The request's `Accept` selects the format: text 0.0.4, OpenMetrics 1.0.0 as text, or length-delimited protobuf messages
//! (`io.prometheus.client.MetricFamily`). All have classic histograms; protobuf also has native ones, for a Prometheus with
//! `--enable-feature=native-histograms`.

use std::fmt::Write as _;

use prost::Message as _;

use crate::analysis::metrics::{
    Distribution, SCALE, Series, Snapshot, Value,
    families::{Descriptor, Kind},
};

/// A format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// Protobuf, delimited.
    Protobuf,
}

impl Format {
    /// The format that an `Accept` header prefers (RFC 9110 section 12.5.1); the first among those with the same weight. If it
    /// names none of them the answer is text, which is more useful to a scraper than an error.
    #[must_use]
    pub fn negotiate(accept: &str) -> Self {
        let mut best = (0.0, Self::Text);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let parameters: Vec<_> = parts.filter_map(|part| part.split_once('=')).collect();
            let is = |name: &str, value: &str| {
                let same = |(n, v): &(&str, &str)| n.eq_ignore_ascii_case(name) && v.trim_matches('"') == value;
                parameters.iter().any(same)
            };
            let format = match kind.as_str() {
                "text/plain" | "text/*" | "*/*" => Self::Text,
                "application/openmetrics-text" => Self::OpenMetrics,
                "application/vnd.google.protobuf"
                    if is("proto", "io.prometheus.client.MetricFamily") && is("encoding", "delimited") =>
                {
                    Self::Protobuf
                }
                _ => continue,
            };
            let weight = parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case("q"));
            let weight = weight.map_or(1.0, |(_, value)| value.parse().unwrap_or(0.0));
            if weight > best.0 {
                best = (weight, format);
            }
        }
        best.1
    }

    /// The format's `Content-Type`.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

/// The snapshot in this format.
#[must_use]
pub fn encode(snapshot: &Snapshot, format: Format) -> Vec<u8> {
    match format {
        Format::Protobuf => protobuf(snapshot),
        Format::Text | Format::OpenMetrics => text(snapshot, format == Format::OpenMetrics).into_bytes(),
    }
}

fn text(snapshot: &Snapshot, is_open: bool) -> String {
    let mut to = String::new();
    for family in &snapshot.families {
        let (descriptor, sample) = (family.descriptor, family.descriptor.sample());
        let name = if is_open { descriptor.name } else { &sample };
        line(&mut to, format_args!("# HELP {name} {}", descriptor.help));
        line(&mut to, format_args!("# TYPE {name} {}", descriptor.kind));
        if let Some(unit) = unit(descriptor).filter(|_| is_open) {
            line(&mut to, format_args!("# UNIT {name} {unit}"));
        }
        for series in &family.series {
            match &series.value {
                Value::Integer(count) => line(&mut to, format_args!("{sample}{} {count}", Braced(series, None))),
                Value::Float(seconds) => line(&mut to, format_args!("{sample}{} {seconds:?}", Braced(series, None))),
                Value::Distribution(times) => {
                    for (bound, count) in &times.classic {
                        let labels = Braced(series, Some(*bound));
                        line(&mut to, format_args!("{sample}_bucket{labels} {count}"));
                    }
                    line(&mut to, format_args!("{sample}_sum{} {:?}", Braced(series, None), times.sum));
                    line(&mut to, format_args!("{sample}_count{} {}", Braced(series, None), times.count));
                }
            }
        }
    }
    if is_open {
        line(&mut to, format_args!("# EOF"));
    }
    to
}

fn line(to: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = writeln!(to, "{text}"); // never fails on strings
}

/// The unit at the end of a name (OpenMetrics 1.0.0, section "Unit").
fn unit(descriptor: &Descriptor) -> Option<&'static str> {
    ["seconds", "bytes"].into_iter().find(|unit| descriptor.name.ends_with(unit))
}

/// Labels in both text formats, with a bucket's upper bound if there is one.
struct Braced<'a>(&'a Series, Option<f64>);

impl std::fmt::Display for Braced<'_> {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut before = '{';
        for (name, value) in &self.0.labels {
            write!(to, "{before}{name}=\"")?;
            for letter in value.chars() {
                match letter {
                    '\\' => to.write_str("\\\\")?,
                    '"' => to.write_str("\\\"")?,
                    '\n' => to.write_str("\\n")?,
                    other => to.write_char(other)?,
                }
            }
            to.write_char('"')?;
            before = ',';
        }
        match self.1 {
            Some(bound) if bound.is_finite() => write!(to, "{before}le=\"{bound:?}\"}}"),
            Some(_) => write!(to, "{before}le=\"+Inf\"}}"),
            None if before == ',' => to.write_char('}'),
            None => Ok(()),
        }
    }
}

fn protobuf(snapshot: &Snapshot) -> Vec<u8> {
    let mut to = Vec::new();
    for family in snapshot.families.iter().filter(|family| !family.series.is_empty()) {
        let kind = match family.descriptor.kind {
            Kind::Counter => wire::MetricType::Counter,
            Kind::Gauge | Kind::Fact => wire::MetricType::Gauge,
            Kind::Histogram => wire::MetricType::Histogram,
        };
        let message = wire::MetricFamily {
            name: family.descriptor.sample(),
            help: family.descriptor.help.to_owned(),
            r#type: kind.into(),
            metric: family.series.iter().map(|series| metric(series, kind)).collect(),
            unit: unit(family.descriptor).unwrap_or_default().to_owned(),
        };
        to.extend_from_slice(&message.encode_length_delimited_to_vec());
    }
    to
}

fn metric(series: &Series, kind: wire::MetricType) -> wire::Metric {
    let label = |(name, value): &(&'static str, std::borrow::Cow<'static, str>)| wire::LabelPair {
        name: (*name).to_owned(),
        value: value.clone().into_owned(),
    };
    let mut metric = wire::Metric { label: series.labels.iter().map(label).collect(), ..wire::Metric::default() };
    let value = match &series.value {
        Value::Integer(count) => *count as f64,
        Value::Float(seconds) => *seconds,
        Value::Distribution(times) => {
            metric.histogram = Some(histogram(times));
            return metric;
        }
    };
    match kind {
        wire::MetricType::Counter => metric.counter = Some(wire::Counter { value }),
        _ => metric.gauge = Some(wire::Gauge { value }),
    }
    metric
}

/// A histogram, both classic and native; Prometheus is configured to take one of them.
fn histogram(times: &Distribution) -> wire::Histogram {
    let bucket = |&(upper_bound, cumulative_count): &(f64, u64)| wire::Bucket { cumulative_count, upper_bound };
    let (positive_span, positive_delta) = spans(times);
    wire::Histogram {
        sample_count: times.count,
        sample_sum: times.sum,
        bucket: times.classic.iter().map(bucket).collect(),
        schema: SCALE,
        zero_threshold: f64::MIN_POSITIVE,
        zero_count: times.zero,
        positive_span,
        positive_delta,
    }
}

/// The non-empty buckets of a native histogram: spans, and the difference of each bucket to the one before.
fn spans(times: &Distribution) -> (Vec<wire::BucketSpan>, Vec<i64>) {
    let (mut spans, mut deltas) = (Vec::<wire::BucketSpan>::new(), Vec::new());
    let (mut gap, mut before) = (times.first, 0);
    let mut in_run = false;
    for &count in &times.buckets {
        if count == 0 {
            (gap, in_run) = (gap + 1, false);
            continue;
        }
        match spans.last_mut().filter(|_| in_run) {
            Some(span) => span.length += 1,
            None => spans.push(wire::BucketSpan { offset: gap, length: 1 }),
        }
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        deltas.push(count - before);
        (gap, in_run, before) = (0, true, count);
    }
    (spans, deltas)
}

/// The messages of `io.prometheus.client` (prometheus/client_model, `metrics.proto`), without the fields that are never
/// set here. Tests decode them with the messages that prometheus-client generates; to generate them in each build takes
/// a compiler of .proto files, which is a third of all code that tcptrace would build.
mod wire {
    use prost::{Enumeration, Message};

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct LabelPair {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(string, tag = "2")]
        pub(super) value: String,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
    #[repr(i32)]
    pub(super) enum MetricType {
        Counter = 0,
        Gauge = 1,
        Histogram = 4,
    }

    #[derive(Clone, Copy, PartialEq, Message)]
    pub(super) struct Gauge {
        #[prost(double, tag = "1")]
        pub(super) value: f64,
    }

    #[derive(Clone, Copy, PartialEq, Message)]
    pub(super) struct Counter {
        #[prost(double, tag = "1")]
        pub(super) value: f64,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Histogram {
        #[prost(uint64, tag = "1")]
        pub(super) sample_count: u64,
        #[prost(double, tag = "2")]
        pub(super) sample_sum: f64,
        #[prost(message, repeated, tag = "3")]
        pub(super) bucket: Vec<Bucket>,
        #[prost(sint32, tag = "5")]
        pub(super) schema: i32,
        #[prost(double, tag = "6")]
        pub(super) zero_threshold: f64,
        #[prost(uint64, tag = "7")]
        pub(super) zero_count: u64,
        #[prost(message, repeated, tag = "12")]
        pub(super) positive_span: Vec<BucketSpan>,
        #[prost(sint64, repeated, tag = "13")]
        pub(super) positive_delta: Vec<i64>,
    }

    #[derive(Clone, Copy, PartialEq, Message)]
    pub(super) struct Bucket {
        #[prost(uint64, tag = "1")]
        pub(super) cumulative_count: u64,
        #[prost(double, tag = "2")]
        pub(super) upper_bound: f64,
    }

    #[derive(Clone, Copy, PartialEq, Message)]
    pub(super) struct BucketSpan {
        #[prost(sint32, tag = "1")]
        pub(super) offset: i32,
        #[prost(uint32, tag = "2")]
        pub(super) length: u32,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Metric {
        #[prost(message, repeated, tag = "1")]
        pub(super) label: Vec<LabelPair>,
        #[prost(message, optional, tag = "2")]
        pub(super) gauge: Option<Gauge>,
        #[prost(message, optional, tag = "3")]
        pub(super) counter: Option<Counter>,
        #[prost(message, optional, tag = "7")]
        pub(super) histogram: Option<Histogram>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct MetricFamily {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(string, tag = "2")]
        pub(super) help: String,
        #[prost(enumeration = "MetricType", tag = "3")]
        pub(super) r#type: i32,
        #[prost(message, repeated, tag = "4")]
        pub(super) metric: Vec<Metric>,
        #[prost(string, tag = "5")]
        pub(super) unit: String,
    }
}
