//! The contract between tcptrace's BPF programs and its user space: records, maps, constants and TCP states.
//!
//! All types are plain integers with explicit padding, so both compilers lay them out alike and any bytes are a valid
//! value. Sizes are asserted at compile time.
//!
//! | module | what it defines |
//! | --- | --- |
//! | [`record`] | the events that programs write into the rings |
//! | [`ring`], [`counters`] | the rings themselves, and what each CPU counts |
//! | [`state`] | TCP states, and what a transition means |
//! | [`filter`] | the filter that programs apply |
//! | [`tracked`], [`listener`] | what programs remember about sockets and listeners |
//! | [`aggregate`] | the counts of aggregate mode |
//! | [`listing`] | the entries of the iterator programs |
//! | [`config`] | the constants that user space sets before it loads the programs |
#![no_std]

pub mod aggregate;
pub mod config;
pub mod counters;
pub mod filter;
pub mod listener;
pub mod listing;
pub mod record;
pub mod ring;
pub mod state;
pub mod tracked;
