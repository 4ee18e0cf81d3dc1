//! What tcptrace says of itself: lines that wait in a bounded queue, as the records of an output do, until stderr or
//! journald takes them. Who says something never waits for that.

use std::{
    env,
    fmt::Display,
    io::{self, Write as _},
    panic,
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use bytes::BufMut as _;
use jiff::Timestamp;

use crate::{
    model::{
        output_state::{LOG, OutputState},
        printable::message,
    },
    outputs::{
        journald::{Journald, log_entry},
        output::Output,
        sink::Sink,
        standard::Standard,
    },
    pipeline::records::RecordsBuilder,
};

/// Bytes of lines that wait at most; when there is no room the oldest make it, and are counted.
const QUEUE_BYTES: usize = 256 << 10;
/// The end waits for so long until the last lines are taken.
const PATIENCE: Duration = Duration::from_secs(1);

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The run fails.
    Error,
    /// Something is wrong.
    Warn,
    /// Good to know.
    Info,
}

impl Level {
    const fn name(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Warn => "WARN",
            Self::Info => "INFO",
        }
    }

    /// As syslog numbers them (RFC 5424).
    const fn priority(self) -> u8 {
        match self {
            Self::Error => 3,
            Self::Warn => 4,
            Self::Info => 6,
        }
    }
}

/// Where lines go, and in which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// To stderr, after the program's name.
    Plain,
    /// To stderr, after the time and the level.
    Stamped,
    /// To journald.
    Journal,
}

impl Form {
    fn line(self, level: Level, words: &str) -> Vec<u8> {
        match self {
            Self::Plain => format!("tcptrace: {words}\n").into_bytes(),
            Self::Stamped => {
                let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ");
                format!("{now} {:>5} {words}\n", level.name()).into_bytes()
            }
            Self::Journal => log_entry(level.priority(), words),
        }
    }
}

struct Log {
    output: Output,
    form: Form,
    /// What matters less is not written.
    level: Level,
}

static RUNNING: OnceLock<Log> = OnceLock::new();

/// From now on lines that matter at least so much are written by a thread of its own. A second log of one process is none:
/// the first stays.
///
/// # Errors
/// Where no thread can be started, or stderr is closed.
pub fn start(form: Form, level: Level) -> io::Result<()> {
    let sink: Box<dyn Sink> = match form {
        Form::Plain | Form::Stamped => Box::new(Standard::error()?),
        Form::Journal => Box::new(Journald::log()),
    };
    // Its own trouble it tells of itself, when that is over.
    let output = Output::start_in("log", LOG.to_owned(), LOG.to_owned(), sink, QUEUE_BYTES, |words| warn(words))?;
    let _ = RUNNING.set(Log { output, form, level });
    panic::set_hook(Box::new(|panic| {
        fail(panic);
        if thread::current().name() == Some("main") {
            finish();
        }
    }));
    Ok(())
}

/// Starts the log of a service: to journald where that is what reads stderr, else to stderr. `level` is the least that is
/// written.
///
/// # Errors
/// As [`start`].
pub fn start_log(level: Level) -> io::Result<()> {
    let is_journal = env::var_os("JOURNAL_STREAM").is_some() && Journald::log().is_there();
    start(if is_journal { Form::Journal } else { Form::Stamped }, level)
}

/// Waits until all lines are taken, for a moment at most.
pub fn finish() {
    if let Some(log) = RUNNING.get() {
        log.output.end(Instant::now() + PATIENCE);
    }
}

/// What became of the lines up to now, if there is a log.
#[must_use]
pub fn state() -> Option<OutputState> {
    RUNNING.get().map(|log| log.output.state())
}

fn say(level: Level, words: &dyn Display) {
    let words = message(&words.to_string());
    match RUNNING.get() {
        Some(log) if level <= log.level => {
            let mut line = RecordsBuilder::default();
            line.add(|to| to.put_slice(&log.form.line(level, &words)));
            log.output.push(line.take());
        }
        Some(_) => {}
        // In one write: lines of several programs on one terminal stay whole. A closed stderr (`2>&1 | head`) is no reason
        // to fail.
        None => _ = io::stderr().write_all(&Form::Plain.line(level, &words)),
    }
}

/// Says something.
pub fn tell(words: impl Display) {
    say(Level::Info, &words);
}

/// Says that something is wrong.
pub fn warn(words: impl Display) {
    say(Level::Warn, &words);
}

/// Says why a run failed.
pub fn fail(words: impl Display) {
    say(Level::Error, &words);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_whole_in_each_form() {
        let text = |form: Form| String::from_utf8_lossy(&form.line(Level::Warn, "some words")).into_owned();
        assert_eq!(text(Form::Plain), "tcptrace: some words\n");
        assert_eq!(text(Form::Journal), "MESSAGE=some words\nPRIORITY=4\nSYSLOG_IDENTIFIER=tcptrace\n");
        let stamped = text(Form::Stamped);
        let (time, rest) = stamped.split_once(' ').unwrap_or_default();
        assert_eq!((time.len(), rest), ("2026-11-22T01:24:20.508605Z".len(), " WARN some words\n"), "{stamped}");
    }
}
