//! Aggregate mode: no event goes to user space, the programs count in maps of their own for each CPU.
//!
//! Times are counted in log-linear buckets: each octave (powers of two) has [`SLOTS`] of them, all of one width, so that
//! no time in a bucket is longer than another one by more than a part of [`SLOTS`]. The buckets of an octave are one value of a map,
//! and there is one only for octaves that occur.

use core::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::record::socket_flag;

/// Two to this power are the buckets of an octave. The relative error is below two to the power of minus this: 1.6 %.
pub const GROUPING_POWER: u8 = 6;
/// Times below two to this power are told apart: 208 days in ns. Longer ones are in the last bucket.
pub const MAX_VALUE_POWER: u8 = 54;
/// Buckets of an octave.
pub const SLOTS: usize = 1 << GROUPING_POWER;
/// Octaves; the first one has all times below [`SLOTS`] ns.
pub const OCTAVES: usize = (MAX_VALUE_POWER - GROUPING_POWER + 1) as usize;

/// The octave of a time in ns, and the bucket within it.
#[inline(always)]
pub const fn bucket(ns: u64) -> (u8, usize) {
    let last = (1 << MAX_VALUE_POWER) - 1;
    let ns = if ns > last { last } else { ns };
    let octave = (ns | (SLOTS as u64 / 2)).ilog2() as u8 - (GROUPING_POWER - 1);
    (octave, (ns >> octave.saturating_sub(1)) as usize & (SLOTS - 1))
}

/// The longest time in ns that is counted in this bucket of this octave.
pub const fn longest(octave: u8, slot: usize) -> u64 {
    if octave as usize + 1 >= OCTAVES && slot + 1 >= SLOTS {
        return u64::MAX;
    }
    match octave {
        0 => slot as u64,
        _ => (((SLOTS + slot + 1) as u64) << (octave - 1)) - 1,
    }
}

/// What is counted apart from what ([`Config::aggregate`](crate::config::Config::aggregate)).
pub mod by {
    /// Nothing is counted: events are sent.
    pub const OFF: u32 = 0;
    /// The kind of event alone.
    pub const TRANSITION: u32 = 1;
    /// The port of the service: the local port of a connection that came in and of a listener, the remote port of one
    /// that was made here.
    pub const PORT: u32 = 2;
    /// The cgroup of the owner.
    pub const CGROUP: u32 = 3;
}

/// [`Key::key`] where it is not known, and where none is asked for.
pub const UNKNOWN: u64 = 0;
/// [`Key::key`] of all for which there was no room.
pub const OTHER: u64 = u64::MAX;

/// [`Key::kind`] of the end of a connection, besides the kinds of [`crate::record`].
pub const KIND_ENDING: u8 = 128;

/// Bits of [`Key::flags`] besides those of [`socket_flag`].
pub mod ending_flag {
    /// A SYN was sent.
    pub const SENT_SYN: u16 = 1 << 14;
    /// Data was received and not read.
    pub const UNREAD: u16 = 1 << 15;
}

/// The facts about a socket that the reason of its end follows from.
pub const ENDING_FLAGS: u16 = socket_flag::OWNED
    | socket_flag::DEAD
    | socket_flag::LINGER
    | socket_flag::LINGER_ZERO
    | socket_flag::LINGER2_NEGATIVE
    | socket_flag::ATTACHED
    | socket_flag::SHUTDOWN_SEND
    | socket_flag::SHUTDOWN_RECEIVE;

/// What is counted together. 16 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Key {
    /// The port or the id of the cgroup, as [`by`] says; [`UNKNOWN`] or [`OTHER`].
    pub key: u64,
    /// One of the `KIND_` constants of [`crate::record`], or [`KIND_ENDING`].
    pub kind: u8,
    /// State that was left; 0 where there is no transition.
    pub old: u8,
    /// State that was entered ([`crate::state::after_close`]); 0 where there is no transition, and of an ending.
    pub new: u8,
    /// Octave of the times; 0 where none is counted.
    pub octave: u8,
    /// `sk_err` of an ending, a positive errno or 0.
    pub err: u16,
    /// Facts of an ending: [`ENDING_FLAGS`] and [`ending_flag`].
    pub flags: u16,
}

/// Times of one octave on one CPU. 520 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Times {
    /// How many there were in each bucket.
    pub counts: [u64; SLOTS],
    /// The longest of them, in ns.
    pub max_ns: u64,
}

impl Times {
    /// None.
    pub const NONE: Self = Self { counts: [0; SLOTS], max_ns: 0 };

    /// How many there are.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.wrapping_add(*count))
    }
}

const _: () = assert!(size_of::<Key>() == 16);
const _: () = assert!(size_of::<Times>() == 520);
