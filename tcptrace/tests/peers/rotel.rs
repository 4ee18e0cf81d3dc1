//! rotel, a receiver of OTLP that prints what arrives.

use std::{
    fs::{self, File},
    net::TcpListener,
    process::Command,
};

use crate::{
    program::{Folder, Program, until},
    python,
};

const PROGRAM: &str = "rotel/rotel-agent";

pub(crate) fn missing() -> Option<String> {
    python::missing(PROGRAM)
}

/// A rotel and all that it printed, also before it was started again.
pub(crate) struct Rotel {
    folder: Folder,
    port: u16,
    starts: usize,
    program: Option<Program>,
}

/// A log record or a metric as rotel prints it, without what stands for margins.
pub(crate) struct Printed(Vec<String>);

impl Printed {
    /// The value of an attribute or another line that begins with `name` and a colon.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find_map(|line| line.trim_start_matches("-> ").strip_prefix(name)?.strip_prefix(": "))
    }

    /// The numbers at the ends of the lines that begin so.
    pub(crate) fn values(&self, begin: &str) -> impl Iterator<Item = f64> {
        let lines = self.0.iter().filter(move |line| line.starts_with(begin));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    /// The value of an attribute that is an integer.
    pub(crate) fn int(&self, name: &str) -> Option<u64> {
        self.value(name)?.strip_prefix("Int(")?.strip_suffix(')')?.parse().ok()
    }
}

impl Rotel {
    pub(crate) fn new(name: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut rotel = Self { folder: Folder::new(name), port, starts: 0, program: None };
        rotel.start();
        rotel
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Starts it, at the same port as before.
    pub(crate) fn start(&mut self) {
        self.starts += 1;
        let path = |name: &str| self.folder.0.join(format!("{name}.{}", self.starts));
        let mut command = Command::new(python::packaged(PROGRAM).unwrap());
        command
            .args(["start", "--exporter", "blackhole", "--debug-log-verbosity", "detailed"])
            .args(["--debug-log", "logs", "--debug-log", "metrics", "--otlp-grpc-endpoint", "127.0.0.1:0"])
            .args(["--otlp-http-endpoint", &format!("127.0.0.1:{}", self.port)])
            .arg("--pid-file")
            .arg(path("pid"))
            .arg("--log-file")
            .arg(path("log"))
            .stdout(File::create(path("printed")).unwrap())
            .stderr(File::create(path("errors")).unwrap());
        self.program = Some(Program::start(&mut command));
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) {
        self.program.take().unwrap().end(libc::SIGKILL);
    }

    /// All that it printed.
    pub(crate) fn text(&self) -> String {
        let path = |number| self.folder.0.join(format!("printed.{number}"));
        (1..=self.starts).map(|number| fs::read_to_string(path(number)).unwrap()).collect()
    }

    /// What it printed of so many log records or metrics, the last one of a number, which begin with a line like `what #0`. Waits for them.
    pub(crate) fn printed(&self, what: &str, count: usize) -> Vec<Printed> {
        let last_line = if what == "LogRecord" { "Flags: " } else { "Value: " };
        until(&format!("{count} times {what} in rotel"), || {
            let text = self.text();
            let mut printed: Vec<Printed> = Vec::new();
            for line in text.lines().map(str::trim) {
                if line.strip_prefix(what).is_some_and(|rest| rest.starts_with(" #")) {
                    printed.push(Printed(Vec::new()));
                } else if let Some(last) = printed.last_mut() {
                    last.0.push(line.to_owned());
                }
            }
            let is_whole = text.ends_with('\n') && text.lines().last().is_some_and(|line| line.starts_with(last_line));
            (printed.len() >= count && is_whole).then_some(printed)
        })
    }
}
