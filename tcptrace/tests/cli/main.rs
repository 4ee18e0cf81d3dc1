//! The command line of the real program, as far as it goes without tracing: help, version, and what it says of values
//! and flags that do not fit. None of this needs rights. What starts to trace is tested live.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    process::{Output, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    time::Duration,
};

use clap::CommandFactory as _;
use tcptrace::{cli::args::Args, model::state::State};

mod config;
mod explain;
mod filters;
mod forms;
mod kill;
mod listed;
mod plugin;
#[path = "../support/records.rs"]
#[allow(dead_code, reason = "other tests use all of it")]
mod records;
mod replay;
mod report;
mod show;
mod streams;
#[path = "../support/tracer.rs"]
mod tracer;
mod values;
use config::ConfigFile;
use tracer::tracer;

/// What the program printed and how it ended.
struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// How long the program may take to say what is wrong.
const PATIENCE: Duration = Duration::from_secs(30);

fn run(arguments: &[&str]) -> Run {
    run_with(arguments, &[])
}

/// The same with these variables.
fn run_with(arguments: &[&str], variables: &[(&str, &str)]) -> Run {
    let mut command = tracer();
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.envs(variables.iter().copied());
    let program = command.spawn().unwrap();
    let pid = i32::try_from(program.id()).unwrap();
    let (over, is_over) = mpsc::channel::<()>();
    // A program that takes what it should refuse would trace until somebody stops it.
    let watch = std::thread::spawn(move || {
        let is_late = is_over.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout);
        // SAFETY: takes no pointers; the program is not reaped yet, since its output is still open.
        is_late && unsafe { libc::kill(pid, libc::SIGKILL) } == 0
    });
    let Output { status, stdout, stderr } = program.wait_with_output().unwrap();
    drop(over);
    assert!(!watch.join().unwrap(), "{arguments:?}: the program goes on");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

/// Asserts that the program refuses `arguments` as wrong usage, in words that have all of `words` in them.
fn assert_refused(arguments: &[&str], words: &[&str]) {
    let run = run(arguments);
    let told = &run.stderr;
    assert_eq!(run.code, Some(2), "{arguments:?}: {told}");
    assert_eq!(run.stdout, "", "{arguments:?}");
    assert!(!told.contains("panicked") && !told.contains("backtrace"), "{arguments:?}: {told}");
    assert!(told.starts_with("error: ") && told.ends_with('\n'), "{arguments:?}: {told}");
    for word in words {
        assert!(told.contains(word), "{arguments:?} does not tell {word:?}: {told}");
    }
}

/// Flags that end a run before it traces, because they do not go together; all else is read and checked before that.
const NEVER_TRACES: [&str; 3] = ["--format", "csv", "--summary"];

/// Asserts that `arguments` are fine by themselves.
fn assert_taken(arguments: &[&str]) {
    let all: Vec<_> = NEVER_TRACES.iter().chain(arguments).copied().collect();
    assert_refused(&all, &["csv has rows for events or findings only"]);
}

#[test]
fn help_tells_every_flag_and_state() {
    for flag in ["-h", "--help"] {
        let run = run(&[flag]);
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
        for state in State::ALL {
            assert!(run.stdout.contains(state.name()), "{flag} does not tell {state}");
        }
        for argument in Args::command().get_arguments().filter(|argument| !argument.is_positional()) {
            let long = argument.get_long().expect("each flag has a long name");
            let line = run.stdout.lines().position(|line| line.contains(&format!("--{long}")));
            let line = line.unwrap_or_else(|| panic!("{flag} does not tell --{long}"));
            // Its help stands beside it or below it.
            let about = run.stdout.lines().skip(line).take(2).collect::<Vec<_>>().join(" ");
            let help = argument.get_help().unwrap_or_else(|| panic!("--{long} has no help")).to_string();
            let first_words: String = help.split(' ').take(3).collect::<Vec<_>>().join(" ");
            let told = about.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(told.contains(&first_words), "{flag} does not tell {first_words:?} of --{long}: {told}");
        }
        for example in ["--state CLOSE_WAIT --pid", "--summary --duration 30s"] {
            assert!(run.stdout.contains(example), "{flag} has no example with {example}");
        }
    }
}

#[test]
fn version_is_that_of_the_package() {
    let version = format!("tcptrace {}\n", env!("CARGO_PKG_VERSION"));
    let short = run(&["-V"]);
    assert_eq!((short.code, short.stdout, short.stderr.as_str()), (Some(0), version.clone(), ""));
    let long = run(&["--version"]);
    assert_eq!((long.code, long.stderr.as_str()), (Some(0), ""));
    assert!(long.stdout.starts_with(&format!("{version}commit: ")), "{}", long.stdout);
    assert!(long.stdout.contains("\nfeatures: "), "{}", long.stdout);
}

#[test]
fn man_pages_and_completions_are_in_the_program() {
    for (arguments, expected) in [
        (&["man"][..], ".TH tcptrace 1"),
        (&["man", "config", "check"], ".TH tcptrace-config-check 1"),
        (&["completions", "bash"], "complete -F _tcptrace"),
        (&["completions", "fish"], "complete -c tcptrace"),
        (&["completions", "zsh"], "#compdef tcptrace"),
    ] {
        let run = run(arguments);
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(run.stdout.contains(expected), "{arguments:?}: {}", run.stdout);
    }
    for (arguments, expected) in [(&["man", "no"][..], "no command `no`"), (&["completions", "sh"], "bash")] {
        let run = run(arguments);
        assert_eq!(run.code, Some(2), "{arguments:?}");
        assert!(run.stderr.contains(expected), "{arguments:?}: {}", run.stderr);
    }
}

#[test]
fn bad_values_are_refused_with_the_way_out() {
    // Flag, value, and words of the way out.
    let cases = [
        ("--state", "CLOSEWAITT", "LISTEN, SYN_SENT, SYN_RECV, ESTABLISHED"),
        ("--state", "LISTEN,8", "the states are"),
        ("--state", "", "the states are"),
        ("--port", "0", "ports are 1 to 65535"),
        ("--port", "65536", "ports are 1 to 65535"),
        ("--port", "http", "e.g. 80,443 or 8000-8099"),
        ("--port", "90-80", "give the lower port first"),
        ("--local-port", "80,", "ports are 1 to 65535"),
        ("--remote-port", "1-2-3", "ports are 1 to 65535"),
        ("--address", "localhost", "give IPv4 or IPv6"),
        ("--address", "10.0.0.0/33", "it is 0 to 32"),
        ("--local-address", "::/129", "it is 0 to 128"),
        ("--remote-address", "10.0.0/8", "give IPv4 or IPv6"),
        ("--pid", "0", "example: 1234,5678"),
        ("--pid", "1234,nginx", "example: 1234,5678"),
        ("--pid", "4194305", "example: 1234,5678"),
        ("--format", "xml", "possible values: text, json, csv"),
        ("--time", "gmt", "possible values: local, utc, iso, mono, delta"),
        ("--color", "yes", "possible values: auto, always, never"),
        ("--bpf-log", "loud", "possible values: error, warn, info, debug, trace"),
        ("--interval", "0", "examples: 500ms, 1m30s, 10"),
        ("--interval", "soon", "examples: 500ms, 1m30s, 10"),
        ("--duration", "1us", "1ms to a year"),
        ("--duration", "2000000000", "1ms to a year"),
        ("--latency", "-1", "1ms to a year"),
        ("--count", "0", "a whole number of at least 1"),
        ("--count", "many", "a whole number of at least 1"),
        ("--count", "+1", "a whole number of at least 1"),
        ("--count", "-1", "a whole number of at least 1"),
        ("--count", "99999999999999999999", "a whole number of at least 1"),
        ("--state", "~ESTAB", "write an exclamation mark before it: '!ESTAB'"),
        ("--state", "^close", "write an exclamation mark before it: '!close'"),
        ("--state", "!!LISTEN", "the states are"),
        ("--state", "LISTEN!", "the states are"),
        ("--state", "CLOSE_WAIT,C-L-O-S-E", "the states are"),
        ("--port", "!!80", "ports are 1 to 65535"),
        ("--port", "!http", "ports are 1 to 65535"),
        ("--port", "+80", "ports are 1 to 65535"),
        ("--address", "~10.0.0.1", "write an exclamation mark before it"),
        ("--address", "10.0.0.0/+8", "it is 0 to 32"),
        ("--pid", "+5", "example: 1234,5678"),
        ("--ring-size", "8XB", "examples: 65536, 512KiB, 8MB"),
        ("--ring-size", "1K", "4096 (4KiB) to 1073741824 (1GiB)"),
        ("--ring-size", "2GiB", "4096 (4KiB) to 1073741824 (1GiB)"),
        ("--max-sockets", "0", "a whole number from 1 to 16777216"),
        ("--kernel-sockets", "x", "a whole number from 1 to 16777216"),
        ("--max-sockets", "16777217", "a whole number from 1 to 16777216"),
    ];
    for (flag, value, way_out) in cases {
        let joined = format!("{flag}={value}");
        assert_refused(&[&joined], &[flag, way_out]);
        // The value as it was typed; of a list the part that is wrong.
        assert_refused(&[&joined], &[value.split(',').next_back().unwrap()]);
    }
}

#[test]
fn a_cgroup_that_is_not_there_is_named() {
    for path in ["/no/such", "no-such", "/sys/fs/cgroup/no-such"] {
        assert_refused(&["--cgroup", path], &["--cgroup: ", path]);
        let told = run(&["--cgroup", path]).stderr;
        assert!(told.contains("/proc/PID/cgroup") || told.contains("no cgroup v2 hierarchy is mounted"), "{told}");
    }
    let nine: Vec<_> = (0..9).flat_map(|_| ["--cgroup", "/"]).collect();
    assert_refused(&nine, &["too many cgroups in one filter: 9", "give at most 8"]);
}

#[test]
fn a_listing_refuses_what_tracing_refuses() {
    assert_refused(&["sockets", "--cgroup", "/no/such"], &["--cgroup: /no/such"]);
    assert_refused(&["sockets", "--port", "http"], &["--port", "e.g. 80,443 or 8000-8099"]);
    assert_refused(&["sockets", "--by", "user"], &["--by", "state, pid, comm, uid, port"]);
    assert_refused(&["sockets", "--summary"], &["--summary"]);
}

#[test]
fn a_check_up_tells_its_exit_codes_and_refuses_what_it_does_not_know() {
    let help = run(&["doctor", "--help"]);
    assert_eq!(help.code, Some(0));
    for word in ["Exit codes: 0 ", "3 a check ended", "machine", "hooks", "settings", "pressure", "files"] {
        assert!(help.stdout.contains(word), "{word}: {}", help.stdout);
    }
    assert_refused(&["doctor", "kernel"], &["kernel", "machine, hooks, settings, pressure, files"]);
    assert_refused(&["doctor", "--json", "--format", "csv"], &["--json", "--format"]);
    assert_refused(&["doctor", "--summary"], &["--summary"]);
}

#[test]
fn thresholds_of_findings_are_checked() {
    let cases = [
        ("--stuck-after", "CLOSE_WAIT", "not STATE=TIME, e.g. CLOSE_WAIT=30s"),
        ("--stuck-after", "CLOSEWAITT=30s", "the states are"),
        ("--stuck-after", "CLOSE_WAIT=soon", "examples: 500ms, 1m30s, 10"),
        ("--stuck-after", "FIN_WAIT2=-1s", "1ms to a year"),
        ("--stuck-after", "LAST_ACK=1s,LISTEN=1s", "the time in LISTEN: give SYN_SENT, ESTABLISHED"),
        ("--threshold", "idle-reset", "not NAME=VALUE, e.g. idle-reset=30s"),
        ("--threshold", "idle-resett=30s", "known: peer-dead-timeouts, idle-reset"),
        ("--threshold", "idle-reset=never", "a duration, e.g. 500ms, 30s or 5m"),
        ("--threshold", "quiet-after=soon", "a duration, e.g. 500ms, 30s or 5m"),
        ("--threshold", "peer-dead-timeouts=0", "a whole number of at least 1"),
        ("--threshold", "storm-retransmits=many", "a whole number of at least 1"),
        ("--threshold", "time-wait-share=1.5", "a number above 0 and at most 1"),
        ("--threshold", "time-wait-share=NaN", "a number above 0 and at most 1"),
        ("--expect-listener", "http", "give PORT, FIRST-LAST, ADDRESS:PORT or [IPV6]:PORT"),
        ("--expect-listener", "22,0", "bad port"),
        ("--expect-listener", "localhost:22", "bad address"),
        ("--expect-listener", "443-80", "the range is empty"),
        ("--findings", "maybe", "possible values: on, off, only"),
    ];
    for (flag, value, way_out) in cases {
        let joined = format!("{flag}={value}");
        // What is wrong, as it was typed: the name or the value.
        let wrong = value.split(',').next_back().unwrap();
        let told = run(&[&joined]).stderr;
        assert!(wrong.split('=').any(|part| told.contains(part)), "{joined}: {told}");
        assert_refused(&[&joined], &[flag, way_out]);
        if flag != "--findings" {
            assert_refused(&["stuck", &joined], &[flag, way_out]);
        }
    }
    assert_taken(&["--stuck-after", "CLOSE_WAIT=30s,fin-wait-2=never", "--stuck-after", "ESTABLISHED=1h"]);
    assert_taken(&["--threshold", "idle-reset=30s,peer-dead-timeouts=3", "--threshold", "time-wait-share=0.8"]);
    assert_taken(&["--expect-listener", "22,443,8000-8099,10.0.0.1:5432,[::1]:53"]);
    assert_taken(&["--findings", "off"]);
}

#[test]
fn what_is_stuck_is_shown_by_filters_and_thresholds() {
    let help = run(&["stuck", "--help"]);
    assert_eq!(help.code, Some(0));
    for word in ["--once", "exit code 3", "--stuck-after", "--threshold", "--expect-listener", "--config", "--state"] {
        assert!(help.stdout.contains(word), "{word}: {}", help.stdout);
    }
    assert_refused(&["stuck", "--port", "http"], &["--port", "e.g. 80,443 or 8000-8099"]);
    assert_refused(&["stuck", "--summary"], &["--summary"]);
}

#[test]
fn lists_are_bounded() {
    let pids: Vec<_> = (1..=1025).map(|pid: u32| pid.to_string()).collect();
    assert_refused(&["--pid", &pids.join(",")], &["too many PIDs in one filter: 1025", "give at most 1024"]);
    assert_taken(&["--pid", &pids[..1024].join(",")]);
    let addresses = vec!["10.0.0.1"; 1025].join(",");
    assert_refused(&["--address", &addresses], &["too many addresses in one filter: 1025", "give at most 1024"]);
}

#[test]
fn flags_that_do_not_go_together_are_named() {
    assert_refused(&["-o", "stdout", "-o", "stdout,port=1"], &["--output: stdout is given twice"]);
    assert_refused(&["-4", "-6"], &["--ipv4", "--ipv6", "cannot be used with"]);
    assert_refused(&["--format", "csv", "--summary"], &["csv", "--summary", "text or json"]);
    assert_refused(&["--format", "csv", "--interval", "1s"], &["csv", "--interval", "text or json"]);
    assert_refused(&["--count", "1", "--summary"], &["--count", "--summary", "use --duration"]);
    // Nothing that is counted is printed: it would never end.
    for arguments in [
        &["--output", "prometheus:0"][..],
        &["--output", "stdout,records=summaries+end"],
        &["--output", "stdout,records=transitions", "--findings", "only"],
        &["--output", "stdout,records=findings", "--findings", "off"],
        &["--output", "file:/no/such/t,format=csv,records=findings"],
    ] {
        assert_refused(&[&["-c", "1"], arguments].concat(), &["--count", "no output prints any", "use --duration"]);
    }
    assert_refused(&["--metrics-by", "process,none"], &["--metrics-by", "`none`"]);
}

#[test]
fn what_takes_events_does_not_go_with_counting_in_the_kernel() {
    let cases: [&[&str]; 11] = [
        &["--count", "1"],
        &["--latency", "1s"],
        &["--poll", "off"],
        &["--ring-size", "8MiB"],
        &["--max-sockets", "1"],
        &["--no-iter"],
        &["--bpf-log", "debug"],
        &["--stuck-after", "CLOSE_WAIT=1s"],
        &["--threshold", "idle-reset=30s"],
        &["--ignore", "connect-refused"],
        &["--expect-listener", "22"],
    ];
    for arguments in cases {
        assert_refused(&[&["--aggregate"], arguments].concat(), &["--aggregate", arguments[0], "cannot be used with"]);
    }
    for mode in ["on", "only"] {
        assert_refused(&["--aggregate", "--findings", mode], &["--aggregate", "reads no events", "--findings"]);
    }
    assert_refused(&["--aggregate", "port", "--pid"], &["--aggregate cgroup", "--pid with PIDS"]);
    assert_refused(&["--aggregate-keys", "7"], &["--aggregate-keys has no effect without --aggregate"]);
    assert_refused(&["--aggregate", "--aggregate-keys", "0"], &["--aggregate-keys", "a whole number from 1 to 65536"]);
    assert_refused(&["--aggregate=state"], &["--aggregate", "possible values: transition, port, cgroup"]);
    let help = run(&["--help"]).stdout;
    for word in ["--aggregate[=<BY>]", "The service's port", "--aggregate-keys <N>"] {
        assert!(help.contains(word), "{word}: {help}");
    }
}

#[test]
fn what_is_no_flag_is_refused() {
    assert_refused(&["--no-such-flag"], &["--no-such-flag"]);
    assert_refused(&["eth0"], &["eth0"]);
    assert_refused(&["--statee", "LISTEN"], &["--statee", "--state"]);
    for flag in ["--state", "--port", "--address", "--cgroup", "--format", "--interval", "--count", "--output"] {
        assert_refused(&[flag], &[flag, "value"]);
    }
    for command in [&[][..], &["rates"], &["story", "1"]] {
        assert_refused(&[command, &["-c", "-1"]].concat(), &["'-1'", "--count", "a whole number of at least 1"]);
        assert_refused(&[command, &["-d", "-1"]].concat(), &["'-1'", "--duration", "1ms to a year"]);
    }
    assert_refused(&["--count", "1", "--count", "2"], &["--count", "multiple"]);
}

#[test]
fn all_spellings_of_states_are_taken() {
    for state in State::ALL {
        let name = state.name();
        let lower = name.to_lowercase();
        let spellings = [
            name.to_owned(),
            lower.clone(),
            name.replace('_', "-"),
            lower.replace('_', ""),
            name.replace('_', " "),
            format!("TCP_{name}"),
        ];
        for spelling in &spellings {
            assert_taken(&["--state", spelling]);
        }
        assert_taken(&["-s", &spellings.join(",")]);
    }
    // ss's, netstat's and the RFC's own.
    assert_taken(&["--state", "estab,syn-recv,fin-wait-1,fin-wait-2,unconn,closed,SYN-RECEIVED,syn_rcvd,listening"]);
    assert_taken(&["--state", "CLOSE_WAIT", "--state", "LAST_ACK"]);
}

#[test]
fn good_values_are_taken() {
    let cases: [&[&str]; 16] = [
        &[],
        &["--pid"],
        &["--pid", "1,4194304"],
        &["--port", "80,8000-8099", "--local-port", "1-65535", "-R", "443"],
        &["--address", "10.0.0.0/8,::1", "--local-address", "::/0", "--remote-address", "192.0.2.1"],
        &["-4"],
        &["-6"],
        &["--time", "delta", "--color", "always"],
        &["--duration", "1m30s"],
        &["-d", "2.5"],
        &["--latency", "1ms"],
        &["--ring-size", "4096"],
        &["--ring-size", "1GiB"],
        &["--max-sockets", "16777216"],
        &["--output", "/no/such/directory/is/looked/at/later", "--ready-file", "/no/such"],
        &["--bpf-log", "trace"],
    ];
    for arguments in cases {
        assert_taken(arguments);
    }
}
