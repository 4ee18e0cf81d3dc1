//! What the encoders make of it.

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    metrics::v1::{metric::Data, number_data_point},
};
use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model as wire;
use prost::Message as _;

use super::*;
use crate::render::metrics::{
    otlp,
    prometheus::{Format, encode},
};

#[test]
fn texts_are_as_the_formats_want_them() {
    let mut metrics = metrics(Settings::default());
    let hostile = Some(owner("a\"b\\c\nd", 0, OwnerSource::Io));
    metrics.ingest(&event("10.0.0.1:80", hostile, retransmit()));
    let what = EventKind::Transition(timed(State::CloseWait, State::LastAck, 1_500_000_000, TimeSource::Observed));
    metrics.ingest(&event("10.0.0.1:80", None, what));
    let told = snapshot(&mut metrics);
    let text = String::from_utf8(encode(&told, Format::Text)).unwrap();
    let open = String::from_utf8(encode(&told, Format::OpenMetrics)).unwrap();
    for line in [
        r#"tcptrace_retransmits_total{process="a\"b\\c\\u{a}d"} 1"#,
        r#"tcptrace_transitions_total{from="CLOSE_WAIT",to="LAST_ACK"} 1"#,
        r#"tcptrace_transition_latency_seconds_bucket{from="CLOSE_WAIT",to="LAST_ACK",le="1.0"} 0"#,
        r#"tcptrace_transition_latency_seconds_bucket{from="CLOSE_WAIT",to="LAST_ACK",le="2.5"} 1"#,
        r#"tcptrace_transition_latency_seconds_bucket{from="CLOSE_WAIT",to="LAST_ACK",le="+Inf"} 1"#,
        r#"tcptrace_transition_latency_seconds_sum{from="CLOSE_WAIT",to="LAST_ACK"} 1.5"#,
        r#"tcptrace_connections{state="SYN_RECV"} 0"#,
        "tcptrace_events_received_total 12",
        "process_cpu_seconds_total 1.5",
    ] {
        assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        assert!(open.lines().any(|other| other == line), "{line}\n{open}");
    }
    assert!(text.contains("# TYPE tcptrace_retransmits_total counter\n") && !text.contains("# EOF"));
    assert!(open.contains("# TYPE tcptrace_retransmits counter\n") && open.ends_with("\n# EOF\n"));
    assert!(open.contains("# UNIT process_cpu_seconds seconds\n"));
    let first = text.lines().find(|line| !line.starts_with('#')).unwrap();
    assert!(text.starts_with("# HELP tcptrace_connections "), "{first}");
}

#[test]
fn protobuf_has_both_kinds_of_histograms() {
    let mut metrics = metrics(Settings::default());
    // Runs of buckets with gaps between them, and a time of 0.
    let times_ns = [0, 1000, 1000, 1100, 5_000_000, 90 * S];
    for ns in times_ns {
        let what = EventKind::Transition(timed(State::CloseWait, State::LastAck, ns, TimeSource::Observed));
        metrics.ingest(&event("10.0.0.1:80", None, what));
    }
    let told = snapshot(&mut metrics);
    let bytes = encode(&told, Format::Protobuf);
    let (mut rest, mut decoded) = (&bytes[..], Vec::new());
    while !rest.is_empty() {
        decoded.push(wire::MetricFamily::decode_length_delimited(&mut rest).unwrap());
    }
    let names: Vec<_> = decoded.iter().map(|family| family.name.clone()).collect();
    let want = told.families.iter().filter(|family| !family.series.is_empty());
    assert_eq!(names, want.map(|family| family.descriptor.sample()).collect::<Vec<_>>());
    let latency = decoded.iter().find(|family| family.name == "tcptrace_transition_latency_seconds").unwrap();
    assert_eq!(latency.r#type(), wire::MetricType::Histogram);
    let histogram = latency.metric[0].histogram.as_ref().unwrap();
    assert_eq!((histogram.sample_count, histogram.schema, histogram.zero_count), (6, SCALE, 1));
    // What a reader makes of it: the middle of each bucket, and how many are in it.
    let (mut index, mut count, mut deltas) = (0, 0, histogram.positive_delta.iter());
    let mut found = Vec::new();
    for span in &histogram.positive_span {
        index += span.offset;
        for _ in 0..span.length {
            count += deltas.next().unwrap();
            found.extend((0..count).map(|_| ((f64::from(index) - 0.5) / 8.0).exp2()));
            index += 1;
        }
    }
    assert_eq!((found.len(), deltas.next()), (5, None));
    for (found, ns) in found.iter().zip(&times_ns[1..]) {
        let error = found / (*ns as f64 / 1e9);
        assert!((0.95..1.05).contains(&error), "{found} for {ns} ns");
    }
    let classic: Vec<_> = histogram.bucket.iter().map(|bucket| bucket.cumulative_count).collect();
    assert_eq!((classic[0], classic.last()), (4, Some(&6)));
}

#[test]
fn protobuf_has_labels_values_and_units_as_the_text_has() {
    let told = snapshot(&mut some());
    let (bytes, text) = (encode(&told, Format::Protobuf), String::from_utf8(encode(&told, Format::Text)).unwrap());
    let mut rest = &bytes[..];
    let mut units = 0;
    while !rest.is_empty() {
        let family = wire::MetricFamily::decode_length_delimited(&mut rest).unwrap();
        assert!(text.contains(&format!("# HELP {} {}\n", family.name, family.help)), "{family:?}");
        units += usize::from(!family.unit.is_empty() && family.name.contains(&family.unit));
        for metric in &family.metric {
            let value = match (family.r#type(), &metric.counter, &metric.gauge) {
                (wire::MetricType::Counter, Some(counter), None) => counter.value,
                (wire::MetricType::Gauge, None, Some(gauge)) => gauge.value,
                (wire::MetricType::Histogram, None, None) => metric.histogram.as_ref().unwrap().sample_count as f64,
                other => panic!("{other:?}"),
            };
            let labels: Vec<_> = metric.label.iter().map(|label| format!("{}={:?}", label.name, label.value)).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let lines = ["", "_count"].map(|end| format!("{}{end}{labels} ", family.name));
            let found = text.lines().find_map(|line| lines.iter().find_map(|start| line.strip_prefix(start)));
            assert_eq!(found.and_then(|found| found.parse().ok()), Some(value), "{}{labels}", family.name);
        }
    }
    assert!(units > 0);
}

#[test]
fn the_form_is_agreed_on() {
    let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    let text = "text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    let of_prometheus = format!("{protobuf},application/openmetrics-text;version=1.0.0;q=0.8,{text}");
    for (accept, want) in [
        ("", Format::Text),
        ("*/*", Format::Text),
        ("text/html, */*;q=0.8", Format::Text),
        ("application/json", Format::Text),
        ("application/openmetrics-text; version=1.0.0", Format::OpenMetrics),
        ("Application/OpenMetrics-Text", Format::OpenMetrics),
        ("application/openmetrics-text;q=0", Format::Text),
        ("application/openmetrics-text;q=x", Format::Text),
        ("text/plain;q=0.3,application/openmetrics-text;q=0.4", Format::OpenMetrics),
        ("text/plain,application/openmetrics-text", Format::Text),
        ("application/vnd.google.protobuf", Format::Text),
        (&of_prometheus, Format::Protobuf),
        (&format!("{protobuf};q=0.3,{text}"), Format::Text),
        (";;;,,,=;q", Format::Text),
    ] {
        assert_eq!(Format::negotiate(accept), want, "{accept}");
    }
}

#[test]
fn otlp_has_the_same_values_and_the_conventions_names() {
    let told = snapshot(&mut some());
    let request = ExportMetricsServiceRequest::decode(&otlp::encode(&told, "host-1")[..]).unwrap();
    let of_resource = &request.resource_metrics[0];
    let resource = format!("{:?}", of_resource.resource);
    assert!(
        ["service.name", "tcptrace", "host.name", "host-1"].iter().all(|part| resource.contains(part)),
        "{resource}"
    );
    let metrics = &of_resource.scope_metrics[0].metrics;
    let metric = |name: &str| metrics.iter().find(|metric| metric.name == name).unwrap();
    assert_eq!(metrics.len(), told.families.iter().filter(|family| !family.series.is_empty()).count());

    let Some(Data::Sum(failures)) = &metric("tcptrace.connection.failures").data else { panic!() };
    assert!(failures.is_monotonic && failures.aggregation_temporality == 2, "cumulative");
    let counts: Vec<_> = failures.data_points.iter().map(|point| point.value).collect();
    assert_eq!(counts, [Some(number_data_point::Value::AsInt(1)); 3]);
    let point = &failures.data_points[0];
    assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (START_UNIX_NS, START_UNIX_NS + 101 * S));
    let keys: Vec<_> = point.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
    assert_eq!(keys, ["error.type", "process.executable.name"]);

    let Some(Data::Sum(connections)) = &metric("tcptrace.connections").data else { panic!() };
    assert!(!connections.is_monotonic);
    assert!(connections.data_points.iter().all(|point| point.start_time_unix_nano == START_UNIX_NS));
    let states = format!("{:?}", connections.data_points);
    assert!(states.contains("network.connection.state") && states.contains("\"fin_wait_1\""), "{states}");

    let latency = metric("tcptrace.transition.latency");
    let Some(Data::ExponentialHistogram(times)) = &latency.data else { panic!() };
    let point = times.data_points.iter().find(|point| format!("{point:?}").contains("close_wait")).unwrap();
    let buckets = point.positive.as_ref().unwrap();
    assert_eq!((latency.unit.as_str(), point.count, point.sum, &buckets.bucket_counts), ("s", 1, Some(3.0), &vec![1]));
    // A bucket is above 2^(offset/8) and up to 2^((offset+1)/8).
    let end = |index: i32| (f64::from(index) / 8.0).exp2();
    assert!(end(buckets.offset) < 3.0 && 3.0 <= end(buckets.offset + 1), "{}", buckets.offset);
}

#[test]
fn ports_are_numbers_in_otlp() {
    let mut metrics = metrics(all_labels(1000));
    metrics.ingest(&event("10.0.0.1:443", Some(owner("web", 5, OwnerSource::Accept)), retransmit()));
    let request = otlp::encode(&snapshot(&mut metrics), "host-1");
    let text = format!("{:?}", ExportMetricsServiceRequest::decode(&request[..]).unwrap());
    assert!(text.contains("\"server.port\"") && text.contains("IntValue(443)"), "{text}");
    assert!(text.contains("\"process.linux.cgroup\"") && text.contains("\"/five\""), "{text}");
}
