//! The ways out: each output has a queue of bounded size, a thread of its own and counters, so that none of them keeps
//! another, or the reading of events, from its work.

mod flat;
mod journald;
mod records;
mod sink;
mod syslog;
mod words;

pub use journald::Journald;
pub use records::{Collecting, Records};
pub use sink::{Sink, Trouble};
pub use syslog::{Syslog, SyslogTarget};
