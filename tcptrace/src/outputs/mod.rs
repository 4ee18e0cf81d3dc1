//! The ways out: each output has a queue of bounded size, a thread of its own and counters, so that none of them keeps
//! another, or the reading of events, from its work.

mod counters;
mod file;
mod flat;
mod journald;
mod output;
mod queue;
mod records;
mod rotated;
mod sink;
mod stdout;
mod syslog;
#[cfg(test)]
mod tests;
mod words;

pub use counters::{Count, Counters, OutputState};
pub use file::{Compression, FileSettings, FileSink};
pub use journald::Journald;
pub use output::Output;
pub use records::{Collecting, Records};
pub use sink::{Sink, Trouble};
pub use stdout::Stdout;
pub use syslog::{Syslog, SyslogTarget};
