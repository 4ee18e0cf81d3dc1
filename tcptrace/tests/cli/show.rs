//! `tcptrace config show`: each setting that is in force, and where its value comes from.

use clap::CommandFactory as _;
use serde_json::{Value, json};
use tcptrace::cli::args::Args;

use super::{ConfigFile, assert_refused, run, run_with};

const TEXT: &str = "format = \"csv\"\nport = [80, \"8000-8099\"]\nmax-sockets = 0x400\nsummary = false\n\
                    ignore = [\"connect-refused\"]\n[stuck-after]\nCLOSE_WAIT = \"30s\"\nFIN_WAIT2 = \"never\"\n\
                    [[output]]\nto = \"file:/a,b\"\nrecords = [\"transitions\", \"end\"]\n\
                    [[output]]\nto = \"stdout\"\n";
const VARIABLES: &[(&str, &str)] = &[
    ("TCPTRACE_FORMAT", "json"),
    ("TCPTRACE_STUCK_AFTER", "CLOSE_WAIT=1m"),
    ("TCPTRACE_LATENCY", "50ms"),
    ("TCPTRACE_OTLP_HEADERS", "key=secret123"),
];
const FLAGS: &[&str] = &["--", "--latency", "10ms", "--state", "close-wait,LISTEN", "--pid", "--quiet"];

fn shown(file: &ConfigFile, more: &[&str]) -> String {
    let told = run_with(&[&["config", "show", file.path()], more, FLAGS].concat(), VARIABLES);
    assert_eq!((told.code, told.stderr.as_str()), (Some(0), ""), "{more:?}");
    assert!(!told.stdout.contains("secret123"), "{}", told.stdout);
    told.stdout
}

#[test]
fn every_setting_has_its_value_and_its_source() {
    let file = ConfigFile::new("show", TEXT.as_bytes());
    let object: Value = serde_json::from_str(&shown(&file, &["--json"])).unwrap();
    assert_eq!(object["config_file"], file.path());
    assert_eq!(object["secrets"], json!(["TCPTRACE_OTLP_HEADERS"]));
    let at = |line: u32| json!({ "kind": "file", "file": file.path(), "line": line });
    let variable = |name: &str| json!({ "kind": "variable", "name": name });
    let flag = |name: &str| json!({ "kind": "flag", "name": name });
    let default = || json!({ "kind": "default" });
    for (key, value, from) in [
        ("format", json!("json"), json!([variable("TCPTRACE_FORMAT")])),
        ("port", json!([80, "8000-8099"]), json!([at(2)])),
        ("max-sockets", json!(1024), json!([at(3)])),
        ("summary", json!(false), json!([at(4)])),
        ("ignore", json!(["connect-refused"]), json!([at(5)])),
        (
            "stuck-after",
            json!({ "FIN_WAIT2": "never", "CLOSE_WAIT": "1m" }),
            json!([variable("TCPTRACE_STUCK_AFTER"), at(6)]),
        ),
        ("latency", json!("10ms"), json!([flag("--latency")])),
        ("state", json!(["close-wait", "LISTEN"]), json!([flag("--state")])),
        ("pid", json!(true), json!([flag("--pid")])),
        ("quiet", json!(true), json!([flag("--quiet")])),
        ("findings", json!("on"), json!([default()])),
        ("duration", Value::Null, json!([default()])),
        ("kernel-sockets", json!(131_072), json!([default()])),
        ("log-level", json!("info"), json!([default()])),
        (
            "output",
            json!([{ "to": "file:/a,b", "records": ["transitions", "end"] }, { "to": "stdout" }]),
            json!([at(9), at(12)]),
        ),
    ] {
        let setting = &object["settings"][key];
        assert_eq!((&setting["value"], &setting["from"]), (&value, &from), "{key}");
    }
    let command = Args::command();
    for argument in command.find_subcommand("daemon").unwrap().get_arguments() {
        let Some(key) = argument.get_long() else { continue };
        let is_there = object["settings"].get(key).is_some();
        assert_eq!(is_there, !["config", "help", "version"].contains(&key), "{key}");
    }
    let text = shown(&file, &[]);
    for (key, value, source) in [
        ("max-sockets", "1024", format!("{}:3", file.path())),
        ("latency", "10ms", "--latency".to_owned()),
        ("format", "json", "TCPTRACE_FORMAT".to_owned()),
        ("interval", "-", "default".to_owned()),
    ] {
        let line = text.lines().find(|line| line.starts_with(&format!("{key} "))).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(line.split_whitespace().collect::<Vec<_>>(), [key, value, &source], "{text}");
    }
}

#[test]
fn what_is_shown_as_toml_is_the_same_again() {
    let file = ConfigFile::new("show", TEXT.as_bytes());
    let toml = shown(&file, &["--toml"]);
    let again = ConfigFile::new("again", toml.as_bytes());
    let told = run(&["config", "show", again.path(), "--json"]);
    assert_eq!((told.code, told.stderr.as_str()), (Some(0), ""), "{toml}");
    let values = |text: &str| {
        let object: Value = serde_json::from_str(text).unwrap();
        let settings = object["settings"].as_object().unwrap().clone();
        settings.into_iter().map(|(key, setting)| (key, setting["value"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(values(&told.stdout), values(&shown(&file, &["--json"])), "{toml}");
}

#[test]
fn a_service_needs_no_file() {
    let twice = ["--output", "stdout", "--output", "stdout"];
    assert_refused(&[&["daemon"], &twice[..]].concat(), &["--output: stdout is given twice"]);
    // One that is named must be there.
    assert_refused(&["daemon", "--config", "/no/such"], &["config file /no/such: cannot read it"]);
    let told = run_with(&["daemon"], &[("TCPTRACE_CONFIG", "/no/such")]);
    assert!(told.stderr.contains("config file /no/such: cannot read it"), "{}", told.stderr);
    assert_refused(&["config", "show", "/no/such"], &["config file /no/such: cannot read it"]);
    assert_refused(&["config", "show", "--json", "--toml"], &["--json", "--toml"]);
    assert_refused(&["config", "show", "--", "--port", "http"], &["--port", "invalid port `http`"]);
    let told = run(&["config", "show", "/dev/null"]);
    assert!(told.stdout.starts_with("config file: /dev/null\n") && told.code == Some(0), "{}", told.stdout);
}

#[test]
fn sizes_are_those_of_iec() {
    for (size, is_taken) in
        [("1073MB", true), ("1074MB", false), ("1GiB", true), ("4KiB", true), ("4KB", false), ("4K", true)]
    {
        let told = run(&["config", "show", "/dev/null", "--", "--ring-size", size]);
        assert_eq!(told.code == Some(0), is_taken, "{size}: {}", told.stderr);
        let output = format!("file:/x,queue={}", size.replace("1073MB", "65536B").replace("4K", "64K"));
        let told = run(&["config", "show", "/dev/null", "--", "--output", &output]);
        assert_eq!(told.code == Some(0), is_taken, "{output}: {}", told.stderr);
    }
}
