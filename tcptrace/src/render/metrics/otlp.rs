//! Metrics in OpenTelemetry's protocol (OTLP 1.x, `ExportMetricsServiceRequest`).
//!
//! Counters become monotonic sums, gauges that can be added become sums, and histograms become exponential histograms, all
//! cumulative. Attributes have the names of the semantic conventions where these define one.

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    metrics::v1::{
        AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Metric, NumberDataPoint,
        ResourceMetrics, ScopeMetrics, Sum, exponential_histogram_data_point::Buckets, metric::Data, number_data_point,
    },
    resource::v1::Resource,
};
use prost::Message as _;

use crate::{
    analysis::metrics::{Distribution, Family, SCALE, Series, Snapshot, Value, families::Kind},
    model::state::State,
};

/// The snapshot as an encoded `ExportMetricsServiceRequest`, with the attributes of this host.
#[must_use]
pub fn encode(snapshot: &Snapshot, host_name: &str) -> Vec<u8> {
    request(snapshot, host_name).encode_to_vec()
}

fn request(snapshot: &Snapshot, host_name: &str) -> ExportMetricsServiceRequest {
    let version = env!("CARGO_PKG_VERSION");
    let of_resource = [("service.name", "tcptrace"), ("service.version", version), ("host.name", host_name)];
    let metrics = snapshot.families.iter().filter(|family| !family.series.is_empty());
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource {
                attributes: of_resource.into_iter().map(|(key, value)| attribute(key, text(value))).collect(),
                ..Resource::default()
            }),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(InstrumentationScope {
                    name: "tcptrace".to_owned(),
                    version: version.to_owned(),
                    ..InstrumentationScope::default()
                }),
                metrics: metrics.map(|family| metric(family, snapshot.time_unix_ns)).collect(),
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    }
}

fn metric(family: &Family, time_unix_nano: u64) -> Metric {
    let descriptor = family.descriptor;
    let numbers = || family.series.iter().filter_map(|series| number(series, time_unix_nano)).collect();
    let aggregation_temporality = AggregationTemporality::Cumulative.into();
    let data = match descriptor.kind {
        Kind::Fact => Data::Gauge(Gauge { data_points: numbers() }),
        Kind::Counter | Kind::Gauge => {
            let is_monotonic = descriptor.kind == Kind::Counter;
            Data::Sum(Sum { data_points: numbers(), aggregation_temporality, is_monotonic })
        }
        Kind::Histogram => {
            let data_points = family.series.iter().filter_map(|series| histogram(series, time_unix_nano)).collect();
            Data::ExponentialHistogram(ExponentialHistogram { data_points, aggregation_temporality })
        }
    };
    Metric {
        name: descriptor.otlp.to_owned(),
        description: descriptor.help.to_owned(),
        unit: descriptor.unit.to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

fn number(series: &Series, time_unix_nano: u64) -> Option<NumberDataPoint> {
    let value = match series.value {
        Value::Integer(count) => number_data_point::Value::AsInt(i64::try_from(count).unwrap_or(i64::MAX)),
        Value::Float(seconds) => number_data_point::Value::AsDouble(seconds),
        Value::Distribution(_) => return None,
    };
    Some(NumberDataPoint {
        attributes: attributes(series),
        start_time_unix_nano: series.start_unix_ns,
        time_unix_nano,
        value: Some(value),
        ..NumberDataPoint::default()
    })
}

fn histogram(series: &Series, time_unix_nano: u64) -> Option<ExponentialHistogramDataPoint> {
    let Value::Distribution(Distribution { count, sum, zero, first, buckets, .. }) = &series.value else { return None };
    Some(ExponentialHistogramDataPoint {
        attributes: attributes(series),
        start_time_unix_nano: series.start_unix_ns,
        time_unix_nano,
        count: *count,
        sum: Some(*sum),
        scale: SCALE,
        zero_count: *zero,
        // OTLP numbers buckets by their lower bounds, Prometheus by their upper bounds.
        positive: Some(Buckets { offset: first - 1, bucket_counts: buckets.clone() }),
        ..ExponentialHistogramDataPoint::default()
    })
}

fn attributes(series: &Series) -> Vec<KeyValue> {
    let labels = series.labels.iter();
    labels.map(|(name, value)| attribute(key(name), attribute_value(name, value))).collect()
}

/// A label's name in the semantic conventions, or tcptrace's own name.
pub(crate) fn key(label: &'static str) -> &'static str {
    match label {
        "state" => "network.connection.state",
        "process" => "process.executable.name",
        "cgroup" => "process.linux.cgroup",
        "unit" => "tcptrace.unit",
        "container" => "container.name",
        "namespace" => "k8s.namespace.name",
        "pod" => "k8s.pod.name",
        "local_port" => "server.port",
        "remote_port" => "network.peer.port",
        "errno" => "error.type",
        "from" => "tcptrace.state.from",
        "to" => "tcptrace.state.to",
        "role" => "tcptrace.handshake.role",
        "direction" => "tcptrace.reset.direction",
        "reason" => "tcptrace.reset.reason",
        "ending" => "tcptrace.ending",
        "finding" => "tcptrace.finding",
        "severity" => "tcptrace.finding.severity",
        "place" => "tcptrace.loss.place",
        "output" => "tcptrace.output",
        "result" => "tcptrace.output.result",
        "metric" => "tcptrace.metric",
        "worker" => "tcptrace.worker",
        "version" => "service.version",
        other => other,
    }
}

fn attribute_value(label: &str, value: &str) -> any_value::Value {
    match label {
        "state" | "from" | "to" => text(value.parse().map(state_name).unwrap_or(value)),
        // The label `other` is not a number.
        "local_port" | "remote_port" => value.parse().map_or_else(|_| text(value), any_value::Value::IntValue),
        _ => text(value),
    }
}

/// The values of `network.connection.state`.
const fn state_name(state: State) -> &'static str {
    match state {
        State::Established => "established",
        State::SynSent => "syn_sent",
        State::SynRecv => "syn_received",
        State::FinWait1 => "fin_wait_1",
        State::FinWait2 => "fin_wait_2",
        State::TimeWait => "time_wait",
        State::Close => "closed",
        State::CloseWait => "close_wait",
        State::LastAck => "last_ack",
        State::Listen => "listen",
        State::Closing => "closing",
    }
}

fn text(value: &str) -> any_value::Value {
    any_value::Value::StringValue(value.to_owned())
}

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
