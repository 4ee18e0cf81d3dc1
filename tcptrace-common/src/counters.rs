//! Counters that the BPF programs keep per CPU, so that nothing is lost without a trace.

use core::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Counters of one CPU. 64 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Counters {
    /// Records written to the ring buffer.
    pub sent: u64,
    /// Records lost because the ring buffer was full.
    pub ring_full: u64,
    /// Events that a filter kept back.
    pub filtered: u64,
    /// Sockets that could not be remembered because the kernel's table was full: their durations and owners are unknown.
    pub table_full: u64,
    /// Listeners that could not be remembered for the same reason.
    pub listeners_full: u64,
    /// Packets without a socket whose addresses could not be read.
    pub unreadable: u64,
    /// Events that were counted under [`crate::aggregate::OTHER`].
    pub other_keys: u64,
    /// Events that were not counted, or without their time, because the tables of counts were full.
    pub counts_full: u64,
}

const _: () = assert!(size_of::<Counters>() == 64);
