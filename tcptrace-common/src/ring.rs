//! The rings of records, one per CPU.
//!
//! A ring is an array of equal slots. A program reserves the next slot of its CPU without a lock or a helper call, and
//! user space reads records in place. So only timestamps order records of different CPUs.

use core::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Size of the longest record, in bytes.
pub const MAX_RECORD: usize = 184;

/// An entry of the shared ring buffer that carries no record and only wakes user space.
pub type Wakeup = u64;

/// Room for one record: three cache lines, 192 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Slot {
    /// The record. Behind a short one are the last bytes of an older, longer record.
    pub record: [u8; MAX_RECORD],
    /// Sequence number of the record, from 1. Written after the record itself.
    pub number: u64,
}

/// Positions of a CPU's ring. 128 bytes: programs and user space each write a cache line of their own.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct CpuRing {
    /// Slots reserved so far; without a ring, records sent through the shared ring buffer.
    pub reserved: u64,
    /// 1 while a program reserves a slot.
    pub is_reserving: u64,
    /// Explicit padding, always zero.
    pub pad: [u64; 6],
    /// Records that user space has read, whose slots are free again.
    pub consumed: u64,
    /// Explicit padding, always zero.
    pub consumed_pad: [u64; 7],
}

const _: () = assert!(size_of::<Slot>() == 192);
const _: () = assert!(size_of::<CpuRing>() == 128);
