//! Golden files: read, compared, and written anew when asked.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::support::rfc4180;

/// Streams of events whose files hold every field. All others hold [`FIELDS`], so that a new field changes these few.
const WHOLE: [&str; 5] =
    ["client_life.csv", "client_life.json", "half_open.json", "owner_change.json", "reset_by_peer.json"];

/// The fields of events that each file holds.
const FIELDS: &[&str] = &[
    "event",
    "time",
    "mono_ns",
    "cpu",
    "sk",
    "cookie",
    "netns",
    "netns_name",
    "family",
    "local_address",
    "local_port",
    "remote_address",
    "remote_port",
    "state",
    "old_state",
    "new_state",
    "new_state_source",
    "time_in_old_state_ns",
    "time_source",
    "after_gap",
    "handshake_rtt_ns",
    "srtt_us",
    "total_retrans",
    "timeouts",
    "bytes_acked",
    "bytes_received",
    "receive_queue",
    "send_queue",
    "last_sent_ns",
    "last_received_ns",
    "last_ack_ns",
    "ending",
    "process_exit",
    "expires_in_ns",
    "errno",
    "reason",
    "reason_code",
    "pid",
    "command",
    "uid",
    "cgroup_id",
    "cgroup",
    "owner_source",
    "owner_candidates",
];

/// `text`, which is the file `name`, without the fields of events that came later than [`FIELDS`].
fn settled(name: &str, text: &str) -> String {
    if WHOLE.contains(&name) {
        return text.to_owned();
    }
    let is_kept = |field: &str| field == "schema" || FIELDS.contains(&field);
    match name.rsplit_once('.') {
        Some((_, "json")) => text.lines().map(|line| json(line, is_kept) + "\n").collect(),
        Some((_, "csv")) if text.starts_with("event,time,mono_ns,cpu,") => csv(text, is_kept),
        _ => text.to_owned(),
    }
}

fn json(line: &str, is_kept: impl Fn(&str) -> bool) -> String {
    let record: serde_json::Map<String, Value> = serde_json::from_str(line).unwrap();
    let later = record.iter().filter(|(name, _)| record.contains_key("cpu") && !is_kept(name));
    later.fold(line.to_owned(), |line, (name, value)| {
        let (before, after) = line.split_once(&format!(",\"{name}\":{value}")).unwrap();
        format!("{before}{after}")
    })
}

fn csv(text: &str, is_kept: impl Fn(&str) -> bool) -> String {
    let rows = rfc4180::rows(text).unwrap();
    let keeps: Vec<_> = rows[0].iter().map(|name| is_kept(name)).collect();
    if keeps.iter().all(|keeps| *keeps) {
        return text.to_owned();
    }
    let quoted = |cell: &str| match cell.contains([',', '"', '\n']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.to_owned(),
    };
    let row = |row: &Vec<String>| {
        let kept = row.iter().zip(&keeps).filter(|(_, keeps)| **keeps).map(|(cell, _)| quoted(cell));
        kept.collect::<Vec<_>>().join(",") + "\n"
    };
    rows.iter().map(row).collect()
}

/// The variable that asks for new files.
const BLESS: &str = "TCPTRACE_BLESS";

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// As [`compare`], for files in a folder of their own, which holds nothing else.
pub(crate) fn compare_in(folder: &str, files: &[(String, String)]) {
    compare_at(&directory().join(folder), files, |_| true);
}

/// Compares `files` (names and what they should hold now) with those of the directory that `is_ours` by their names.
/// All that differs is told at once; a file that nothing makes any more is a difference too.
pub(crate) fn compare(files: &[(String, String)], is_ours: impl Fn(&str) -> bool) {
    compare_at(&directory(), files, is_ours);
}

fn compare_at(directory: &Path, files: &[(String, String)], is_ours: impl Fn(&str) -> bool) {
    let bless = env::var_os(BLESS).is_some_and(|value| value == "1");
    let mut stale: BTreeSet<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| is_ours(name))
        .collect();
    let mut differences = Vec::new();
    for (name, now) in files {
        assert!(is_ours(name), "{name} would not be looked for");
        let now = &settled(name, now);
        stale.remove(name);
        let path = directory.join(name);
        if bless {
            fs::write(path, now).unwrap();
        } else {
            differences.extend(difference(name, &fs::read_to_string(path).unwrap_or_default(), now));
        }
    }
    for name in stale {
        if bless {
            fs::remove_file(directory.join(name)).unwrap();
        } else {
            differences.push(format!("{name}: no story makes it any more"));
        }
    }
    assert!(differences.is_empty(), "{}\nif this is right: {BLESS}=1 cargo test --test golden", differences.join("\n"));
}

/// The first line that differs.
fn difference(name: &str, want: &str, now: &str) -> Option<String> {
    if want == now {
        return None;
    }
    let mut lines = (want.split('\n').map(Some).chain([None])).zip(now.split('\n').map(Some).chain([None]));
    let at = lines.position(|(want, now)| want != now).unwrap_or(0);
    let line = |text: &str| text.split('\n').nth(at).map_or_else(|| "(no line)".to_owned(), |line| format!("{line:?}"));
    Some(format!("{name}, line {}:\n  was {}\n  is  {}", at + 1, line(want), line(now)))
}

#[test]
fn a_difference_names_its_line() {
    assert_eq!(difference("a", "1\n2\n", "1\n2\n"), None);
    let told = difference("a", "1\n2\n", "1\n3\n").unwrap();
    assert!(told.contains("line 2") && told.contains("was \"2\"") && told.contains("is  \"3\""), "{told}");
    assert!(difference("a", "1\n", "1\n2\n").unwrap().contains("line 2"));
    assert!(difference("a", "", "1").unwrap().contains("line 1"));
}

#[test]
fn fields_that_came_later_are_in_few_files() {
    let later = r#"{"schema":1,"event":"transition","cpu":1,"later":[2],"pid":3}"#;
    let rows = "event,time,mono_ns,cpu,later,command\ntransition,,1,2,x,\"a,\"\"b\"\n";
    assert_eq!(settled("ipv6.json", later), r#"{"schema":1,"event":"transition","cpu":1,"pid":3}"#.to_owned() + "\n");
    assert_eq!(settled("ipv6.csv", rows), "event,time,mono_ns,cpu,command\ntransition,,1,2,\"a,\"\"b\"\n");
    assert_eq!(settled("client_life.csv", rows), rows);
    let summary = r#"{"schema":1,"event":"summary","anything":1}"#.to_owned() + "\n";
    assert_eq!(settled("all_summary.json", &summary), summary, "only events");
}
