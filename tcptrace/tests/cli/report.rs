//! `tcptrace report`: a page out of a recording.

use std::{
    collections::HashMap,
    env, fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::PathBuf,
    time::Instant,
};

use tcptrace::{
    model::{decode::split, keyed::Addresses, names::Names, time::WallOffset},
    pipeline::{
        input::Input,
        recording::{
            chunk::Compressor,
            encoder::{Encoder, NameLog},
            header::Header,
            index::Index,
        },
    },
};
use tcptrace_common::{
    record::{Owner, WIRE_VERSION, owner_source},
    state::{CLOSE, ESTABLISHED, FIN_WAIT1, FIN_WAIT2, SYN_SENT},
};

use super::{
    assert_refused,
    records::{Life, START_NS, Stream, process},
    run,
};

/// A recording of version 1, which the golden tests keep.
const RECORDING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/recordings/v1");

/// A folder of one test's own.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tcptrace-report-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn report(more: &[&str]) -> String {
    let run = run(&[&["report", RECORDING, "-o", "-", "-q"], more].concat());
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    run.stdout
}

#[test]
fn the_page_has_what_was_recorded() {
    let page = report(&[]);
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
    for words in ["SYN_SENT", "curl[501]", "2026-03-04 05:06:07", "nginx", "9 inputs are missing", "ended by a signal"]
    {
        assert!(page.contains(words), "{words}: {page}");
    }
    assert_eq!(page, report(&[]), "the same every time");
    assert!(!page.contains("http://") || page.matches("http://").all(|at| at == "http://"), "{page}");
    for loads in ["<script", "<link", "<img", "<iframe", "javascript:", "style=\"", " onload", " onclick"] {
        assert!(!page.contains(loads), "{loads}");
    }
    let sources = page.matches("src=").count() + page.matches("href=\"").count() - page.matches("href=\"#").count();
    assert_eq!(sources, 0, "nothing leads away from the page");
}

#[test]
fn filters_and_times_choose_a_part() {
    let none = report(&["--port", "444"]);
    assert!(none.contains("0 events") && none.contains("There was no change of state"), "{none}");
    let early = report(&["--to", "+0s"]);
    assert!(early.contains("1 event,") && early.contains("a part of the recording"), "{early}");
    let late = report(&["--from", "+1ms"]);
    assert!(late.contains("a part of the recording") && !late.contains("5 events"), "{late}");
    let other = run(&["report", RECORDING, "-o", "-", "--from", "2001-01-01T00:00:00Z"]);
    assert!(other.code == Some(1) && other.stderr.contains("it contains 2026-03-04T"), "{}", other.stderr);
}

#[test]
fn no_name_survives_anonymizing() {
    let (named, page) = (report(&[]), report(&["--anonymize"]));
    for name in ["curl", "nginx", "blue", "10.0.0.1", "10.0.0.2", "web.service", "ada", "db.example"] {
        assert!(!page.contains(name), "{name}");
    }
    assert!(named.contains("curl[501]") && page.contains("process-") && page.contains("[501]"), "{page}");
    assert_eq!(
        named.matches("<td>ESTABLISHED").count(),
        page.matches("<td>ESTABLISHED").count(),
        "the structure stays"
    );
    for flag in ["--address=10.0.0.1", "--comm=curl", "--unit=web.service", "--where=port == 443"] {
        assert_refused(&["report", RECORDING, "-o", "-", "--anonymize", flag], &[&flag[..6], "--anonymize"]);
    }
    assert!(report(&["--anonymize", "--port", "443"]).contains("SYN_SENT"));
}

#[test]
fn the_file_is_private_and_replaces_an_older_one() {
    let folder = Folder::new("file");
    let path = folder.file("incident.html");
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    fs::write(&path, "older").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let written = run(&["report", RECORDING, "-o", &path, "-q"]);
    assert_eq!((written.code, written.stdout.as_str(), mode()), (Some(0), "", 0o600), "{}", written.stderr);
    assert_eq!(fs::read_to_string(&path).unwrap(), report(&[]));
    let (target, link) = (folder.file("target"), folder.file("link"));
    fs::write(&target, "mine").unwrap();
    symlink(&target, &link).unwrap();
    let refused = run(&["report", RECORDING, "-o", &link]);
    assert!(refused.code == Some(1) && refused.stderr.contains(&link), "{}", refused.stderr);
    assert_eq!(fs::read_to_string(&target).unwrap(), "mine");
    let into_folder = run(&["report", RECORDING, "-o", folder.0.to_str().unwrap()]);
    assert!(into_folder.code == Some(1) && into_folder.stderr.contains("it is a folder"), "{}", into_folder.stderr);
}

#[test]
fn what_is_no_recording_leaves_no_report() {
    let folder = Folder::new("none");
    let (recording, page) = (folder.file("r"), folder.file("p.html"));
    fs::write(&recording, "something else").unwrap();
    let failed = run(&["report", &recording, "-o", &page]);
    assert!(failed.code == Some(1) && failed.stderr.contains("it is no recording"), "{}", failed.stderr);
    assert!(!fs::exists(&page).unwrap());
    let cut = folder.file("cut");
    fs::write(&cut, &fs::read(RECORDING).unwrap()[..200]).unwrap();
    let cut = run(&["report", &cut, "-o", "-"]);
    assert!(cut.code == Some(0) && cut.stdout.contains("Not complete: "), "{}", cut.stderr);
    assert_refused(&["report", RECORDING], &["--output <FILE>"]);
    assert_refused(&["report"], &["RECORDING"]);
}

/// A recording of so many events: connections of many processes with many ends, of which some fail and some are retransmitted.
fn record(events: u64) -> Vec<u8> {
    let header = Header {
        tcptrace: "0.1.0".to_owned(),
        wire: WIRE_VERSION,
        run_ns: START_NS,
        start_ns: START_NS,
        wall: WallOffset(1_772_597_167_250_000_000),
        max_sockets: 1 << 20,
        findings: true,
        ..Header::default()
    };
    let mut bytes = header.encode();
    let (mut index, mut compressor) = (Index::default(), Compressor::new().unwrap());
    let mut encoder = Encoder::new(Addresses::Raw, NameLog::default(), START_NS);
    let mut names = Names::new(HashMap::new(), Box::new(|id| Some(format!("/system.slice/unit-{id}.service"))));
    let (mut written, mut number, mut stream) = (0, 1_u64, Stream::new());
    for round in 0.. {
        // Without a pattern, and the same each time.
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let time_us = 1 << ((number >> 33) % 20);
        let command = format!("worker-{}", round % 700);
        let owner = Owner {
            cgroup: round % 90,
            ..process(1000 + (round % 700) as u32, command.as_bytes(), owner_source::CONNECT)
        };
        let local = format!("10.1.{}.{}:{}", round % 7, round % 250, 1024 + round % 60_000);
        let mut life =
            Life::in_state(CLOSE, &local, &format!("10.9.{}.1:{}", round % 50, 80 + round % 30)).owned_by(owner);
        life.header.cookie = round + 1;
        life.enters(&mut stream, SYN_SENT);
        stream.wait_us(time_us);
        match round % 10 {
            0 => {
                life.facts.err = libc::ECONNREFUSED;
                life.gets_reset(&mut stream).enters(&mut stream, CLOSE);
            }
            last => {
                life.enters(&mut stream, ESTABLISHED);
                (0..last / 3).for_each(|_| _ = life.retransmits(&mut stream, 0));
                stream.wait_us(time_us);
                life.enters(&mut stream, FIN_WAIT1).enters(&mut stream, FIN_WAIT2).enters(&mut stream, CLOSE);
            }
        }
        for record in split(&std::mem::take(&mut stream.bytes)) {
            encoder.add(&Input::Record(record.unwrap()), &mut names);
            written += 1;
        }
        if round % 100 == 0 {
            let now_ns = stream.now_ns;
            for input in [Input::Clock(now_ns, header.wall), Input::Read(now_ns), Input::Evaluated(now_ns)] {
                encoder.add(&input, &mut names);
            }
        }
        let is_last = written >= events;
        if is_last {
            encoder.add(&Input::Finished(stream.now_ns), &mut names);
        }
        if encoder.is_full() || is_last {
            let chunk = encoder.take().unwrap();
            index.add(bytes.len() as u64, &chunk);
            bytes.extend(compressor.encode(&chunk).unwrap());
        }
        if is_last {
            break;
        }
    }
    let end = bytes.len() as u64;
    bytes.extend(compressor.encode(&index.to_chunk()).unwrap());
    bytes.extend(Index::trailer(end));
    bytes
}

/// `TCPTRACE_REPORT_EVENTS` sets how many events; a million need the release build.
#[test]
fn a_report_of_many_events_is_small() {
    let events = env::var("TCPTRACE_REPORT_EVENTS").map_or(50_000, |events| events.parse().unwrap());
    let folder = Folder::new("many");
    let (recording, page) = (folder.file("r"), folder.file("p.html"));
    fs::write(&recording, record(events)).unwrap();
    let begin = Instant::now();
    let made = run(&["report", &recording, "-o", &page, "-q"]);
    let (took, size) = (begin.elapsed(), fs::metadata(&page).unwrap().len());
    println!("{events} events: {size} bytes in {took:?}");
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    assert!(size < 2 << 20, "{size} bytes");
    let text = fs::read_to_string(&page).unwrap();
    assert!(text.contains("connect-refused") && text.contains("worker-") && text.contains("ladder-1"), "{size} bytes");
}
