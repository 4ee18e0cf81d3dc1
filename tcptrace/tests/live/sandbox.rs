//! What a run can still do once it is attached: the rights of each of its threads, and what is refused.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use crate::{
    Test,
    faults::Frozen,
    net::{LOCALHOST, enter_new_netns, listen, pair, wait_for_fin, wait_until},
    outputs::{Folder, connections},
    tracer::Tracer,
};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("each thread of a run keeps only what its options take", kept),
    ("the rights of a service are those of its user", as_user),
    ("--no-sandbox keeps all", without),
    ("files are written in the folders that outputs had at the start alone, and that is said", elsewhere),
    ("programs of exec have the rights that tcptrace was started with", programs),
    ("threads that are replaced still see other processes", replaced),
];

const BPF: u64 = 1 << 39;
const PERFMON: u64 = 1 << 38;
const SYS_ADMIN: u64 = 1 << 21;
const SYS_PTRACE: u64 = 1 << 19;
const NET_ADMIN: u64 = 1 << 12;
const DAC_READ_SEARCH: u64 = 1 << 2;
const FOREIGN_FILES: u64 = 1 << 1 | 1 << 0 | 1 << 3; // CAP_DAC_OVERRIDE, CAP_CHOWN, CAP_FOWNER

/// The lines of a thread's status, by their names.
type Status = BTreeMap<String, String>;

fn parsed(text: &str) -> Status {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

/// The status of this process.
fn own() -> Status {
    parsed(&fs::read_to_string("/proc/self/status").unwrap())
}

/// The threads of a process; not one that has just ended, as those of a listing do.
fn threads(pid: u32) -> Vec<Status> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks.filter_map(|task| Some(parsed(&fs::read_to_string(task.unwrap().path().join("status")).ok()?))).collect()
}

fn set(status: &Status, name: &str) -> u64 {
    u64::from_str_radix(&status[name], 16).unwrap()
}

/// Asserts that each thread has exactly these capabilities, as far as this process has them, and is confined.
fn assert_confined(what: &str, pid: u32, capabilities: u64) {
    let own = own();
    let filters_before: u32 = own["Seccomp_filters"].parse().unwrap();
    let threads = threads(pid);
    for thread in &threads {
        let name = &thread["Name"];
        let kept = if name == "log" { 0 } else { capabilities & set(&own, "CapPrm") };
        for wanted in ["CapEff", "CapPrm", "CapBnd"] {
            assert_eq!(set(thread, wanted), kept, "{what}: {wanted} of the thread {name}: {:x}", set(thread, wanted));
        }
        assert_eq!((set(thread, "CapInh"), set(thread, "CapAmb")), (0, 0), "{what}: {name}");
        assert_eq!((&*thread["NoNewPrivs"], &*thread["Seccomp"]), ("1", "2"), "{what}: {name}");
        // Those that read other processes open no file for writing.
        let filters: u32 = thread["Seccomp_filters"].parse().unwrap();
        let reads = ["readers", "listing", "names", "namespaces", "resolver", "counters"].contains(&name.as_str());
        assert_eq!(filters - filters_before, if reads { 3 } else { 2 }, "{what}: {name}");
    }
    let names: Vec<_> = threads.iter().map(|thread| thread["Name"].as_str()).collect();
    for wanted in ["log", "readers"] {
        assert!(names.contains(&wanted), "{what}: {names:?}");
    }
}

fn kept() {
    enter_new_netns();
    let folder = Folder::new("kept");
    let foreign = Folder::new("foreign");
    chown(&foreign.0, Some(4711), Some(4711)).unwrap();
    let names = DAC_READ_SEARCH | SYS_PTRACE;
    let two = BPF | PERFMON;
    let all = two | names | SYS_ADMIN | NET_ADMIN;
    let config = folder.file("config");
    let text = format!(
        "[[output]]\nto = \"file:{}\"\nrotate-size = \"64KiB\"\ncompress = \"zstd\"\n[[output]]\nto = \"prometheus:127.0.0.1:9478\"\n\
         [[output]]\nto = \"exec:/bin/true\"\n[[output]]\nto = \"webhook:http://127.0.0.1:9/\"\n",
        folder.file("events.json")
    );
    fs::write(&config, text).unwrap();
    let (recording, other) = (folder.file("recording"), folder.file("other"));
    let in_foreign = format!("file:{}", foreign.file("out"));
    let cases: [(&str, &[&str], u64); 10] = [
        ("a service", &["daemon", "--config", &config, "--record", &recording], all),
        ("a trace", &[], all),
        ("a trace with names of hosts", &["--resolve", "--no-iter"], two | names | SYS_ADMIN),
        ("its own namespace", &["--netns", "self"], two | names),
        ("counts", &["--aggregate"], two),
        ("counts of its own namespace", &["--aggregate", "--netns", "self"], two),
        ("findings", &["stuck"], all),
        ("a recording", &["record", "-w", &other, "--netns", "self", "--max-size", "8MiB"], two | names),
        ("stories", &["story", "127.0.0.1", "--netns", "self"], two | names),
        ("a folder of others", &["--netns", "self", "-o", &in_foreign], two | names | FOREIGN_FILES),
    ];
    for (what, flags, capabilities) in cases {
        let tracer = Tracer::start(flags);
        connections(3);
        assert_confined(what, tracer.pid(), capabilities);
        let run = tracer.stop();
        assert!(run.status.success() && !run.stderr.contains("--no-sandbox"), "{what}: {}", run.stderr);
    }
    assert!(fs::metadata(foreign.file("out")).unwrap().len() > 0);
}

fn as_user() {
    enter_new_netns();
    let folder = Folder::new("user");
    chown(&folder.0, Some(65534), Some(65534)).unwrap();
    let (out, ready) = (folder.file("out"), folder.file("ready"));
    let file = format!("file:{out},rotate-size=4KiB");
    let flags = ["--netns", "self", "--run-as", "nobody", "--format", "json", "-o", &file, "--ready-file", &ready];
    let tracer = Tracer::spawn(&flags);
    wait_until("the start", || Path::new(&ready).exists());
    connections(20);
    wait_until("a rotation", || fs::read_dir(&folder.0).unwrap().count() > 2);
    assert_confined("a user", tracer.pid(), BPF | PERFMON | DAC_READ_SEARCH | SYS_PTRACE);
    for thread in threads(tracer.pid()) {
        for ids in ["Uid", "Gid"] {
            let same = thread[ids].split_whitespace().all(|id| id == "65534");
            assert!(same, "{ids} of {}: {}", thread["Name"], thread[ids]);
        }
    }
    let run = tracer.stop();
    assert!(run.status.success() && !Path::new(&ready).exists(), "{}", run.stderr);
    for file in fs::read_dir(&folder.0).unwrap() {
        let known = file.unwrap().metadata().unwrap();
        assert_eq!((std::os::unix::fs::MetadataExt::uid(&known), known.permissions().mode() & 0o777), (65534, 0o600));
    }
    // What root may do counts no more.
    let private = Folder::new("private");
    fs::set_permissions(&private.0, fs::Permissions::from_mode(0o700)).unwrap();
    let file = format!("file:{}", private.file("out"));
    let run = Tracer::spawn(&["--netns", "self", "--run-as", "nobody", "-o", &file]).wait();
    assert!(run.status.code() == Some(1) && run.stderr.contains("Permission denied"), "{}", run.stderr);
    let run = Tracer::spawn(&["--netns", "self", "--run-as", "nobody-at-all"]).wait();
    assert!(run.stderr.contains("--run-as nobody-at-all") && run.stderr.contains("no such user"), "{}", run.stderr);
}

fn without() {
    enter_new_netns();
    let own = own();
    let tracer = Tracer::start(&["--netns", "self", "--no-sandbox"]);
    for thread in threads(tracer.pid()).iter().filter(|thread| thread["Name"] != "log") {
        assert_eq!(thread["CapPrm"], own["CapPrm"], "{}", thread["Name"]);
        assert_eq!((&thread["NoNewPrivs"], &thread["Seccomp"]), (&own["NoNewPrivs"], &own["Seccomp"]));
    }
    tracer.stop();
}

/// A folder that is moved away and made again is another one, which only a new start may write to.
fn elsewhere() {
    enter_new_netns();
    let parent = Folder::new("elsewhere");
    let (logs, before) = (parent.file("logs"), parent.file("before"));
    fs::create_dir(&logs).unwrap();
    let (file, all) = (format!("{logs}/events.json"), parent.file("all"));
    // Not in the folder above, which would allow everything beneath it.
    fs::create_dir(&all).unwrap();
    let all = format!("{all}/events.json");
    let (flag, other) = (format!("file:{file},format=json"), format!("file:{all},format=json"));
    let ready = format!("{all}.ready");
    let flags = ["--netns", "self", "--findings", "off", "-o", &flag, "-o", &other, "--ready-file", &ready];
    let tracer = Tracer::spawn(&flags);
    wait_until("the start", || Path::new(&ready).exists());
    connections(3);
    wait_until("records", || fs::metadata(&file).is_ok_and(|known| known.len() > 0));
    fs::rename(&logs, &before).unwrap();
    fs::create_dir(&logs).unwrap();
    tracer.signal(libc::SIGHUP);
    thread::sleep(Duration::from_millis(300));
    connections(3);
    wait_until("records", || fs::metadata(&all).is_ok_and(|known| known.len() > 2000));
    let run = tracer.stop();
    assert_eq!(fs::read_dir(&logs).unwrap().count(), 0, "nothing was made");
    assert!(run.stderr.contains("the sandbox forbids it") && run.stderr.contains("--no-sandbox"), "{}", run.stderr);
}

fn programs() {
    enter_new_netns();
    let folder = Folder::new("programs");
    let (script, got) = (folder.file("hook"), folder.file("got"));
    // It writes where tcptrace may not, changes a mode, and mounts.
    let text = "#!/bin/sh\nunshare --mount sh -c 'mount -t tmpfs none /mnt && echo mounted' > \"$1.new\" 2>&1\n\
                cat /proc/self/status >> \"$1.new\"\nchmod 640 \"$1.new\"\nmv \"$1.new\" \"$1\"\n";
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let hook = format!("exec:{script},arg={got},finding=close-wait-leak");
    let flags = ["--netns", "self", "--findings", "only", "--stuck-after", "CLOSE_WAIT=300ms", "-o", &hook];
    let tracer = Tracer::start(&flags);
    let (listener, to) = listen(LOCALHOST);
    let (client, server) = pair(&listener, to);
    drop(client);
    wait_for_fin(&server);
    wait_until("the program", || Path::new(&got).exists());
    assert_confined("a trace with programs", tracer.pid(), BPF | PERFMON | DAC_READ_SEARCH | SYS_PTRACE);
    tracer.stop();
    let (own, its) = (own(), parsed(&fs::read_to_string(&got).unwrap()));
    for name in ["CapPrm", "CapBnd", "NoNewPrivs", "Seccomp"] {
        assert_eq!(its[name], own[name], "{name}");
    }
    assert!(fs::read_to_string(&got).unwrap().starts_with("mounted\n"), "{}", fs::read_to_string(&got).unwrap());
}

/// Threads are replaced by threads with the same rights: under Landlock they would see no other process.
fn replaced() {
    enter_new_netns();
    let (listener, to) = listen(LOCALHOST);
    let tracer = Tracer::here(&["--findings", "on"]);
    let connect = format!("exec 3<>/dev/tcp/{}/{}; read line", to.ip(), to.port());
    let is_executable_known = || {
        let mut client = Command::new("bash").args(["-c", &connect]).stdin(Stdio::piped()).spawn().unwrap();
        let opened = tracer.wait_for_record("its connection", |record| {
            record["pid"] == client.id() && record["new_state"] == "SYN_SENT"
        });
        drop((listener.accept().unwrap(), client.stdin.take()));
        client.wait().unwrap();
        opened["executable"].as_str().is_some_and(|path| path.ends_with("/bash"))
    };
    // A thread that has just begun may not answer in time, and must not be stopped while others wait for what it prepares.
    wait_until("the path of an executable", is_executable_known);
    let frozen = ["listing", "names"].map(|name| Frozen::new(tracer.pid(), name));
    wait_until("other threads", || {
        let threads = threads(tracer.pid());
        ["listing", "names"].iter().all(|name| threads.iter().filter(|thread| thread["Name"] == *name).count() == 2)
    });
    assert_confined("with replaced threads", tracer.pid(), BPF | PERFMON | DAC_READ_SEARCH | SYS_PTRACE);
    wait_until("the path of an executable", is_executable_known);
    drop(frozen);
    tracer.stop();
}
