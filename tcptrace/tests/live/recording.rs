//! A recording beside a live run: the replay prints what the run printed, byte for byte.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    Test,
    net::{LOCALHOST, enter_new_netns, exchange, listen, pair, settle},
    outputs::{Folder, connections},
    tracer::{Tracer, binary},
};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("a replay prints what the run printed", byte_for_byte),
    ("stories of a replay are those of the run", stories),
    ("filters by name decide in a replay as in the run", by_names),
    ("what was not asked live is answered later", asked_later),
    ("a run that was killed is read up to its last second", killed),
    ("old files make room for new ones", segments),
    ("the minutes around a finding are kept", around_a_finding),
    ("what a filter rejects is not recorded", filtered),
    ("links are not followed and nobody else reads", private),
    ("rates of a recording are what was done", rates),
];

/// What a replay prints, as another user would run it.
fn replay(file: &str, flags: &[&str]) -> (String, String, Option<i32>) {
    let output = Command::new(binary()).args(["replay", file]).args(flags).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code())
}

/// The lines without the last record, which has the state of the run's own outputs.
fn without_end(json: &str) -> Vec<&str> {
    json.lines().filter(|line| !line.contains(r#""event":"end""#)).collect()
}

#[track_caller]
fn assert_same(live: &str, replayed: &str) {
    let (live, replayed): (Vec<_>, Vec<_>) = (without_end(live), without_end(replayed));
    for (number, (one, other)) in live.iter().zip(&replayed).enumerate() {
        assert_eq!(one, other, "line {number}");
    }
    assert_eq!(live.len(), replayed.len());
}

/// Some that close, one that is refused, one that leaks.
fn traffic() {
    connections(20);
    let _ = std::net::TcpStream::connect((LOCALHOST, 1));
    let (listener, to) = listen(LOCALHOST);
    let (client, server) = pair(&listener, to);
    drop(client);
    std::thread::sleep(Duration::from_millis(2500));
    drop(server);
    settle();
}

fn byte_for_byte() {
    enter_new_netns();
    let folder = Folder::new("recording");
    let (file, json, text) = (folder.file("r"), folder.file("json"), folder.file("text"));
    let (csv, findings) = (folder.file("csv"), folder.file("findings"));
    let outputs = [
        format!("file:{json},format=json"),
        format!("file:{text},format=text"),
        format!("file:{csv},format=csv"),
        format!("file:{findings},format=json,records=findings+summaries"),
    ];
    let common = ["--netns", "self", "--time", "utc", "--stuck-after", "CLOSE_WAIT=1s"];
    let mut flags = common.to_vec();
    flags.extend(["--record", &file]);
    outputs.iter().for_each(|output| flags.extend(["-o", output.as_str()]));
    let tracer = Tracer::start(&flags);
    traffic();
    let run = tracer.stop();
    assert!(run.status.success(), "{}", run.stderr);
    assert!(fs::read_to_string(&json).unwrap().contains(r#""close-wait-leak""#), "{}", run.stderr);
    for (live, more) in [
        (&json, &["-f", "json"][..]),
        (&text, &["-f", "text"]),
        (&csv, &["-f", "csv"]),
        (&findings, &["-o", "stdout,format=json,records=findings+summaries"]),
    ] {
        let (replayed, stderr, code) = replay(&file, &[&common[..], more].concat());
        assert_eq!(code, Some(0), "{stderr}");
        assert_same(&fs::read_to_string(live).unwrap(), &replayed);
    }
    let (summary, ..) = replay(&file, &["summary", "--netns", "self", "-f", "json"]);
    let live = fs::read_to_string(&json).unwrap();
    let live = live.lines().find(|line| line.contains(r#""event":"summary""#)).unwrap();
    assert_eq!(summary.lines().find(|line| line.contains(r#""event":"summary""#)), Some(live));
}

fn stories() {
    enter_new_netns();
    let folder = Folder::new("stories");
    let file = folder.file("r");
    let tracer = Tracer::start(&["story", "127.0.0.1", "--record", &file]);
    connections(5);
    let (listener, to) = listen(LOCALHOST);
    let (client, server) = pair(&listener, to);
    exchange(&client, &server, b"hello");
    settle();
    let run = tracer.stop();
    let (replayed, stderr, code) = replay(&file, &["story", "127.0.0.1"]);
    assert_eq!((run.status.code(), code), (Some(0), Some(0)), "{stderr}");
    assert!(replayed.contains(" ⇄ "), "{replayed}");
    assert_eq!(run.lines, replayed.lines().collect::<Vec<_>>());
    drop((client, server));
}

fn by_names() {
    enter_new_netns();
    let folder = Folder::new("recorded-names");
    let (file, json, text) = (folder.file("r"), folder.file("json"), folder.file("text"));
    let exe = std::env::current_exe().unwrap().display().to_string();
    let outputs = [
        format!("file:{json},format=json,where=exe == \"{exe}\" && unit !~ \"^no-such\""),
        format!("file:{text},format=text"),
    ];
    let common = ["--netns", "self", "--time", "utc", "--exe", &exe, "--stuck-after", "CLOSE_WAIT=1s"];
    let mut flags = common.to_vec();
    flags.extend(["--record", &file]);
    outputs.iter().for_each(|output| flags.extend(["-o", output.as_str()]));
    let tracer = Tracer::start(&flags);
    traffic();
    let run = tracer.stop();
    assert!(run.status.success(), "{}", run.stderr);
    let (live_json, live_text) = (fs::read_to_string(&json).unwrap(), fs::read_to_string(&text).unwrap());
    assert!(live_json.contains(r#""close-wait-leak""#) && live_text.lines().count() > 100, "{live_json}");
    let (replayed, stderr, code) = replay(&file, &[&common[..], &["-f", "text"]].concat());
    assert_eq!(code, Some(0), "{stderr}");
    assert_same(&live_text, &replayed);
    let only = format!("stdout,format=json,where=exe == \"{exe}\" && unit !~ \"^no-such\"");
    let (replayed, ..) = replay(&file, &[&common[..], &["-o", &only]].concat());
    assert_same(&live_json, &replayed);
    let (none, ..) = replay(&file, &["-f", "json", "--netns", "self", "--exe", "/no/such"]);
    assert!(!none.contains(r#""event":"transition""#), "{none}");
}

fn asked_later() {
    enter_new_netns();
    let folder = Folder::new("later");
    let file = folder.file("r");
    let tracer = Tracer::start(&["record", "-w", &file, "--netns", "self"]);
    let (listener, to) = listen(LOCALHOST);
    let port = to.port().to_string();
    let (client, server) = pair(&listener, to);
    drop(client);
    std::thread::sleep(Duration::from_secs(2));
    let run = tracer.stop();
    assert!(run.status.success() && run.lines.is_empty(), "{} {:?}", run.stderr, run.lines);
    drop(server);
    let (json, ..) = replay(&file, &["-f", "json", "--local-port", &port, "--state", "close-wait"]);
    assert!(!without_end(&json).is_empty() && json.contains(r#""new_state":"CLOSE_WAIT""#), "{json}");
    let (sockets, ..) = replay(&file, &["sockets", "--state", "close-wait", "--local-port", &port]);
    assert!(sockets.contains("CLOSE_WAIT") && sockets.contains(&port), "{sockets}");
    let (before, ..) = replay(&file, &["sockets", "--state", "close-wait", "--local-port", &port, "--at", "+0s"]);
    assert!(!before.contains(&format!(":{port}")), "{before}");
    let (stuck, stderr, code) = replay(&file, &["stuck", "--once", "--stuck-after", "CLOSE_WAIT=1s"]);
    assert!(code == Some(3) && stuck.contains("close-wait-leak"), "{stuck} {stderr}");
    let (late, ..) = replay(&file, &["-f", "csv", "--from=-100ms"]);
    assert!(!late.contains("ESTABLISHED"), "{late}");
    let (story, ..) = replay(&file, &["story", &port]);
    assert!(story.contains(" ⇄ "), "{story}");
}

fn killed() {
    enter_new_netns();
    let folder = Folder::new("killed");
    let file = folder.file("r");
    let tracer = Tracer::start(&["record", "-w", &file, "--netns", "self"]);
    connections(10);
    std::thread::sleep(Duration::from_millis(2500));
    tracer.signal(libc::SIGKILL);
    _ = tracer.wait();
    let whole = fs::read(&file).unwrap();
    let (json, stderr, code) = replay(&file, &["-f", "json"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("cut off"), "{stderr}");
    let events = without_end(&json).len();
    assert!(events > 100, "{events}");
    fs::write(&file, &whole[..whole.len() - 7]).unwrap();
    let (json, stderr, code) = replay(&file, &["-f", "json"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("it ends within a chunk") && stderr.contains("missing"), "{stderr}");
    assert!(without_end(&json).len() > 10);
}

fn segments() {
    enter_new_netns();
    let folder = Folder::new("segments");
    let file = folder.file("r");
    let json = folder.file("json");
    let to = format!("file:{json},format=json");
    let tracer = Tracer::start(&["--netns", "self", "-o", &to, "--record", &file, "--record-keep", "8s"]);
    for _ in 0..8 {
        connections(5);
        std::thread::sleep(Duration::from_millis(700));
    }
    let run = tracer.stop();
    assert!(run.status.success(), "{}", run.stderr);
    let files = fs::read_dir(&folder.0).unwrap().count() - 1;
    assert!((3..=10).contains(&files), "{files}");
    let (replayed, stderr, code) = replay(&file, &["-f", "json", "--netns", "self"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(!stderr.contains("missing") && !stderr.contains("cut off"), "{stderr}");
    assert!(replayed.lines().filter(|line| line.contains(r#""new_state":"SYN_SENT""#)).count() >= 40, "{replayed}");
    assert_same(&fs::read_to_string(&json).unwrap(), &replayed);
}

fn rates() {
    let netns = enter_new_netns().to_string();
    let folder = Folder::new("recorded-rates");
    let file = folder.file("r");
    let tracer = Tracer::start(&["--record", &file]);
    std::thread::sleep(Duration::from_millis(500)); // the first sample is asked for at the start
    connections(20);
    assert!(std::net::TcpStream::connect((LOCALHOST, 1)).is_err());
    settle();
    assert!(tracer.stop().status.success());
    let sum = |flags: &[&str], field: &str| {
        let (json, stderr, code) = replay(&file, &[&["rates", "-f", "json"], flags].concat());
        assert_eq!(code, Some(0), "{stderr}");
        let lines = json.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.map(|line| line[field].as_u64().unwrap()).sum::<u64>()
    };
    let here = ["--netns", netns.as_str()];
    assert_eq!((sum(&here, "active_opens"), sum(&here, "passive_opens"), sum(&here, "attempt_fails")), (21, 20, 1));
    assert!(sum(&[], "active_opens") >= 21, "all namespaces");
    let hourly = [&here[..], &["--interval", "1h"]].concat();
    assert_eq!((sum(&hourly, "active_opens"), sum(&hourly, "namespaces")), (21, 1), "one line, of less than an hour");
    let (text, stderr, code) = replay(&file, &["rates", "--netns", "no-such"]);
    assert_eq!((text.as_str(), code), ("", Some(1)), "{stderr}");
}

fn filtered() {
    enter_new_netns();
    let folder = Folder::new("filtered");
    let file = folder.file("r");
    let (wanted, to) = listen(LOCALHOST);
    let port = to.port().to_string();
    let tracer = Tracer::start(&["record", "-w", &file, "--netns", "self", "--port", &port]);
    connections(5);
    let (client, server) = pair(&wanted, to);
    drop((client, server));
    settle();
    let run = tracer.stop();
    assert!(run.status.success(), "{}", run.stderr);
    let (csv, stderr, code) = replay(&file, &["-f", "csv"]);
    assert_eq!(code, Some(0), "{stderr}");
    let events: Vec<_> = csv.lines().filter(|line| line.starts_with("transition")).collect();
    assert!((10..20).contains(&events.len()) && events.iter().all(|line| line.contains(&port)), "{csv}");
    assert!(stderr.contains("with the filter of that run"), "{stderr}");
}

fn around_a_finding() {
    enter_new_netns();
    let folder = Folder::new("around");
    let file = folder.file("r");
    let found = || -> Vec<String> {
        let names = fs::read_dir(&folder.0).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("r.finding-")).collect()
    };
    let flags = ["record", "-w", &file, "--netns", "self", "--on-finding", "warning", "--stuck-after", "CLOSE_WAIT=1s"];
    let tracer = Tracer::start(&flags);
    let (listener, to) = listen(LOCALHOST);
    let pairs: Vec<_> = (0..3).map(|_| pair(&listener, to)).collect();
    let servers: Vec<_> = pairs.into_iter().map(|(_, server)| server).collect();
    let deadline = Instant::now() + Duration::from_secs(30);
    while found().is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(100));
    }
    let run = tracer.stop();
    assert!(run.status.success(), "{}", run.stderr);
    let names = found();
    assert_eq!(names.len(), 1, "{names:?} {}", run.stderr);
    assert!(names[0].ends_with("-close-wait-leak"), "{names:?}");
    assert!(run.stderr.contains("keeping the minutes around close-wait-leak"), "{}", run.stderr);
    assert!(run.stderr.contains("the minutes around a finding to a file of its own"), "{}", run.stderr);
    let kept = folder.file(&names[0]);
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    // FILE has two names now: the next run takes its place, and leaves what was kept.
    let next = Tracer::start(&["record", "-w", &file, "--netns", "self"]).stop();
    assert!(next.status.success(), "{}", next.stderr);
    let (json, stderr, code) = replay(&kept, &["-f", "json", "--stuck-after", "CLOSE_WAIT=1s"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(json.contains(r#""new_state":"CLOSE_WAIT""#) && json.contains(r#""close-wait-leak""#), "{json}");
    assert!(!stderr.contains("missing") && !stderr.contains("cut off"), "{stderr}");
    drop((listener, servers));
}

fn private() {
    enter_new_netns();
    let folder = Folder::new("private");
    let (file, other) = (folder.file("r"), folder.file("other"));
    fs::write(&other, "kept").unwrap();
    symlink(&other, &file).unwrap();
    let output = Command::new(binary()).args(["record", "-w", &file, "-d", "1s"]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("symbolic link") && stderr.contains(&file), "{stderr}");
    assert_eq!(fs::read_to_string(&other).unwrap(), "kept");
    fs::remove_file(&file).unwrap();
    fs::write(&file, "old").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let tracer = Tracer::start(&["record", "-w", &file]);
    assert!(tracer.stop().status.success());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}
