//! Stories of connections: the events of both ends together, and what follows from them. Who sent the RST is told by
//! [`Story::resets`], who closed first by [`Story::closed_first`].

pub mod connection;
mod grouping;
mod verdict;

pub use grouping::{Limits, Stories};
pub use verdict::{Closed, Reset, ResetSender};

#[cfg(test)]
mod tests;
