//! Names that processes, cgroups, network namespaces and mounts have for real, made to harm those who read them.

use std::{
    ffi::{CString, OsStr},
    fs::{self, File},
    io::Write as _,
    os::unix::{ffi::OsStrExt as _, net::UnixDatagram},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use serde_json::Value;
use socket2::Socket;
use tcptrace::sys::mountinfo;

use crate::{
    Test,
    net::{LOCALHOST, enter_new_netns, listen, pair, settle},
    tracer::{Tracer, binary, listed, sockets, temporary},
};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("no output passes a foreign name on as it is", no_raw_name),
    ("metrics have no raw label, and one of each kind", labels),
    ("a mount of any name keeps cgroups known", odd_mount),
    ("the hierarchy itself may be mounted at any name", odd_hierarchy),
    ("a cgroup and a namespace whose names are no UTF-8 are found", no_utf8),
];

/// Names as prctl(PR_SET_NAME) takes them: 15 bytes at most.
const NAMES: [&[u8]; 11] = [
    b"\x1b[31mred\x07",
    "\u{9b}2J\u{202e}x".as_bytes(),
    "a\u{200b}\u{2066}\u{feff}b".as_bytes(),
    "\u{2028}]\"x\\".as_bytes(),
    b"=1+1",
    b"-1+cmd|' /C",
    b"@SUM(A1)",
    b"\xff\xfe\x1b\xe2\x80",
    b"a\nb\rc\td",
    "\u{e0041}\u{e0001}\u{ad}".as_bytes(),
    b"\x7f\x00",
];

/// How a cgroup and a network namespace are called here: neither may have a slash, nor a cgroup a line break.
const FOLDER: &[u8] = b"\x1b]0;x\x07\xc2\x9b\xe2\x80\xae=\xe2\x80\x8b\"\\],";

fn set_name(name: &[u8]) {
    let name = CString::new(name.split(|byte| *byte == 0).next().unwrap()).unwrap();
    // SAFETY: reads a string.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) }, 0);
}

/// A cgroup with this process in it, gone when this is dropped.
struct Cgroup {
    root: PathBuf,
    path: PathBuf,
}

impl Cgroup {
    fn enter(root: PathBuf, name: &[u8]) -> Self {
        let path = root.join(OsStr::from_bytes(&[name, std::process::id().to_string().as_bytes()].concat()));
        fs::create_dir(&path).unwrap();
        fs::write(path.join("cgroup.procs"), "0").unwrap();
        Self { root, path }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::write(self.root.join("cgroup.procs"), "0");
        let _ = fs::remove_dir(&self.path);
    }
}

fn hierarchy() -> PathBuf {
    let bytes = mountinfo::read().unwrap();
    mountinfo::mounts(&bytes).find(|mount| mount.kind == b"cgroup2").expect("cgroup2 is mounted").point
}

/// The name of a network namespace (ip-netns(8)), gone when this is dropped.
struct Netns(Vec<u8>);

impl Netns {
    fn of_this_thread(name: &[u8]) -> Self {
        let named = Self([name, std::process::id().to_string().as_bytes()].concat());
        let mut command = Command::new("ip");
        command.args(["netns", "attach"]).arg(OsStr::from_bytes(&named.0)).arg(std::process::id().to_string());
        assert!(command.status().unwrap().success());
        named
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete"]).arg(OsStr::from_bytes(&self.0)).status();
    }
}

/// A raw character, or bytes that are no UTF-8. Judged without the module that is tested.
fn raw(bytes: &[u8]) -> Option<String> {
    let Ok(text) = std::str::from_utf8(bytes) else { return Some(format!("no UTF-8: {}", bytes.escape_ascii())) };
    let is_raw = |c: char| {
        c.is_control()
            || matches!(c as u32, 0xad | 0x61c | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfeff)
            || matches!(c as u32, 0xe000..=0xf8ff | 0xe_0000..=0xe_0fff)
    };
    text.split('\n').find(|line| line.contains(is_raw)).map(|line| line.escape_debug().to_string())
}

fn assert_clean(of: &str, bytes: &[u8]) {
    assert!(!bytes.is_empty(), "{of} is empty");
    assert_eq!(raw(bytes), None, "{of}");
}

/// A socket that collects messages as servers of logs do.
struct Server {
    path: PathBuf,
    messages: mpsc::Receiver<Vec<u8>>,
}

impl Server {
    fn new(name: &str) -> Self {
        let path = temporary(name);
        let socket = UnixDatagram::bind(&path).unwrap();
        let (to_test, messages) = mpsc::channel();
        thread::spawn(move || {
            let mut message = vec![0; 64 << 10];
            while let Ok(len) = socket.recv(&mut message) {
                let _ = to_test.send(message[..len].to_vec());
            }
        });
        Self { path, messages }
    }

    /// All until nothing has come for a moment after one that has `last` in it.
    fn until(&self, last: &[u8]) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        while !all.iter().any(|message: &Vec<u8>| message.windows(last.len()).any(|part| part == last)) {
            all.push(self.messages.recv_timeout(Duration::from_secs(30)).unwrap());
        }
        all
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// A connection by each name, the last of which stay open, waiting for a close.
fn connections() -> Vec<(Socket, Socket)> {
    let (listener, to) = listen(LOCALHOST);
    let connect = |name: &&[u8]| {
        set_name(name);
        drop(pair(&listener, to));
        pair(&listener, to)
    };
    NAMES.iter().map(connect).collect()
}

fn no_raw_name() {
    let netns = enter_new_netns();
    let _cgroup = Cgroup::enter(hierarchy(), FOLDER);
    let _named = Netns::of_this_thread(FOLDER);
    let (syslog, journal) = (Server::new("syslog"), Server::new("journal"));
    let file = |form: &str| {
        let path = temporary(form);
        (format!("file:{},format={form}", path.display()), path)
    };
    let ((json_flag, json), (csv_flag, csv)) = (file("json"), file("csv"));
    let (syslog_flag, journal_flag) =
        (format!("syslog:unix:{}", syslog.path.display()), format!("journald:{}", journal.path.display()));
    let choice = netns.to_string();
    let outputs = ["-o", "stdout", "-o", &json_flag, "-o", &csv_flag, "-o", &syslog_flag, "-o", &journal_flag];
    let flags = [&["--netns", &choice, "--stuck-after", "CLOSE_WAIT=100ms"][..], &outputs].concat();
    let tracer = Tracer::start(&flags);
    let story = Tracer::start(&["story", "127.0.0.1", "--netns", &choice]);
    let stuck = Tracer::start(&["stuck", "--netns", &choice, "--format", "text"]);
    let mut open = connections();
    settle();
    // Half of each connection is closed: the other half waits in CLOSE_WAIT, held by names that change no more.
    open.iter_mut().for_each(|(client, _)| _ = client.shutdown(std::net::Shutdown::Write));
    settle();
    let listings: Vec<_> = ["text", "json", "csv"]
        .iter()
        .flat_map(|form| [vec![*form], vec![*form, "--by", "pid"], vec![*form, "--by", "cgroup"]])
        .map(|flags| {
            let mut command = Command::new(binary());
            command.args(["sockets", "--netns", &choice, "--format"]).args(&flags);
            (flags.join(" "), command.output().unwrap().stdout)
        })
        .collect();
    drop(open);
    settle();
    let (story, stuck, run) = (story.stop(), stuck.stop(), tracer.stop());
    assert!(run.status.success(), "{}", run.stderr);
    for (of, run) in [("text", &run), ("story", &story), ("stuck", &stuck)] {
        assert_clean(of, run.lines.join("\n").as_bytes());
        assert_clean(of, run.stderr.as_bytes());
    }
    for (of, bytes) in &listings {
        assert_clean(of, bytes);
    }
    let (json_bytes, csv_bytes) = (fs::read(&json).unwrap(), fs::read(&csv).unwrap());
    [&json, &csv].iter().for_each(|path| _ = fs::remove_file(path));
    assert_clean("json", &json_bytes);
    assert_clean("csv", &csv_bytes);
    for message in syslog.until(b"event=\"end\"") {
        // The byte order mark says that the message is UTF-8 (RFC 5424, section 6.4).
        let text = String::from_utf8(message).unwrap().replacen("] \u{feff}", "] ", 1);
        assert_clean("syslog", text.as_bytes());
        assert!(!text.contains('\n'), "{text}");
    }
    for entry in journal.until(b"TCPTRACE_EVENT=end") {
        assert_clean("journald", &entry);
        assert!(entry.split(|byte| *byte == b'\n').all(|line| line.is_empty() || line.contains(&b'=')));
    }

    // JSON gives the names back as they are, but for what is no UTF-8.
    let records: Vec<Value> = json_bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    for name in NAMES {
        let name = String::from_utf8_lossy(name.split(|byte| *byte == 0).next().unwrap()).into_owned();
        assert!(records.iter().any(|record| record["command"] == name), "{name:?}");
    }
    let has = |field: &str, part: &[u8]| {
        let part = String::from_utf8_lossy(part);
        records.iter().any(|record| record[field].as_str().is_some_and(|text| text.contains(&*part)))
    };
    assert!(has("cgroup", FOLDER) && has("netns_name", FOLDER), "{:#?}", records.first());
    // No cell is a formula, and numbers are numbers.
    let csv = String::from_utf8(csv_bytes).unwrap();
    for formula in ["=1+1", "-1+cmd|' /C", "@SUM(A1)"] {
        assert!(csv.contains(&format!(",'{formula},")) && !csv.contains(&format!(",{formula},")), "{formula}");
    }
}

fn labels() {
    let netns = enter_new_netns();
    let _cgroup = Cgroup::enter(hierarchy(), FOLDER);
    let ready = temporary("ready");
    let stderr = temporary("stderr");
    let mut running = Command::new(binary())
        .args(["--netns", &netns.to_string(), "--findings", "off", "--metrics-by", "process,cgroup"])
        .args(["-o", "prometheus:127.0.0.1:0", "--ready-file"])
        .arg(&ready)
        .stdout(Stdio::null())
        .stderr(File::create(&stderr).unwrap())
        .spawn()
        .unwrap();
    crate::net::wait_until("the start", || ready.exists());
    let told = fs::read_to_string(&stderr).unwrap();
    let address = told.split("http://").nth(1).unwrap().split('/').next().unwrap().to_owned();
    drop(connections());
    settle();
    let mut scraped = String::new();
    crate::net::wait_until("all names", || {
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        scraped.clear();
        std::io::Read::read_to_string(&mut stream, &mut scraped).unwrap();
        scraped.contains("SUM(A1)") && scraped.contains("red")
    });
    // SAFETY: takes no pointers; the child has not been waited for.
    unsafe { libc::kill(running.id() as i32, libc::SIGTERM) };
    running.wait().unwrap();
    fs::remove_file(&stderr).unwrap();
    let (_, body) = scraped.split_once("\r\n\r\n").unwrap();
    let body = body.replace("\r\n", "\n");
    assert_clean("metrics", body.as_bytes());
    assert!(body.contains(r#"process="\\u{1b}[31mred\\u{7}""#), "{body}");
    assert!(body.contains(r"cgroup=") && body.contains(r"\\u{202e}="), "{body}");
}

/// Gives this process a mount namespace of its own, and mounts a file system there.
fn mount(kind: &str, at: &Path) {
    let (kind, root) = (CString::new(kind).unwrap(), CString::new("/").unwrap());
    let at = CString::new(at.as_os_str().as_bytes()).unwrap();
    let null = std::ptr::null();
    // SAFETY: strings that live as long as the calls.
    unsafe {
        assert_eq!(libc::unshare(libc::CLONE_NEWNS), 0);
        assert_eq!(libc::mount(null, root.as_ptr(), null, libc::MS_REC | libc::MS_PRIVATE, null.cast()), 0);
        assert_eq!(libc::mount(kind.as_ptr(), at.as_ptr(), kind.as_ptr(), 0, null.cast()), 0);
    }
}

/// Asserts that this process's cgroup is known by each way of listing and by tracing.
fn assert_cgroup_known(netns: u64, cgroup: &Cgroup) {
    let name = cgroup.path.file_name().unwrap().to_string_lossy().into_owned();
    let expected = Value::from(format!("/{name}"));
    let (listener, to) = listen(LOCALHOST);
    let netns = netns.to_string();
    for way in [&[][..], &["--no-iter"]] {
        let flags: Vec<&str> = ["--netns", &netns].into_iter().chain(way.iter().copied()).collect();
        let listed = sockets(&flags);
        assert_eq!(listed.row(to.port(), 0)["holders"][0]["cgroup"], expected, "{way:?}");
    }
    // As a filter, by its directory and by its path in the hierarchy.
    let path = [b"/", name.as_bytes()].concat();
    let by_path = if name.contains('\u{fffd}') { cgroup.path.as_os_str() } else { OsStr::from_bytes(&path) };
    for path in [cgroup.path.as_os_str(), by_path] {
        let mut command = Command::new(binary());
        command.args(["sockets", "--format", "json", "--netns", &netns, "--cgroup"]).arg(path);
        assert_eq!(listed(command).row(to.port(), 0)["holders"][0]["cgroup"], expected);
    }
    let tracer = Tracer::here(&[]);
    drop(pair(&listener, to));
    settle();
    let run = tracer.stop();
    let records = run.records();
    let event = records.iter().find(|record| record["new_state"] == "SYN_SENT").unwrap();
    assert_eq!(event["cgroup"], expected, "{event:#}");
}

/// A folder with any name, gone when this is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &[u8]) -> Self {
        let mut path = temporary("mount").into_os_string();
        path.push(OsStr::from_bytes(name));
        fs::create_dir(&path).unwrap();
        Self(path.into())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let path = CString::new(self.0.as_os_str().as_bytes()).unwrap();
        // SAFETY: a string that lives as long as the call.
        unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
        let _ = fs::remove_dir(&self.0);
    }
}

fn odd_mount() {
    let netns = enter_new_netns();
    let folders = [&b"a b\\040"[..], b"\xff\xfe\xc3(", b"\n - cgroup2 x rw\n", b"\t#\x1b[2J"].map(Folder::new);
    folders.iter().for_each(|folder| mount("tmpfs", &folder.0));
    let cgroup = Cgroup::enter(hierarchy(), b"plain");
    assert_cgroup_known(netns, &cgroup);
}

fn odd_hierarchy() {
    let netns = enter_new_netns();
    let folder = Folder::new(b" h \xff\\\t\n");
    mount("cgroup2", &folder.0);
    // No other one is left in this mount namespace.
    let bytes = mountinfo::read().unwrap();
    for other in mountinfo::mounts(&bytes).filter(|mount| mount.kind == b"cgroup2" && mount.point != folder.0) {
        let path = CString::new(other.point.as_os_str().as_bytes()).unwrap();
        // SAFETY: a string that lives as long as the call.
        assert_eq!(unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) }, 0);
    }
    assert_eq!(hierarchy(), folder.0);
    let cgroup = Cgroup::enter(folder.0.clone(), b"below");
    assert_cgroup_known(netns, &cgroup);
}

fn no_utf8() {
    let netns = enter_new_netns();
    let cgroup = Cgroup::enter(hierarchy(), b"\xff\xfe \x80");
    assert_cgroup_known(netns, &cgroup);
    let named = Netns::of_this_thread(b"\xff\xc3(");
    let (_listener, to) = listen(LOCALHOST);
    let listed = sockets(&["--netns", &netns.to_string()]);
    assert_eq!(listed.row(to.port(), 0)["netns_name"], String::from_utf8_lossy(&named.0).into_owned());
    // The program's own name is in files that it reads.
    let copy = temporary("name").with_file_name(OsStr::from_bytes(b"tcptrace\xff\x1b[31m"));
    fs::copy(binary(), &copy).unwrap();
    let output = Command::new(&copy).args(["sockets", "--netns", "self", "--format", "json"]).output().unwrap();
    let traced = Command::new(&copy).args(["--duration", "100ms", "--netns", "self"]).output().unwrap();
    fs::remove_file(&copy).unwrap();
    assert!(output.status.success() && traced.status.success(), "{output:?} {traced:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("\"LISTEN\""), "{output:?}");
}
