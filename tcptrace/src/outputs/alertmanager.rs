//! Findings as alerts of Prometheus' Alertmanager, by its API version 2 (`POST /api/v2/alerts`).
//!
//! An alert is identified by its labels. It is sent when the finding opens and changes, and again at intervals while it is
//! open, since Alertmanager resolves an alert when its `endsAt` has passed: if tcptrace ends without a word, its alerts
//! resolve by themselves. When the finding closes, `endsAt` is the time of that.

use std::{
    collections::BTreeMap,
    io,
    time::{Duration, Instant},
};

use hyper::Uri;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use crate::{
    model::{number::duration, printable::printable, time::human},
    outputs::{
        client::{Client, UrlError, check_url},
        flat::parse,
        sink::{DeliveryError, Sink},
        target::{OutputKind, Target},
        waiting::host_name,
        webhook::Receiver,
    },
    pipeline::records::Records,
};

/// The kind `alertmanager`.
pub(super) const KIND: OutputKind = OutputKind {
    name: "alertmanager",
    form: "alertmanager:URL",
    parse: |url| {
        let wrong = |error: UrlError| format!("alertmanager needs a URL such as http://localhost:9093: {error}");
        let base = check_url(url).map_err(wrong)?;
        if base.query().is_some() {
            return Err(wrong(UrlError::Query));
        }
        let endpoint = check_url(&format!("{}/api/v2/alerts", url.trim_end_matches('/'))).map_err(wrong)?;
        let receiver = Receiver::new(HEADERS)?;
        Ok(Box::new(AlertmanagerTarget {
            receiver,
            endpoint,
            resend: RESEND,
            generator: None,
            labels: BTreeMap::new(),
        }))
    },
};

/// The variable with headers, which may hold secrets.
const HEADERS: &str = "TCPTRACE_ALERTMANAGER_HEADERS";
/// Default time between two deliveries of an open alert, as Prometheus' `--rules.alert.resend-delay`.
const RESEND: Duration = Duration::from_secs(60);
/// An alert that is not sent again for this many intervals ends, as Prometheus has it.
const ENDS_AFTER: u32 = 4;
/// Most open findings; beyond, the one with the lowest number is no longer sent again.
const MOST_OPEN: usize = 4096;
/// Most alerts in a request.
const MOST_AT_ONCE: usize = 256;

/// An Alertmanager with its options.
#[derive(Clone, Debug)]
struct AlertmanagerTarget {
    receiver: Receiver,
    endpoint: Uri,
    resend: Duration,
    generator: Option<String>,
    /// Labels of all alerts.
    labels: BTreeMap<String, String>,
}

impl Target for AlertmanagerTarget {
    fn keys(&self) -> &'static [&'static str] {
        &["timeout", "ca", "headers-file", "resend", "generator-url", "label"]
    }

    fn takes_several(&self, key: &str) -> bool {
        key == "label"
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "resend" => self.resend = duration(value)?,
            "generator-url" => {
                check_url(value).map_err(|error| error.to_string())?;
                self.generator = Some(value.to_owned());
            }
            "label" => {
                let (name, value) =
                    value.split_once(':').ok_or_else(|| format!("`{value}` is not NAME:VALUE, e.g. cluster:prod"))?;
                let is_name = |c: char| c == '_' || c.is_ascii_alphanumeric();
                if name.is_empty() || !name.chars().all(is_name) || name.starts_with(|c: char| c.is_ascii_digit()) {
                    return Err(format!("`{name}` is not the name of a label: letters, digits and _"));
                }
                self.labels.insert(name.to_owned(), value.to_owned());
            }
            _ => self.receiver.set(key, value)?,
        }
        Ok(())
    }

    fn is_for_findings(&self) -> bool {
        true
    }

    fn takes_only_findings(&self) -> bool {
        true
    }

    fn open(&self) -> io::Result<Box<dyn Sink>> {
        let mut labels = self.labels.clone();
        labels.entry("instance".to_owned()).or_insert_with(|| host_name().unwrap_or_else(|| "unknown".to_owned()));
        Ok(Box::new(Alertmanager {
            client: self.receiver.client(self.endpoint.clone())?,
            alerts: Alerts { labels, generator: self.generator.clone(), open: BTreeMap::new(), over: Vec::new() },
            resend: self.resend,
            sent: Instant::now(),
            target: self.clone(),
        }))
    }

    fn boxed(&self) -> Box<dyn Target> {
        Box::new(self.clone())
    }
}

/// Sends the alerts of open findings.
struct Alertmanager {
    client: Client,
    alerts: Alerts,
    resend: Duration,
    /// When all open alerts were last sent.
    sent: Instant,
    target: AlertmanagerTarget,
}

impl Alertmanager {
    /// Sends the alerts that are over, and the open ones with these numbers, in requests of a bounded size; a failure
    /// applies to `records` records.
    fn send(&mut self, records: usize, numbers: &[u64]) -> Result<(), DeliveryError> {
        let ends_at = self.ends_at(Timestamp::now());
        let open = numbers.iter().filter_map(|number| self.alerts.open.get(number)).map(|alert| alert.value(ends_at));
        let alerts: Vec<_> = self.alerts.over.iter().cloned().chain(open).collect();
        let send = |alerts: &[Value]| {
            self.client.post(
                records,
                || Value::from(alerts).to_string().into_bytes(),
                |answer, secrets| answer.accepted(secrets),
            )
        };
        let sent = alerts.chunks(MOST_AT_ONCE).try_for_each(send);
        // Those that are refused are not sent again.
        if !matches!(sent, Err(DeliveryError::Later(_))) {
            self.alerts.over.clear();
        }
        sent
    }

    fn ends_at(&self, now: Timestamp) -> Timestamp {
        let later = SignedDuration::try_from(self.resend * ENDS_AFTER).unwrap_or(SignedDuration::MAX);
        now.checked_add(later).unwrap_or(Timestamp::MAX)
    }
}

impl Sink for Alertmanager {
    fn deliver(&mut self, records: &mut Records) -> Result<(), DeliveryError> {
        while !records.is_empty() {
            let (mut changed, mut count) = (Vec::new(), 0);
            for record in records.iter().take(MOST_AT_ONCE) {
                match parse(record) {
                    Ok(record) => changed.extend(self.alerts.take(&record)),
                    Err(reason) if count == 0 => return Err(DeliveryError::Refused { records: 1, reason }),
                    Err(_) => break,
                }
                count += 1;
            }
            changed.sort_unstable();
            changed.dedup();
            self.send(count, &changed)?;
            records.take(count);
        }
        Ok(())
    }

    fn idle(&mut self) -> Result<(), DeliveryError> {
        if self.sent.elapsed() < self.resend {
            return Ok(());
        }
        // A failure is tried again after the same time.
        self.sent = Instant::now();
        let numbers: Vec<_> = self.alerts.open.keys().copied().collect();
        self.send(0, &numbers)
    }

    /// Reads the headers again: a token may have been replaced.
    fn reopen(&mut self) {
        match self.target.receiver.client(self.target.endpoint.clone()) {
            Ok(client) => self.client = client,
            Err(error) => super::messages::warn(format_args!("alertmanager: the headers are not read again: {error}")),
        }
    }
}

/// The alerts of the open findings, by number.
#[derive(Debug)]
struct Alerts {
    labels: BTreeMap<String, String>,
    generator: Option<String>,
    open: BTreeMap<u64, Alert>,
    /// Alerts that are over, until that was delivered.
    over: Vec<Value>,
}

/// An alert that is open.
#[derive(Clone, Debug, PartialEq)]
struct Alert {
    labels: Value,
    annotations: Value,
    starts_at: String,
    generator: Option<String>,
}

impl Alert {
    fn value(&self, ends_at: impl ToString) -> Value {
        let Self { labels, annotations, starts_at, generator } = self;
        let mut alert = json!({
            "labels": labels, "annotations": annotations, "startsAt": starts_at, "endsAt": ends_at.to_string(),
        });
        if let (Some(generator), Some(fields)) = (generator, alert.as_object_mut()) {
            fields.insert("generatorURL".to_owned(), generator.as_str().into());
        }
        alert
    }
}

impl Alerts {
    /// Takes a record; returns the number of the finding if its alert is open and is to be sent.
    fn take(&mut self, record: &Map<String, Value>) -> Option<u64> {
        let text = |name: &str| record.get(name).and_then(Value::as_str);
        let number = record.get("number").and_then(Value::as_u64)?;
        let (time, phase) = (text("time")?, text("phase")?);
        if text("event") != Some("finding") {
            return None;
        }
        let open_ns = record.get("open_for_ns").and_then(Value::as_u64).unwrap_or(0);
        let known = self.open.remove(&number);
        let starts_at = known.as_ref().map_or_else(|| earlier(time, open_ns), |alert| alert.starts_at.clone());
        if matches!(phase, "closed" | "merged") {
            self.over.extend(known.map(|alert| alert.value(time)));
            return None;
        }
        let mut alert = Alert {
            labels: self.labels_of(record),
            annotations: annotations(record),
            starts_at,
            generator: self.generator.clone(),
        };
        // With other labels it is another alert.
        if let Some(known) = known.filter(|known| known.labels != alert.labels) {
            self.over.push(known.value(time));
            alert.starts_at = time.to_owned();
        }
        self.open.insert(number, alert);
        if self.open.len() > MOST_OPEN {
            self.open.pop_first();
        }
        Some(number)
    }

    fn labels_of(&self, record: &Map<String, Value>) -> Value {
        let text = |name: &str| record.get(name).and_then(Value::as_str).map(printable);
        let port = |name: &str| record.get(name).and_then(Value::as_u64).map(|port| port.to_string());
        let id = text("finding").unwrap_or_default();
        let owner = record.get("owner").and_then(Value::as_object);
        let netns = text("netns_name").or_else(|| port("netns"));
        let of_finding = [
            ("alertname", Some(alert_name(&id))),
            ("finding", Some(id.clone())),
            ("severity", text("severity")),
            ("process", owner.and_then(|owner| owner.get("command")?.as_str().map(printable))),
            ("netns", netns),
            ("local_address", text("local_address")),
            ("local_port", port("local_port")),
            ("remote_address", text("remote_address")),
            ("remote_port", port("remote_port")),
        ];
        let mut labels: Map<String, Value> =
            self.labels.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
        // A label without a value is the same as none.
        let known = of_finding.into_iter().filter_map(|(name, value)| Some((name, value.filter(|it| !it.is_empty())?)));
        labels.extend(known.map(|(name, value)| (name.to_owned(), value.into())));
        labels.into()
    }
}

/// `TcptraceCloseWaitLeak` for `close-wait-leak`, as the alerts of the rules for Prometheus.
fn alert_name(id: &str) -> String {
    let capital = |word: &str| {
        let mut chars = word.chars();
        chars.next().map(|first| first.to_ascii_uppercase().to_string() + chars.as_str()).unwrap_or_default()
    };
    "Tcptrace".to_owned() + &id.split('-').map(capital).collect::<String>()
}

/// What may change while an alert is open.
fn annotations(record: &Map<String, Value>) -> Value {
    let text = |name: &str| record.get(name).and_then(Value::as_str).map(printable).unwrap_or_default();
    let number = |name: &str| record.get(name).and_then(Value::as_u64);
    let owner = record.get("owner").and_then(Value::as_object);
    let of_owner = |name: &str| owner.and_then(|owner| owner.get(name));
    let process = match (of_owner("command").and_then(Value::as_str), of_owner("pid").and_then(Value::as_u64)) {
        (Some(command), Some(pid)) => format!("{}[{pid}]", printable(command)),
        _ => "owner unknown".to_owned(),
    };
    let mut summary = format!("{process}: {} {}", number("count").unwrap_or(0), text("finding"));
    if let Some(age_ns) = number("age_ns") {
        summary = format!("{summary}, oldest {}", human(age_ns));
    }
    json!({
        "summary": summary, "description": text("explanation"), "remedy": text("remedy"), "cause": text("cause"),
        "count": number("count").unwrap_or(0).to_string(), "runbook": text("docs"),
    })
}

/// The time so many ns before `time`.
fn earlier(time: &str, ns: u64) -> String {
    let since = |time: Timestamp| time.checked_sub(SignedDuration::from_nanos(i64::try_from(ns).ok()?)).ok();
    time.parse().ok().and_then(since).map_or_else(|| time.to_owned(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alerts() -> Alerts {
        let labels = BTreeMap::from([("instance".to_owned(), "vm".to_owned())]);
        let generator = Some("http://vm:9437/".to_owned());
        Alerts { labels, generator, open: BTreeMap::new(), over: Vec::new() }
    }

    fn finding(number: u64, phase: &str, severity: &str, second: u64) -> Map<String, Value> {
        let record = json!({
            "event": "finding", "phase": phase, "number": number, "time": format!("2026-03-04T05:06:{second:02}.5Z"),
            "finding": "close-wait-leak", "severity": severity, "netns": 7, "netns_name": null, "open_for_ns": 0,
            "local_address": "10.0.0.1", "local_port": 80, "remote_address": null, "remote_port": null,
            "owner": {"pid": 800, "command": "we\u{1b}b"}, "count": 3, "age_ns": 61_000_000_000_u64,
            "cause": "never_closed", "explanation": "why", "remedy": "do", "docs": "tcptrace explain close-wait-leak",
        });
        match record {
            Value::Object(record) => record,
            _ => Map::new(),
        }
    }

    #[test]
    fn a_finding_is_one_alert_from_its_opening_to_its_end() {
        let mut alerts = alerts();
        assert_eq!(alerts.take(&finding(4, "opened", "warning", 10)), Some(4));
        let first = alerts.open[&4].value("END");
        assert_eq!(
            first,
            json!({
                "labels": {
                    "instance": "vm", "alertname": "TcptraceCloseWaitLeak", "finding": "close-wait-leak",
                    "severity": "warning", "process": "we?b", "netns": "7", "local_address": "10.0.0.1",
                    "local_port": "80",
                },
                "annotations": {
                    "summary": "we?b[800]: 3 close-wait-leak, oldest 1m01s", "description": "why", "remedy": "do",
                    "cause": "never_closed", "count": "3", "runbook": "tcptrace explain close-wait-leak",
                },
                "startsAt": "2026-03-04T05:06:10.5Z", "endsAt": "END", "generatorURL": "http://vm:9437/",
            })
        );
        assert_eq!(alerts.take(&finding(4, "updated", "warning", 20)), Some(4));
        assert_eq!(alerts.open[&4].value("END"), first, "the same alert");
        assert_eq!(alerts.take(&finding(4, "closed", "warning", 30)), None);
        assert!(alerts.open.is_empty());
        let over = alerts.over.remove(0);
        assert_eq!((&over["labels"], &over["endsAt"]), (&first["labels"], &json!("2026-03-04T05:06:30.5Z")));
        assert_eq!((alerts.take(&finding(4, "closed", "warning", 31)), alerts.over.len()), (None, 0), "it is over");
    }

    #[test]
    fn with_another_severity_it_is_another_alert() {
        let mut alerts = alerts();
        alerts.take(&finding(4, "opened", "warning", 10));
        assert_eq!(alerts.take(&finding(4, "updated", "critical", 20)), Some(4));
        assert_eq!((&alerts.over[0]["labels"]["severity"], alerts.over.len()), (&json!("warning"), 1));
        let now = alerts.open[&4].value("");
        assert_eq!(
            (&now["labels"]["severity"], &now["startsAt"]),
            (&json!("critical"), &json!("2026-03-04T05:06:20.5Z"))
        );
        alerts.take(&finding(5, "opened", "info", 30));
        alerts.take(&finding(5, "merged", "info", 40));
        assert_eq!((alerts.open.len(), alerts.over.len()), (1, 2));
    }

    #[test]
    fn what_is_no_finding_makes_no_alert_and_open_ones_are_bounded() {
        let mut alerts = alerts();
        for record in ["{}", r#"{"event":"looked","number":1,"time":"x","phase":"y"}"#, r#"{"event":"finding"}"#] {
            assert_eq!(alerts.take(&parse(record.as_bytes()).unwrap()), None);
        }
        for number in 0..MOST_OPEN as u64 + 9 {
            alerts.take(&finding(number, "opened", "info", 1));
        }
        assert_eq!((alerts.open.len(), alerts.over.len()), (MOST_OPEN, 0));
        assert_eq!(earlier("2026-03-04T05:06:10.5Z", 500_000_000), "2026-03-04T05:06:10Z");
        assert_eq!(
            (earlier("soon", 1), earlier("2026-03-04T05:06:10Z", u64::MAX)),
            ("soon".into(), "2026-03-04T05:06:10Z".into())
        );
    }
}
