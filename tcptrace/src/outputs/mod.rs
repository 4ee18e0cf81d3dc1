//! The ways out: each output has a queue of bounded size, a thread of its own and counters, so that none of them keeps
//! another, or the reading of events, from its work.

mod records;
mod sink;

pub use records::{Collecting, Records};
pub use sink::{Sink, Trouble};
