//! Writes what the hosts of a fleet would: `cargo run --example fleet -- FOLDER HOSTS EVENTS SEED` makes a folder for each host
//! with its records, as `tcptrace --format json` writes them, compressed with zstd. The same arguments give the same
//! records but for the time, which ends now. Prints the parameters of the queries in docs/pipelines/clickhouse.
//! `cargo xtask fleet` calls it.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "no part of the product")]

mod generator;

use std::{
    collections::HashMap,
    env, fs,
    io::Write as _,
    path::Path,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use generator::{Settings, generate};

/// How long the fleet is watched, in ns.
const SPAN_NS: u64 = 6 * 3600 * 1_000_000_000;
/// Bytes of lines that become one frame of zstd; a file is a row of frames.
const FRAME: usize = 512 << 10;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [folder, hosts, events, seed] = arguments.as_slice() else {
        panic!("usage: fleet FOLDER HOSTS EVENTS SEED");
    };
    let number = |text: &str| text.parse::<u64>().expect("HOSTS, EVENTS and SEED are numbers");
    let now_ns = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set").as_nanos() as i64;
    let start_ns = now_ns - SPAN_NS as i64;
    let settings = Settings {
        hosts: number(hosts) as usize,
        events: number(events),
        seed: number(seed),
        start_ns,
        span_ns: SPAN_NS,
    };
    let (folder, began) = (Path::new(folder), Instant::now());
    let mut waiting: HashMap<String, Vec<u8>> = HashMap::new();
    let (mut plain, mut compressed) = (0, 0);
    let mut flush = |host: &str, lines: &mut Vec<u8>| {
        let file = folder.join(host).join("events.jsonl.zst");
        fs::create_dir_all(file.parent().expect("it has one")).expect("the folder can be made");
        let frame = zstd::encode_all(lines.as_slice(), 3).expect("memory can be compressed");
        let mut file = fs::File::options().append(true).create(true).open(file).expect("the file can be opened");
        file.write_all(&frame).expect("the file can be written");
        plain += lines.len();
        compressed += frame.len();
        lines.clear();
    };
    let truth = generate(&settings, |host, lines| {
        let wait = waiting.entry(host.to_owned()).or_default();
        wait.extend_from_slice(lines);
        if wait.len() >= FRAME {
            flush(host, wait);
        }
    });
    waiting.iter_mut().for_each(|(host, lines)| flush(host, lines));
    eprintln!(
        "{} events and {} findings of {hosts} hosts in {:.0} s: {plain} bytes, {compressed} compressed",
        truth.events,
        truth.findings,
        began.elapsed().as_secs_f64(),
    );
    println!("since={}\nuntil={}", start_ns / 1_000_000_000 - 60, now_ns / 1_000_000_000 + 3600);
    if let Some((client, server, ..)) = truth.twice {
        println!("address={}\nport={}", client.ip(), client.port());
        println!("peer_address={}\npeer_port={}", server.ip(), server.port());
    }
}
