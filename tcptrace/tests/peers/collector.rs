//! The OpenTelemetry Collector reads a file of records, and passes them on to a receiver of OTLP.

use std::{
    fs::{self, File},
    process::Command,
};

use tcptrace::outputs::{FileSettings, FileSink, Output};

use crate::{
    Test,
    program::{Folder, Program, end, lines, numbered},
    python,
    rotel::{self, Rotel},
};

pub(crate) const TESTS: &[Test] = &[("passes_a_file_on", passes_a_file_on)];

const COUNT: u64 = 1000;
const PROGRAM: &str = "otel_collector/bin/otelcol-contrib_linux_amd64";

pub(crate) fn missing() -> Option<String> {
    rotel::missing().or_else(|| python::missing(PROGRAM))
}

/// docs/pipelines/otlp.md has the same.
const CONFIG: &str = include_str!("../../../docs/pipelines/collector.yaml");

fn passes_a_file_on() {
    let rotel = Rotel::new("collector");
    let folder = Folder::new("collector-file");
    let file = folder.0.join("events.jsonl");
    fs::write(folder.0.join("collector.yaml"), CONFIG).unwrap();
    let program = python::packaged(PROGRAM).unwrap();
    let mut command = Command::new(program);
    command
        .arg("--config")
        .arg(folder.0.join("collector.yaml"))
        .env("TCPTRACE_FILE", &file)
        .env("OTLP_ENDPOINT", rotel.url())
        .stdout(File::create(folder.0.join("log")).unwrap())
        .stderr(File::create(folder.0.join("errors")).unwrap());
    let _collector = Program::start(&mut command);

    let sink = FileSink::open(FileSettings { path: file, ..FileSettings::default() }).unwrap();
    let output = Output::start("file".to_owned(), Box::new(sink), 64 << 20, |_| ()).unwrap();
    let records = numbered(0..COUNT);
    output.push(lines(&records));
    end(&output);

    let printed = rotel.printed("LogRecord", records.len());
    let mut numbers: Vec<_> = printed.iter().map(|record| record.int("mono_ns").unwrap()).collect();
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(0..COUNT), "{} arrived", numbers.len());
    let transition = printed.iter().find(|record| record.int("mono_ns") == Some(0)).unwrap();
    for (name, value) in
        [("Timestamp", "1772600767338807000"), ("cookie", "Int(3344564667)"), ("new_state", "Str(TIME_WAIT)")]
    {
        assert_eq!(transition.value(name), Some(value), "{name}");
    }
}
