//! Prints what the pure core does in a second on one core, and how much memory the table takes, as one JSON object:
//! `cargo bench -p tcptrace --bench figures`. Times are CPU times of the thread; of several rounds the median counts.
#![allow(clippy::expect_used, reason = "a benchmark fails by panicking")]

mod workload;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::RefCell,
    hint::black_box,
    process::{Command, Stdio},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use bytes::BytesMut;
use jiff::tz::TimeZone;
use ratatui::{buffer::Buffer, layout::Rect};
use serde_json::{Value, json};
use tcptrace::{
    findings::{Findings, Thresholds},
    model::{decode::decode, filter::Expr, socket_filter::SocketFilter, state::StateSet},
    pipeline::{session::Session, settings::SessionSettings},
    render::screen::{Place, Scene, State, Tab},
    sys::clock::thread_cpu_ns,
    table::Table,
};
use tcptrace_common::state::{CLOSE_WAIT, ESTABLISHED};

use workload::{START_NS, Stream, Writer};

/// Counts what is allocated and not freed, and how often it was asked for.
struct Counting;

static BYTES: AtomicU64 = AtomicU64::new(0);
static CALLS: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: all calls are handed on to the system's allocator as they are.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size() as u64, Relaxed);
        CALLS.fetch_add(1, Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size() as u64, Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        BYTES.fetch_add(size as u64, Relaxed);
        BYTES.fetch_sub(layout.size() as u64, Relaxed);
        CALLS.fetch_add(1, Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(at, layout, size) }
    }
}

const ROUNDS: usize = 9;
/// Sockets that end and come again in a round; each makes five events.
const CHURN: u32 = 20_000;
/// Time between two looks for trouble, in ns.
const LOOK_NS: u64 = 250_000_000;

fn main() {
    let words: Vec<_> = std::env::args().collect();
    if let Some(at) = words.iter().position(|word| word == "live") {
        // A process for each size, since the peak of its memory is the process's.
        let [live, family] = [&words[at + 1], &words[at + 2]];
        println!("{}", memory(live.parse().expect("a number"), family));
        return;
    }
    let mut stream = Stream::new();
    stream.churn(CHURN, 1_000_000);
    let events = workload::events(&stream.bytes);
    let count = events.len() as u64;
    let lines = |form: &str| {
        let (mut to, mut context) = (BytesMut::new(), workload::context());
        let mut writer = Writer::named(form);
        measured(count, || writer.write(&events, &mut to, &mut context))
    };
    let decoded = measured(count, || workload::records(&stream.bytes).for_each(|record| _ = black_box(decode(record))));
    let tables: Vec<_> = [1_000, 100_000, 1_000_000].map(|live| (live, decode_table(live))).into();
    let [json, text, csv] = ["json", "text", "csv"].map(lines);
    let summary = measured(count, || drop(black_box(workload::summary(&events))));
    let looks = looks(1_000_000);
    let worst = tables.iter().map(|(_, of)| of.per_s).min().unwrap_or_default();
    let screen = screen(50_000);
    let live = [10_000, 100_000, 1_000_000].map(|live| of_child(live, "ipv4"));
    println!(
        "{}",
        json!({
            "decode_events_per_s": decoded.per_s,
            "decode_table_events_per_s": worst,
            "decode_table": tables.iter().map(|(live, of)| {
                json!({ "connections": live, "events_per_s": of.per_s, "allocations_per_event": of.allocations })
            }).collect::<Value>(),
            "json_lines_per_s": json.per_s,
            "text_lines_per_s": text.per_s,
            "csv_lines_per_s": csv.per_s,
            "summary_events_per_s": summary.per_s,
            "allocations_per_line": { "json": json.allocations, "text": text.allocations, "csv": csv.allocations },
            "findings_tick_ms_1m": looks["busy_ms"],
            "findings_ticks_1m": looks,
            "screen_refresh_ms_50k": screen["worst_ms"],
            "screen_refreshes_50k": screen,
            "live": live,
            "live_ipv6": [of_child(1_000_000, "ipv6")],
        })
    );
}

/// What rounds came to.
struct Measured {
    per_s: u64,
    ms: f64,
    allocations: f64,
}

/// Prepares and runs `work`, which is on `items`, for some rounds after a first one that does not count. The time is that
/// of the middle one.
fn measured_with<T>(items: u64, mut prepare: impl FnMut() -> T, mut work: impl FnMut(&T)) -> Measured {
    work(&prepare());
    let (mut times, mut calls) = (Vec::new(), 0);
    for _ in 0..ROUNDS {
        let input = prepare();
        let (before, start_ns) = (CALLS.load(Relaxed), thread_cpu_ns());
        work(&input);
        times.push(thread_cpu_ns() - start_ns);
        calls += CALLS.load(Relaxed) - before;
    }
    times.sort_unstable();
    let ns = times[ROUNDS / 2].max(1);
    let allocations = (calls as f64 / (items * ROUNDS as u64) as f64 * 1000.0).round() / 1000.0;
    Measured { per_s: (items as f64 * 1e9 / ns as f64) as u64, ms: ns as f64 / 1e6, allocations }
}

/// The same where each round has the same input.
fn measured(items: u64, mut work: impl FnMut()) -> Measured {
    measured_with(items, || (), |()| work())
}

fn decode_table(live: u32) -> Measured {
    let mut table = workload::table(live);
    let mut stream = Stream::new();
    let churn = || {
        stream.bytes.clear();
        stream.churn(CHURN, live);
        stream.bytes.clone()
    };
    measured_with(u64::from(CHURN) * 5, churn, |bytes| workload::ingest(&mut table, bytes))
}

/// Looks for trouble on a host with some sockets in CLOSE_WAIT and some that send again, where nothing happens between two
/// looks, and where 20,000 events a second do.
fn looks(live: u32) -> Value {
    let mut table = workload::table(live);
    let mut stream = Stream::new();
    (1..2_000).step_by(2).for_each(|number| stream.transition(number, ESTABLISHED, CLOSE_WAIT));
    (live - 1_000..live).for_each(|number| stream.retransmit(number));
    workload::ingest(&mut table, &stream.bytes);
    let table = RefCell::new(table);
    let mut findings = Findings::new(Thresholds::default(), START_NS);
    let mut now_ns = START_NS + 1_900_000_000_000;
    let mut look = || {
        now_ns += LOOK_NS;
        black_box(findings.evaluate(&mut table.borrow_mut(), now_ns, None));
    };
    let quiet = measured(1, &mut look);
    let busy = || {
        stream.bytes.clear();
        stream.churn(1_000, live);
        workload::ingest(&mut table.borrow_mut(), &stream.bytes);
    };
    let busy = measured_with(1, busy, |()| look());
    json!({ "quiet_ms": quiet.ms, "busy_ms": busy.ms })
}

/// Refreshes the screen of `tcptrace top` on a host with so many sockets, on each tab: takes in the moment and draws it, as
/// happens once a second.
fn screen(live: u32) -> Value {
    let settings = SessionSettings {
        states: StateSet::default(),
        selection: SocketFilter::default(),
        rest: None,
        owner_unchecked: false,
        unfiltered: false,
        polls: true,
        max_sockets: 1 << 20,
        by_process: false,
        events: false,
        count: None,
        findings: Some(Thresholds::default()),
        metrics: None,
    };
    let mut session = Session::new(settings, Vec::new(), workload::context(), START_NS);
    session.watch(Expr::everything(), START_NS);
    let mut stream = Stream::new();
    (0..live).for_each(|number| stream.open(number));
    (1..2_000).step_by(2).for_each(|number| stream.transition(number, ESTABLISHED, CLOSE_WAIT));
    workload::records(&stream.bytes).for_each(|record| session.ingest(record));
    let mut now_ns = START_NS + 100_000_000_000;
    session.evaluate(now_ns);
    let mut scene = Scene::new(TimeZone::UTC);
    let area = Rect::new(0, 0, 250, 80);
    let mut worst: f64 = 0.0;
    let mut figures = serde_json::Map::new();
    for tab in Tab::ALL {
        let mut state = State::new(true, String::new(), Place::default());
        state.tab = tab;
        let of = measured(1, || {
            now_ns += 1_000_000_000;
            session.tick(now_ns);
            session.scene(&mut scene, now_ns);
            state.arrange(&scene, area);
            let mut buffer = Buffer::empty(area);
            state.draw(&scene, &mut buffer);
            black_box(&buffer);
        });
        assert_eq!(scene.overview.sockets.len(), live as usize, "sockets of the host");
        worst = worst.max(of.ms);
        figures.insert(format!("{}_ms", tab.name().to_lowercase()), of.ms.into());
    }
    figures.insert("worst_ms".to_owned(), worst.into());
    figures.into()
}

/// All memory of a table of so many connections, by connection.
fn memory(live: u32, family: &str) -> Value {
    let before = BYTES.load(Relaxed);
    let mut table = Table::new(2 << 20, StateSet::default(), true);
    let stream = if family == "ipv6" { Stream::ipv6() } else { Stream::new() };
    workload::fill(&mut table, live, stream);
    let bytes = BYTES.load(Relaxed) - before;
    let kib = |name: &str| {
        let status = std::fs::read_to_string("/proc/self/status").expect("of this process");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a known line");
        line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number")
    };
    json!({
        "connections": table.len(), "bytes_per_connection": (bytes as f64 / f64::from(live) * 10.0).round() / 10.0,
        "rss_mb": kib("VmRSS:") / 1024.0, "peak_rss_mb": kib("VmHWM:") / 1024.0,
    })
}

fn of_child(live: u32, family: &str) -> Value {
    let own = std::env::current_exe().expect("this executable");
    let mut child = Command::new(own);
    let output = child.args(["live", &live.to_string(), family]).stderr(Stdio::inherit()).output().expect("a child");
    serde_json::from_slice(&output.stdout).expect("what it measured")
}
