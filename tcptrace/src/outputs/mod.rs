//! The ways out: each output has a queue of bounded size, a thread of its own and counters, so that none of them keeps
//! another, or the reading of events, from its work.

mod all;
mod counters;
mod file;
mod output;
mod queue;
mod records;
mod rotated;
mod sink;
mod stdout;
#[cfg(test)]
mod tests;

pub use all::Outputs;
pub use counters::{Count, Counters, OutputState};
pub use file::{Compression, FileSettings, FileSink};
pub use output::Output;
pub use records::{Collecting, Records};
pub use sink::{Sink, Trouble};
pub use stdout::Stdout;
