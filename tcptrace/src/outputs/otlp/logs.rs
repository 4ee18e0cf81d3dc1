//! Converts a record in JSON to an OpenTelemetry log record.
//!
//! Attributes have the names of the semantic conventions (network, process, cpu, error, container, k8s) if those mean the
//! same as the field, otherwise the field's own name prefixed with `tcptrace.`; nested objects become dotted names. A
//! new field therefore needs no code here. Null is left out.

use jiff::Timestamp;
use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber},
    resource::v1::Resource,
};
use serde_json::{Map, Value as Json};

use super::{
    super::{
        flat,
        words::{self, Priority},
    },
    settings::attribute,
};
use crate::model::printable::{escaped, printable};

/// The request for these lines, with a single resource and scope.
pub(super) fn request<'a>(resource: &Resource, lines: impl Iterator<Item = &'a [u8]>) -> ExportLogsServiceRequest {
    let scope = InstrumentationScope {
        name: "tcptrace".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let log_records = lines.map(log_record).collect();
    let scope_logs = vec![ScopeLogs { scope: Some(scope), log_records, ..ScopeLogs::default() }];
    let resource_logs = ResourceLogs { resource: Some(resource.clone()), scope_logs, ..ResourceLogs::default() };
    ExportLogsServiceRequest { resource_logs: vec![resource_logs] }
}

/// Converts a line. A line that is not a JSON object becomes the body unchanged.
fn log_record(line: &[u8]) -> LogRecord {
    let Ok(record) = flat::parse(line) else {
        let body = Value::StringValue(printable(String::from_utf8_lossy(line).trim_end()));
        return LogRecord { body: Some(AnyValue { value: Some(body) }), ..LogRecord::default() };
    };
    let text = |key| record.get(key).and_then(Json::as_str).unwrap_or_default();
    let time = text("time").parse::<Timestamp>().map_or(0, |time| u64::try_from(time.as_nanosecond()).unwrap_or(0));
    let (severity, severity_text) = severity(words::priority(&record));
    LogRecord {
        time_unix_nano: time,
        observed_time_unix_nano: time,
        severity_number: severity.into(),
        severity_text: severity_text.to_owned(),
        event_name: format!("tcptrace.{}", text("event")),
        body: Some(AnyValue { value: Some(Value::StringValue(words::line(&record))) }),
        attributes: attributes(&record),
        ..LogRecord::default()
    }
}

/// OpenTelemetry severity and its name for a syslog severity, by appendix B of OpenTelemetry's logs data model.
fn severity(priority: Priority) -> (SeverityNumber, &'static str) {
    match priority {
        Priority::Critical => (SeverityNumber::Error2, "critical"),
        Priority::Error => (SeverityNumber::Error, "error"),
        Priority::Warning => (SeverityNumber::Warn, "warning"),
        Priority::Notice => (SeverityNumber::Info2, "notice"),
        Priority::Info => (SeverityNumber::Info, "info"),
        Priority::Debug => (SeverityNumber::Debug, "debug"),
    }
}

fn attributes(record: &Map<String, Json>) -> Vec<KeyValue> {
    let mut attributes = Vec::with_capacity(record.len() + 2);
    if let Some(address) = ["local_address", "remote_address"].into_iter().find_map(|key| record.get(key)?.as_str()) {
        let network = if address.contains(':') { "ipv6" } else { "ipv4" };
        attributes.push(attribute("network.transport", Value::StringValue("tcp".to_owned())));
        attributes.push(attribute("network.type", Value::StringValue(network.to_owned())));
    }
    for (key, value) in record.iter().filter(|(key, _)| !matches!(key.as_str(), "schema" | "event" | "time")) {
        flatten("", key, value, &mut attributes);
    }
    attributes
}

/// Adds the attributes of the field `key`, named with `prefix`.
fn flatten(prefix: &str, key: &str, value: &Json, to: &mut Vec<KeyValue>) {
    match (prefix, key, value) {
        // The owner of a finding is an object whose fields have the names that they have in events, except one.
        ("", "owner", Json::Object(owner)) => {
            for (key, value) in owner {
                flatten("", if key == "source" { "owner_source" } else { key }, value, to);
            }
        }
        (_, _, Json::Object(object)) => {
            let prefix = format!("{prefix}{key}.");
            for (key, value) in object {
                flatten(&prefix, key, value, to);
            }
        }
        _ => {
            let Some(value) = any_value(value) else { return };
            match conventional(key).filter(|_| prefix.is_empty()) {
                Some(name) => to.push(attribute(name, value)),
                None => to.push(attribute(format!("tcptrace.{prefix}{key}"), value)),
            }
        }
    }
}

/// Name of a field in the semantic conventions.
fn conventional(key: &str) -> Option<&'static str> {
    Some(match key {
        "local_address" => "network.local.address",
        "local_port" => "network.local.port",
        "remote_address" => "network.peer.address",
        "remote_port" => "network.peer.port",
        "pid" => "process.pid",
        // "The Name in /proc/PID/status": that is `comm`.
        "command" => "process.executable.name",
        "executable" => "process.executable.path",
        "uid" => "process.real_user.id",
        "cgroup" => "process.linux.cgroup",
        "cpu" => "cpu.logical_number",
        "errno" => "error.type",
        "args" => "process.command_args",
        "ns_pid" => "process.vpid",
        "user" => "process.owner",
        "parent_pid" => "process.parent_pid",
        "container_id" => "container.id",
        "container_name" => "container.name",
        "container_image" => "container.image.name",
        "container_runtime" => "container.runtime.name",
        "pod_uid" => "k8s.pod.uid",
        "pod_name" => "k8s.pod.name",
        "pod_namespace" => "k8s.namespace.name",
        "pod_container" => "k8s.container.name",
        _ => return None,
    })
}

/// Converts a JSON value; `None` for null. A number that does not fit in int64 becomes text, so that no digit is lost.
fn any_value(json: &Json) -> Option<Value> {
    Some(match json {
        Json::Null => return None,
        Json::Bool(flag) => Value::BoolValue(*flag),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), ..) => Value::IntValue(number),
            (None, None, Some(number)) => Value::DoubleValue(number),
            _ => Value::StringValue(number.to_string()),
        },
        Json::String(text) => Value::StringValue(escaped(text).into_owned()),
        Json::Array(values) => {
            let values = values.iter().map(|value| AnyValue { value: any_value(value) }).collect();
            Value::ArrayValue(ArrayValue { values })
        }
        Json::Object(object) => {
            let values = object.iter().filter_map(|(key, value)| Some(attribute(key, any_value(value)?))).collect();
            Value::KvlistValue(KeyValueList { values })
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn get<'a>(record: &'a LogRecord, key: &str) -> Option<&'a Value> {
        let mut found = record.attributes.iter().filter(|attribute| attribute.key == key);
        let value = found.next()?.value.as_ref()?.value.as_ref();
        assert!(found.next().is_none(), "{key} comes twice");
        value
    }

    fn text(value: &str) -> Value {
        Value::StringValue(value.to_owned())
    }

    #[test]
    fn a_transition_has_the_names_of_the_conventions() {
        let record = log_record(br#"{"schema":1,"event":"transition","time":"2026-03-04T05:06:07.338807001Z","mono_ns":3600088807000,"cpu":1,"sk":"0xffff8881c75a01bb","cookie":18446744073709551615,"netns":4026531840,"netns_name":null,"family":"inet6","local_address":"192.0.2.10","local_port":51034,"remote_address":"198.51.100.7","remote_port":443,"old_state":"SYN_SENT","new_state":"CLOSE","after_gap":false,"errno":"ECONNREFUSED","pid":4242,"command":"curl","uid":1000,"cgroup_id":4711,"cgroup":"/system.slice/web.service","owner_source":"connect","user":"me","ns_pid":17,"executable":"/usr/bin/curl","args":["curl","-v"],"parent_pid":4200,"unit":null,"container_id":"ab","container_name":"web","container_image":"web:1.4","container_source":"docker_state","pod_uid":"u","pod_name":"web-x","pod_namespace":"shop","pod_container":"web","peer_pid":5}"#);
        assert_eq!(record.time_unix_nano, 1_772_600_767_338_807_001);
        assert_eq!(record.observed_time_unix_nano, record.time_unix_nano);
        assert_eq!((record.severity_number(), record.severity_text.as_str()), (SeverityNumber::Info, "info"));
        assert_eq!(record.event_name, "tcptrace.transition");
        assert_eq!(
            record.body.as_ref().unwrap().value,
            Some(text("192.0.2.10:51034 -> 198.51.100.7:443 SYN_SENT -> CLOSE, ECONNREFUSED, owner curl[4242]"))
        );
        let args = ["curl", "-v"].map(|arg| AnyValue { value: Some(text(arg)) });
        let expected = [
            ("network.transport", text("tcp")),
            ("network.type", text("ipv4")),
            ("network.local.address", text("192.0.2.10")),
            ("network.local.port", Value::IntValue(51034)),
            ("network.peer.address", text("198.51.100.7")),
            ("network.peer.port", Value::IntValue(443)),
            ("process.pid", Value::IntValue(4242)),
            ("process.executable.name", text("curl")),
            ("process.real_user.id", Value::IntValue(1000)),
            ("process.linux.cgroup", text("/system.slice/web.service")),
            ("error.type", text("ECONNREFUSED")),
            ("cpu.logical_number", Value::IntValue(1)),
            ("tcptrace.mono_ns", Value::IntValue(3_600_088_807_000)),
            ("tcptrace.sk", text("0xffff8881c75a01bb")),
            ("tcptrace.cookie", text("18446744073709551615")),
            ("tcptrace.netns", Value::IntValue(4_026_531_840)),
            ("tcptrace.family", text("inet6")),
            ("tcptrace.old_state", text("SYN_SENT")),
            ("tcptrace.new_state", text("CLOSE")),
            ("tcptrace.after_gap", Value::BoolValue(false)),
            ("tcptrace.cgroup_id", Value::IntValue(4711)),
            ("tcptrace.owner_source", text("connect")),
            ("process.owner", text("me")),
            ("process.vpid", Value::IntValue(17)),
            ("process.executable.path", text("/usr/bin/curl")),
            ("process.command_args", Value::ArrayValue(ArrayValue { values: args.into() })),
            ("process.parent_pid", Value::IntValue(4200)),
            ("container.id", text("ab")),
            ("container.name", text("web")),
            ("container.image.name", text("web:1.4")),
            ("tcptrace.container_source", text("docker_state")),
            ("k8s.pod.uid", text("u")),
            ("k8s.pod.name", text("web-x")),
            ("k8s.namespace.name", text("shop")),
            ("k8s.container.name", text("web")),
            ("tcptrace.peer_pid", Value::IntValue(5)),
        ];
        for (key, value) in &expected {
            assert_eq!(get(&record, key), Some(value), "{key}");
        }
        assert_eq!(record.attributes.len(), expected.len(), "{:?}", record.attributes);
    }

    #[test]
    fn a_finding_has_its_owner_and_evidence_as_attributes() {
        let line = r#"{"schema":1,"event":"finding","phase":"opened","time":"2026-03-04T05:07:08Z","mono_ns":1,"finding":"close-wait-leak","number":1,"severity":"critical","local_address":null,"remote_address":"2001:db8::1","owner":{"pid":800,"command":"web","uid":33,"cgroup":"/","source":"accept","executable":"/usr/sbin/web"},"evidence":{"growth_per_minute":2.5,"closes_after_ns":null},"examples":[{"cookie":7,"timer":null}],"explanation":"why"}"#;
        let record = log_record(line.as_bytes());
        assert_eq!((record.severity_number(), record.severity_text.as_str()), (SeverityNumber::Error2, "critical"));
        let example = KeyValueList { values: vec![attribute("cookie", Value::IntValue(7))] };
        let examples = ArrayValue { values: vec![AnyValue { value: Some(Value::KvlistValue(example)) }] };
        for (key, value) in [
            ("network.type", text("ipv6")),
            ("process.pid", Value::IntValue(800)),
            ("process.executable.path", text("/usr/sbin/web")),
            ("tcptrace.owner_source", text("accept")),
            ("tcptrace.finding", text("close-wait-leak")),
            ("tcptrace.evidence.growth_per_minute", Value::DoubleValue(2.5)),
            ("tcptrace.examples", Value::ArrayValue(examples)),
        ] {
            assert_eq!(get(&record, key), Some(&value), "{key}");
        }
        assert_eq!(get(&record, "tcptrace.evidence.closes_after_ns"), None);
        let closed = log_record(line.replace("opened", "closed").as_bytes());
        assert_eq!(closed.severity_number(), SeverityNumber::Info2);
        let warning = log_record(line.replace("critical", "warning").as_bytes());
        assert_eq!(warning.severity_number(), SeverityNumber::Warn);
    }

    #[test]
    fn every_field_that_is_not_null_of_every_kind_of_record_goes_through() {
        let documented = include_str!("../../../../docs/json.md");
        let lines: Vec<_> = documented.lines().filter(|line| line.starts_with(r#"{"schema""#)).collect();
        assert!(lines.len() > 10);
        for line in lines {
            let record: Map<String, Json> = serde_json::from_str(line).unwrap();
            let log = log_record(line.as_bytes());
            assert!(log.time_unix_nano > 0 && log.event_name.len() > "tcptrace.".len(), "{line}");
            let count = |value: &Json| leaves(value);
            let fields: usize = record.values().map(count).sum();
            let network = 2 * usize::from(get(&log, "network.transport").is_some());
            assert_eq!(log.attributes.len() - network + 3, fields, "{line}");
        }
    }

    fn leaves(value: &Json) -> usize {
        match value {
            Json::Null => 0,
            Json::Object(object) => object.values().map(leaves).sum(),
            _ => 1,
        }
    }

    #[test]
    fn no_text_has_a_character_that_may_not_be_printed() {
        let record = log_record(
            br#"{"event":"finding","finding":"x","phase":"opened","owner":{"pid":8,"command":"a\u001b\u202eb"},
            "cgroup":"/\u200b=","processes":[{"command":"\u009b"}]}"#,
        );
        assert_eq!(get(&record, "process.executable.name"), Some(&text(r"a\u{1b}\u{202e}b")));
        assert_eq!(get(&record, "process.linux.cgroup"), Some(&text(r"/\u{200b}=")));
        let all = format!("{record:?}");
        assert!(all.contains(r"\\u{9b}") && all.contains("a??b[8]"), "{all}");
        assert!(log_record(b"half \x1b a line").body.unwrap().value == Some(text("half ? a line")));
    }

    #[test]
    fn what_is_no_json_is_the_body() {
        for line in ["", "half a li", "[1]", "{\"event\":", "\u{fffd}"] {
            let record = log_record(format!("{line}\n").as_bytes());
            assert_eq!(record.body.unwrap().value, Some(text(line)));
        }
        assert_eq!(log_record(b"{}").event_name, "tcptrace.");
    }
}
