//! Owners of listeners by address: for connections whose listener is not tracked, and for what a connection reveals about
//! its listener.

use core::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::record::Owner;

/// The address that a listener is bound to. 24 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ListenerKey {
    /// Local address; IPv4 as `::ffff:a.b.c.d`.
    pub address: [u8; 16],
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Local port in host order.
    pub port: u16,
    /// Address family of the socket. A child has its listener's, even if an IPv6 listener accepts an IPv4 connection.
    pub family: u16,
}

/// The listeners on one address. 56 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Listener {
    /// Owner of the first listener.
    pub owner: Owner,
    /// Number of listening sockets; those bound to different devices may share the address.
    pub sockets: u32,
    /// 1 once two processes listened here, or a process other than the listener's used a connection: new connections
    /// then belong to one of several processes.
    pub shared: u8,
    /// 1 if one of the owners passes the filter by PID and cgroup.
    pub owner_match: u8,
    /// Explicit padding, always zero.
    pub pad: [u8; 2],
    /// Key of the listener's [`TrackedSock`](crate::tracked::TrackedSock) if the programs saw `listen` and it is the only
    /// listener; else 0.
    pub tracked_key: u64,
}

const _: () = assert!(size_of::<ListenerKey>() == 24);
const _: () = assert!(size_of::<Listener>() == 56);
