//! The programs, one file for each group of hooks. To add a hook, add a file and its line here.

mod count_transition;
mod list_holders;
mod list_sockets;
mod owner;
mod reset;
mod retransmit;
mod transition;
