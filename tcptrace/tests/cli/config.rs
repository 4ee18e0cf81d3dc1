//! The config file and the variables: what they take, what they refuse and in which words, and which of them counts.

use std::sync::atomic::{AtomicU32, Ordering};

use clap::CommandFactory as _;
use tcptrace::cli::args::Args;

use super::{assert_refused, assert_taken, run, run_with};

/// A file that is there as long as this is.
pub(super) struct ConfigFile(std::path::PathBuf);

impl ConfigFile {
    pub(super) fn new(name: &str, text: &[u8]) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tcptrace-cli-{}-{number}-{name}.toml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    pub(super) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for ConfigFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

const EXAMPLE: &str = include_str!("../../../dist/tcptrace.toml");

/// The example with the lines taken in that are commented out: `with` one of them, or all of a block of an output.
fn example(with: impl Fn(usize, &str) -> bool) -> String {
    let is_key = |rest: &str| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[');
    let lines = EXAMPLE.lines().enumerate().map(|(number, line)| match line.strip_prefix('#') {
        Some(rest) if is_key(rest) && with(number, rest) => rest,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_has_each_flag_and_is_right_with_each_line() {
    let check = |name: &str, text: &str| {
        let file = ConfigFile::new(name, text.as_bytes());
        run(&["config", "check", file.path()])
    };
    let fine = check("example", EXAMPLE);
    assert_eq!((fine.code, fine.stderr.as_str()), (Some(0), ""));
    assert!(fine.stdout.contains("is valid") && fine.stdout.contains("\n  journald\n"), "{}", fine.stdout);
    let command = Args::command();
    let service = command.find_subcommand("daemon").unwrap();
    let first_output = EXAMPLE.lines().position(|line| line.contains("[[output]]")).unwrap();
    for argument in service.get_arguments().filter(|argument| !argument.is_positional()) {
        let key = argument.get_long().unwrap();
        if ["config", "explain-filter", "help", "version", "output", "json"].contains(&key) {
            continue;
        }
        let is_it = |line: &str| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(" = "));
        let place = EXAMPLE.lines().take(first_output).position(|line| is_it(line.trim_start_matches('#')));
        let place = place.unwrap_or_else(|| panic!("no {key}"));
        let text = example(|number, _| number == place);
        let told = check(key, &text);
        // What does not go with the rest of the file says so.
        let is_alone = ["aggregate", "aggregate-keys", "count", "summary"].contains(&key);
        assert!(told.code == Some(0) || is_alone && told.code == Some(2), "{key}: {}", told.stderr);
    }
    let kafka = EXAMPLE.lines().position(|line| line.contains("--features kafka")).unwrap();
    let has_kafka = !run(&["--output", "kafka:h:9092/t", "-4", "-6"]).stderr.contains("without Kafka");
    let is_password = |line: &str| line.starts_with("sasl") || line.starts_with("user"); // which is not there
    let outputs = example(|number, line| number >= first_output && !is_password(line) && (has_kafka || number < kafka));
    let told = check("outputs", &outputs);
    assert_eq!((told.code, told.stderr.as_str()), (Some(0), ""));
    for output in ["file:/var/log/tcptrace/events.json", "syslog:tcp:", "otlp:http://127.0.0.1:4318 metrics"] {
        assert!(told.stdout.contains(output), "{output}: {}", told.stdout);
    }
}

/// Asserts that each program that reads the file refuses it, and names the file and all of `words`.
fn assert_file_refused(name: &str, text: &[u8], words: &[&str]) {
    let file = ConfigFile::new(name, text);
    let path = file.path();
    let words: Vec<_> = ["config file", path].iter().chain(words).copied().collect();
    for arguments in [&["--config", path][..], &["config", "check", path], &["daemon", "--config", path]] {
        assert_refused(arguments, &words);
        let told = run(arguments).stderr;
        assert!(!told.contains("--") && told.lines().count() == 1, "the file has no flags, and no usage: {told}");
    }
    assert_refused(&["stuck", "--config", path], &words);
}

#[test]
fn config_files_are_checked() {
    let missing = "/no/such/tcptrace.toml";
    assert_refused(&["--config", missing], &["config file", missing, "cannot read it", "No such file"]);
    assert_refused(&["--config", "/"], &["config file /", "cannot read it", "directory"]);
    // What is behind a limit must not be passed over.
    let large = [&[b'#'; 1 << 20][..], b"\nport = \"nonsense\"\n"].concat();
    let cases: [(&str, &[u8], &[&str]); 36] = [
        ("toml", b"[stuck-after\nCLOSE_WAIT = \"30s\"\n", &["line 1, column "]),
        ("quote", b"format = \"text\"\n\nport = \"80\n", &["line 3, column "]),
        ("twice", b"port = 80\nport = 81\n", &["line 2, column ", "duplicate key"]),
        (
            "key",
            b"[stuck-after]\n[threshold]\n[thresholds]\n",
            &["line 3, column ", ": unknown key `thresholds`: did you mean `threshold`?"],
        ),
        (
            "flag",
            b"log_level = \"info\"\n",
            &["line 1, column ", ": unknown key `log_level`: did you mean `log-level`?"],
        ),
        ("none", b"\n\ncolours = 1\n", &["line 3, column ", ": unknown key `colours`"]),
        ("nesting", b"config = \"/dev/null\"\n", &["line 1, column ", ": unknown key `config`"]),
        (
            "state",
            b"[stuck-after]\nWAITING = \"30s\"\n",
            &["line 2, column ", ": stuck-after: ", "WAITING", "the states are"],
        ),
        (
            "not",
            b"format = \"json\"\nstate = [\"!LISTENN\"]\n",
            &["line 2, column ", ": state: ", "LISTENN", "the states are"],
        ),
        (
            "time",
            b"[stuck-after]\n\nCLOSE_WAIT = \"soon\"\n",
            &["line 3, column ", ": stuck-after: ", "soon", "examples: 500ms"],
        ),
        (
            "type",
            b"[stuck-after]\nCLOSE_WAIT = [1]\n",
            &["line 2, column ", ": stuck-after: CLOSE_WAIT: takes text, a number"],
        ),
        (
            "listen",
            b"[stuck-after]\nLISTEN = \"30s\"\n",
            &["line 2, column ", ": stuck-after: ", "LISTEN", "give SYN_SENT"],
        ),
        (
            "name",
            b"[threshold]\nidle = \"1s\"\n",
            &["line 2, column ", ": threshold: ", "idle", "known: peer-dead-timeouts"],
        ),
        (
            "value",
            b"[threshold]\ntime-wait-share = 7\n",
            &["line 2, column ", ": threshold: ", "time-wait-share", "a number above 0"],
        ),
        ("empty", b"ignore = []\n", &["line 1, column ", ": ignore: the list is empty: remove the key"]),
        (
            "port",
            b"expect-listener = [\"22\", \"ssh\"]\n",
            &["line 1, column ", ": expect-listener: ", "ssh", "give PORT"],
        ),
        ("number", b"\nport = 70000\n", &["line 2, column ", ": port: invalid port `70000`"]),
        (
            "negative",
            b"max-sockets = -1\n",
            &["line 1, column ", ": max-sockets: `-1` is not a whole number from 1 to 16777216"],
        ),
        ("fraction", b"count = 1.5\n", &["line 1, column ", ": count: `1.5` is not a whole number"]),
        ("date", b"duration = 2026-01-01\n", &["line 1, column ", ": duration: "]),
        ("enum", b"format = \"xml\"\n", &["line 1, column ", ": format: unknown value `xml`; known: text, json, csv"]),
        (
            "label",
            b"metrics-by = [\"process\", \"host\"]\n",
            &["line 1, column ", ": metrics-by: unknown value `host`", "local-port"],
        ),
        ("level", b"log-level = 3\n", &["line 1, column ", ": log-level: unknown value `3`; known: error, warn"]),
        ("table", b"[format]\nx = 1\n", &["line 1, column ", ": format: takes text"]),
        ("switch", b"summary = \"yes\"\n", &["line 1, column ", ": summary: takes true or false, not `yes`"]),
        (
            "false",
            b"findings = false\n",
            &["line 1, column ", ": findings: unknown value `false`; known: on, off, only"],
        ),
        ("ring", b"ring-size = \"1K\"\n", &["line 1, column ", ": ring-size: size `1K` is out of range"]),
        (
            "arrays",
            b"ignore = [[\"connect-refused\"]]\n",
            &["line 1, column ", ": ignore: takes text, a number, true or false, or a list"],
        ),
        (
            "output",
            b"[[output]]\nto = \"file:/x\"\nrotat-size = 1\n",
            &["line 3, column ", ": output: ", "`rotat-size`", "`rotate-size`"],
        ),
        (
            "output-value",
            b"[[output]]\nto = \"file:/x\"\n\nkeep = \"x\"\n",
            &["line 4, column ", ": output: keep: ", "number of files"],
        ),
        (
            "output-to",
            b"[[output]]\nto = [\"stdout\", \"file:/x\"]\n",
            &["line 2, column ", ": output: to: takes one value"],
        ),
        (
            "output-all",
            b"[[output]]\nto = \"stdout\"\nrecords = []\n",
            &["line 3, column ", ": output: records: the list is empty: remove the key"],
        ),
        ("output-text", b"output = \"stdout\"\n", &["line 1, column ", ": output: ", "[[output]]"]),
        ("target", b"\n[[output]]\nkeep = 1\n", &["line 2, column ", ": output: the key `to` is missing"]),
        ("bytes", b"\xff\xfe", &["cannot read it", "UTF-8"]),
        ("large", &large, &["cannot read it", "larger than 1 MiB"]),
    ];
    for (name, text, words) in cases {
        assert_file_refused(name, text, words);
    }
}

#[test]
fn messages_name_the_place_the_key_what_is_wrong_and_what_is_allowed() {
    let cases: [(&[u8], &str); 5] = [
        (b"\nformat = \"xml\"\n", "line 2, column 10: format: unknown value `xml`; known: text, json, csv"),
        (b"port = [80,\n  70000]\n", "line 1, column 8: port: invalid port `70000`: ports are 1 to 65535"),
        (b"[stuck-after]\nCLOSE_WAIT = \"soon\"\n", "line 2, column 14: stuck-after: invalid duration `soon`: "),
        (b"  colour = 1\n", "line 1, column 3: unknown key `colour`: did you mean `color`?"),
        ("cgroup = \"/ä\"; x\n".as_bytes(), "line 1, column 14: "),
    ];
    for (text, words) in cases {
        assert_file_refused("place", text, &[words]);
    }
}

#[test]
fn what_a_file_takes_it_takes() {
    let text = b"expect-listener = [22]\nstate = [\"ESTABLISHED\"]\nsummary = true\npid = false\n\
                 [stuck-after]\nCLOSE_WAIT = \"30s\"\n[threshold]\nidle-reset = \"30s\"\n\
                 [[output]]\nto = \"stdout\"\nrecords = [\"findings\", \"end\"]\n";
    let file = ConfigFile::new("good", text);
    assert_taken(&["--config", file.path()]);
    // What is typed takes the place of what the file says, or adds to it.
    assert_taken(&["--config", file.path(), "--state", "LISTEN", "--stuck-after", "LAST_ACK=1s"]);
    assert_taken(&["--config", "/dev/null", "--stuck-after", "CLOSE_WAIT=1s"]);
}

#[test]
fn values_of_config_files_may_have_any_character() {
    let text = "aggregate = true\n[[output]]\nto = \"file:/a,replace=true+\\\\\"\nport = \"80,443\"\n\
                [[output]]\nto = \"file:/b:c\"\naddress = [\"10.0.0.0/8\", \"::1\"]\n";
    let file = ConfigFile::new("characters", text.as_bytes());
    let told = run(&["config", "check", file.path()]);
    assert_eq!((told.code, told.stderr.as_str()), (Some(0), ""));
    assert!(told.stdout.ends_with("Outputs:\n  file:/a,replace=true+\\\n  file:/b:c\n"), "{}", told.stdout);
}

#[test]
fn the_example_is_read_by_all_that_trace() {
    let file = ConfigFile::new("shipped", EXAMPLE.as_bytes());
    // What ends each before it traces: nothing of the file is wrong.
    for command in [&[][..], &["daemon"]] {
        let arguments = [command, &["--config", file.path(), "--output", "stdout", "--output", "stdout"]].concat();
        assert_refused(&arguments, &["--output: stdout is given twice"]);
    }
    assert_refused(&["stuck", "--config", file.path(), "--cgroup", "/no/such"], &["--cgroup: /no/such"]);
}

/// Asserts that the run is refused as CSV and summaries do not go together: so the format is `csv`.
fn assert_csv(arguments: &[&str], variables: &[(&str, &str)]) {
    let told = run_with(arguments, variables);
    assert_eq!(told.code, Some(2), "{arguments:?} {variables:?}: {}", told.stderr);
    assert!(
        told.stderr.contains("csv has rows for events or findings only"),
        "{arguments:?} {variables:?}: {}",
        told.stderr
    );
}

#[test]
fn flags_go_over_variables_over_the_file_over_defaults() {
    let file = |text: &str| ConfigFile::new("layers", text.as_bytes());
    let (csv, json) = (file("summary = true\nformat = \"csv\"\n"), file("summary = true\nformat = \"json\"\n"));
    assert_csv(&["--config", csv.path()], &[]);
    assert_csv(&["--config", json.path()], &[("TCPTRACE_FORMAT", "csv")]);
    assert_csv(&["--config", json.path(), "--format", "csv"], &[]);
    assert_csv(&["--config", json.path(), "--format", "csv"], &[("TCPTRACE_FORMAT", "json")]);
    assert_csv(&["--format", "csv"], &[("TCPTRACE_SUMMARY", "true")]);
    assert_csv(&[], &[("TCPTRACE_CONFIG", csv.path())]);
    assert_csv(&["--config", csv.path()], &[("TCPTRACE_CONFIG", "/no/such")]);
    assert_csv(&["daemon"], &[("TCPTRACE_CONFIG", csv.path())]);
    // What is above hides what is below, also with `false`: what is left is refused for another reason.
    let twice = ["--output", "stdout", "--output", "stdout"];
    for (arguments, variables) in [
        (vec!["--config", csv.path(), "--format", "json"], &[][..]),
        (vec!["--config", csv.path()], &[("TCPTRACE_FORMAT", "text")]),
        (vec!["--config", csv.path()], &[("TCPTRACE_SUMMARY", "false")]),
    ] {
        let told = run_with(&[&arguments[..], &twice].concat(), variables);
        assert!(told.stderr.contains("--output: stdout is given twice"), "{arguments:?}: {}", told.stderr);
    }
    let outputs = file("[[output]]\nto = \"file:/a\"\n[[output]]\nto = \"file:/b\"\n");
    let check = |variables: &[(&str, &str)]| run_with(&["config", "check", outputs.path()], variables).stdout;
    assert!(check(&[]).ends_with("Outputs:\n  file:/a\n  file:/b\n"));
    assert!(check(&[("TCPTRACE_OUTPUT", "file:/c,keep=2\nstdout\n")]).ends_with("Outputs:\n  file:/c\n  stdout\n"));
}

#[test]
fn families_are_one_choice() {
    let file = ConfigFile::new("family", b"ipv4 = true\n");
    assert_taken(&["--config", file.path(), "-6"]);
    assert_taken(&["--config", file.path(), "-4"]);
    let both = ConfigFile::new("families", b"ipv4 = true\n\nipv6 = true\n");
    assert_refused(&["--config", both.path()], &["ipv6 (", "line 3) cannot be used with ipv4 (", "line 1)"]);
}

#[test]
fn variables_are_checked() {
    for (name, value, words) in [
        ("TCPTRACE_PORT", "http", &["variable TCPTRACE_PORT: invalid port `http`"][..]),
        ("TCPTRACE_STATE", "LISTEN,!CLOZE", &["variable TCPTRACE_STATE: `CLOZE`", "the states are"]),
        ("TCPTRACE_WHERE", "stat == LISTEN", &["variable TCPTRACE_WHERE: ", "did you mean `state`"]),
        ("TCPTRACE_INTERVAL", "", &["variable TCPTRACE_INTERVAL: ", "invalid duration"]),
        ("TCPTRACE_STUCK_AFTER", "LISTEN=1s", &["variable TCPTRACE_STUCK_AFTER: ", "give SYN_SENT"]),
        ("TCPTRACE_OUTPUT", "stdout\nfile:/x,keeep=1", &["variable TCPTRACE_OUTPUT: ", "did you mean `keep`?"]),
        ("TCPTRACE_LATENCYY", "1s", &["variable TCPTRACE_LATENCYY: unknown: did you mean TCPTRACE_LATENCY?"]),
        ("TCPTRACE_OTLP_HEADER", "a=b", &["TCPTRACE_OTLP_HEADER: unknown: did you mean TCPTRACE_OTLP_HEADERS?"]),
        ("TCPTRACE_POrT", "80", &["variable TCPTRACE_POrT: unknown: did you mean TCPTRACE_PORT?"]),
        ("TCPTRACE_CONFIG", "/no/such", &["config file /no/such: cannot read it"]),
        ("TCPTRACE_SUMMARY", "1x", &["variable TCPTRACE_SUMMARY: takes true or false"]),
    ] {
        let told = run_with(&[], &[(name, value)]);
        assert_eq!((told.code, told.stdout.as_str()), (Some(2), ""), "{name}: {}", told.stderr);
        assert!(words.iter().all(|word| told.stderr.contains(word)), "{name}: {}", told.stderr);
    }
    // Those of others, and those of commands that do not trace.
    for (name, value) in [
        ("TCPTRACE_BIN", "/x"),
        ("TCPTRACE_PORT", "tcp://10.96.0.7:9437"),
        ("TCPTRACE_SERVICE_PORT", "9437"),
        ("TCPTRACE_PORT_9437_TCP_ADDR", "10.96.0.7"),
        ("TCPTRACE_OTLP_HEADERS", "a=b"),
        ("TCPTRACE_KAFKA_PASSWORD", "secret"),
        ("TCPTRACE_WEBHOOK_HEADERS", "a=secret"),
        ("TCPTRACE_WEBHOOK_URL", "http://secret/"),
        ("TCPTRACE_ALERTMANAGER_HEADERS", "a=secret"),
    ] {
        let told = run_with(&["--format", "csv", "--summary"], &[(name, value)]);
        assert!(told.stderr.starts_with("error: csv has rows for events or findings only"), "{name}: {}", told.stderr);
        let told = run_with(&["config", "show"], &[(name, value)]);
        let is_warned = told.stderr
            == format!(
                "tcptrace: variable {name} has no effect: no setting has that name (`tcptrace config show` lists all)\n"
            );
        assert_eq!((told.code, is_warned), (Some(0), name == "TCPTRACE_BIN"), "{name}: {}", told.stderr);
    }
    assert_eq!(run_with(&["doctor", "--help"], &[("TCPTRACE_PORT", "http")]).code, Some(0));
}

#[test]
fn what_does_not_go_together_is_named_as_it_was_given() {
    let file = |text: &str| ConfigFile::new("together", text.as_bytes());
    let name = |file: &ConfigFile, key: &str, line: u8| format!("{key} ({}, line {line})", file.path());
    for (text, keys) in [
        ("aggregate = \"port\"\n\nlatency = \"1s\"\n", [("aggregate", 1), ("latency", 3)]),
        ("count = 5\nsummary = true\n", [("count", 1), ("summary", 2)]),
        ("interval = \"1s\"\nformat = \"csv\"\n", [("interval", 1), ("format", 2)]),
        ("aggregate = true\nfindings = \"on\"\n", [("aggregate", 1), ("findings", 2)]),
        ("aggregate = true\n[stuck-after]\nCLOSE_WAIT = \"1s\"\n", [("aggregate", 1), ("stuck-after", 2)]),
        ("\n[[output]]\nto = \"file:/x\"\n[[output]]\nto = \"file:/x\"\n", [("output", 2); 2]),
        ("cgroup = [\"/no/such\"]\n", [("cgroup", 1); 2]),
        ("aggregate-keys = 5\naggregate = false\n", [("aggregate-keys", 1); 2]),
    ] {
        let file = file(text);
        let names = keys.map(|(key, line)| name(&file, key, line));
        for arguments in [&["--config", file.path()][..], &["config", "check", file.path()]] {
            assert_refused(arguments, &[&names[0], &names[1]]);
        }
    }
    let aggregate = file("aggregate = true\nno-iter = false\n");
    assert_refused(&["--config", aggregate.path(), "--count", "5"], &["--count", &name(&aggregate, "aggregate", 1)]);
    let leaks = ["--config", aggregate.path(), "--stuck-after", "CLOSE_WAIT=1s"];
    assert_refused(&leaks, &["--stuck-after cannot be used with", &name(&aggregate, "aggregate", 1)]);
    let told = run_with(&["--aggregate"], &[("TCPTRACE_POLL", "off")]).stderr;
    assert!(told.contains("TCPTRACE_POLL cannot be used with --aggregate"), "{told}");
    let fine = run(&["config", "check", aggregate.path()]);
    assert_eq!((fine.code, fine.stderr.as_str()), (Some(0), ""), "findings are off where nothing says otherwise");
}

#[test]
fn a_check_can_be_read_by_programs() {
    let checked = |text: &str| {
        let file = ConfigFile::new("json", text.as_bytes());
        let run = run(&["config", "check", "--json", file.path()]);
        assert_eq!(run.stderr, "", "{text}");
        let object: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!(object["file"], file.path());
        (run.code, object)
    };
    let (code, object) = checked("[[output]]\nto = \"stdout\"\n[[output]]\nto = \"prometheus:9437\"\n");
    assert_eq!((code, &object["valid"], &object["error"]), (Some(0), &true.into(), &serde_json::Value::Null));
    assert_eq!(object["outputs"], serde_json::json!(["stdout", "prometheus:127.0.0.1:9437"]), "{object}");
    let (code, object) = checked("format = \"xml\"\n");
    assert_eq!((code, &object["valid"], &object["outputs"]), (Some(2), &false.into(), &serde_json::Value::Null));
    let error = object["error"].as_str().unwrap();
    assert!(
        error.contains("line 1, column") && error.contains("unknown value `xml`") && !error.contains("Usage"),
        "{error}"
    );
}

#[test]
fn filters_of_a_file_are_named_with_their_line() {
    for (text, words) in [
        ("port = 80\ncomm = [\"a-name-that-is-too-long\"]\n", &["comm (", "line 2)", "exe"][..]),
        ("user = \"no-such-user\"\n", &["user (", "line 1)", "there is no user `no-such-user`"]),
        ("where = \"user == no-such-user\"\n", &["where (", "line 1)", "there is no user `no-such-user`"]),
        ("cgroup = \"/no/such\"\n", &["cgroup (", "line 1)", "/no/such"]),
    ] {
        let file = ConfigFile::new("filters", text.as_bytes());
        assert_refused(&["config", "check", file.path()], words);
    }
    let file = ConfigFile::new("kill", b"port = 80\nkill = \"close-wait-leak\"\n");
    assert_refused(
        &["daemon", "--config", file.path()],
        &["line 2", "the service never ends connections", "tcptrace kill"],
    );
    assert_refused(&["--user", "no-such-user"], &["--user: there is no user"]);
    assert_refused(&["-o", "stdout,where=user == no-such-user"], &["where: there is no user"]);
}
