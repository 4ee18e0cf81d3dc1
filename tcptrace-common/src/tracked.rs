//! What the programs remember about a socket between two events, by the address of its `struct sock`.
//!
//! The kernel side keeps the start time of the current state and the owner, so an event that the filter rejects or a
//! full ring drops still advances the clock and still reveals the owner.

use core::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::record::Owner;

/// A tracked socket. 64 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct TrackedSock {
    /// CLOCK_MONOTONIC when the socket entered its current state, in ns; 0 if not seen or not needed.
    pub entered_ns: u64,
    /// The same for the previous state, needed while a transition is deferred. For a seeded listener, the session id of
    /// the iterator run that last saw it.
    pub previous_entered_ns: u64,
    /// The process that uses the socket.
    pub owner: Owner,
    /// Not 0: the transition from this state to the current one is deferred because the addresses were not known yet. It
    /// is sent before the socket's next event.
    pub deferred_from: u8,
    /// One of [`owner_match`].
    pub owner_match: u8,
    /// The state entered last; 0 before the first. If the socket is in another state, a transition was missed or its time
    /// was not needed.
    pub state: u8,
    /// 1 if the listener had sent SYN cookies within their lifetime.
    pub syn_cookies: u8,
    /// Inode number of the network namespace, or with [`by::PORT`](crate::aggregate::by::PORT) the port of the service; 0
    /// if unknown. Neither changes.
    pub netns_or_service_port: u32,
}

/// Slots in each set of the table.
pub const WAYS: u32 = 4;

/// Number of sets for `sockets` sockets: a power of two, so that at most half of the slots are in use.
#[must_use]
pub const fn set_count(sockets: u32) -> u32 {
    (sockets as u64 * 2).div_ceil(WAYS as u64).next_power_of_two() as u32
}

/// Whether the owner passes the filter by PID and cgroup ([`TrackedSock::owner_match`]).
pub mod owner_match {
    /// The owner does not pass.
    pub const NO: u8 = 0;
    /// The owner passes.
    pub const YES: u8 = 1;
    /// The owner changed to one that does not pass. The current event still passes, as the last one, so that nobody waits
    /// for the socket's end.
    pub const LEFT: u8 = 2;
    /// The owner does not pass, but the listening process does: the filter follows all connections of its service.
    pub const SERVED: u8 = YES | 4;
}

const _: () = assert!(size_of::<TrackedSock>() == 64);
