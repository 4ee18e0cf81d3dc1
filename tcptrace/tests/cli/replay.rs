//! `tcptrace record` and `tcptrace replay`, as far as they go without rights. Live tests record.

use std::fs;

use tcptrace::pipeline::recording::{
    chunk::{ChunkKind, Compressor, RawChunk},
    header::Header,
};
use tcptrace_common::record::WIRE_VERSION;

use super::{assert_refused, run};

/// A recording of version 1, which the golden tests keep.
const RECORDING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/recordings/v1");

#[test]
fn each_view_shows_what_was_recorded() {
    let events = run(&["replay", RECORDING, "--time", "utc"]);
    assert_eq!(events.code, Some(0), "{}", events.stderr);
    assert!(
        events.stdout.contains("SYN_SENT    -> ESTABLISHED") && events.stdout.contains("curl"),
        "{}",
        events.stdout
    );
    assert!(events.stderr.contains("9 inputs of the run are missing"), "{}", events.stderr);
    let csv = run(&["replay", RECORDING, "events", "-f", "csv", "--port", "443", "--state", "syn-sent"]);
    assert_eq!((csv.code, csv.stdout.lines().count()), (Some(0), 3), "{}", csv.stdout);
    let none = run(&["replay", RECORDING, "-f", "csv", "--port", "444"]);
    assert_eq!((none.code, none.stdout.lines().count()), (Some(0), 1), "{}", none.stdout);
    let summary = run(&["replay", RECORDING, "summary"]);
    assert!(summary.stdout.contains("ESTABLISHED") && !summary.stdout.contains("10.0.0.2"), "{}", summary.stdout);
    let sockets = run(&["replay", RECORDING, "sockets"]);
    assert!(sockets.stdout.contains("LISTEN") && sockets.stdout.contains("nginx"), "{}", sockets.stdout);
    // Events alone say nothing about queues and holders.
    let unlisted = run(&["replay", RECORDING, "sockets", "--at", "+1ms", "--state", "established", "-f", "json"]);
    assert!(
        unlisted.stdout.contains(r#""receive_queue":null"#)
            && unlisted.stdout.contains(r#""held_by":"unknown""#)
            && unlisted.stdout.contains(r#""age_ns":300000,"#),
        "{}",
        unlisted.stdout
    );
    let story = run(&["replay", RECORDING, "story", "443"]);
    assert_eq!(story.code, Some(0), "{}", story.stderr);
    assert!(story.stdout.contains(" ⇄ "), "{}", story.stdout);
    let stuck = run(&["replay", RECORDING, "stuck"]);
    assert_eq!(stuck.code, Some(0), "{}", stuck.stderr);
    let no_story = run(&["replay", RECORDING, "story", "444"]);
    assert_eq!(no_story.code, Some(1), "{}", no_story.stdout);
}

#[test]
fn times_choose_a_part() {
    let late = run(&["replay", RECORDING, "-f", "csv", "--from=-0s"]);
    assert_eq!((late.code, late.stdout.lines().count()), (Some(0), 1), "{}", late.stdout);
    let early = run(&["replay", RECORDING, "-f", "csv", "--to", "+0s"]);
    assert_eq!((early.code, early.stdout.lines().count()), (Some(0), 2), "the first event: {}", early.stdout);
    let other = run(&["replay", RECORDING, "--from", "2001-01-01T00:00:00Z"]);
    assert_eq!(other.code, Some(1));
    assert!(
        other.stderr.contains("it contains 2026-03-04T") && other.stderr.contains("not 2001-01-01"),
        "{}",
        other.stderr
    );
    let at = run(&["replay", RECORDING, "--at", "+1s"]);
    assert!(at.code == Some(1) && at.stderr.contains("--from and --to"), "{}", at.stderr);
    for wrong in ["yesterday", "25:00", "+soon"] {
        assert_refused(&["replay", RECORDING, "--from", wrong], &["--from", wrong]);
    }
    assert_refused(&["replay", RECORDING, "--speed", "0"], &["--speed", "0"]);
}

#[test]
fn what_is_no_recording_is_named() {
    let folder = std::env::temp_dir().join(format!("tcptrace-replay-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("r");
    let path = file.to_str().unwrap();
    let whole = fs::read(RECORDING).unwrap();
    let told = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        let run = run(&["replay", path, "-f", "csv"]);
        (run.code, run.stderr)
    };
    for (bytes, words) in [
        (&b""[..], "it is no recording"),
        (b"something else altogether", "it is no recording"),
        (&whole[..20], "its header is damaged"),
        (&[&whole[..8], &[3, 0], &whole[10..]].concat(), "version 3"),
    ] {
        let (code, stderr) = told(bytes);
        assert!(code == Some(1) && stderr.contains(words) && stderr.contains(path), "{stderr}");
    }
    // A whole chunk with a right checksum, which says nothing.
    let chunk = RawChunk { kind: ChunkKind::Inputs, times: 0..=1, inputs: 1, bytes: b"nothing".to_vec() };
    let header = Header { wire: WIRE_VERSION, ..Header::default() }.encode();
    let (code, stderr) = told(&[&header[..], Compressor::new().unwrap().encode(&chunk).unwrap()].concat());
    let words = format!("{path}: damaged: the content of a chunk; what follows byte {} is missing", header.len());
    assert!(code == Some(0) && stderr.contains(&words), "{stderr}");
    let (code, stderr) = told(&whole[..whole.len() - 20]);
    assert!(code == Some(0) && stderr.contains("missing"), "{stderr}");
    // A link leads to a recording, with the older files beside it.
    let link = folder.join("link");
    std::os::unix::fs::symlink(RECORDING, &link).unwrap();
    let linked = run(&["replay", link.to_str().unwrap(), "-f", "csv"]);
    assert_eq!((linked.code, linked.stdout), (Some(0), run(&["replay", RECORDING, "-f", "csv"]).stdout));
    for place in ["/dev/zero", "/"] {
        let refused = run(&["replay", place]);
        let words = format!("cannot replay {place}: it is not a regular file");
        assert!(refused.code == Some(1) && refused.stderr.contains(&words), "{}", refused.stderr);
    }
    fs::remove_dir_all(&folder).unwrap();
    let gone = run(&["replay", path]);
    assert!(gone.code == Some(1) && gone.stderr.contains(path), "{}", gone.stderr);
}

#[test]
fn what_makes_no_sense_is_refused() {
    assert_refused(&["record"], &["--write <FILE>"]);
    assert_refused(&["record", "-w", "x", "--max-size", "1KiB"], &["--max-size", "at least 1MiB"]);
    assert_refused(&["--record-keep", "2h"], &["--record <FILE>"]);
    assert_refused(&["--record-on-finding", "info"], &["--record <FILE>"]);
    assert_refused(&["record", "-w", "x", "--on-finding", "bad"], &["--on-finding", "bad", "info, warning, critical"]);
    assert_refused(&["replay", RECORDING, "--aggregate"], &["--aggregate", "--summary"]);
    assert_refused(&["replay", RECORDING, "--port", "80", "stuck"], &["after the command"]);
    assert_refused(&["record", "-w", "x", "--on-finding", "info", "--port", "80"], &["--on-finding", "all sockets"]);
    assert_refused(&["record", "-w", "x", "--where", "rtt > 5ms"], &["cannot decide", "rtt", "tcptrace replay"]);
    assert_refused(&["replay", RECORDING, "kill"], &["`kill` is a command", "tcptrace kill --help"]);
    for (file, samples) in [(RECORDING, "no sample"), (&RECORDING.replace("v1", "v2"), "one sample")] {
        let rates = run(&["replay", file, "rates"]);
        let told = &rates.stderr;
        assert!(rates.code == Some(1) && told.contains(samples) && told.contains("summary --interval 1s"), "{told}");
    }
    let turned = run(&["replay", RECORDING, "--from", "+2ms", "--to", "+1ms"]);
    assert!(turned.code == Some(1) && turned.stderr.contains("--from is later than --to"), "{}", turned.stderr);
    let scraped = run(&["replay", RECORDING, "-o", "prometheus:9437"]);
    assert!(scraped.code == Some(1) && scraped.stderr.contains("live runs"), "{}", scraped.stderr);
}
