//! The pure core, piece by piece: `cargo bench -p tcptrace --bench core`.
#![allow(clippy::expect_used, reason = "a benchmark fails by panicking")]
#![allow(missing_docs, reason = "criterion's macros make public items")]

mod workload;

use std::{cell::RefCell, hint::black_box};

use bytes::BytesMut;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tcptrace::{
    findings::{Findings, Thresholds},
    model::decode::decode,
};
use tcptrace_common::state::{CLOSE_WAIT, ESTABLISHED};

use workload::{START_NS, Stream, Writer};

/// Sockets that end and come again in a measured piece; each makes five events, each connection of two sockets ten.
const CHURN: u32 = 2_000;

fn lines(criterion: &mut Criterion) {
    let mut stream = Stream::new();
    stream.churn(CHURN, 1_000_000);
    let events = workload::events(&stream.bytes);
    let mut group = criterion.benchmark_group("events");
    group.throughput(Throughput::Elements(events.len() as u64));
    group.bench_function("decode", |bench| {
        bench.iter(|| workload::records(&stream.bytes).for_each(|record| _ = black_box(decode(record))));
    });
    group.bench_function("summary", |bench| bench.iter(|| workload::summary(&events)));
    for form in ["json", "csv", "text"] {
        let (mut writer, mut to, mut context) = (Writer::named(form), BytesMut::new(), workload::context());
        group.bench_function(form, |bench| bench.iter(|| writer.write(&events, &mut to, &mut context)));
    }
}

fn table(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode and table");
    group.throughput(Throughput::Elements(u64::from(CHURN) * 5));
    for live in [1_000, 100_000, 1_000_000] {
        let (mut table, mut stream) = (workload::table(live), Stream::new());
        let mut churn = || {
            stream.bytes.clear();
            stream.churn(CHURN, live);
            stream.bytes.clone()
        };
        group.bench_function(format!("{live} live"), |bench| {
            bench.iter_batched(&mut churn, |bytes| workload::ingest(&mut table, &bytes), BatchSize::PerIteration);
        });
    }
}

fn findings(criterion: &mut Criterion) {
    const LIVE: u32 = 1_000_000;
    let (mut table, mut stream) = (workload::table(LIVE), Stream::new());
    (1..2_000).step_by(2).for_each(|number| stream.transition(number, ESTABLISHED, CLOSE_WAIT));
    (LIVE - 1_000..LIVE).for_each(|number| stream.retransmit(number));
    workload::ingest(&mut table, &stream.bytes);
    let table = RefCell::new(table);
    let mut findings = Findings::new(Thresholds::default(), START_NS);
    let mut now_ns = START_NS + 1_900_000_000_000;
    let mut look = || {
        now_ns += 250_000_000;
        findings.evaluate(&mut table.borrow_mut(), now_ns, None)
    };
    let mut group = criterion.benchmark_group("a look at 1000000 live");
    group.bench_function("nothing happened", |bench| bench.iter(&mut look));
    let mut busy = || {
        stream.bytes.clear();
        stream.churn(1_000, LIVE);
        workload::ingest(&mut table.borrow_mut(), &stream.bytes);
    };
    group.bench_function("after 5000 events", |bench| {
        bench.iter_batched(&mut busy, |()| look(), BatchSize::PerIteration);
    });
}

criterion_group!(core, lines, table, findings);
criterion_main!(core);
