//! What hangs, dies or is sent to tcptrace: the stream goes on, what is lost is counted, and the run ends when it is told to.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::{
            fs::OpenOptionsExt as _,
            net::{UnixDatagram, UnixStream},
            process::{CommandExt as _, ExitStatusExt as _},
        },
    },
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    Test,
    net::{enter_new_netns, wait_until},
    outputs::{Folder, connections, mount_small, number, records, state_of},
    tracer::binary,
};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("a stderr that nobody reads holds nothing up", stuck_stderr),
    ("a journald that hangs holds nothing up", stuck_journald),
    ("a service manager that does not read holds nothing up", stuck_manager),
    ("a line of stderr is one write", whole_lines),
    ("every signal that ends a run ends it well", ending_signals),
    ("nohup is heeded", nohup),
    ("a second signal ends a run at once", second_signal),
    ("a signal that comes twice at once is one", doubled_signal),
    ("what a collector that never answers did not get is counted", tarpit),
    ("a device that is full ends a run", full_device),
    ("a thread that hangs is told of, and another one takes its place", frozen_threads),
    ("an end with a thread that hangs", frozen_end),
    ("a main loop that hangs", frozen_main),
    ("a file that may not grow is as a full disk", limited_file),
    ("an end is one short line", short_end),
];

/// Waits for something for so long at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// A tcptrace that writes all to a file.
struct Run {
    child: Child,
    folder: Folder,
}

impl Run {
    /// Starts it with these flags besides, and waits until it is ready.
    fn start(name: &str, prepare: impl FnOnce(&mut Command)) -> Self {
        let folder = Folder::new(name);
        let mut command = Command::new(binary());
        command
            .args(["--netns", "self", "--findings", "off"])
            .args(["-o", &format!("file:{},format=json,queue=256MiB", folder.file("out"))])
            .args(["--ready-file", &folder.file("ready")])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        prepare(&mut command);
        let child = command.spawn().unwrap();
        let run = Self { child, folder };
        wait_until("the start", || run.ready());
        run
    }

    fn ready(&self) -> bool {
        self.folder.0.join("ready").exists()
    }

    fn signal(&self, signal: i32) {
        // SAFETY: takes no pointers; the child has not been waited for, so the PID is its own.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
    }

    fn wait(&mut self) -> ExitStatus {
        ended(&mut self.child)
    }

    fn stderr(&mut self) -> String {
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }

    fn records(&self) -> Vec<Value> {
        records(self.folder.0.join("out"))
    }

    fn lines(&self) -> usize {
        fs::read(self.folder.0.join("out")).unwrap().iter().filter(|byte| **byte == b'\n').count()
    }

    /// Makes connections, and checks that all of their events are written while it runs.
    fn assert_goes_on(&self) {
        let before = self.lines();
        connections(20);
        wait_until("events in the file", || self.lines() >= before + 200);
    }

    /// Ends it, and checks that nothing was lost but lines of the log; gives what became of these.
    fn assert_ends_well(&mut self) -> Value {
        self.signal(libc::SIGTERM);
        assert_eq!(self.wait().code(), Some(0));
        let records = self.records();
        let end = records.last().unwrap();
        assert_eq!((&end["event"], &end["reason"]), (&"end".into(), &"terminated".into()));
        assert!(end["losses"].as_object().unwrap().values().all(|lost| lost == 0), "{end:#}");
        assert!(!self.ready(), "the ready file is gone");
        state_of(&records, "log")
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn ended(child: &mut Child) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if start.elapsed() > PATIENCE {
            let _ = child.kill();
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Both ends of a pipe.
fn pipe() -> (OwnedFd, OwnedFd) {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors, which are nobody else's.
    unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0);
        (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
    }
}

/// A terminal: who reads it, and what is written to.
fn terminal() -> (OwnedFd, OwnedFd) {
    let (mut reader, mut writer) = (0, 0);
    let null = std::ptr::null_mut();
    // SAFETY: two places for descriptors, which are nobody else's.
    unsafe {
        assert_eq!(libc::openpty(&raw mut reader, &raw mut writer, null, null.cast(), null.cast()), 0);
        (OwnedFd::from_raw_fd(reader), OwnedFd::from_raw_fd(writer))
    }
}

/// Writes until there is no more room.
fn fill(to: &OwnedFd) {
    let again = format!("/proc/self/fd/{}", to.as_raw_fd());
    let mut again = fs::OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(again).unwrap();
    while again.write(&[b'x'; 4096]).is_ok() {}
    while again.write(b"x").is_ok() {}
}

/// It says much, and nobody reads it: a pipe, a terminal, a socket.
fn stuck_stderr() {
    enter_new_netns();
    let (unread_pipe, full_pipe) = pipe();
    fill(&full_pipe);
    let (unread_terminal, full_terminal) = terminal();
    let (unread_socket, full_socket) = UnixStream::pair().unwrap();
    for (name, stderr) in [
        ("pipe", Stdio::from(full_pipe)),
        ("terminal", Stdio::from(full_terminal)),
        ("socket", Stdio::from(OwnedFd::from(full_socket))),
    ] {
        let mut run = Run::start(name, |command| _ = command.args(["--bpf-log", "trace"]).stderr(stderr));
        for _ in 0..20 {
            run.assert_goes_on();
        }
        let log = run.assert_ends_well();
        let counts = ["delivered", "dropped", "waiting"].map(|count| number(&log, count));
        assert!(counts[1] + counts[2] > 1000, "{name}: {log}");
        assert!(log["trouble"].as_str().unwrap().contains("has stopped reading"), "{name}: {log}");
    }
    drop((unread_pipe, unread_terminal, unread_socket));
}

/// Sockets of datagrams that are made from now on in this network namespace have room for one.
fn one_datagram() {
    fs::write("/proc/sys/net/unix/max_dgram_qlen", "0").unwrap();
}

/// The socket of journald takes one datagram, and then no more.
fn stuck_journald() {
    enter_new_netns();
    one_datagram();
    let place = Folder::new("journal");
    mount_small(Path::new("/run"), 1 << 20);
    fs::create_dir_all("/run/systemd/journal").unwrap();
    let _journald = UnixDatagram::bind("/run/systemd/journal/socket").unwrap();
    let config = place.0.join("config");
    fs::write(&config, "bpf-log = \"trace\"\n").unwrap();
    let mut run = Run::start("journald", |command| {
        let flags: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        *command = Command::new(binary());
        command.args(["daemon", "--config"]).arg(&config).args(flags);
        command.env("JOURNAL_STREAM", "1:1").stdout(Stdio::null()).stderr(Stdio::piped());
    });
    for _ in 0..20 {
        run.assert_goes_on();
    }
    let log = run.assert_ends_well();
    assert!(number(&log, "dropped") + number(&log, "waiting") > 1000, "{log}");
    assert_eq!(run.stderr(), "");
}

/// The socket of the service manager takes one message, and then no more.
fn stuck_manager() {
    enter_new_netns();
    one_datagram();
    let place = Folder::new("manager");
    let at = place.0.join("notify");
    let manager = UnixDatagram::bind(&at).unwrap();
    let config = place.0.join("config");
    fs::write(&config, "").unwrap();
    let mut run = Run::start("notify", |command| {
        let flags: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        *command = Command::new(binary());
        command.args(["daemon", "--config"]).arg(&config).args(flags).env_remove("JOURNAL_STREAM");
        command.env("NOTIFY_SOCKET", &at).stdout(Stdio::null()).stderr(Stdio::piped());
    });
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(4) {
        run.assert_goes_on(); // meanwhile it has something to say each second
    }
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let receive = || {
        let mut bytes = [0; 4096];
        let len = manager.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..len]).into_owned()
    };
    assert_eq!(receive(), "READY=1");
    while !receive().starts_with("WATCHDOG=1\nSTATUS=") {}
    run.assert_ends_well();
}

/// Each write to a socket of datagrams is one message.
fn whole_lines() {
    enter_new_netns();
    let (reader, writer) = UnixDatagram::pair().unwrap();
    let reading = std::thread::spawn(move || {
        let mut messages = Vec::new();
        let mut bytes = vec![0; 1 << 20];
        while let Ok(len @ 1..) = reader.recv(&mut bytes) {
            messages.push(String::from_utf8_lossy(&bytes[..len]).into_owned());
        }
        messages
    });
    let other = writer.try_clone().unwrap();
    let mut run = Run::start("lines", |command| {
        _ = command.args(["--bpf-log", "trace"]).stderr(Stdio::from(OwnedFd::from(writer)));
    });
    run.assert_goes_on();
    run.assert_ends_well();
    // What is said without a log, too, and of what was typed wrong.
    for flags in [&["sockets", "--output", "/no/such/file"][..], &["--no-such-flag"], &["--port", "http"]] {
        let stderr = Stdio::from(OwnedFd::from(other.try_clone().unwrap()));
        assert!(!Command::new(binary()).args(flags).stderr(stderr).status().unwrap().success());
    }
    other.send(&[]).unwrap(); // the end
    let messages = reading.join().unwrap();
    assert!(messages.len() > 10, "{messages:?}");
    for message in messages {
        let begins = message.starts_with("tcptrace: ") || message.starts_with("error: ");
        assert!(begins && message.ends_with('\n'), "{message:?}");
    }
}

fn ending_signals() {
    enter_new_netns();
    for signal in [libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2, libc::SIGALRM, libc::SIGXCPU, libc::SIGPWR] {
        // With stdout among the outputs SIGHUP does not open files again.
        let mut run = Run::start("signal", |command| {
            command.args(["-o", "stdout"]).stderr(Stdio::piped());
            // The tests may run under nohup.
            // SAFETY: signal(2) may be called there.
            unsafe {
                command.pre_exec(move || {
                    libc::signal(signal, libc::SIG_DFL);
                    Ok(())
                })
            };
        });
        connections(20);
        run.signal(signal);
        let status = run.wait();
        let stderr = run.stderr();
        assert_eq!(status.code(), Some(0), "{signal}: {status}: {stderr}");
        assert!(stderr.ends_with("events, none lost\n"), "{signal}: {stderr}");
        let records = run.records();
        assert!(records.len() > 200, "{signal}: what happened before is told: {}", records.len());
        assert_eq!(records.last().unwrap()["reason"], "terminated", "{signal}");
        assert!(!run.ready(), "{signal}");
    }
}

fn nohup() {
    enter_new_netns();
    let mut run = Run::start("nohup", |command| {
        command.args(["-o", "stdout"]).stderr(Stdio::null());
        // SAFETY: signal(2) may be called there.
        unsafe {
            command.pre_exec(|| {
                libc::signal(libc::SIGHUP, libc::SIG_IGN);
                Ok(())
            })
        };
    });
    run.signal(libc::SIGHUP);
    run.assert_goes_on();
    run.assert_ends_well();
}

/// An output that nobody reads keeps the end for some seconds.
fn second_signal() {
    enter_new_netns();
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let (_unread, full) = pipe();
        fill(&full);
        let mut run = Run::start("second", |command| {
            _ = command.args(["-o", "stdout,format=json"]).stdout(full).stderr(Stdio::piped());
        });
        connections(20);
        run.signal(signal);
        wait_until("the beginning of the end", || !run.ready());
        std::thread::sleep(Duration::from_millis(300)); // as somebody's fingers
        assert!(run.child.try_wait().unwrap().is_none(), "it still waits for its reader");
        run.signal(signal);
        let status = run.wait();
        let stderr = run.stderr();
        assert_eq!((status.code(), status.signal()), (Some(128 + signal), None), "{stderr}");
        assert!(stderr.contains("terminated by a second signal"), "{stderr}");
    }
}

/// `timeout` sends each signal to its child, and to all of its group.
fn doubled_signal() {
    enter_new_netns();
    let mut run = Run::start("doubled", |command| _ = command.stderr(Stdio::null()));
    connections(20);
    run.signal(libc::SIGTERM);
    run.assert_ends_well();
}

/// Connections are taken, and nothing is ever answered.
fn tarpit() {
    enter_new_netns();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let name = format!("otlp:http://{}", listener.local_addr().unwrap());
    let _taken = std::thread::spawn(move || listener.incoming().collect::<Vec<_>>());
    let mut run = Run::start("tarpit", |command| _ = command.args(["-o", &name]).stderr(Stdio::piped()));
    connections(20);
    run.signal(libc::SIGTERM);
    let status = run.wait();
    let stderr = run.stderr();
    assert_eq!(status.code(), Some(1), "{stderr}");
    let records = run.records();
    let state = state_of(&records, &format!("{name} logs"));
    let made = records.iter().filter(|record| record["event"] != "end").count();
    let counts = ["delivered", "waiting", "refused", "dropped"].map(|name| number(&state, name));
    assert_eq!(counts, [0, 0, 0, made], "{state}");
    // It is sent metrics, too.
    let metrics = number(&state_of(&records, &format!("{name} metrics")), "dropped");
    assert!(metrics > 0);
    assert_eq!(number(&records.last().unwrap()["losses"], "outputs"), made + metrics);
    assert!(stderr.contains(&format!("events; lost: outputs {}\n", made + metrics)), "{stderr}");
    assert!(stderr.contains(&format!("cannot write to {name} logs: ")), "{stderr}");
}

fn full_device() {
    enter_new_netns();
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    // Without --duration: it ends as it can write no more.
    for flags in
        [&["--netns", "self"][..], &["--netns", "self", "-o", "/dev/full"], &["rates"], &["--aggregate", "-i", "100ms"]]
    {
        let mut child = Command::new(binary()).args(flags).stdout(full()).stderr(Stdio::piped()).spawn().unwrap();
        let start = Instant::now();
        while child.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < PATIENCE, "{flags:?}");
            connections(3);
        }
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{flags:?}: {stderr}");
        assert!(
            stderr.contains("cannot write to") && stderr.contains("No space left on device"),
            "{flags:?}: {stderr}"
        );
    }
}

/// A thread that a debugger has stopped, until this is dropped.
pub(crate) struct Frozen(i32);

impl Frozen {
    /// The thread of a process that is called so.
    pub(crate) fn new(pid: u32, name: &str) -> Self {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let is_it = |task: &fs::DirEntry| {
            fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name)
        };
        let found = tasks.map(Result::unwrap).find(is_it).unwrap_or_else(|| panic!("no thread `{name}`"));
        let thread: i32 = found.file_name().to_str().unwrap().parse().unwrap();
        let (null, mut status) = (std::ptr::null_mut::<libc::c_void>(), 0);
        // SAFETY: takes no pointers but one to an int.
        unsafe {
            assert_eq!(libc::ptrace(libc::PTRACE_SEIZE, thread, null, null), 0, "{}", io::Error::last_os_error());
            assert_eq!(libc::ptrace(libc::PTRACE_INTERRUPT, thread, null, null), 0);
            assert_eq!(libc::waitpid(thread, &raw mut status, libc::__WALL), thread);
        }
        Self(thread)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let null = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: takes no pointers. One that is ending is waited for instead.
        unsafe {
            if libc::ptrace(libc::PTRACE_DETACH, self.0, null, null) != 0 {
                libc::waitpid(self.0, std::ptr::null_mut(), libc::__WALL);
            }
        }
    }
}

/// What the server answers; empty where it does not.
fn get(address: &str, path: &str) -> String {
    let mut text = String::new();
    let asked = TcpStream::connect(address).and_then(|mut stream| {
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        stream.read_to_string(&mut text)
    });
    let _ = asked; // nobody answers
    text
}

/// One thread of each kind is stopped alone.
fn frozen_threads() {
    enter_new_netns();
    let mut run = Run::start("frozen", |command| _ = command.args(["-o", "prometheus:7394"]).stderr(Stdio::piped()));
    let pid = run.child.id();
    let at = "127.0.0.1:7394";
    assert!(get(at, "/healthz").ends_with("\r\n\r\nok\n") && get(at, "/readyz").ends_with("\r\n\r\nready\n"));

    // The log and the output hang until they are let go.
    let (log, output) = (Frozen::new(pid, "log"), Frozen::new(pid, "output"));
    let hangs = format!("the thread `output file:{}` hangs", run.folder.file("out"));
    for path in ["/healthz", "/readyz"] {
        wait_until("bad health", || {
            let told = get(at, path);
            told.starts_with("HTTP/1.1 503 ") && told.contains(&hangs) && told.contains("the thread `log` hangs")
        });
    }
    let metrics = get(at, "/metrics");
    for line in ["{worker=\"log\"} 0", "{worker=\"listing\"} 1", "{worker=\"http\"} 1"] {
        assert!(metrics.contains(&format!("tcptrace_worker_up{line}\n")), "{line}: {metrics}");
    }
    connections(20);
    drop((log, output));
    wait_until("good health", || get(at, "/healthz").starts_with("HTTP/1.1 200 "));
    wait_until("what came meanwhile", || run.lines() >= 200);

    // Others take the place of these.
    let frozen = (Frozen::new(pid, "listing"), Frozen::new(pid, "http"));
    wait_until("another server", || get(at, "/healthz").starts_with("HTTP/1.1 200 "));
    run.assert_goes_on();
    drop(frozen);
    wait_until("the end of those that were replaced", || {
        fs::read_dir(format!("/proc/{pid}/task")).unwrap().count() <= 7
    });
    assert!(get(at, "/healthz").starts_with("HTTP/1.1 200 "));
    run.assert_ends_well();
    let stderr = run.stderr();
    for words in [&hangs, "the thread `listing` hangs", "replacing the thread `listing`", "replacing the thread `http`"]
    {
        assert!(stderr.contains(words), "{words}: {stderr}");
    }
}

/// All threads but the main one hang, and it ends all the same.
fn frozen_end() {
    enter_new_netns();
    let mut run = Run::start("frozen-end", |command| {
        _ = command
            .args(["-o", "prometheus:7395", "-o", "stdout,format=json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
    });
    let pid = run.child.id();
    connections(20);
    wait_until("events", || run.lines() >= 200);
    let frozen = ["listing", "http", "output"].map(|name| Frozen::new(pid, name));
    connections(20);
    run.signal(libc::SIGTERM);
    // A process is only gone when all of its threads are, and these are waited for.
    wait_until("the end", || is_zombie(pid));
    drop(frozen);
    assert_eq!(run.wait().code(), Some(1));
    let stderr = run.stderr();
    assert!(stderr.contains("; lost: outputs ") && stderr.contains("the receiver does not respond"), "{stderr}");
}

/// The main thread hangs: that is seen, and SIGTERM ends the process within its time all the same.
fn frozen_main() {
    enter_new_netns();
    let mut run =
        Run::start("frozen-main", |command| _ = command.args(["-o", "prometheus:7396"]).stderr(Stdio::piped()));
    let pid = run.child.id();
    let frozen = Frozen::new(pid, "tcptrace");
    run.signal(libc::SIGTERM);
    let mut stream = TcpStream::connect("127.0.0.1:7396").unwrap();
    write!(stream, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut told = String::new();
    stream.read_to_string(&mut told).unwrap();
    assert!(told.starts_with("HTTP/1.1 503 ") && told.ends_with("the main loop does not respond\n"), "{told}");
    // The first thread to end is another one.
    let ends = || fs::read_dir(format!("/proc/{pid}/task")).unwrap().count() == 1;
    wait_until("the end", ends);
    std::mem::forget(frozen); // it has ended, and is waited for as a child
    assert_eq!(run.wait().code(), Some(1));
    assert!(run.stderr().contains("the shutdown took too long"));
    assert!(!run.ready());
}

/// `ulimit -f`: the kernel sends SIGXFSZ, which would end the process.
fn limited_file() {
    enter_new_netns();
    let mut run = Run::start("limited", |command| {
        command.args(["-o", "stdout,format=json"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let limit = libc::rlimit { rlim_cur: 64 << 10, rlim_max: 64 << 10 };
        // SAFETY: setrlimit(2) may be called there.
        unsafe {
            command.pre_exec(move || match libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            })
        };
    });
    let stdout = run.child.stdout.take().unwrap();
    let reading = std::thread::spawn(move || io::read_to_string(stdout).unwrap());
    connections(100); // some hundred KB
    wait_until("a file that is full", || run.lines() > 25);
    run.signal(libc::SIGTERM);
    assert_eq!(run.wait().code(), Some(1));
    let all: Vec<Value> = reading.join().unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let state = state_of(&all, &format!("file:{}", run.folder.file("out")));
    assert_eq!(number(&state, "delivered"), run.records().len(), "{state}");
    assert_eq!(number(&state, "delivered") + number(&state, "dropped"), all.len() - 1, "{state}");
    assert!(run.stderr().contains("File too large"));
}

/// Has the main thread ended?
fn is_zombie(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}

fn short_end() {
    enter_new_netns();
    for (flags, is_quiet) in
        [(&[][..], false), (&["--quiet"], true), (&["--aggregate"], false), (&["stuck", "--once", "-q"], true)]
    {
        let mut command = Command::new(binary());
        command.args(flags).args(["--netns", "self"]);
        if !flags.contains(&"stuck") {
            command.args(["--duration", "300ms"]);
        }
        let output = command.output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{stderr}");
        // Where the kernel does not let it attach to something, or look at a process, that is told.
        let is_refusal =
            |line: &&str| ["not attached: ", "not read: ", "not listed: "].iter().any(|part| line.contains(part));
        let told: Vec<_> = stderr.lines().filter(|line| !is_refusal(line)).collect();
        if is_quiet {
            assert_eq!(told, [""; 0], "{flags:?}");
        } else {
            assert!(told.len() == 1 && told[0].ends_with(" events, none lost"), "{flags:?}: {stderr}");
        }
    }
}
