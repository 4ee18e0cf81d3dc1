//! Aggregate mode: the programs send no events and count them in per-CPU maps.
//!
//! Durations are counted in log-linear buckets: an octave (a power of two) has [`BUCKETS`] buckets of equal width, so two
//! durations in one bucket differ by less than 1/[`BUCKETS`]. One map value holds the buckets of an octave and exists
//! only once a duration falls into it.

use core::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::record::socket_flag;

/// An octave has two to this power buckets. The relative error is below two to the power of minus this: 1.6 %.
pub const GROUPING_POWER: u8 = 6;
/// Durations of two to this power ns (208 days) and longer are in the last bucket.
pub const MAX_VALUE_POWER: u8 = 54;
/// Buckets of an octave.
pub const BUCKETS: usize = 1 << GROUPING_POWER;
/// Octaves; the first one has all durations below [`BUCKETS`] ns.
pub const OCTAVES: usize = (MAX_VALUE_POWER - GROUPING_POWER + 1) as usize;

/// The octave of a duration in ns, and the bucket within it.
#[inline(always)]
pub const fn bucket_of(ns: u64) -> (u8, usize) {
    let last = (1 << MAX_VALUE_POWER) - 1;
    let ns = if ns > last { last } else { ns };
    let octave = (ns | (BUCKETS as u64 / 2)).ilog2() as u8 - (GROUPING_POWER - 1);
    (octave, (ns >> octave.saturating_sub(1)) as usize & (BUCKETS - 1))
}

/// The longest duration in ns that falls into this bucket.
pub const fn bucket_max_ns(octave: u8, bucket: usize) -> u64 {
    if octave as usize + 1 >= OCTAVES && bucket + 1 >= BUCKETS {
        return u64::MAX;
    }
    match octave {
        0 => bucket as u64,
        _ => (((BUCKETS + bucket + 1) as u64) << (octave - 1)) - 1,
    }
}

/// How counts are grouped (the field `aggregate` of the programs' constants).
pub mod by {
    /// Aggregate mode is off: the programs send events.
    pub const OFF: u32 = 0;
    /// By the kind of event alone.
    pub const TRANSITION: u32 = 1;
    /// By the port of the service: the local port of listeners and accepted connections, the remote port of connections
    /// opened by this host.
    pub const PORT: u32 = 2;
    /// By the owner's cgroup.
    pub const CGROUP: u32 = 3;
}

/// [`CountKey::group`] if it is not known, or counts are not grouped.
pub const UNKNOWN: u64 = 0;
/// [`CountKey::group`] of all groups beyond the limit.
pub const OTHER: u64 = u64::MAX;

/// [`CountKey::kind`] of a connection that closed, in addition to the kinds in [`crate::record`].
pub const KIND_CLOSED: u8 = 128;

/// Bits of [`CountKey::flags`] in addition to those of [`socket_flag`].
pub mod close_flag {
    /// A SYN was sent.
    pub const SENT_SYN: u16 = 1 << 14;
    /// Data was received and not read.
    pub const UNREAD: u16 = 1 << 15;
}

/// The [`socket_flag`]s that determine why a connection closed.
pub const CLOSE_FLAGS: u16 = socket_flag::OWNED
    | socket_flag::DEAD
    | socket_flag::LINGER
    | socket_flag::LINGER_ZERO
    | socket_flag::LINGER2_NEGATIVE
    | socket_flag::ATTACHED
    | socket_flag::SHUTDOWN_SEND
    | socket_flag::SHUTDOWN_RECEIVE;

/// Events with the same key are counted together. 16 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct CountKey {
    /// The port or cgroup id, as [`by`] says; or [`UNKNOWN`] or [`OTHER`].
    pub group: u64,
    /// One of the `KIND_` constants of [`crate::record`], or [`KIND_CLOSED`].
    pub kind: u8,
    /// The state that was left; 0 if the event is no transition.
    pub old: u8,
    /// The state that was entered ([`crate::state::after_close`]); 0 if the event is no transition.
    pub new: u8,
    /// Octave of the durations; 0 in keys of plain counts.
    pub octave: u8,
    /// For [`KIND_CLOSED`], `sk_err`: a positive errno or 0.
    pub err: u16,
    /// For [`KIND_CLOSED`], [`CLOSE_FLAGS`] and [`close_flag`]s.
    pub flags: u16,
}

/// Durations of one octave on one CPU. 520 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct OctaveTimes {
    /// Number of durations in each bucket.
    pub counts: [u64; BUCKETS],
    /// The longest duration, in ns.
    pub max_ns: u64,
}

impl OctaveTimes {
    /// No durations.
    pub const NONE: Self = Self { counts: [0; BUCKETS], max_ns: 0 };

    /// Number of durations in all buckets.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.wrapping_add(*count))
    }
}

const _: () = assert!(size_of::<CountKey>() == 16);
const _: () = assert!(size_of::<OctaveTimes>() == 520);
