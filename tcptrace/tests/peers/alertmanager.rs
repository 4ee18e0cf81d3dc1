//! A real Alertmanager gets findings as alerts, and resolves them.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
};

use serde_json::{Map, Value};
use tcptrace::outputs::{Output, kinds};

use crate::program::{self, Folder, Program, end, lines, until};

pub(crate) const TESTS: &[crate::Test] = &[
    ("a_finding_is_an_alert_until_it_closes", a_finding_is_an_alert_until_it_closes),
    ("what_waited_for_it_arrives", what_waited_for_it_arrives),
];

const PROGRAM: &str = "prometheus-alertmanager";

/// Why these tests cannot run here.
pub(crate) fn missing() -> Option<String> {
    program::missing(&[PROGRAM])
}

struct Alertmanager {
    folder: Folder,
    port: u16,
    program: Option<Program>,
}

impl Alertmanager {
    /// One that is not started yet.
    fn new(name: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { folder: Folder::new(name), port, program: None }
    }

    fn start(&mut self) {
        let config = self.folder.0.join("alertmanager.yml");
        fs::write(&config, "route:\n  receiver: nobody\nreceivers:\n  - name: nobody\n").unwrap();
        let mut command = Command::new(PROGRAM);
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.path={}", self.folder.0.join("data").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{}", self.port)).arg("--cluster.listen-address=");
        command.stdout(Stdio::null()).stderr(fs::File::create(self.folder.0.join("log")).unwrap());
        self.program = Some(Program::start(&mut command));
        until("ready", || TcpStream::connect(("127.0.0.1", self.port)).ok());
    }

    /// The alerts that it has, those that are resolved left out.
    fn alerts(&self) -> Vec<Value> {
        let mut connection = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        connection.write_all(b"GET /api/v2/alerts HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(" 200 "), "{answer}");
        serde_json::from_str(body).unwrap()
    }

    fn output(&self, keys: &[(&str, &str)]) -> Output {
        let mut target = kinds::parse(&format!("alertmanager:http://127.0.0.1:{}", self.port)).unwrap();
        keys.iter().for_each(|(key, value)| target.set(key, value).unwrap());
        Output::start("alertmanager".into(), target.open().unwrap(), 1 << 20, |words| eprintln!("{words}")).unwrap()
    }
}

/// The documented finding with this number, as it is now.
fn finding(number: u64, phase: &str, severity: &str) -> Map<String, Value> {
    let documented = include_str!("../../../docs/json.md").lines();
    let mut examples = documented.filter(|line| line.starts_with(r#"{"schema":1,"event":"finding""#));
    let mut record: Map<String, Value> = serde_json::from_str(examples.next().unwrap()).unwrap();
    let time = jiff::Timestamp::now().to_string();
    let fields: [(&str, Value); 5] = [
        ("number", number.into()),
        ("phase", phase.into()),
        ("severity", severity.into()),
        ("time", time.into()),
        ("local_port", number.into()),
    ];
    record.extend(fields.map(|(name, value)| (name.to_owned(), value)));
    record
}

fn ports(alerts: &[Value]) -> Vec<&str> {
    let mut ports: Vec<_> = alerts.iter().map(|alert| alert["labels"]["local_port"].as_str().unwrap()).collect();
    ports.sort_unstable();
    ports
}

fn a_finding_is_an_alert_until_it_closes() {
    let mut alertmanager = Alertmanager::new("alertmanager");
    alertmanager.start();
    let output =
        alertmanager.output(&[("label", "cluster:prod"), ("generator-url", "http://vm:9437/"), ("resend", "200ms")]);
    output.push(lines(&[finding(1, "opened", "warning"), finding(2, "opened", "critical")]));
    let alerts = until("two alerts", || Some(alertmanager.alerts()).filter(|alerts| alerts.len() == 2));
    assert_eq!(ports(&alerts), ["1", "2"]);
    let first = alerts.iter().find(|alert| alert["labels"]["local_port"] == "1").unwrap();
    let labels = &first["labels"];
    for (name, value) in [
        ("alertname", "TcptraceCloseWaitLeak"),
        ("finding", "close-wait-leak"),
        ("severity", "warning"),
        ("process", "web"),
        ("cluster", "prod"),
        ("local_address", "10.1.0.1"),
    ] {
        assert_eq!(labels[name], value, "{labels:#}");
    }
    assert!(labels["instance"].as_str().is_some_and(|name| !name.is_empty()), "{labels:#}");
    assert_eq!((&first["generatorURL"], &first["status"]["state"]), (&"http://vm:9437/".into(), &"active".into()));
    assert!(first["annotations"]["summary"].as_str().unwrap().starts_with("web[800]: 3 close-wait-leak"), "{first:#}");
    // It is sent again, and so ends later.
    let ends = first["endsAt"].clone();
    until("a later end", || {
        let alerts = alertmanager.alerts();
        alerts.iter().any(|alert| alert["labels"] == *labels && alert["endsAt"] != ends).then_some(())
    });
    output.push(lines(&[finding(2, "updated", "warning"), finding(1, "closed", "warning")]));
    let alerts = until("one alert", || Some(alertmanager.alerts()).filter(|alerts| ports(alerts) == ["2"]));
    assert_eq!(alerts[0]["labels"]["severity"], "warning", "the critical one is over: {alerts:#?}");
    // Nobody sends it any more: it ends by itself.
    end(&output);
    assert_eq!((output.state().delivered, output.state().lost()), (4, 0));
    until("no alert", || alertmanager.alerts().is_empty().then_some(()));
}

fn what_waited_for_it_arrives() {
    let mut alertmanager = Alertmanager::new("alertmanager-late");
    let output = alertmanager.output(&[]);
    output.push(lines(&[finding(1, "opened", "warning")]));
    until("a failure", || output.state().trouble.filter(|trouble| trouble.contains("cannot be reached")));
    alertmanager.start();
    until("the alert", || (ports(&alertmanager.alerts()) == ["1"]).then_some(()));
    end(&output);
    let state = output.state();
    assert!(state.delivered == 1 && state.retries > 0 && state.trouble.is_none(), "{state:?}");
}
