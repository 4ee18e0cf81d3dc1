//! The programs, a file for each group of hooks.

mod aggregate;
mod listing;
mod owner;
mod reset;
mod retransmit;
pub(crate) mod transition;
