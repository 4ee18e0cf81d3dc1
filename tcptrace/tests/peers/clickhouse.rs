//! ClickHouse's engine reads what a fleet writes, and answers the queries of `docs/pipelines/clickhouse` with what the
//! generator of the fleet knows to be true.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{self, Command},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::Value;
use tcptrace::render::Field;

use crate::{
    Test,
    fleet::{Settings, Truth, generate},
};

pub(crate) const TESTS: &[Test] = &[("queries_of_files", queries_of_files), ("queries_of_a_topic", queries_of_a_topic)];

/// Why the tests cannot run here.
pub(crate) fn missing() -> Option<String> {
    let has = |module: &str| {
        python().is_some_and(|python| {
            Command::new(python)
                .args(["-c", &format!("import {module}")])
                .output()
                .is_ok_and(|out| out.status.success())
        })
    };
    let lacks: Vec<_> = ["chdb", "confluent_kafka"].into_iter().filter(|module| !has(module)).collect();
    (!lacks.is_empty()).then(|| format!("no {} (cargo xtask setup --tests)", lacks.join(", ")))
}

/// The Python with the packages of requirements.txt.
fn python() -> Option<PathBuf> {
    let folder = env::var_os("TCPTRACE_PEERS").map(PathBuf::from);
    let folder = folder.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache/tcptrace/peers")))?;
    Some(folder.join("bin/python")).filter(|python| python.exists())
}

/// How long the fleet is watched, in ns: so little that connections of the same two hosts come at the same time.
const SPAN_NS: u64 = 1_200 * 1_000_000_000;

/// A folder that goes when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = env::temp_dir().join(format!("tcptrace-{name}-{}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Writes the fleet's files, makes the engine read them in this way, and gives what it answered.
fn ask(way: &str, events: u64, compressed: bool) -> (Truth, Value) {
    let start_ns = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64 - SPAN_NS as i64;
    let folder = Folder::new(way);
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let truth = generate(&Settings { hosts: 100, events, seed: 7, start_ns, span_ns: SPAN_NS }, |host, lines| {
        files.entry(host.to_owned()).or_default().extend_from_slice(lines);
    });
    for (host, lines) in files {
        let folder = folder.0.join(host);
        fs::create_dir(&folder).unwrap();
        if compressed {
            fs::write(folder.join("events.jsonl.zst"), zstd::encode_all(lines.as_slice(), 3).unwrap()).unwrap();
        } else {
            fs::write(folder.join("events.jsonl"), lines).unwrap();
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (client, server, ..) = truth.twice.unwrap();
    let out = Command::new("timeout")
        .args(["--kill-after=5", "100"])
        .arg(python().unwrap())
        .arg(root.join("tests/peers/clickhouse.py"))
        .arg(way)
        .arg(root.join("../docs/pipelines/clickhouse"))
        .arg(&folder.0)
        .arg(format!("since={}", start_ns / 1_000_000_000 - 60))
        .arg(format!("until={}", (start_ns + SPAN_NS as i64) / 1_000_000_000 + 3600))
        .args([format!("address={}", client.ip()), format!("port={}", client.port())])
        .args([format!("peer_address={}", server.ip()), format!("peer_port={}", server.port())])
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&out.stderr);
    let answer = serde_json::from_slice(&out.stdout).unwrap_or_else(|error| panic!("{error}: {complaint}"));
    std::io::stderr().write_all(complaint.as_bytes()).unwrap();
    (truth, answer)
}

fn queries_of_files() {
    let (truth, answer) = ask("files", 40_000, true);
    let columns: BTreeSet<_> = answer["columns"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let fields = Field::ALL.iter().map(|field| field.name());
    assert_eq!(fields.filter(|field| !columns.contains(field)).collect::<Vec<_>>(), [""; 0], "fields without a column");
    check(&truth, &answer);
    assert!(truth.open.values().any(|seen| seen.places.len() > 1), "leaks on several hosts");
}

fn queries_of_a_topic() {
    // The broker of librdkafka keeps no more than some megabytes in each partition.
    let (truth, answer) = ask("kafka", 8_000, false);
    check(&truth, &answer);
}

/// Compares all answers with the truth.
fn check(truth: &Truth, answer: &Value) {
    assert_eq!(number(&answer["hosts"]), 100);
    assert_eq!(number(&answer["events"]), truth.events + truth.runs_ended);
    assert_eq!(number(&answer["findings"]), truth.findings);
    let rows = |query: &str| -> Vec<Vec<Value>> {
        let rows = answer["queries"][query]["rows"].as_array().unwrap();
        rows.iter().map(|row| row.as_array().unwrap().clone()).collect()
    };

    let both_ends: BTreeMap<_, _> =
        rows("both_ends").iter().map(|row| (texts(row, [0, 1, 2, 3]), numbers(row, [4, 5]))).collect();
    let true_ends: BTreeMap<_, _> = truth
        .both_ends
        .iter()
        .map(|(key, seen)| (key.map(str::to_owned), [seen.count, seen.places.len() as u64]))
        .collect();
    assert_eq!(both_ends, true_ends);
    for row in rows("both_ends") {
        // The clocks of two hosts are 4 ms apart at most; the last ACK takes half a round trip.
        let [client, server] = texts(&row, [0, 1]);
        let longest_ns = *truth.handshakes[&(client, server)].iter().max().unwrap();
        assert!(row[6].as_f64().unwrap() <= 4.1 + longest_ns as f64 / 2e6, "ends of two connections: {row:?}");
    }

    let resets: BTreeMap<_, _> =
        rows("resets").iter().map(|row| (texts(row, [0, 1, 3]), numbers(row, [4, 5]))).collect();
    let true_resets: BTreeMap<_, _> = truth
        .resets
        .iter()
        .map(|(key, seen)| (key.map(str::to_owned), [seen.count, seen.places.len() as u64]))
        .collect();
    assert_eq!(resets, true_resets);

    let open: BTreeMap<_, _> =
        rows("open_findings").iter().map(|row| (texts(row, [0, 1]), numbers(row, [3, 5]))).collect();
    let true_open: BTreeMap<_, _> =
        truth.open.iter().map(|(key, seen)| (key.map(str::to_owned), [seen.places.len() as u64, seen.count])).collect();
    assert_eq!(open, true_open);
    let leakers: Vec<_> = rows("top_leakers").iter().map(|row| (texts(row, [0]), numbers(row, [1, 2]))).collect();
    let mut true_leakers: Vec<_> = truth
        .open
        .iter()
        .filter(|(key, _)| key[1] == "close-wait-leak")
        .map(|(key, seen)| ([key[0].to_owned()], [seen.places.len() as u64, seen.count]))
        .collect();
    true_leakers.sort_by(|a, b| b.1[1].cmp(&a.1[1]).then(a.0.cmp(&b.0)));
    assert_eq!(leakers, true_leakers);

    let handshakes = rows("handshake_p99");
    assert_eq!(handshakes.len(), truth.handshakes.len());
    for row in &handshakes {
        let [client, server] = texts(row, [0, 1]);
        let mut times = truth.handshakes[&(client, server)].clone();
        times.sort_unstable();
        assert_eq!(number(&row[2]), times.len() as u64);
        for (share, got) in [(0.5, &row[3]), (0.99, &row[4])] {
            // Where the rank lies between two times, either may be meant. The answer is rounded to microseconds.
            let rank = share * (times.len() - 1) as f64;
            let [low, high] = [rank.floor(), rank.ceil()].map(|rank| times[rank as usize] as f64 / 1e6);
            let got = got.as_f64().unwrap();
            assert!((low * 0.99 - 0.001..=high * 1.01 + 0.001).contains(&got), "{row:?}: {share} is {low} to {high}");
        }
    }

    let (client, .., first, both) = truth.twice.unwrap();
    let story = rows("one_connection");
    assert!(0 < first && first < both, "the addresses and ports of {client} were used twice");
    assert_eq!(story.len(), both);
    assert_eq!(story.iter().map(|row| texts(row, [1])).collect::<BTreeSet<_>>().len(), 2, "both hosts tell");
}

fn texts<const N: usize>(row: &[Value], columns: [usize; N]) -> [String; N] {
    columns.map(|column| row[column].as_str().unwrap().to_owned())
}

fn numbers<const N: usize>(row: &[Value], columns: [usize; N]) -> [u64; N] {
    columns.map(|column| number(&row[column]))
}

/// A number, which may be written in quotes.
fn number(value: &Value) -> u64 {
    value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap()
}
