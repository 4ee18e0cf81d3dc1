//! The rings of records, one for each CPU, and what the programs count there.
//!
//! A ring has places of one size. What runs on a CPU takes them one after another, without a lock and without a helper,
//! and user space reads them where they are: so records of several CPUs have no order but that of their times.

use core::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Longest record, in bytes.
pub const MAX_RECORD: usize = 184;

/// What the shared ring buffer has besides records: it only wakes user space.
pub type Bell = u64;

/// The place of a record: three lines of the cache. 192 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Slot {
    /// The record, and what is left of a longer one.
    pub record: [u8; MAX_RECORD],
    /// Number of the record that was written last, the first one being 1. Comes after the record itself.
    pub number: u64,
}

/// How far the ring of a CPU is written and read. 128 bytes; what each end writes is in a line of the cache of its own.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Cpu {
    /// Records sent: places that were taken in the ring, or in the ring buffer that all CPUs share.
    pub taken: u64,
    /// 1 while a place is being taken.
    pub is_taking: u64,
    /// Zero.
    pub pad: [u64; 6],
    /// Of the records in the ring, those that user space has read: their places may be taken.
    pub read: u64,
    /// Zero.
    pub read_pad: [u64; 7],
}

/// What the programs count on one CPU, so that nothing is lost without a trace. 72 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Counters {
    /// Records sent. The programs leave it at zero: it is [`Cpu::taken`], from where user space puts it here.
    pub sent: u64,
    /// Records lost because what they interrupted was about to take a place.
    pub interrupted: u64,
    /// Records lost because a ring was full.
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

const _: () = assert!(size_of::<Slot>() == 192);
const _: () = assert!(size_of::<Cpu>() == 128);
const _: () = assert!(size_of::<Counters>() == 72);
