//! Files are made safely: in folders that others may write to, beside another tcptrace, and over rotation.

use std::{
    ffi::CString,
    fs,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};

use crate::{
    Test,
    net::{LOCALHOST, enter_new_netns, listen, pair, settle, wait_until},
    tracer::{Tracer, binary, temporary},
};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("no link is followed to the file behind it", links),
    ("what others have put in a folder for all is not written to", planted),
    ("rotation keeps the access, and follows nothing that was planted", rotation),
    ("a new file shuts others out whatever the umask allows", default_access),
    ("a file has one writer", one_writer),
    ("the ready file of a run that was killed is removed at the start", stale_ready),
    ("a ready file that is in use or is another file is left alone", foreign_ready),
    ("stdout as a file is written to and not moved away", stdout_by_name),
];

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = temporary("files");
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// How many ways write to a file that was there before; the others are a ready file, and a recording.
const OUTPUTS: usize = 7;
const LISTING: usize = 3;
const READY: usize = OUTPUTS;

/// Ways to write to a file at a path, each of which ends soon.
fn each_way(path: &Path) -> [(&'static str, Vec<String>); 9] {
    let path = path.to_str().unwrap();
    let words = |line: String| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    [
        ("an output", words(format!("--duration 100ms -o file:{path}"))),
        ("an output that is replaced", words(format!("--duration 100ms -o file:{path},replace=true"))),
        ("counts", words(format!("--aggregate --duration 100ms -o file:{path}"))),
        ("a listing", words(format!("sockets -o {path}"))),
        ("a check-up", words(format!("doctor machine -o {path}"))),
        ("rates", words(format!("rates --netns self --interval 50ms --count 1 -o {path}"))),
        ("a dry run of kill", words(format!("kill --netns self --state CLOSING -o {path}"))),
        ("a ready file", words(format!("--duration 100ms --ready-file {path}"))),
        ("a recording", words(format!("record -w {path} --netns self --duration 100ms"))),
    ]
}

fn run(args: &[String]) -> Output {
    Command::new(binary()).args(args).stdin(Stdio::null()).output().unwrap()
}

fn assert_refused(way: &str, args: &[String], reason: &str) {
    let output = run(args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{way}: {stderr}");
    assert!(stderr.contains(reason), "{way}: {stderr}");
}

fn links() {
    let folder = Folder::new();
    let (secret, path) = (folder.file("secret"), folder.file("out"));
    fs::write(&secret, "secret\n").unwrap();
    for (target, reason) in [(&secret, "symbolic link"), (&folder.file("nowhere"), "symbolic link")] {
        symlink(target, &path).unwrap();
        for (way, args) in each_way(&path) {
            assert_refused(way, &args, reason);
        }
        assert_eq!(fs::read_link(&path).unwrap(), *target);
        fs::remove_file(&path).unwrap();
    }
    fs::hard_link(&secret, &path).unwrap();
    for (way, args) in &each_way(&path)[..OUTPUTS] {
        assert_refused(way, args, "hard links");
    }
    assert_eq!(fs::read_to_string(&secret).unwrap(), "secret\n");
    assert_eq!(fs::metadata(&secret).unwrap().nlink(), 2);
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 2, "nothing was made");
}

/// Makes a node for a pipe or a device.
fn make_node(path: &Path, kind: u32, device: u64) {
    let path = CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: a string that lives as long as the call.
    assert_eq!(unsafe { libc::mknod(path.as_ptr(), kind | 0o600, device) }, 0, "{}", std::io::Error::last_os_error());
}

fn planted() {
    let folder = Folder::new();
    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o1777)).unwrap();
    let path = folder.file("out");
    let belongs_to = |uid| chown(&path, Some(uid), Some(uid)).unwrap();
    fs::write(&path, "").unwrap();
    belongs_to(4711);
    for (way, args) in &each_way(&path)[..OUTPUTS] {
        assert_refused(way, args, "belongs to another user");
    }
    fs::remove_file(&path).unwrap();
    make_node(&path, libc::S_IFIFO, 0);
    belongs_to(4711);
    for (way, args) in &each_way(&path)[..OUTPUTS] {
        assert_refused(way, args, "belongs to another user");
    }
    fs::remove_file(&path).unwrap();
    // A disk, in whatever folder.
    make_node(&path, libc::S_IFBLK, libc::makedev(7, 250));
    for (way, args) in &each_way(&path)[..OUTPUTS] {
        assert_refused(way, args, "block device");
    }
    fs::remove_file(&path).unwrap();
    // One's own is fine there, and so is that of others in a folder that is not for all.
    fs::write(&path, "").unwrap();
    assert!(run(&each_way(&path)[0].1).status.success());
    belongs_to(4711);
    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(run(&each_way(&path)[0].1).status.success());
}

fn connections(count: usize) {
    let (listener, to) = listen(LOCALHOST);
    for _ in 0..count {
        drop(pair(&listener, to));
    }
}

fn access(path: &Path) -> (u32, u32, u32) {
    let known = fs::symlink_metadata(path).unwrap();
    (known.mode() & 0o7777, known.uid(), known.gid())
}

/// Nothing is taken away from the modes of what this process and its children make.
fn no_umask() {
    // SAFETY: takes a number.
    unsafe { libc::umask(0) };
}

fn rotation() {
    enter_new_netns();
    no_umask();
    let folder = Folder::new();
    let (path, secret) = (folder.file("out"), folder.file("secret"));
    fs::write(&secret, "secret\n").unwrap();
    fs::write(&path, "").unwrap();
    // Left over by an earlier run, with a link where its compressed form is written first; then a link and a pipe that look
    // like files that were put away.
    let old = folder.file("out.20200101T000000Z.0000");
    fs::write(&old, "old\n").unwrap();
    symlink(&secret, folder.file("out.20200101T000000Z.0000.unfinished")).unwrap();
    symlink(&secret, folder.file("out.20200101T000001Z.0000")).unwrap();
    make_node(&folder.file("out.20200101T000002Z.0000"), libc::S_IFIFO, 0);
    for file in [&path, &old] {
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
        chown(file, Some(4711), Some(4712)).unwrap();
    }
    let flag = format!("file:{},format=json,rotate-size=8KiB,compress=gzip", path.display());
    let tracer = Tracer::start(&["--netns", "self", "--findings", "off", "-o", &flag]);
    connections(20);
    settle();
    // As an operator may do at any time.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    connections(20);
    settle();
    let run = tracer.stop();
    assert!(run.status.success(), "{}", run.stderr);

    let names: Vec<_> = fs::read_dir(&folder.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let names: Vec<_> = names.iter().map(|name| name.to_str().unwrap()).collect();
    let rotated: Vec<_> = names.iter().filter(|name| name.ends_with(".gz")).collect();
    assert!(rotated.len() > 5, "{names:?}");
    assert!(names.contains(&"out.20200101T000000Z.0000.gz") && !names.contains(&"out.20200101T000000Z.0000"));
    assert!(names.contains(&"out.20200101T000001Z.0000"), "the link is still there, and was not read: {names:?}");
    assert!(!names.iter().any(|name| name.ends_with(".unfinished")), "{names:?}");
    for name in &rotated {
        let (mode, uid, gid) = access(&folder.file(name));
        assert!([0o600, 0o640].contains(&mode) && (uid, gid) == (4711, 4712), "{name}: {mode:o} {uid} {gid}");
    }
    assert_eq!(access(&path), (0o640, 4711, 4712));
    assert_eq!(fs::read_to_string(&secret).unwrap(), "secret\n");
    assert_eq!(access(&secret).0, 0o666, "{:o}", access(&secret).0);
}

fn default_access() {
    no_umask();
    let folder = Folder::new();
    for (index, (way, args)) in each_way(&folder.file("N")).iter().enumerate() {
        let path = folder.file(&index.to_string());
        let args: Vec<_> = args.iter().map(|arg| arg.replace("/N", &format!("/{index}"))).collect();
        let output = run(&args);
        assert!([Some(0), Some(3)].contains(&output.status.code()), "{way}: {output:?}");
        if index == READY {
            continue; // it is removed at the end: see below
        }
        assert_eq!(access(&path), (0o600, 0, 0), "{way}: {:o}", access(&path).0);
    }
    let ready = folder.file("ready");
    let tracer = Tracer::spawn(&["--netns", "self", "--ready-file", ready.to_str().unwrap()]);
    wait_until("the start", || ready.exists());
    assert_eq!(access(&ready), (0o600, 0, 0));
    tracer.stop();
    // A report holds what a recording does.
    let (recording, page) = (folder.file(&(READY + 1).to_string()), folder.file("page"));
    let paths = [&recording, &page].map(|path| path.to_str().unwrap().to_owned());
    assert!(run(&["report".to_owned(), paths[0].clone(), "-o".to_owned(), paths[1].clone()]).status.success());
    assert_eq!(access(&page), (0o600, 0, 0));
    fs::remove_file(&page).unwrap();
    symlink(folder.file("nowhere"), &page).unwrap();
    let refused = run(&["report".to_owned(), paths[0].clone(), "-o".to_owned(), paths[1].clone()]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("symbolic link"), "{refused:?}");
    // As it was asked for: the first file and those that follow a rotation.
    let path = folder.file("asked");
    let flag = format!("file:{},mode=0640,rotate-size=1KiB,format=json", path.display());
    let tracer = Tracer::here(&["-o", &flag]);
    connections(5);
    settle();
    tracer.stop();
    let rotated = fs::read_dir(&folder.0).unwrap().map(|entry| entry.unwrap().path());
    let rotated: Vec<_> = rotated.filter(|file| file.to_str().unwrap().contains("/asked")).collect();
    assert!(rotated.len() > 1 && rotated.iter().all(|file| access(file).0 == 0o640), "{rotated:?}");
    // What the umask takes away besides stays away.
    let path = folder.file("tight");
    let mut command = Command::new(binary());
    command.args(["sockets", "-o"]).arg(&path).stdin(Stdio::null());
    // SAFETY: umask(2) may be called between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::umask(0o277);
            Ok(())
        });
    }
    assert!(command.status().unwrap().success());
    assert_eq!(access(&path).0, 0o400);
}

fn one_writer() {
    enter_new_netns();
    let folder = Folder::new();
    let path = folder.file("out");
    let flag = format!("file:{},format=json,rotate-size=4KiB", path.display());
    let tracer = Tracer::start(&["--netns", "self", "--findings", "off", "-o", &flag]);
    connections(5);
    wait_until("records", || fs::metadata(&path).is_ok_and(|file| file.len() > 0));
    // The rest of the records may come later, and begin another file.
    let before = loop {
        let now = fs::read(&path).unwrap_or_default();
        thread::sleep(Duration::from_millis(500));
        if fs::read(&path).is_ok_and(|later| later == now) {
            break now;
        }
    };
    for (way, args) in &each_way(&path)[..OUTPUTS] {
        assert_refused(way, args, "another tcptrace");
    }
    assert_eq!(fs::read(&path).unwrap(), before, "nothing was cut off or added");
    connections(20);
    settle();
    // The present file is another one now, and locked as well.
    assert_refused("a listing", &each_way(&path)[LISTING].1, "another tcptrace");
    let run = tracer.stop();
    assert!(run.status.success(), "{}", run.stderr);
    // All lines are there: delivered, as the last record says, and that record itself.
    let files = fs::read_dir(&folder.0).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
    let lines: usize = files.map(|text| text.lines().count()).sum();
    let last = fs::read_to_string(&path).unwrap();
    let end: serde_json::Value = serde_json::from_str(last.lines().last().unwrap()).unwrap();
    assert_eq!(end["outputs"][0]["delivered"], lines - 1, "{end}");
    // The lock goes with the run.
    assert!(self::run(&each_way(&path)[LISTING].1).status.success());
}

fn stale_ready() {
    enter_new_netns();
    let folder = Folder::new();
    let ready = folder.file("ready");
    let start = || {
        let mut command = Command::new(binary());
        command.args(["--netns", "self", "--ready-file"]).arg(&ready).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    };
    let mut first = start();
    wait_until("the start", || ready.exists());
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(ready.exists(), "it could not remove it");
    // One that cannot start is not ready.
    let mut failing = Command::new(binary());
    failing.args(["--netns", "no-such-namespace", "--ready-file"]).arg(&ready);
    assert!(!failing.output().unwrap().status.success());
    assert!(!ready.exists());
    // One that can makes it anew.
    let mut second = start();
    wait_until("the start", || ready.exists());
    // SAFETY: takes no pointers; the child has not been waited for.
    unsafe { libc::kill(second.id() as i32, libc::SIGTERM) };
    assert!(second.wait().unwrap().success());
    assert!(!ready.exists());
}

fn foreign_ready() {
    enter_new_netns();
    let folder = Folder::new();
    let (ready, other) = (folder.file("ready"), folder.file("other"));
    fs::write(&other, "content\n").unwrap();
    assert_refused("another file", &each_way(&other)[READY].1, "something else is there");
    assert_eq!(fs::read_to_string(&other).unwrap(), "content\n");

    let mut running = Command::new(binary())
        .args(["--netns", "self", "--ready-file"])
        .arg(&ready)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the start", || ready.exists());
    assert_refused("one in use", &each_way(&ready)[READY].1, "another tcptrace");
    assert!(ready.exists());
    // Somebody put another one in its place: that is not removed at the end.
    fs::remove_file(&ready).unwrap();
    fs::write(&ready, "mine\n").unwrap();
    // SAFETY: takes no pointers; the child has not been waited for.
    unsafe { libc::kill(running.id() as i32, libc::SIGTERM) };
    assert!(running.wait().unwrap().success());
    assert_eq!(fs::read_to_string(&ready).unwrap(), "mine\n");
}

fn stdout_by_name() {
    enter_new_netns();
    let folder = Folder::new();
    let path = folder.file("stdout");
    let before = fs::read_link("/dev/stdout").unwrap();
    for name in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        let flag = format!("file:{name},format=json,rotate-size=4KiB");
        let mut running = Command::new(binary())
            .args(["--netns", "self", "--findings", "off", "-o", &flag, "--ready-file"])
            .arg(folder.file("ready"))
            .stdout(fs::File::create(&path).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("the start", || folder.file("ready").exists());
        connections(10);
        settle();
        // SAFETY: takes no pointers; the child has not been waited for.
        unsafe { libc::kill(running.id() as i32, libc::SIGTERM) };
        assert!(running.wait().unwrap().success());
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.len() > 8 << 10 && text.lines().last().unwrap().contains("\"end\""), "{name}: {}", text.len());
        assert_eq!(fs::read_link("/dev/stdout").unwrap(), before, "{name}");
    }
}
