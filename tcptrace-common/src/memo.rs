//! What the kernel side remembers of a socket between two events, keyed by the address of its `struct sock`.
//!
//! The clock and the owner are kept in the kernel, not in user space, so that an event which a filter keeps back or
//! a full ring buffer drops still moves the clock and still teaches who owns the socket.

use core::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::record::Owner;

/// Memory of one socket. 64 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Memo {
    /// CLOCK_MONOTONIC at which the present state was entered, in ns; 0 where that was not seen.
    pub entered_ns: u64,
    /// The same of the state before it; kept for [`Memo::deferred_from`].
    pub previous_ns: u64,
    /// The owner.
    pub owner: Owner,
    /// Not 0: the transition from this state to the present one has not been sent, as its addresses were not
    /// known yet; it goes out ahead of the socket's next event.
    pub deferred_from: u8,
    /// 1 where the owner passes the filter by PID and cgroup.
    pub owner_matches: u8,
    /// Zero.
    pub pad: [u8; 6],
}

const _: () = assert!(size_of::<Memo>() == 64);
