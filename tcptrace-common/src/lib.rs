//! What tcptrace's BPF programs and its user space agree on: the records in the rings, the TCP states, the
//! filter and the layout of the running kernel's structs.
//!
//! Everything here is plain integers with explicit padding, so that both compilers lay it out alike and any bytes
//! can be read back as a value without undefined behaviour.
#![no_std]

pub mod aggregate;
pub mod config;
pub mod filter;
pub mod listener;
pub mod listing;
pub mod record;
pub mod ring;
pub mod state;
pub mod tracked;
