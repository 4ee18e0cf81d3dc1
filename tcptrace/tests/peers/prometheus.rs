//! A real Prometheus scrapes our server, by protobuf with native histograms and by text with classic ones, and answers
//! queries on what was counted; promtool finds nothing to say about the text, and tests the alert rules.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Command, Stdio},
    thread,
};

use serde_json::Value;
use tcptrace::{
    analysis::metrics::{Metrics, Moment, Snapshot, settings::Settings},
    model::{
        close_reason::CloseReason,
        event::{
            Command as Name, Event, EventKind, Owner, OwnerSource, Retransmit, Socket, TimeInState, TimeSource,
            Transition,
        },
        losses::Losses,
        names::Names,
        output_state::OutputState,
        state::{State, StateSet},
    },
    outputs::http::{
        Server,
        answers::{Health, Query},
    },
    sys::process::usage,
    table::Table,
};

use crate::program::{self, Folder, Program, until};

pub(crate) const TESTS: &[crate::Test] = &[
    ("native_histograms", native_histograms),
    ("classic_histograms_rules_and_dashboard", classic_histograms_rules_and_dashboard),
    ("promtool_has_nothing_to_say", promtool_has_nothing_to_say),
    ("rules_are_tested", rules_are_tested),
];

/// Why these tests cannot run here.
pub(crate) fn missing() -> Option<String> {
    program::missing(&["prometheus", "promtool"])
}

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/pipelines");

const S: u64 = 1_000_000_000;
/// Times in CLOSE_WAIT: each ms up to 10 s, once.
const TIMES: u64 = 10_000;
/// Round-trip times of handshakes: each 100 µs up to 100 ms, once.
const HANDSHAKES: u64 = 1000;

fn event(command: &str, what: EventKind) -> Event {
    let mut bytes = [0; 16];
    bytes[..command.len()].copy_from_slice(command.as_bytes());
    let owner =
        Owner { pid: 7, uid: 0, cgroup: 0, start: None, command: Name::new(bytes), source: OwnerSource::Accept };
    let socket = Socket {
        sk: Some(1),
        cookie: Some(1),
        ..Socket::new(State::Established, "10.0.0.1:80".parse().unwrap(), "10.0.0.2:40000".parse().unwrap())
    };
    Event { cpu: Some(0), owner: Some(owner), ..Event::new(S, socket, what) }
}

fn transition(old: State, new: State) -> Transition {
    Transition::new(old, new)
}

fn retransmit() -> EventKind {
    EventKind::Retransmit(Retransmit {
        state: State::Established,
        total_retrans: 1,
        timeouts: 0,
        srtt_us: None,
        failed: None,
    })
}

/// What is counted: see the constants, and the tests.
pub(crate) fn fed() -> Metrics {
    let mut metrics = Metrics::new(Settings { by_local_port: true, ..Settings::default() }, 1_700_000_000 * S);
    for ms in 1..=TIMES {
        let time_in_old = Some(TimeInState { ns: ms * 1_000_000, source: TimeSource::Observed });
        let closes = Transition { time_in_old, ..transition(State::CloseWait, State::LastAck) };
        metrics.ingest(&event("web", EventKind::Transition(closes)));
    }
    for step in 1..=HANDSHAKES {
        let handshake_rtt_ns = Some(step * 100_000);
        let connects = Transition { handshake_rtt_ns, ..transition(State::SynSent, State::Established) };
        metrics.ingest(&event("curl", EventKind::Transition(connects)));
    }
    (0..123).for_each(|_| metrics.ingest(&event("web", retransmit())));
    (0..45).for_each(|_| metrics.ingest(&event("a \"b\\\n", retransmit())));
    (0..7).for_each(|_| metrics.ingest(&event("web", EventKind::ResetReceived(None))));
    let refused = Transition { ending: Some(CloseReason::Refused), ..transition(State::SynSent, State::Close) };
    (0..11).for_each(|_| metrics.ingest(&event("curl", EventKind::Transition(refused))));
    metrics
}

/// All of that, of no sockets and one output.
pub(crate) fn snapshot(metrics: &mut Metrics) -> Snapshot {
    let output = OutputState { name: "stdout".to_owned(), delivered: 10, ..OutputState::default() };
    metrics.snapshot(&mut Moment {
        now_ns: 2 * S,
        now_unix_ns: 1_700_000_002 * S,
        table: &Table::new(10, StateSet::default(), true),
        losses: &Losses::default(),
        open: &[],
        outputs: &[output],
        workers: &[],
        usage: usage(),
        names: &mut Names::new([].into(), Box::new(|_| None)),
    })
}

/// A server of that, until it is dropped.
struct Served {
    server: Option<Server>,
    answers: Option<thread::JoinHandle<()>>,
    address: SocketAddr,
}

impl Served {
    fn new() -> Self {
        let (server, mut questions) = Server::start("127.0.0.1:0".parse().unwrap()).unwrap();
        let answers = thread::spawn(move || {
            let mut metrics = fed();
            while let Some(question) = questions.blocking_recv() {
                match question {
                    Query::Health(to) => _ = to.send(Health::default()),
                    Query::Metrics(to) => {
                        _ = to.send(snapshot(&mut metrics));
                    }
                }
            }
        });
        Self { address: server.address(), server: Some(server), answers: Some(answers) }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.server.take());
        self.answers.take().map(thread::JoinHandle::join);
    }
}

/// The body of a GET, `None` where nobody answers with 200 yet.
fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: a\r\n\r\n").as_bytes()).ok()?;
    let mut response = String::new();
    stream.read_to_string(&mut response).ok()?;
    let (head, body) = response.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.0 200 ").then(|| body.to_owned())
}

/// A Prometheus with the documented configuration that scrapes `served` each second.
struct Prometheus {
    address: SocketAddr,
    _program: Program,
    _folder: Folder,
}

impl Prometheus {
    fn start(name: &str, served: &Served, flags: &[&str]) -> Self {
        let folder = Folder::new(name);
        let documented = fs::read_to_string(format!("{DOCS}/prometheus/prometheus.yml")).unwrap();
        let config = documented.replace("127.0.0.1:9437", &served.address.to_string()).replace("15s", "1s");
        assert!(config.contains(&served.address.to_string()) && config.contains("scrape_interval: 1s"));
        fs::write(folder.0.join("prometheus.yml"), config).unwrap();
        fs::copy(format!("{DOCS}/prometheus/tcptrace.rules.yml"), folder.0.join("tcptrace.rules.yml")).unwrap();
        // It cannot tell which port it was given, so one that is free now is chosen.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let program = Program::start(
            Command::new("prometheus")
                .current_dir(&folder.0)
                .arg("--config.file=prometheus.yml")
                .arg("--storage.tsdb.path=data")
                .arg(format!("--web.listen-address={address}"))
                .args(flags)
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        );
        let prometheus = Self { address, _program: program, _folder: folder };
        until("a scrape", || prometheus.number("up{job=\"tcptrace\"}").filter(|up| *up == 1.0));
        prometheus
    }

    /// What an API answers; `None` where it does not.
    fn api(&self, path: &str) -> Option<Value> {
        let body: Value = serde_json::from_str(&get(self.address, path)?).unwrap();
        (body["status"] == "success").then(|| body["data"].clone())
    }

    /// The results of a query; `None` where it fails.
    fn query(&self, query: &str) -> Option<Vec<Value>> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        self.api(&format!("/api/v1/query?query={encoded}"))?["result"].as_array().cloned()
    }

    /// The value of a query that has one result; `None` where it has none.
    fn number(&self, query: &str) -> Option<f64> {
        let results = self.query(query)?;
        assert!(results.len() <= 1, "{query}: {results:?}");
        results.first()?["value"][1].as_str().unwrap().parse().ok()
    }

    fn is(&self, query: &str, want: f64) {
        let found = self.number(query);
        assert_eq!(found, Some(want), "{query}");
    }

    fn is_near(&self, query: &str, want: f64, part: f64) {
        let found = self.number(query).unwrap_or_else(|| panic!("no result: {query}"));
        println!("{query} = {found}");
        assert!((found - want).abs() <= want * part, "{query}: {found}, not {want}");
    }

    /// What has no histogram is the same in all forms.
    fn has_counters(&self) {
        self.is("tcptrace_retransmits_total{process=\"web\"}", 123.0);
        self.is("tcptrace_retransmits_total{process=\"a \\\"b\\\\\\\\u{a}\"}", 45.0);
        self.is("tcptrace_resets_total{direction=\"received\", local_port=\"80\"}", 7.0);
        self.is("tcptrace_connection_failures_total{errno=\"ECONNREFUSED\", process=\"curl\"}", 11.0);
        self.is("sum(tcptrace_transitions_total)", (TIMES + HANDSHAKES + 11) as f64);
        self.is("sum(tcptrace_connections)", 0.0);
        self.is("count(tcptrace_connections)", 11.0);
        self.is("tcptrace_output_records_total{output=\"stdout\", result=\"delivered\"}", 10.0);
        assert!(self.number("process_resident_memory_bytes{job=\"tcptrace\"}").unwrap() > 1e6);
    }
}

fn native_histograms() {
    let served = Served::new();
    let prometheus = Prometheus::start("prometheus-native", &served, &["--enable-feature=native-histograms"]);
    prometheus.has_counters();
    let times = "tcptrace_transition_latency_seconds{from=\"CLOSE_WAIT\", to=\"LAST_ACK\"}";
    prometheus.is(&format!("histogram_count({times})"), TIMES as f64);
    prometheus.is_near(&format!("histogram_sum({times})"), 50_005.0, 1e-9);
    // A bucket ends 9 % after it begins.
    for (quantile, want) in [(0.5, 5.0), (0.9, 9.0), (0.99, 9.9)] {
        prometheus.is_near(&format!("histogram_quantile({quantile}, {times})"), want, 0.045);
    }
    let rtt = "tcptrace_handshake_rtt_seconds{role=\"client\"}";
    prometheus.is(&format!("histogram_count({rtt})"), HANDSHAKES as f64);
    prometheus.is_near(&format!("histogram_quantile(0.5, {rtt})"), 0.05, 0.045);
    prometheus.is("histogram_count(tcptrace_handshake_rtt_seconds{role=\"server\"})", 0.0);
}

fn classic_histograms_rules_and_dashboard() {
    let served = Served::new();
    let prometheus = Prometheus::start("prometheus-classic", &served, &[]);
    prometheus.has_counters();
    let times = "{from=\"CLOSE_WAIT\", to=\"LAST_ACK\"}";
    prometheus.is(&format!("tcptrace_transition_latency_seconds_count{times}"), TIMES as f64);
    prometheus.is_near(&format!("tcptrace_transition_latency_seconds_sum{times}"), 50_005.0, 1e-9);
    for (bound, want) in [("0.001", 1.0), ("0.1", 100.0), ("5.0", 5000.0), ("10.0", 10_000.0), ("+Inf", 10_000.0)] {
        prometheus
            .is(&format!("tcptrace_transition_latency_seconds_bucket{{from=\"CLOSE_WAIT\", le=\"{bound}\"}}"), want);
    }
    // The times are spread evenly, as Prometheus takes them to be within a bucket.
    for (quantile, want) in [(0.5, 5.0), (0.9, 9.0), (0.99, 9.9)] {
        let query = format!("histogram_quantile({quantile}, tcptrace_transition_latency_seconds_bucket{times})");
        prometheus.is_near(&query, want, 1e-9);
    }

    // It takes all rules, and can evaluate them.
    let is_rule = |line: &&str| line.trim_start().starts_with("- alert: ");
    let rules =
        fs::read_to_string(format!("{DOCS}/prometheus/tcptrace.rules.yml")).unwrap().lines().filter(is_rule).count();
    until("rules that were evaluated", || {
        let groups = prometheus.api("/api/v1/rules")?["groups"].as_array().unwrap().clone();
        let all: Vec<_> = groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
        (all.len() == rules && all.iter().all(|rule| rule["health"] == "ok")).then_some(())
    });
    // And all queries of the dashboard.
    let dashboard: Value =
        serde_json::from_str(&fs::read_to_string(format!("{DOCS}/grafana/tcptrace.json")).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let queries: Vec<_> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
    assert!(queries.len() > 15, "{queries:?}");
    for query in queries {
        let query = query.replace("$instance", ".*").replace("$state", ".*").replace("$__rate_interval", "1m");
        let found = until(&query, || prometheus.query(&query));
        // Empty are only those of what there is none.
        let may_be_empty = query.ends_with("> 0") || query.contains("synack") || query.contains("CLOSE_WAIT");
        if !may_be_empty && !query.contains("rate(") {
            assert!(!found.is_empty(), "{query}");
        }
    }
}

fn promtool_has_nothing_to_say() {
    let served = Served::new();
    let text = until("metrics", || get(served.address, "/metrics"));
    assert!(text.contains("\ntcptrace_retransmits_total{process=\"web\",local_port=\"80\"} 123\n"), "{text}");
    println!("{text}");
    let mut check = Command::new("promtool");
    check.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut check = check.spawn().unwrap();
    check.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = check.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
    assert!(said.status.success() && words.is_empty(), "{words}");
}

fn rules_are_tested() {
    let promtool = |arguments: &[&str]| {
        program::output(Command::new("promtool").args(arguments).current_dir(format!("{DOCS}/prometheus")))
    };
    promtool(&["check", "config", "prometheus.yml"]);
    println!("{}", promtool(&["test", "rules", "tcptrace.test.yml"]));
}
