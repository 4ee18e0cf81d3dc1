//! One run of the program, traced connections of the kernel, and all peers at once: what each of them got is what the
//! file has, by the numbers of the last record.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
};

use serde_json::{Map, Value};

use crate::{
    Test,
    journald::{self, Machine},
    kafka::{self, Broker},
    program::{Folder, Program, until},
    rotel::{self, Rotel},
    rsyslog::{self, Server},
};

pub(crate) const TESTS: &[Test] = &[("all_outputs_get_the_same", all_outputs_get_the_same)];

pub(crate) fn missing() -> Option<String> {
    let peers = [journald::missing, kafka::missing, rotel::missing, rsyslog::missing];
    peers.iter().find_map(|missing| missing()).or_else(tcptrace::commands::doctor::read::obstacle)
}

/// Connections that are made and closed.
const COUNT: usize = 100;

fn connections(port: u16) {
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    for _ in 0..COUNT {
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (server, _) = listener.accept().unwrap();
        drop(client);
        drop(server);
    }
}

fn scrape(port: u16) -> String {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(connection, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    connection.read_to_string(&mut text).unwrap();
    text
}

/// A port that nobody listens at.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

type Record = Map<String, Value>;

/// What tells a transition apart from all others.
fn key(time: &Value, from: &Value, to: &Value) -> [String; 3] {
    [time, from, to].map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

fn all_outputs_get_the_same() {
    let (folder, rotel, machine) = (Folder::new("whole"), Rotel::new("whole-otlp"), Machine::new());
    let (server, syslog) = Server::tcp("whole-syslog");
    let mut broker = Broker::new();
    let (port, metrics, file) = (free_port(), free_port(), folder.0.join("all.json"));
    let ready = folder.0.join("ready");
    let outputs = [
        format!("file:{}", file.display()),
        format!("journald:{},records=transitions", machine.socket().display()),
        format!("syslog:{syslog},records=transitions"),
        format!("otlp:{},records=transitions+metrics", rotel.url()),
        format!("kafka:{},records=transitions", broker.target()),
        format!("prometheus:{metrics}"),
    ];
    let mut command = Command::new(env!("CARGO_BIN_EXE_tcptrace"));
    command.args(["--format", "json", "--findings", "off", "--port", &port.to_string()]);
    command.args(["--metrics-by", "none"]).args(outputs.iter().flat_map(|output| ["-o", output]));
    let mut program =
        Program::start(command.arg("--ready-file").arg(&ready).stdout(Stdio::null()).stderr(Stdio::null()));
    until("the start", || ready.exists().then_some(()));
    connections(port);
    let made = |text: &str| {
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix("tcptrace_transitions_total{from=\"LAST_ACK\",to=\"CLOSE\"} "));
        value.and_then(|value| value.parse::<usize>().ok())
    };
    until("the metrics of all", || (made(&scrape(metrics)) == Some(COUNT)).then_some(()));
    program.end(libc::SIGTERM);

    let lines: Vec<Record> =
        fs::read_to_string(&file).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let transitions: Vec<_> = lines.iter().filter(|line| line["event"] == "transition").collect();
    let keys = |records: &mut dyn Iterator<Item = [String; 3]>, whose: &str| {
        let mut count = 0;
        let keys: BTreeSet<_> = records.inspect(|_| count += 1).collect();
        assert_eq!((count, keys.len()), (transitions.len(), transitions.len()), "{whose} has each once");
        keys
    };
    let of = |record: &Record| key(&record["mono_ns"], &record["old_state"], &record["new_state"]);
    let want = keys(&mut transitions.iter().map(|line| of(line)), "the file");
    assert!(want.len() >= COUNT * 10, "{}", want.len());

    let journal = machine.all(want.len());
    let of_entry =
        |entry: &Record| key(&entry["TCPTRACE_MONO_NS"], &entry["TCPTRACE_OLD_STATE"], &entry["TCPTRACE_NEW_STATE"]);
    assert_eq!(keys(&mut journal.iter().map(of_entry), "the journal"), want);
    let messages = server.read_all(want.len());
    let data = |line: &Vec<String>| serde_json::from_str::<Value>(&line[7]).unwrap()["tcptrace@32473"].clone();
    let of_data = |data: &Value| key(&data["mono_ns"], &data["old_state"], &data["new_state"]);
    assert_eq!(keys(&mut messages.iter().map(|line| of_data(&data(line))), "rsyslog"), want);
    let messages = broker.ask(&format!("read {}", want.len()));
    let of_message = |message: &Record| of(&serde_json::from_str(message["value"].as_str().unwrap()).unwrap());
    assert_eq!(keys(&mut messages.iter().map(of_message), "Kafka"), want);
    let logs = rotel.printed("LogRecord", want.len());
    let text = |value: Option<&str>| {
        Value::from(value.unwrap().trim_start_matches("Str(").trim_start_matches("Int(").trim_end_matches(')'))
    };
    let of_log = |log: &rotel::Printed| {
        let [time, from, to] =
            ["mono_ns", "old_state", "new_state"].map(|name| text(log.value(&format!("tcptrace.{name}"))));
        key(&time, &from, &to)
    };
    assert_eq!(keys(&mut logs.iter().map(of_log), "rotel"), want);
    assert!(rotel.text().contains("tcptrace.transitions"));

    // The last record says the same of each.
    let end = lines.last().unwrap();
    assert_eq!((&end["event"], &end["losses"]["outputs"]), (&"end".into(), &0.into()));
    let states = end["outputs"].as_array().unwrap();
    assert_eq!(states.len(), 7, "the collector is two, the server of metrics none: {states:#?}");
    for state in states.iter().filter(|state| state["output"] != "log") {
        let delivered = state["delivered"].as_u64().unwrap() as usize;
        match state["output"].as_str().unwrap() {
            name if name.starts_with("file:") => assert_eq!(delivered, lines.len() - 1, "all but the last"),
            name if name.ends_with(" metrics") => assert!(delivered >= 1),
            name => assert_eq!(delivered, want.len(), "{name}"),
        }
    }
}
