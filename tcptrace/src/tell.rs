//! What tcptrace says of itself.

use std::{
    fmt::Display,
    io::{self, Write as _},
};

use crate::printable::message;

/// Says something: to the log where there is one ([`tracing`]), else on stderr. Where nobody listens any more
/// (`2>&1 | head`) that is no reason to fail.
pub fn tell(words: impl Display) {
    if tracing::dispatcher::has_been_set() {
        tracing::info!("{}", message(&words.to_string()));
    } else {
        let _ = writeln!(io::stderr(), "tcptrace: {}", message(&words.to_string()));
    }
}

/// Says that something is wrong.
pub fn warn(words: impl Display) {
    if tracing::dispatcher::has_been_set() {
        tracing::warn!("{}", message(&words.to_string()));
    } else {
        tell(words);
    }
}

/// Says why a run failed.
pub fn fail(words: impl Display) {
    if tracing::dispatcher::has_been_set() {
        tracing::error!("{}", message(&words.to_string()));
    } else {
        tell(words);
    }
}
