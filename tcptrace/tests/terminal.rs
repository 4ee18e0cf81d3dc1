//! What a terminal gets from the program: colour where it is wanted, and nothing foreign as it is.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    ffi::OsStr,
    fs::File,
    io::Read as _,
    os::{fd::FromRawFd as _, unix::ffi::OsStrExt as _},
    process::{Command, Output, Stdio},
    ptr,
};

#[path = "support/tracer.rs"]
mod tracer;
use tracer::tracer;

const VARIABLES: [&str; 6] = ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "TERM", "COLORTERM", "CI"];

fn tcptrace(args: &[&OsStr], variables: &[(&str, &str)]) -> Command {
    let mut command = tracer();
    VARIABLES.iter().for_each(|name| _ = command.env_remove(name));
    command.args(args).envs(variables.iter().copied()).stdin(Stdio::null());
    command
}

fn words(line: &str) -> Vec<&OsStr> {
    line.split(' ').map(OsStr::new).collect()
}

/// What is written to a terminal that is the program's stdout.
fn on_terminal(line: &str, variables: &[(&str, &str)]) -> String {
    let (mut ours, mut theirs) = (-1, -1);
    // SAFETY: two valid places for descriptors; a name, settings and a size are not asked for.
    let made =
        unsafe { libc::openpty(&raw mut ours, &raw mut theirs, ptr::null_mut(), ptr::null_mut(), ptr::null_mut()) };
    assert_eq!(made, 0);
    // SAFETY: the kernel has just made them, and nobody else knows them.
    let (mut ours, theirs) = unsafe { (File::from_raw_fd(ours), File::from_raw_fd(theirs)) };
    let mut command = tcptrace(&words(line), variables);
    let mut child = command.stdout(theirs).stderr(Stdio::null()).spawn().unwrap();
    drop(command); // the terminal's other end is the child's alone
    let mut written = Vec::new();
    let _ = ours.read_to_end(&mut written); // EIO once the other end is closed
    child.wait().unwrap();
    String::from_utf8(written).unwrap()
}

const CHECK_UP: &str = "doctor machine";
const XTERM: (&str, &str) = ("TERM", "xterm");

#[test]
fn colour_heeds_the_environment() {
    let is_colored = |line: &str, variables: &[(&str, &str)]| {
        let written = on_terminal(line, variables);
        assert!(written.contains("Machine"), "{written:?}");
        written.contains('\x1b')
    };
    assert!(is_colored(CHECK_UP, &[XTERM]));
    assert!(is_colored(CHECK_UP, &[XTERM, ("NO_COLOR", "")]), "an empty one is none (no-color.org)");
    assert!(!is_colored(CHECK_UP, &[XTERM, ("NO_COLOR", "1")]));
    assert!(!is_colored(CHECK_UP, &[XTERM, ("CLICOLOR", "0")]));
    assert!(!is_colored(CHECK_UP, &[("TERM", "dumb")]));
    assert!(!is_colored(CHECK_UP, &[]), "nobody knows what the terminal can do");
    assert!(!is_colored(CHECK_UP, &[XTERM, ("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")]), "no means no");
    let always = format!("{CHECK_UP} --color always");
    assert!(is_colored(&always, &[("TERM", "dumb"), ("NO_COLOR", "1")]), "a flag says more than a variable");
    assert!(!is_colored(&format!("{CHECK_UP} --color never"), &[XTERM, ("CLICOLOR_FORCE", "1")]));
}

#[test]
fn a_pipe_has_colour_only_where_it_is_forced() {
    let is_colored = |variables: &[(&str, &str)]| {
        let output = tcptrace(&words(CHECK_UP), variables).output().unwrap();
        assert!(!output.stdout.is_empty());
        output.stdout.contains(&b'\x1b')
    };
    assert!(!is_colored(&[XTERM]));
    assert!(is_colored(&[XTERM, ("CLICOLOR_FORCE", "1")]));
    assert!(!is_colored(&[XTERM, ("CLICOLOR_FORCE", "0")]));
    assert!(!is_colored(&[XTERM, ("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
}

/// What steers a terminal, hides, or reorders a line, as bytes of a name.
const FOREIGN: &[u8] =
    b"a\x1b[31m\xc2\x9b2J\xe2\x80\xae\xe2\x80\x8b\xe2\x81\xa6\xe2\x80\xa8\x07\r\ntcptrace: all is well";

fn assert_nothing_raw(of: &str, output: &Output) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("all is well"), "{of} is quoted: {text:?}");
    let is_raw = |c: char| c.is_control() || matches!(c, '\u{200b}' | '\u{2028}' | '\u{202e}' | '\u{2066}');
    assert!(text.lines().all(|line| !line.contains(is_raw)), "{of}: {text:?}");
    assert!(!text.lines().any(|line| line.starts_with("tcptrace: all is well")), "{of} begins no message: {text:?}");
}

#[test]
fn messages_quote_nothing_as_it_is() {
    for (of, before, after, rest) in [
        ("a number", "--port=", "", ""),
        ("a state", "--state=", "", ""),
        ("a flag", "--no-such-", "", ""),
        ("a cgroup", "--cgroup=/", "\u{9f}", ""),
        ("a namespace", "--netns=", "", "sockets"),
        ("an output's file", "--output=/no/such/folder/", "\u{9f}", "sockets"),
        ("a check-up's file", "--output=/no/such/folder/", "", "doctor"),
        ("a config file", "--config=/no/such/folder/", "", ""),
    ] {
        let last = OsStr::from_bytes(&[before.as_bytes(), FOREIGN, after.as_bytes()].concat()).to_owned();
        let args: Vec<&OsStr> = rest.split_terminator(' ').map(OsStr::new).chain([last.as_os_str()]).collect();
        assert_nothing_raw(of, &tcptrace(&args, &[XTERM, ("CLICOLOR_FORCE", "1")]).output().unwrap());
    }
}

#[test]
fn a_config_file_is_not_quoted_as_it_is() {
    let path = std::env::temp_dir().join(format!("tcptrace-terminal-{}.toml", std::process::id()));
    for text in [
        "\"\\u001b[31m\\u202e all is well\" = 1\n",
        "state = \"\\u001b]0;x\\u0007\\u2066 all is well\"\n",
        "state = 'all is well \u{9b}2J\u{202e}'\n",
    ] {
        std::fs::write(&path, text).unwrap();
        let args = [OsStr::new("config"), OsStr::new("check"), path.as_os_str()];
        let output = tcptrace(&args, &[XTERM, ("CLICOLOR_FORCE", "1")]).output().unwrap();
        assert_nothing_raw(text, &output);
    }
    std::fs::remove_file(&path).unwrap();
}
