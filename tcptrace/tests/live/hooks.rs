//! Hooks on findings, of the real program: a program that is started, and servers that are slow, fail or are flooded.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::Value;
use socket2::Socket;

use crate::{
    Test,
    net::{self, LOCALHOST, enter_new_netns, listen, pair, wait_for_fin, wait_until},
    outputs::{Folder, number, records, state_of},
    privileges::with_host_proc_in,
    tracer::{Tracer, binary},
};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("a program gets each finding and its exit code counts", program),
    ("a webhook that fails gets the finding later", failing_webhook),
    ("a webhook that is slow or flooded delays nobody", flooded_webhook),
    ("a program has the container's own /proc, not the host's", own_proc),
    ("a plugin of Nagios says what is wrong and ends as Nagios wants", nagios),
];

/// A connection whose peer has closed, and which stays in CLOSE_WAIT.
fn leaked(listener: &Socket, to: SocketAddr) -> Socket {
    let (client, server) = pair(listener, to);
    drop(client);
    wait_for_fin(&server);
    server
}

const LEAKS: [&str; 6] =
    ["--netns", "self", "--findings", "only", "--stuck-after", "CLOSE_WAIT=300ms,FIN_WAIT2=never,ESTABLISHED=never"];

fn is(record: &Value, phase: &str) -> bool {
    record["finding"] == "close-wait-leak" && record["phase"] == phase
}

fn program() {
    enter_new_netns();
    let folder = Folder::new("hooks");
    let script = folder.file("hook");
    let text = "#!/bin/sh\nread -r line\necho \"$line\" >> \"$1\"\ncase $line in *'\"phase\":\"closed\"'*) echo 'cannot page' >&2; exit 3;; esac\n";
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let (got, all) = (folder.file("got"), folder.file("all"));
    let hook = format!("exec:{script},arg={got},finding=close-wait-leak");
    let file = format!("file:{all},format=json");
    let tracer = Tracer::start(&[&LEAKS[..], &["-o", &hook, "-o", &file]].concat());
    let (listener, to) = listen(LOCALHOST);
    let leak = leaked(&listener, to);
    let got_one =
        |phase: &str| fs::read_to_string(&got).is_ok_and(|text| text.contains(&format!("\"phase\":\"{phase}\"")));
    wait_until("the opening", || got_one("opened"));
    drop(leak);
    wait_until("the end", || got_one("closed"));
    let run = tracer.stop();
    let lines = records(&got);
    assert!(is(&lines[0], "opened") && is(lines.last().unwrap(), "closed"), "{lines:#?}");
    let all = records(&all);
    let findings: Vec<_> = all.iter().filter(|record| record["finding"] == "close-wait-leak").cloned().collect();
    assert_eq!(lines, findings, "each, as another output has it");
    let state = state_of(&all, hook.split(',').next().unwrap());
    assert_eq!(number(&state, "delivered") + number(&state, "refused"), lines.len(), "{state:#}");
    assert_eq!(number(&state, "refused"), 1, "{state:#}");
    assert!(run.stderr.contains("ended with exit code 3: cannot page"), "{}", run.stderr);
    assert!(run.stderr.contains("says: cannot page"), "{}", run.stderr);
}

fn own_proc() {
    enter_new_netns();
    let folder = Folder::new("own-proc");
    let (script, got, proc) = (folder.file("hook"), folder.file("got"), folder.file("proc"));
    fs::create_dir(&proc).unwrap();
    // In the host's /proc another process has this PID, or none.
    fs::write(&script, "#!/bin/sh\necho \"$$ $(cat /proc/$$/comm)\" > \"$1\"\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let (listener, to) = listen(LOCALHOST);
    let _leak = leaked(&listener, to);
    let hook = format!("exec:{script},arg={got},finding=close-wait-leak");
    let flags = [&LEAKS[..], &["--duration", "3s", "-o", "stdout", "-o", &hook]].concat();
    let output = with_host_proc_in(Path::new(&proc), &flags).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && !stderr.contains("PID namespace"), "{stderr}");
    let own = format!("[{}]", std::process::id());
    assert!(stdout.contains("close-wait-leak") && stdout.contains(&own), "found by the host's /proc: {stdout}");
    let said = fs::read_to_string(&got).unwrap();
    let (pid, name) = said.trim().split_once(' ').unwrap();
    assert!(pid.parse::<u32>().unwrap() < 100 && name == "hook", "{said}");
}

/// A server that answers as `answer` says, and keeps the bodies of all requests that it answered with success.
struct Server {
    url: String,
    bodies: Arc<Mutex<Vec<Value>>>,
    requests: Arc<AtomicUsize>,
}

impl Server {
    fn start(answer: impl Fn(usize) -> &'static str + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let (bodies, requests) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let (to_test, counted) = (Arc::clone(&bodies), Arc::clone(&requests));
        thread::spawn(move || {
            while let Ok((connection, _)) = listener.accept() {
                let mut reader = BufReader::new(&connection);
                let (mut length, mut line) = (0, String::new());
                while reader.read_line(&mut line).is_ok_and(|bytes| bytes > 2) {
                    if let Some(value) = line.to_lowercase().strip_prefix("content-length: ") {
                        length = value.trim().parse().unwrap();
                    }
                    line.clear();
                }
                let mut body = vec![0; length];
                if reader.read_exact(&mut body).is_err() || length == 0 {
                    continue;
                }
                let answer = answer(counted.fetch_add(1, Ordering::SeqCst));
                if answer.starts_with('2') {
                    to_test.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
                }
                let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                let _ = (&connection).write_all(answer.as_bytes());
            }
        });
        Self { url, bodies, requests }
    }

    fn bodies(&self) -> Vec<Value> {
        self.bodies.lock().unwrap().clone()
    }
}

fn failing_webhook() {
    enter_new_netns();
    let server = Server::start(|request| if request < 3 { "503 Service Unavailable" } else { "200 OK" });
    let folder = Folder::new("webhook");
    let (all, hook) = (folder.file("all"), format!("webhook:{},finding=close-wait-leak", server.url));
    let file = format!("file:{all},format=json");
    let tracer = Tracer::start(&[&LEAKS[..], &["-o", &hook, "-o", &file]].concat());
    let (listener, to) = listen(LOCALHOST);
    let _leak = leaked(&listener, to);
    wait_until("the finding", || server.bodies().iter().any(|body| is(body, "opened")));
    let run = tracer.stop();
    assert!(run.status.success(), "{}", run.stderr);
    let state = state_of(&records(&all), hook.split(',').next().unwrap());
    assert_eq!(
        (number(&state, "refused"), number(&state, "dropped"), number(&state, "retries")),
        (0, 0, 3),
        "{state:#}"
    );
    assert!(run.stderr.contains("responded 503") && run.stderr.contains("recovered"), "{}", run.stderr);
    assert!(!run.stderr.contains(&format!("{} responded", server.url)), "the path may be secret: {}", run.stderr);
}

fn flooded_webhook() {
    enter_new_netns();
    let server = Server::start(|_| {
        thread::sleep(Duration::from_millis(300));
        "200 OK"
    });
    let folder = Folder::new("flood");
    let (all, hook) = (folder.file("all"), format!("webhook:{},finding=close-wait-leak,rate=2/d", server.url));
    let file = format!("file:{all},format=json");
    let tracer = Tracer::start(&[&LEAKS[..], &["-o", &hook, "-o", &file]].concat());
    // A finding for each service.
    let services = [(); 6].map(|()| listen(LOCALHOST));
    let leaks: Vec<_> = services.iter().map(|(listener, to)| leaked(listener, *to)).collect();
    let opened = || fs::read_to_string(&all).is_ok_and(|text| text.matches("\"phase\":\"opened\"").count() >= 6);
    wait_until("six findings in the file", opened);
    drop(leaks);
    let closed = || fs::read_to_string(&all).is_ok_and(|text| text.matches("\"phase\":\"closed\"").count() >= 6);
    wait_until("their ends in the file", closed);
    wait_until("the ends of those that passed", || {
        server.bodies().iter().filter(|body| is(body, "closed")).count() == 2
    });
    let run = tracer.stop();
    assert!(run.status.success(), "suppressed is not lost: {}", run.stderr);
    let bodies = server.bodies();
    let numbers = |phase: &str| -> Vec<u64> {
        let mut numbers: Vec<_> =
            bodies.iter().filter(|body| is(body, phase)).map(|body| body["number"].as_u64().unwrap()).collect();
        numbers.sort_unstable();
        numbers
    };
    assert_eq!((numbers("opened").len(), numbers("opened")), (2, numbers("closed")), "{bodies:#?}");
    assert_eq!(server.requests.load(Ordering::SeqCst), bodies.len());
    let all = records(&all);
    let state = state_of(&all, hook.split(',').next().unwrap());
    let made = all.iter().filter(|record| record["finding"] == "close-wait-leak").count();
    assert_eq!(number(&state, "delivered"), bodies.len(), "{state:#}");
    assert_eq!(number(&state, "suppressed"), made - bodies.len(), "{state:#}");
    assert!(run.stderr.contains("more than 2 per day: further records are suppressed"), "{}", run.stderr);
    assert!(run.stderr.contains("were suppressed by its rate"), "{}", run.stderr);
}

fn nagios() {
    enter_new_netns();
    let check = |flags: &[&str]| {
        let flags = [&["stuck", "--once", "--format", "nagios", "--netns", "self"], flags].concat();
        let output = Command::new(binary()).args(flags).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, text, stderr) = check(&[]);
    assert_eq!(code, Some(0), "{text}{stderr}");
    assert!(
        text.starts_with("TCPTRACE OK: no finding, 0 sockets checked | critical=0;;;0 warning=0;;;0 info=0;;;0"),
        "{text}"
    );
    let (listener, to) = listen(LOCALHOST);
    let _leaks = [(); 7].map(|()| leaked(&listener, to));
    thread::sleep(Duration::from_millis(1500));
    let threshold = ["--stuck-after", "CLOSE_WAIT=1s"];
    let (code, text, stderr) = check(&threshold);
    assert_eq!(code, Some(1), "{text}{stderr}");
    let lines: Vec<_> = text.lines().collect();
    let (line, data) = lines[0].split_once(" | ").unwrap();
    assert!(
        line.starts_with("TCPTRACE WARNING: close-wait-leak ") && line.contains(&format!(" at {to}: 7, oldest")),
        "{line}"
    );
    assert!(data.starts_with("critical=0;;;0 warning=1;;;0 info=0;;;0 sockets="), "{data}");
    assert!(lines.len() == 2 && lines[1].contains(" - warning: the peer closed its side"), "{text}");
    let (code, text, _) = check(&[&threshold[..], &["--fail-on", "critical"]].concat());
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("TCPTRACE OK: close-wait-leak"), "{text}");
    // Without rights it cannot check.
    let program = crate::tracer::public_binary();
    let output = std::os::unix::process::CommandExt::uid(
        Command::new(&program.0).args(["stuck", "--once", "--format", "nagios"]),
        65534,
    )
    .output()
    .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!((output.status.code(), text.starts_with("TCPTRACE UNKNOWN: ")), (Some(3), true), "{text}");
    net::settle();
}
