//! Does one piece of the pure core's work a number of times, for `cargo xtask instructions` to count its instructions:
//! `instructions PIECE TIMES`. Without arguments it prints, for each piece, how many items one time of it is. Nothing is
//! random, so that a build always gives the same counts.
#![allow(clippy::expect_used, reason = "a benchmark fails by panicking")]

mod workload;

use std::hint::black_box;

use bytes::BytesMut;
use tcptrace::{
    analysis::metrics::{Metrics, settings::Settings},
    model::decode::decode,
};

use workload::{Recorder, Stream, Writer};

/// Sockets that end and come again; each makes five events.
const CHURN: u32 = 200;
/// Connections that are there.
const LIVE: u32 = 2_000;

/// The pieces, each on all events of the stream.
const PIECES: [&str; 9] = ["decode", "table", "json", "text", "csv", "summary", "metrics", "record", "replay"];

fn main() {
    let words: Vec<_> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let [piece, times] = words.as_slice() else {
        PIECES.iter().for_each(|piece| println!("{piece} {}", CHURN * 5));
        return;
    };
    let times: u32 = times.parse().expect("a number of times");
    let mut stream = Stream::new();
    // So much is done whatever is counted.
    let mut table = workload::table(LIVE);
    stream.churn(CHURN, LIVE);
    let events = workload::events(&stream.bytes);
    let (mut to, mut context) = (BytesMut::with_capacity(128 << 10), workload::context());
    let mut metrics = Metrics::new(Settings::default(), 0);
    let mut writer = Writer::named(piece);
    let mut recorder = Recorder::new();
    let (mut session, mut buffer) = (workload::session(LIVE), Vec::new());
    let chunk = if piece == "replay" { recorder.chunk(&stream.bytes, &mut context) } else { Vec::new() };
    for _ in 0..times {
        match piece.as_str() {
            "decode" => workload::records(&stream.bytes).for_each(|record| _ = black_box(decode(record))),
            "table" => workload::ingest(&mut table, &stream.bytes),
            "metrics" => events.iter().for_each(|event| metrics.ingest(event)),
            "record" => _ = black_box(recorder.chunk(&stream.bytes, &mut context)),
            "replay" => buffer = workload::replay(&mut session, &chunk, buffer),
            "summary" => drop(black_box(workload::summary(&events))),
            _ => writer.write(&events, &mut to, &mut context),
        }
    }
}
