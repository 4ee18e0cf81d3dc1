//! Where the output goes: a terminal of any width, nowhere, or a disk that is full.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _},
    net::{TcpListener, TcpStream},
    os::{
        fd::{FromRawFd as _, OwnedFd},
        unix::net::UnixDatagram,
    },
    process::{ExitStatus, Stdio},
};

use super::{ConfigFile, tracer};

/// Runs the program on a terminal with so many columns, which sees what it writes to stdout and stderr.
pub(super) fn on_terminal(columns: u16, arguments: &[&str]) -> (ExitStatus, String) {
    let size = libc::winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let (mut ours, mut theirs) = (-1, -1);
    // SAFETY: the two places and the size outlive the call, and no name and no settings are asked for.
    let failed = unsafe { libc::openpty(&mut ours, &mut theirs, std::ptr::null_mut(), std::ptr::null(), &size) };
    assert_eq!(failed, 0, "{}", io::Error::last_os_error());
    // SAFETY: both were opened just now, and nobody else has them.
    let (mut ours, theirs) = unsafe { (File::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) };
    let mut command = tracer();
    command.args(arguments).env("TERM", "xterm-256color");
    command.stdin(Stdio::null()).stdout(theirs.try_clone().unwrap()).stderr(theirs);
    let mut program = command.spawn().unwrap();
    drop(command); // and with it the last end of the terminal that is not the program's
    let mut printed = Vec::new();
    let mut piece = [0; 4096];
    // With no program at its other end a terminal gives EIO.
    while let Ok(len @ 1..) = ours.read(&mut piece) {
        printed.extend_from_slice(&piece[..len]);
    }
    (program.wait().unwrap(), String::from_utf8(printed).unwrap())
}

/// A terminal that a program gets as its own: for stdin, stdout and stderr, and for Ctrl-C.
pub(super) struct Terminal {
    ours: File,
    theirs: OwnedFd,
}

impl Terminal {
    pub(super) fn new(columns: u16, rows: u16) -> Self {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let (mut ours, mut theirs) = (-1, -1);
        // SAFETY: the two places and the size outlive the call, and no name and no settings are asked for.
        let failed = unsafe { libc::openpty(&mut ours, &mut theirs, std::ptr::null_mut(), std::ptr::null(), &size) };
        assert_eq!(failed, 0, "{}", io::Error::last_os_error());
        // SAFETY: both were opened just now, and nobody else has them.
        let (ours, theirs) = unsafe { (File::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) };
        // SAFETY: the descriptor is open.
        unsafe { libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(&ours), libc::F_SETFL, libc::O_NONBLOCK) };
        Self { ours, theirs }
    }

    /// Starts the program in a session of its own, whose terminal this is.
    pub(super) fn start(&self, arguments: &[&str]) -> std::process::Child {
        let mut command = tracer();
        command.args(arguments).env("TERM", "xterm-256color");
        let end = || self.theirs.try_clone().unwrap();
        command.stdin(end()).stdout(end()).stderr(end());
        // SAFETY: both calls are async-signal-safe.
        unsafe {
            std::os::unix::process::CommandExt::pre_exec(&mut command, || {
                if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                    return Err(io::Error::last_os_error());
                }
                Ok(())
            })
        };
        command.spawn().unwrap()
    }

    /// What was written since, after a moment.
    pub(super) fn read(&self) -> String {
        std::thread::sleep(std::time::Duration::from_millis(10));
        let mut bytes = vec![0; 1 << 16];
        let count = (&self.ours).read(&mut bytes).unwrap_or(0);
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }

    pub(super) fn type_keys(&self, keys: &str) {
        io::Write::write_all(&mut &self.ours, keys.as_bytes()).unwrap();
    }

    /// Its local modes: echo, lines, signals.
    pub(super) fn modes(&self) -> u32 {
        // SAFETY: all zeros is a valid value, and the call writes there.
        unsafe {
            let mut modes: libc::termios = std::mem::zeroed();
            assert_eq!(libc::tcgetattr(std::os::fd::AsRawFd::as_raw_fd(&self.theirs), &mut modes), 0);
            modes.c_lflag
        }
    }
}

/// A socket in CLOSE_WAIT and its listener, and a listing of them.
fn leak() -> ((TcpListener, TcpStream), Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    drop(TcpStream::connect(to).unwrap());
    let leaked = listener.accept().unwrap().0;
    assert_eq!((&leaked).read(&mut [0]).unwrap(), 0, "it is in CLOSE_WAIT");
    let arguments = ["sockets", "--netns", "self", "--no-iter", "--port"].map(str::to_owned);
    ((listener, leaked), arguments.into_iter().chain([to.port().to_string()]).collect())
}

#[test]
fn a_narrow_terminal_is_no_trouble() {
    let (_leak, listing) = leak();
    let listing: Vec<_> = listing.iter().map(String::as_str).collect();
    for columns in [0, 1, 20, 40, 60, 65_535] {
        for arguments in [&listing[..], &["--help"], &["-h"], &["story", "--help"], &["doctor", "files"]] {
            let (status, printed) = on_terminal(columns, arguments);
            // What `doctor` finds is 3.
            assert!(matches!(status.code(), Some(0 | 3)), "{columns} {arguments:?}: {status}: {printed}");
            assert!(!printed.is_empty() && !printed.contains("panicked"), "{columns} {arguments:?}: {printed}");
        }
    }
    let (status, printed) = on_terminal(40, &["--no-such-flag"]);
    assert_eq!(status.code(), Some(2), "{printed}");
}

/// Runs the program with this stdout; gives its exit code and its stderr.
fn run_into(stdout: impl Into<Stdio>, arguments: &[&str]) -> (Option<i32>, String) {
    let output = tracer().args(arguments).stdin(Stdio::null()).stdout(stdout).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// What prints something, and is over, without any rights.
const PRINTING: [&[&str]; 5] = [
    &["sockets", "--no-iter", "--netns", "self"],
    &["sockets", "--no-iter", "--netns", "self", "--format", "json", "--by", "state"],
    &["rates", "--netns", "self", "--interval", "10ms", "--count", "2"],
    &["doctor", "files", "--format", "json"],
    &["doctor", "files"],
];

#[test]
fn a_full_disk_fails_a_run_at_once() {
    let file = ConfigFile::new("full", b"");
    let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
    let more: [&[&str]; 8] = [
        &["config", "check", file.path()],
        &["config", "show", file.path()],
        &["config", "show", file.path(), "--json"],
        &["explain"],
        &["explain", "CLOSE_WAIT"],
        &["explain", "--json"],
        &["--help"],
        &["--version"],
    ];
    for arguments in PRINTING.into_iter().chain(more) {
        let (code, told) = run_into(full(), arguments);
        assert_eq!(code, Some(1), "{arguments:?}: {told}");
        let last = told.lines().last().unwrap_or_default();
        assert!(last.contains("stdout: No space left on device"), "{arguments:?}: {told}");
    }
}

#[test]
fn a_trace_into_a_full_device_ends_before_it_begins() {
    // SAFETY: takes nothing and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return; // it would be refused for another reason
    }
    let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
    let commands: [&[&str]; 7] = [
        &[],
        &["--format", "json"],
        &["--format", "csv"],
        &["--summary", "--interval", "1s"],
        &["--aggregate"],
        &["story", "1"],
        &["stuck"],
    ];
    for arguments in commands {
        let (code, told) = run_into(full(), arguments);
        assert_eq!(code, Some(1), "{arguments:?}: {told}");
        let last = "tcptrace: cannot write to stdout: No space left on device (os error 28)";
        assert_eq!(told.lines().last(), Some(last), "{arguments:?}: {told}");
        assert_eq!(told.matches("No space").count(), 1, "{arguments:?}: {told}");
    }
}

/// What the program writes to stderr with each of its writes.
fn writes(arguments: &[&str], variables: &[(&str, &str)]) -> Vec<String> {
    // A socket of datagrams keeps them apart.
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    let mut command = tracer();
    command.args(arguments).envs(variables.iter().copied()).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(OwnedFd::from(theirs));
    let status = command.status().unwrap();
    drop(command);
    ours.set_nonblocking(true).unwrap();
    let mut writes = Vec::new();
    let mut piece = [0; 1 << 16];
    while let Ok(len) = ours.recv(&mut piece) {
        writes.push(String::from_utf8(piece[..len].to_vec()).unwrap());
    }
    assert!(!writes.is_empty(), "{arguments:?}: nothing on stderr, {status}");
    writes
}

#[test]
fn lines_on_stderr_are_written_whole() {
    let wrong = ConfigFile::new("torn", b"colour = 1\n");
    let missing = "/no/such/file";
    for (arguments, variables) in [
        (&["--no-such-flag"][..], &[][..]),
        (&["--port", "http"], &[]),
        (&["--format", "csv", "--summary"], &[]),
        (&["--config", wrong.path()], &[]),
        (&["config", "check", missing], &[]),
        (&["config", "show"], &[("TCPTRACE_NOTHING_OF_THE_KIND", "1")]),
        (&["explain", "close-wait-leek"], &[]),
        (&["sockets", "--no-iter", "--netns", "no-such-namespace"], &[]),
        (&["rates", "--netns", "no-such-namespace"], &[]),
        (&["doctor", "files", "--output", "/no/such/directory/file"], &[]),
        // A trace, or why it cannot be.
        (&["--duration", "10ms"], &[]),
        (&["stuck", "--once"], &[]),
        (&["story", "1", "--duration", "10ms"], &[]),
        (&["daemon", "--duration", "10ms"], &[]),
    ] {
        for write in writes(arguments, variables) {
            assert!(write.ends_with('\n'), "{arguments:?}: a write of a part of a line: {write:?}");
            // What the service cannot see from now on is more than information.
            let is_lost = arguments[0] == "daemon" && write.contains("not attached: ");
            assert!(!is_lost || write.contains(" WARN not attached: "), "{write}");
            let first = write.split(' ').next().unwrap_or_default();
            assert!(["error:", "tcptrace:"].contains(&first) || first.starts_with("20"), "{arguments:?}: {write:?}");
        }
    }
}

#[test]
fn where_nobody_reads_nothing_is_wrong() {
    let file = ConfigFile::new("closed", b"");
    let closed = || io::pipe().unwrap().1; // its other end is dropped
    let more = [&["config", "check", file.path()][..], &["--help"], &["--version"]];
    for arguments in PRINTING.into_iter().chain(more) {
        let (code, told) = run_into(closed(), arguments);
        assert!(matches!(code, Some(0 | 3)), "{arguments:?}: {code:?} {told}");
        assert!(!["panicked", "write", "pipe"].iter().any(|word| told.contains(word)), "{arguments:?}: {told}");
    }
}
