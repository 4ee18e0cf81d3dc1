//! tcptrace's own log: lines wait in a bounded queue, like records of an output, until they are written to stderr or
//! journald. The caller never waits.

use std::{
    collections::VecDeque,
    env,
    fmt::Display,
    io::{self, Write as _},
    panic,
    sync::{Mutex, OnceLock, PoisonError},
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
    sys::{sandbox::confine_idle_thread, terminal},
};

/// Maximum size of the queue in bytes; if it is full, the oldest lines are dropped and counted.
const QUEUE_BYTES: usize = 256 << 10;
/// How long shutdown waits for the last lines.
const PATIENCE: Duration = Duration::from_secs(1);

/// Severity of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The run fails, and ends.
    Error,
    /// Something is wrong, but the run continues.
    Warn,
    /// Information without a problem.
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

    /// The syslog severity (RFC 5424).
    const fn priority(self) -> u8 {
        match self {
            Self::Error => 3,
            Self::Warn => 4,
            Self::Info => 6,
        }
    }
}

/// Destination and format of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// To stderr, prefixed with the program's name.
    Plain,
    /// To stderr, prefixed with time and level.
    Stamped,
    /// To journald, with a priority.
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
    /// Lines less severe than this are not written.
    level: Level,
}

static RUNNING: OnceLock<Log> = OnceLock::new();

/// Starts the log: a separate thread writes all lines that are at least this severe. A process has one log: further
/// calls have no effect. The thread gives up all rights that it has, since it runs before others can give up theirs.
///
/// # Errors
/// If no thread can be started, or stderr is closed.
pub fn start(form: Form, level: Level) -> io::Result<()> {
    let sink: Box<dyn Sink> = match form {
        Form::Plain | Form::Stamped => Box::new(Standard::error()?),
        Form::Journal => Box::new(Journald::log()),
    };
    // It reports its own problems itself, once they are over.
    let output =
        Output::start_in("log", LOG.to_owned(), confine_idle_thread, LOG.to_owned(), sink, QUEUE_BYTES, |words| {
            warn(words)
        })?;
    let _ = RUNNING.set(Log { output, form, level });
    panic::set_hook(Box::new(|panic| {
        terminal::restore(); // of a screen that covers it
        release();
        error(panic);
        if thread::current().name() == Some("main") {
            finish();
        }
    }));
    Ok(())
}

/// Starts the log of a service: to journald if stderr is connected to it, otherwise to stderr. `level` is the minimum
/// severity.
///
/// # Errors
/// See [`start`].
pub fn start_log(level: Level) -> io::Result<()> {
    let is_journal = env::var_os("JOURNAL_STREAM").is_some() && Journald::log().is_there();
    start(if is_journal { Form::Journal } else { Form::Stamped }, level)
}

/// Waits briefly until all lines are written.
pub fn finish() {
    if let Some(log) = RUNNING.get() {
        log.output.end(Instant::now() + PATIENCE);
    }
}

/// State of the log, if it was started.
#[must_use]
pub fn state() -> Option<OutputState> {
    RUNNING.get().map(|log| log.output.state())
}

/// Lines that wait because a screen covers the terminal: the latest ones, and the number of all.
#[derive(Default)]
struct Held {
    count: usize,
    lines: VecDeque<(Level, String)>,
}

static HELD: Mutex<Option<Held>> = Mutex::new(None);
/// Most lines that wait; older ones are dropped.
const MAX_HELD: usize = 100;

/// From now on lines wait until [`release`], since a screen covers the terminal.
pub fn hold() {
    HELD.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default();
}

/// The number of lines that have waited so far, and the last one.
#[must_use]
pub fn held() -> (usize, Option<String>) {
    let held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    held.as_ref().map_or((0, None), |held| (held.count, held.lines.back().map(|(_, words)| words.clone())))
}

/// Writes the lines that waited.
pub fn release() {
    let held = HELD.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(Held { count, lines }) = held else { return };
    if let Some(dropped) = count.checked_sub(lines.len()).filter(|dropped| *dropped > 0) {
        warn(format_args!("{dropped} earlier messages are not shown"));
    }
    lines.into_iter().for_each(|(level, words)| log(level, &words));
}

/// Keeps a line if lines wait.
fn holds(level: Level, words: &str) -> bool {
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(held) = held.as_mut() else { return false };
    held.count += 1;
    held.lines.push_back((level, words.to_owned()));
    if held.lines.len() > MAX_HELD {
        held.lines.pop_front();
    }
    true
}

fn log(level: Level, words: &dyn Display) {
    let words = message(&words.to_string());
    if holds(level, &words) {
        return;
    }
    match RUNNING.get() {
        Some(log) if level <= log.level => {
            let mut line = RecordsBuilder::default();
            line.add(|to| to.put_slice(&log.form.line(level, &words)));
            log.output.push(line.take());
        }
        Some(_) => {}
        // In a single write, so that lines of several programs on one terminal stay whole. A closed stderr (`2>&1 |
        // head`) is not an error.
        None => _ = io::stderr().write_all(&Form::Plain.line(level, &words)),
    }
}

/// Logs a line at level [`Level::Info`].
pub fn info(words: impl Display) {
    log(Level::Info, &words);
}

/// Logs a line at level [`Level::Warn`]: something is wrong, but the run continues.
pub fn warn(words: impl Display) {
    log(Level::Warn, &words);
}

/// Logs a line at level [`Level::Error`]: why the run failed.
pub fn error(words: impl Display) {
    log(Level::Error, &words);
}

/// The error with everything that led to it, each cause once: most of our errors have their cause in their own words.
#[must_use]
pub fn with_causes(error: &anyhow::Error) -> String {
    error.chain().skip(1).fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_written_once() {
        let cause = anyhow::anyhow!("no such file");
        assert_eq!(with_causes(&cause), "no such file");
        assert_eq!(
            with_causes(&cause.context("cannot open x").context("cannot begin")),
            "cannot begin: cannot open x: no such file"
        );
        let cause = anyhow::anyhow!("no such file");
        assert_eq!(with_causes(&cause.context("cannot open x: no such file")), "cannot open x: no such file");
    }

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
