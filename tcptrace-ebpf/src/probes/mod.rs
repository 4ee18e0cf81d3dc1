//! The programs, a file for each group of hooks.

mod count_transition;
mod list_sockets;
mod owner;
mod reset;
mod retransmit;
pub(crate) mod transition;
