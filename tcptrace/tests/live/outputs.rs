//! Several outputs of one run: each gets what it wants, and what it does not get is counted.

use std::{
    ffi::CString,
    fs,
    io::{Read as _, Write as _},
    net::{TcpStream, UdpSocket},
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    Test,
    net::{LOCALHOST, close, enter_new_netns, listen, pair, settle},
    tracer::{Removed, Tracer, binary, temporary},
};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("each output gets what it wants", each_what_it_wants),
    ("a full disk loses what is counted and the stream goes on", full_disk),
    ("SIGHUP opens files again", hangup),
    ("a reader that is slow loses what is counted", slow_reader),
    ("a service tells how it is", service),
    ("a service that counts in the kernel tells how it is", service_that_counts),
    ("a service tells why it failed at any level", failed_service),
    ("a service that writes to stdout is reloaded", service_to_stdout),
    ("names that nobody looks up and secrets that nobody sees", nameless),
    ("metrics are served when nobody reads stdout any more", served_on),
    ("metrics are of the moment and come to the same as events", metrics),
    ("metrics of aggregate mode are those of its summary", metrics_of_counts),
];

/// A folder that goes with it.
pub(crate) struct Folder(pub PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = temporary(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Makes connections, one after another, and closes each at both ends.
pub(crate) fn connections(count: usize) {
    let (listener, to) = listen(LOCALHOST);
    for _ in 0..count {
        drop(pair(&listener, to));
    }
}

/// The records of a file.
pub(crate) fn records(path: impl AsRef<Path>) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "a half line: {text}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What the last record of a run says of an output.
pub(crate) fn state_of(records: &[Value], name: &str) -> Value {
    let end = records.last().unwrap();
    assert_eq!(end["event"], "end");
    let outputs = end["outputs"].as_array().unwrap();
    outputs.iter().find(|output| output["output"] == name).unwrap_or_else(|| panic!("no {name}: {end:#}")).clone()
}

/// A number of a record.
pub(crate) fn number(value: &Value, name: &str) -> usize {
    value[name].as_u64().unwrap() as usize
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what} does not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn each_what_it_wants() {
    enter_new_netns();
    let folder = Folder::new("outputs");
    let all = format!("file:{},format=json", folder.file("all"));
    let some = format!("file:{},format=json,records=transitions+end,state=CLOSE_WAIT", folder.file("some"));
    let rows = format!("file:{},format=csv,rotate-size=4KiB,compress=zstd", folder.file("rows"));
    let flags = [
        "--netns",
        "self",
        "--findings",
        "off",
        "-o",
        "stdout,records=summaries",
        "-o",
        &all,
        "-o",
        &some,
        "-o",
        &rows,
    ];
    let tracer = Tracer::start(&flags);
    connections(50);
    settle();
    let run = tracer.stop();
    assert!(run.status.success(), "{}", run.stderr);
    let first = run.lines.iter().find(|line| !line.is_empty()).unwrap();
    assert!(first.starts_with("Summary of"), "{:#?}", run.lines);

    let (all, some) = (records(folder.0.join("all")), records(folder.0.join("some")));
    let is_event = |record: &&Value| record.get("cpu").is_some();
    let concerns = |record: &&Value| record["old_state"] == "CLOSE_WAIT" || record["new_state"] == "CLOSE_WAIT";
    let wanted: Vec<_> = all.iter().filter(concerns).cloned().collect();
    assert_eq!(wanted.len(), 100);
    assert_eq!(some[..some.len() - 1], wanted);
    assert_eq!(some.last(), all.last());

    // All rows are there, in files that were begun one after another, each with the names of the columns.
    let mut files: Vec<_> = fs::read_dir(&folder.0).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with("rows"));
    assert!(files.len() > 5, "{files:?}");
    let mut rows = 0;
    for path in files {
        let mut text = String::new();
        let file = fs::File::open(&path).unwrap();
        match path.extension().is_some_and(|last| last == "zst") {
            true => zstd::Decoder::new(file).unwrap().read_to_string(&mut text).unwrap(),
            false => { file }.read_to_string(&mut text).unwrap(),
        };
        assert!(text.starts_with("event,time,mono_ns,") && text.ends_with('\n'), "{path:?}: {text}");
        rows += text.lines().count() - 1;
    }
    assert_eq!(rows, all.iter().filter(is_event).count());
    for output in all.last().unwrap()["outputs"].as_array().unwrap() {
        assert_eq!((number(output, "dropped"), number(output, "refused")), (0, 0), "{output}");
    }
}

/// Mounts a file system of so many bytes, which is there for this process and its children only.
pub(crate) fn mount_small(path: &Path, bytes: u32) {
    let (kind, root) = (CString::new("tmpfs").unwrap(), CString::new("/").unwrap());
    let path = CString::new(path.to_str().unwrap()).unwrap();
    let options = CString::new(format!("size={bytes}")).unwrap();
    let null = std::ptr::null();
    // SAFETY: strings that live as long as the calls.
    unsafe {
        assert_eq!(libc::unshare(libc::CLONE_NEWNS), 0);
        assert_eq!(libc::mount(null, root.as_ptr(), null, libc::MS_REC | libc::MS_PRIVATE, null.cast()), 0);
        assert_eq!(libc::mount(kind.as_ptr(), path.as_ptr(), kind.as_ptr(), 0, options.as_ptr().cast()), 0);
    }
}

/// Puts a file at the place of another one, for this process and its children only.
fn mount_over(file: &Path, place: &str) {
    let (file, place) = (CString::new(file.to_str().unwrap()).unwrap(), CString::new(place).unwrap());
    let null = std::ptr::null();
    // SAFETY: strings that live as long as the call.
    assert_eq!(unsafe { libc::mount(file.as_ptr(), place.as_ptr(), null, libc::MS_BIND, null.cast()) }, 0);
}

/// The server of names takes questions and never answers, as behind a firewall.
fn nameless() {
    enter_new_netns();
    let (folder, files) = (Folder::new("nameless"), Folder::new("etc"));
    mount_small(&files.0, 1 << 20);
    let resolv = files.0.join("resolv.conf");
    fs::write(&resolv, "nameserver 127.0.0.1\n").unwrap();
    mount_over(&resolv, "/etc/resolv.conf");
    let silent = UdpSocket::bind("127.0.0.1:53").unwrap();
    let (out, ready) = (folder.0.join("out"), Removed(temporary("ready")));
    let (stdout, stderr) = (folder.0.join("stdout"), folder.0.join("stderr"));
    let mut child = Command::new(binary())
        .args(["--netns", "self", "--ready-file", ready.0.to_str().unwrap()])
        .args(["-o", "stdout", "-o", &format!("file:{},format=json", out.display())])
        .args(["-o", "otlp:http://collector.invalid:4318,timeout=1s", "-o", "syslog:tcp:log.invalid"])
        .args(["-o", "otlp:http://127.0.0.1:1"]) // nobody is there
        .env("TCPTRACE_OTLP_HEADERS", "api-key=sekret")
        .stdout(fs::File::create(&stdout).unwrap())
        .stderr(fs::File::create(&stderr).unwrap())
        .spawn()
        .unwrap();
    until("the start", || ready.0.exists());
    silent.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    connections(10);
    assert!(silent.recv(&mut [0; 512]).unwrap() > 0, "a name is asked for");
    let told = || fs::read_to_string(&stderr).unwrap();
    until("both collectors' trouble", || {
        told().contains("collector.invalid:4318 logs: ") && told().contains("http://127.0.0.1:1 logs: ")
    });
    let shown = fs::read(format!("/proc/{}/cmdline", child.id())).unwrap();
    // SAFETY: takes no pointers; the child has not been waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    until("the end", || child.try_wait().unwrap().is_some());

    let all = records(&out);
    let made = all.iter().filter(|record| record["event"] != "end").count();
    for name in ["otlp:http://collector.invalid:4318 logs", "otlp:http://127.0.0.1:1 logs"] {
        let state = state_of(&all, name);
        let counts = ["delivered", "waiting", "dropped"].map(|name| number(&state, name));
        assert_eq!(counts, [0, 0, made], "{state}");
    }
    let lost: usize =
        all.last().unwrap()["outputs"].as_array().unwrap().iter().map(|state| number(state, "dropped")).sum();
    assert_eq!(number(&all.last().unwrap()["losses"], "outputs"), lost);
    for text in [&shown, &fs::read(&out).unwrap(), &fs::read(&stdout).unwrap(), &fs::read(&stderr).unwrap()] {
        assert!(!text.is_empty() && !String::from_utf8_lossy(text).contains("sekret"));
    }
}

fn full_disk() {
    enter_new_netns();
    let (folder, disk) = (Folder::new("roomy"), Folder::new("disk"));
    mount_small(&disk.0, 2 << 20);
    let (ballast, room) = (disk.0.join("ballast"), 128 << 10);
    fs::write(&ballast, vec![0; (2 << 20) - room]).unwrap();
    let (small_path, roomy_path) = (disk.0.join("out"), folder.0.join("out"));
    let name = format!("file:{}", small_path.display());
    let small = format!("{name},format=json,records=events,queue=64KiB");
    let roomy = format!("file:{},format=json", roomy_path.display());
    let tracer = Tracer::start(&["--netns", "self", "--findings", "off", "-o", &small, "-o", &roomy]);
    connections(100); // about 700 KB
    until("all of it", || fs::read(&roomy_path).unwrap().iter().filter(|byte| **byte == b'\n').count() >= 1000);
    let len = || fs::metadata(&small_path).unwrap().len();
    until("a full disk", || len() >= room as u64 / 2);
    assert!(len() <= room as u64, "{} bytes", len());
    fs::remove_file(&ballast).unwrap(); // there is room again
    until("more than there was room for", || len() > room as u64);
    settle();
    connections(1);
    settle();
    let run = tracer.stop();
    assert!(run.status.success(), "{}", run.stderr);
    assert!(run.stderr.contains(&format!("output {name}: No space left on device")), "{}", run.stderr);
    assert!(run.stderr.contains(&format!("output {name}: recovered")), "{}", run.stderr);

    let (small, roomy) = (records(&small_path), records(&roomy_path));
    let made: Vec<_> = roomy.iter().filter(|record| record.get("cpu").is_some()).collect();
    let state = state_of(&roomy, &name);
    assert_eq!(number(&state, "delivered"), small.len(), "each line that is there was counted");
    assert!(number(&state, "dropped") > 0, "{state}");
    assert_eq!(number(&state, "delivered") + number(&state, "dropped"), made.len(), "and each that is not: {state}");
    assert_eq!(roomy.last().unwrap()["losses"]["outputs"], state["dropped"]);
    assert_eq!(small.last(), made.last().copied(), "the stream went on");
    assert!(small.iter().all(|line| made.contains(&line)), "nothing else");
}

fn hangup() {
    enter_new_netns();
    let folder = Folder::new("hangup");
    let (path, moved) = (folder.0.join("out"), folder.0.join("moved"));
    let tracer = Tracer::start(&["--netns", "self", "-o", &format!("file:{},format=json", path.display())]);
    connections(3);
    until("records", || fs::read(&path).unwrap().iter().filter(|byte| **byte == b'\n').count() > 20);
    fs::rename(&path, &moved).unwrap();
    connections(3);
    settle();
    tracer.signal(libc::SIGHUP);
    until("a new file", || {
        path.exists() || {
            connections(1);
            settle();
            false
        }
    });
    let run = tracer.stop();
    assert!(run.status.success(), "{}", run.stderr);
    let (before, after) = (records(&moved), records(&path));
    assert!(before.len() > 20 && !after.is_empty(), "{} and {}", before.len(), after.len());
    let delivered = number(&state_of(&after, &format!("file:{}", path.display())), "delivered");
    assert_eq!(before.len() + after.len(), delivered + 1, "all but the last record were counted in it");
}

fn slow_reader() {
    enter_new_netns();
    let (folder, ready) = (Folder::new("slow"), Removed(temporary("ready")));
    let roomy = format!("file:{},format=json", folder.file("out"));
    let child = Command::new(binary())
        .args(["--netns", "self", "--findings", "off", "-o", &roomy])
        .args(["-o", "stdout,format=json,records=events,queue=64KiB", "--ready-file"])
        .arg(&ready.0)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = child.unwrap();
    until("the start", || ready.0.exists());
    connections(500);
    let lines = || fs::read(folder.file("out")).unwrap().iter().filter(|byte| **byte == b'\n').count();
    until("all of it", || lines() >= 5002);
    // Now it reads.
    let mut stdout = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text).unwrap()
    });
    // SAFETY: takes no pointers; the child has not been waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    assert!(child.wait().unwrap().success());
    let text = reader.join().unwrap();
    assert!(text.ends_with('\n'));
    let got = text.lines().inspect(|line| _ = serde_json::from_str::<Value>(line).unwrap()).count();
    let all = records(folder.file("out"));
    let made = all.iter().filter(|record| record.get("cpu").is_some()).count();
    let state = state_of(&all, "stdout");
    assert!(number(&state, "dropped") > 100, "{state}");
    assert_eq!((number(&state, "delivered"), number(&state, "dropped")), (got, made - got), "{state}");
    assert_eq!(all.last().unwrap()["losses"]["ring_buffer"], 0, "the ring buffer was read all the time");
}

fn service() {
    serve("[[output]]\nto = \"file:OUT\"\nformat = \"json\"\n");
}

fn service_that_counts() {
    serve("aggregate = true\n[[output]]\nto = \"file:OUT\"\nformat = \"json\"\n");
}

fn failed_service() {
    let folder = Folder::new("failed");
    let config = folder.0.join("config");
    fs::write(&config, "log-level = \"error\"\n[[output]]\nto = \"file:/no/such/file\"\n").unwrap();
    let run = Command::new(binary()).args(["daemon", "--config"]).arg(&config).env_remove("JOURNAL_STREAM").output();
    let (run, words) = (run.unwrap(), "cannot write to file:/no/such/file: No such file");
    assert!(!run.status.success() && String::from_utf8_lossy(&run.stderr).contains(words), "{run:?}");
}

fn service_to_stdout() {
    serve("format = \"json\"\n");
}

/// A service with this in its config file, which makes the file `OUT` or writes to stdout.
fn serve(text: &str) {
    enter_new_netns();
    let folder = Folder::new("service");
    let (notify, config, out) = (folder.0.join("notify"), folder.0.join("config"), folder.0.join("out"));
    fs::write(&config, format!("netns = \"self\"\n{}", text.replace("OUT", out.to_str().unwrap()))).unwrap();
    let stdout = if text.contains("OUT") { Stdio::null() } else { fs::File::create(&out).unwrap().into() };
    let socket = UnixDatagram::bind(&notify).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let receive = || {
        let mut bytes = [0; 4096];
        let len = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..len].to_vec()).unwrap()
    };
    let wait_for = |word: &str| loop {
        let told = receive();
        if told.contains(word) {
            return told;
        }
    };
    let mut child = Command::new(binary())
        .args(["daemon", "--config"])
        .arg(&config)
        .env("NOTIFY_SOCKET", &notify)
        .env_remove("JOURNAL_STREAM")
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let signal = |signal| {
        // SAFETY: takes no pointers; the child has not been waited for.
        unsafe { libc::kill(child.id() as i32, signal) }
    };
    wait_for("READY=1");
    connections(3);
    assert!(wait_for("WATCHDOG=1").contains("STATUS="));
    signal(libc::SIGHUP);
    assert!(wait_for("RELOADING=1").contains("MONOTONIC_USEC="));
    wait_for("READY=1");
    signal(libc::SIGTERM);
    wait_for("STOPPING=1");
    let status = child.wait().unwrap();
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(status.success(), "{log}");
    assert!(log.contains("INFO") && log.contains(", none lost\n"), "{log}");
    assert_eq!(records(&out).last().unwrap()["reason"], "terminated");
}

/// What the server of metrics answers.
fn get(address: &str, path: &str) -> String {
    let mut connection = TcpStream::connect(address).unwrap();
    write!(connection, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    connection.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    text
}

fn served_on() {
    enter_new_netns();
    served_on_with(&[]);
    served_on_with(&["--aggregate", "--interval", "100ms"]);
}

fn served_on_with(flags: &[&str]) {
    let ready = Removed(temporary("ready"));
    let mut child = Command::new(binary())
        .args(["--netns", "self", "-o", "stdout", "-o", "prometheus:7392", "--ready-file", ready.0.to_str().unwrap()])
        .args(flags)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    until("the start", || ready.0.exists());
    let lost = "tcptrace_output_records_total{output=\"stdout\",result=\"dropped\"} ";
    until("what nobody reads", || {
        connections(1);
        settle();
        get("127.0.0.1:7392", "/metrics").lines().any(|line| line.strip_prefix(lost).is_some_and(|count| count != "0"))
    });
    // SAFETY: takes no pointers; the child has not been waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    assert!(child.wait().unwrap().success());
}

fn metrics() {
    enter_new_netns();
    let folder = Folder::new("metrics");
    let out = format!("file:{},format=json", folder.file("out"));
    let address = "127.0.0.1:7390";
    let flags = ["--remote-port", "7391", "-o", &out, "-o", "prometheus:7390", "--metrics-by", "none"];
    let tracer = Tracer::start(&flags);
    let (listener, to) = crate::net::listen_on("127.0.0.1:7391".parse().unwrap());
    let open: Vec<_> = (0..20).map(|_| pair(&listener, to)).collect();
    (0..30).for_each(|_| drop(pair(&listener, to)));
    settle();
    assert!(get(address, "/readyz").ends_with("\r\n\r\nready\n"));
    let text = get(address, "/metrics");
    let value = |series: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series}: {text}")).parse::<f64>().unwrap() as usize
    };
    assert_eq!(value("tcptrace_connections{state=\"ESTABLISHED\"}"), 20);
    assert_eq!(value("tcptrace_transitions_total{from=\"SYN_SENT\",to=\"ESTABLISHED\"}"), 50);
    assert_eq!(value("tcptrace_transition_latency_seconds_count{from=\"SYN_SENT\",to=\"ESTABLISHED\"}"), 50);
    drop(open);
    settle();
    let run = tracer.stop();
    assert!(run.status.success(), "{}", run.stderr);
    let all = records(folder.file("out"));
    let established = |record: &&Value| record["old_state"] == "SYN_SENT" && record["new_state"] == "ESTABLISHED";
    assert_eq!(all.iter().filter(established).count(), 50);
}

fn metrics_of_counts() {
    enter_new_netns();
    let tracer =
        Tracer::start(&["--aggregate", "port", "--remote-port", "7393", "-o", "stdout", "-o", "prometheus:7392"]);
    let (listener, to) = crate::net::listen_on("127.0.0.1:7393".parse().unwrap());
    (0..50).for_each(|_| close(pair(&listener, to)));
    settle();
    let text = get("127.0.0.1:7392", "/metrics");
    let labels = "from=\"SYN_SENT\",to=\"ESTABLISHED\"";
    for line in [
        format!("tcptrace_transitions_total{{{labels},service_port=\"7393\"}} 50"),
        format!("tcptrace_transition_latency_seconds_count{{{labels}}} 50"),
        "tcptrace_connection_endings_total{ending=\"normal\",service_port=\"7393\"} 50".to_owned(),
    ] {
        assert!(text.lines().any(|told| told == line), "no {line}: {text}");
    }
    assert!(get("127.0.0.1:7392", "/healthz").ends_with("ok\n"));
    assert!(tracer.stop().status.success());
}
