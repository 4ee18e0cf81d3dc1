//! The owners of listeners by address: for connections whose listener has no memo, and for what is learnt of a listener
//! from a connection that came through it.

use core::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::record::Owner;

/// Where a listener listens. 24 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ListenerKey {
    /// Local address; IPv4 as `::ffff:a.b.c.d`.
    pub address: [u8; 16],
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Local port in host order.
    pub port: u16,
    /// Address family of the socket: a child has its listener's, even where an IPv6 listener takes IPv4 connections.
    pub family: u16,
}

/// Who listens there. 56 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Listener {
    /// The owner of the first of them.
    pub owner: Owner,
    /// Listeners on this address now: sockets that are bound to different devices may share it.
    pub sockets: u32,
    /// 1 once two processes listened here, or another one used a connection that came in here: the next ones are of one
    /// of several.
    pub shared: u8,
    /// 1 where one of them passes the filter by PID and cgroup.
    pub owner_matches: u8,
    /// Zero.
    pub pad: [u8; 2],
    /// Key of the memo of the listener, where the programs saw it begin to listen, and it is the only one; else 0.
    pub memo: u64,
}

const _: () = assert!(size_of::<ListenerKey>() == 24);
const _: () = assert!(size_of::<Listener>() == 56);
