//! Stories of connections: the events of both ends in order, and conclusions from them. For example, [`connection::Story::resets`] finds who
//! sent a RST, and [`connection::Story::closed_first`] who closed first.

pub mod connection;
mod grouping;
mod verdict;

pub use grouping::{Limits, Stories};
pub use verdict::{Closed, Reset, ResetSender};

#[cfg(test)]
mod tests;
