//! What the kernel side remembers of a socket between two events, keyed by the address of its `struct sock`.
//!
//! The clock and the owner are kept in the kernel, not in user space, so that an event which a filter keeps back or
//! a full ring drops still moves the clock and still teaches who owns the socket.

use core::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::record::Owner;

/// Memory of one socket. 64 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Memo {
    /// CLOCK_MONOTONIC at which the present state was entered, in ns; 0 where that was not seen, or nobody asks.
    pub entered_ns: u64,
    /// The same of the state before it; kept for [`Memo::deferred_from`].
    pub previous_ns: u64,
    /// The owner.
    pub owner: Owner,
    /// Not 0: the transition from this state to the present one has not been sent, as its addresses were not
    /// known yet; it goes out ahead of the socket's next event.
    pub deferred_from: u8,
    /// One of [`owner_match`].
    pub owner_matches: u8,
    /// The state that was entered last; 0 where none was seen. Where the socket is in another one, a transition was missed, or
    /// nobody asked for its time.
    pub state: u8,
    /// 1 where the listener had sent SYN cookies within the time that they are valid for.
    pub syn_cookies: u8,
    /// What does not change: the inode number of the network namespace, or where events are counted by port
    /// ([`crate::aggregate::by::PORT`]) that of the service that the socket gives or uses; 0 where it is not known.
    pub netns_or_service: u32,
}

/// Places in each set of the table of memos.
pub const WAYS: u32 = 4;

/// How many sets keep `sockets` memos: a power of two, so that no more than half of the places are taken.
#[must_use]
pub const fn sets(sockets: u32) -> u32 {
    (sockets as u64 * 2).div_ceil(WAYS as u64).next_power_of_two() as u32
}

/// Does the owner pass the filter by PID and cgroup?
pub mod owner_match {
    /// No.
    pub const NO: u8 = 0;
    /// Yes.
    pub const YES: u8 = 1;
    /// Not any more, since the event that is at hand: it still passes, so that nobody waits for the socket's end.
    pub const LEFT: u8 = 2;
    /// No, but the process does that listens for it, and was asked for: then all is that its service does.
    pub const SERVED: u8 = YES | 4;
}

const _: () = assert!(size_of::<Memo>() == 64);
