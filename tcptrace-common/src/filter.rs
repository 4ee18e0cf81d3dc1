//! The filter that the BPF programs evaluate before they touch the rings. Its parts are joined by AND, the
//! values within a part by OR. Parts that are off are constants to the verifier, which removes their code.

use core::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bits of [`Filter::parts`].
pub mod part {
    /// Local port is in the set.
    pub const LOCAL_PORT: u32 = 1 << 0;
    /// Remote port is in the set.
    pub const REMOTE_PORT: u32 = 1 << 1;
    /// Either port is in the set.
    pub const ANY_PORT: u32 = 1 << 2;
    /// Local address is in the set.
    pub const LOCAL_ADDRESS: u32 = 1 << 3;
    /// Remote address is in the set.
    pub const REMOTE_ADDRESS: u32 = 1 << 4;
    /// Either address is in the set.
    pub const ANY_ADDRESS: u32 = 1 << 5;
    /// Owner's PID is in the set.
    pub const PID: u32 = 1 << 6;
    /// Owner's cgroup is one of, or below one of, [`super::Filter::cgroups`].
    pub const CGROUP: u32 = 1 << 7;
}

/// Most cgroups that a filter can name.
pub const MAX_CGROUPS: usize = 8;
/// Most PIDs that a filter can name.
pub const MAX_PIDS: u32 = 1024;
/// Most prefixes of addresses that a filter can name.
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

/// Data of a key of the prefix trie: which set, then the address (IPv4 as `::ffff:a.b.c.d`). Prefix lengths count the
/// 8 bits of the set.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PrefixData {
    /// [`SET_LOCAL`], [`SET_REMOTE`] or [`SET_ANY`].
    pub set: u8,
    /// The address.
    pub address: [u8; 16],
}

/// The filter's constants. 112 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Filter {
    /// Bits of [`part`]: what is to be looked at.
    pub parts: u32,
    /// States by [`crate::state::bit`]; an event passes if it enters, leaves or happens in one of them. 0: all.
    pub states: u16,
    /// [`crate::record::AF_INET`], [`crate::record::AF_INET6`], or 0 for both.
    pub family: u16,
    /// Inode number of the network namespace, or 0 for all.
    pub netns: u32,
    /// 1: with [`part::PID`] or [`part::CGROUP`], sockets without an owner pass.
    pub unknown_owner_passes: u32,
    /// Ids of cgroups; 0 where unused.
    pub cgroups: [u64; MAX_CGROUPS],
    /// Depth of each of them below the root of the hierarchy.
    pub cgroup_levels: [u32; MAX_CGROUPS],
}

const _: () = assert!(size_of::<PrefixData>() == 17);
const _: () = assert!(size_of::<Filter>() == 112);
