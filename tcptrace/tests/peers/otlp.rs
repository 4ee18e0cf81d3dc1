//! A real receiver of OTLP: what the outputs send is what it prints.

use tcptrace::{
    analysis::metrics::Value,
    outputs::{OtlpLogs, OtlpMetrics, OtlpSettings, Output, Sink},
    pipeline::records::RecordsBuilder,
};

use crate::{
    Test,
    program::{end, lines, numbered, until},
    prometheus::{fed, snapshot},
    rotel::Rotel,
};

pub(crate) const TESTS: &[Test] = &[
    ("logs_arrive_with_their_attributes", logs_arrive_with_their_attributes),
    ("logs_go_on_after_a_restart", logs_go_on_after_a_restart),
    ("metrics_arrive", metrics_arrive),
];

const COUNT: u64 = 1200;

fn output(sink: impl Sink + 'static) -> Output {
    Output::start("otlp".to_owned(), Box::new(sink), 64 << 20, |_| ()).unwrap()
}

fn settings(rotel: &Rotel) -> OtlpSettings {
    OtlpSettings::new(&rotel.url()).unwrap()
}

/// Each number of the first `count` was printed once.
fn all_once(rotel: &Rotel, count: u64) {
    let records = rotel.printed("LogRecord", usize::try_from(count).unwrap());
    let mut numbers: Vec<_> = records.iter().map(|record| record.int("tcptrace.mono_ns").unwrap()).collect();
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(0..count), "{} arrived", numbers.len());
}

fn logs_arrive_with_their_attributes() {
    let rotel = Rotel::new("otlp-logs");
    let output = output(OtlpLogs::new(&settings(&rotel)).unwrap());
    let records = numbered(0..COUNT);
    output.push(lines(&records));
    end(&output);
    let state = output.state();
    assert_eq!((state.delivered, state.dropped, state.refused), (COUNT, 0, 0), "{state:?}");
    all_once(&rotel, COUNT);

    let printed = rotel.printed("LogRecord", records.len());
    let of_kind = |kind: &str| {
        let number = records.iter().position(|record| record["event"] == kind).unwrap();
        printed.iter().find(|printed| printed.int("tcptrace.mono_ns") == u64::try_from(number).ok()).unwrap()
    };
    let transition = of_kind("transition");
    for (name, value) in [
        ("Timestamp", "1772600767338807000"),
        ("SeverityNumber", "SEVERITY_NUMBER_INFO(9)"),
        ("EventName", "tcptrace.transition"),
        ("network.transport", "Str(tcp)"),
        ("network.type", "Str(ipv4)"),
        ("network.local.address", "Str(192.0.2.10)"),
        ("network.local.port", "Int(51034)"),
        ("network.peer.address", "Str(198.51.100.7)"),
        ("network.peer.port", "Int(443)"),
        ("process.pid", "Int(4242)"),
        ("process.executable.name", "Str(curl)"),
        ("process.linux.cgroup", "Str(/system.slice/web.service)"),
        ("tcptrace.new_state", "Str(TIME_WAIT)"),
        ("tcptrace.time_in_old_state_ns", "Int(1310000)"),
        ("tcptrace.after_gap", "Bool(false)"),
    ] {
        assert_eq!(transition.value(name), Some(value), "{name}");
    }
    assert_eq!(transition.value("error.type"), None, "what is null is left out");
    let finding = of_kind("finding");
    assert_eq!(finding.value("SeverityNumber"), Some("SEVERITY_NUMBER_WARN(13)"));
    assert_eq!(finding.value("tcptrace.finding"), Some("Str(close-wait-leak)"));
    assert_eq!(finding.value("tcptrace.evidence.unread_bytes"), Some("Int(17)"));
    assert!(rotel.text().contains("-> service.name: Str(tcptrace)"));
}

fn logs_go_on_after_a_restart() {
    let mut rotel = Rotel::new("otlp-restart");
    let output = output(OtlpLogs::new(&settings(&rotel)).unwrap());
    output.push(lines(&numbered(0..COUNT / 2)));
    all_once(&rotel, COUNT / 2);
    rotel.kill();
    for number in COUNT / 2..COUNT {
        output.push(lines(&numbered(number..number + 1)));
    }
    let trouble = until("trouble", || output.state().trouble);
    assert!(trouble.contains("cannot be reached") || trouble.contains("did not respond"), "{trouble}");
    rotel.start();
    end(&output);
    let state = output.state();
    assert_eq!((state.delivered, state.dropped, state.refused), (COUNT, 0, 0), "{state:?}");
    assert!(state.retries > 0 && state.trouble.is_none(), "{state:?}");
    all_once(&rotel, COUNT);
}

/// What Prometheus scrapes in its tests, twice.
fn metrics_arrive() {
    let rotel = Rotel::new("otlp-metrics");
    let output = output(OtlpMetrics::new(&settings(&rotel)).unwrap());
    let snapshot = snapshot(&mut fed());
    for _ in 0..2 {
        let mut records = RecordsBuilder::default();
        records.add(|to| to.extend_from_slice(&tcptrace::render::metrics::otlp::encode(&snapshot, "here")));
        output.push(records.take());
    }
    end(&output);
    assert_eq!(output.state().delivered, 2);

    let told: Vec<_> = snapshot.families.iter().filter(|family| !family.series.is_empty()).collect();
    assert!(told.len() > 10);
    let printed = rotel.printed("Metric", 2 * told.len());
    assert_eq!(printed.len(), 2 * told.len());
    for (family, printed) in told.iter().cycle().zip(&printed) {
        assert_eq!(printed.value("Name"), Some(family.descriptor.otlp));
        let values: Vec<_> = printed.values("Value: ").chain(printed.values("Count: ")).collect();
        let expected: Vec<_> = family
            .series
            .iter()
            .map(|series| match &series.value {
                Value::Integer(count) => *count as f64,
                Value::Float(seconds) => *seconds,
                Value::Distribution(times) => times.count as f64,
            })
            .collect();
        assert_eq!(values, expected, "{}", family.descriptor.otlp);
        if family.descriptor.otlp == "tcptrace.transition.latency" {
            assert_eq!(printed.values("Bucket").sum::<f64>(), 10_000.0, "each time is in a bucket");
        }
    }
    assert!(rotel.text().contains("-> service.name: Str(tcptrace)"));
}
