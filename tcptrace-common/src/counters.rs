//! Counters that the programs keep on each CPU, so that no loss goes unnoticed.

use core::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Counters of one CPU since the start. 72 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Counters {
    /// Records sent. Programs leave it at zero; user space fills in [`CpuRing::reserved`](crate::ring::CpuRing::reserved).
    pub sent: u64,
    /// Records lost because they interrupted a program that was reserving a slot.
    pub interrupted: u64,
    /// Records lost because a ring was full.
    pub ring_full: u64,
    /// Events that the filter rejected.
    pub filtered: u64,
    /// Sockets not tracked because the table was full: their durations and owners are unknown.
    pub table_full: u64,
    /// Listeners not remembered because their map was full.
    pub listeners_full: u64,
    /// RSTs without a socket whose packet headers could not be read.
    pub unreadable: u64,
    /// Events counted under [`OTHER`](crate::aggregate::OTHER).
    pub other_keys: u64,
    /// Events not counted, or counted without their duration, because a count map was full.
    pub counts_full: u64,
}

const _: () = assert!(size_of::<Counters>() == 72);
