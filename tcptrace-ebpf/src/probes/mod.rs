//! The programs, a file for each group of hooks.

mod listing;
mod owner;
mod reset;
mod retransmit;
mod transition;
