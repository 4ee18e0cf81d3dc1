//! The filter that the programs apply before they write a record. Its parts are joined by AND, the values within a part by
//! OR. The verifier sees parts as constants and removes the code of those that are off.

use core::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bits of [`Filter::parts`].
pub mod part {
    /// The local port must be in the set.
    pub const LOCAL_PORT: u32 = 1 << 0;
    /// The remote port must be in the set.
    pub const REMOTE_PORT: u32 = 1 << 1;
    /// Either port must be in the set.
    pub const ANY_PORT: u32 = 1 << 2;
    /// The local address must be in the set.
    pub const LOCAL_ADDRESS: u32 = 1 << 3;
    /// The remote address must be in the set.
    pub const REMOTE_ADDRESS: u32 = 1 << 4;
    /// Either address must be in the set.
    pub const ANY_ADDRESS: u32 = 1 << 5;
    /// The owner's PID must be in the set.
    pub const PID: u32 = 1 << 6;
    /// The owner's cgroup must be in [`super::Filter::cgroups`], or below one of them.
    pub const CGROUP: u32 = 1 << 7;
}

/// Maximum number of cgroups in a filter.
pub const MAX_CGROUPS: usize = 8;
/// Maximum number of PIDs in a filter.
pub const MAX_PIDS: u32 = 1024;
/// Maximum number of address prefixes in a filter.
pub const MAX_PREFIXES: u32 = 1024;
/// 64-bit words in the bitmap of ports: three sets (local, remote, either) of 65,536 bits.
pub const PORT_WORDS: u32 = 3 * PORT_WORDS_PER_SET;
/// 64-bit words in one of the three sets.
pub const PORT_WORDS_PER_SET: u32 = 1024;

/// Index of the set of local ports or addresses.
pub const SET_LOCAL: u8 = 0;
/// Index of the set of remote ports or addresses.
pub const SET_REMOTE: u8 = 1;
/// Index of the set that applies to both ends.
pub const SET_ANY: u8 = 2;

/// Data of a key in the prefix trie: the set, then the address. The prefix length includes the 8 bits of the set.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PrefixData {
    /// [`SET_LOCAL`], [`SET_REMOTE`] or [`SET_ANY`].
    pub set: u8,
    /// The address; IPv4 as `::ffff:a.b.c.d`.
    pub address: [u8; 16],
}

/// The constant part of the filter. 112 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Filter {
    /// Bits of [`part`]: the checks that are on.
    pub parts: u32,
    /// States by [`crate::state::bit`]: an event passes if it enters, leaves or happens in one of them. 0: any state.
    pub states: u16,
    /// [`crate::record::AF_INET`], [`crate::record::AF_INET6`], or 0 for both.
    pub family: u16,
    /// Inode number of the network namespace, or 0 for all.
    pub netns: u32,
    /// 1: sockets without a known owner pass [`part::PID`] and [`part::CGROUP`].
    pub unknown_owner_passes: u32,
    /// Ids of cgroups; unused ones are 0.
    pub cgroups: [u64; MAX_CGROUPS],
    /// Depth of each cgroup below the root of the hierarchy.
    pub cgroup_levels: [u32; MAX_CGROUPS],
}

const _: () = assert!(size_of::<PrefixData>() == 17);
const _: () = assert!(size_of::<Filter>() == 112);
