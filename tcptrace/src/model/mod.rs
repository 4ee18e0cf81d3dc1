//! The values that all of tcptrace speaks of: events and what decodes them, states, sockets as listings show them, losses,
//! names, filters. They are pure: no clock, file or system call.

pub mod age;
pub mod close_reason;
pub mod decode;
pub mod errno;
pub mod event;
pub mod holders;
pub mod kernel_counts;
pub mod keyed;
pub mod losses;
pub mod names;
pub mod namespace;
pub mod netns_choice;
pub mod notice;
pub mod number;
pub mod output_state;
pub mod printable;
pub mod skipped;
pub mod snapshot;
pub mod socket;
pub mod socket_filter;
pub mod state;
pub mod time;
