//! Namespaces in which nothing changes by itself, which polls leave alone.

use crate::{
    listing::options::ListingOptions,
    model::{namespace::NetCounters, socket::UNREAD_NS, state::StateSet},
};

/// State of a namespace in which nothing changes by itself: another poll finds nothing new until a segment or an event
/// arrives.
#[derive(Clone, Copy, Debug)]
pub(super) struct IdleNetns {
    pub(super) states: StateSet,
    pub(super) stuck: bool,
    /// CLOCK_MONOTONIC in ns of this observation.
    pub(super) seen_ns: u64,
    /// Segments received by then; `None` if there was no socket.
    pub(super) segments: Option<u64>,
    /// CLOCK_MONOTONIC in ns since which that number has not changed.
    pub(super) since_ns: u64,
    /// CLOCK_MONOTONIC in ns of the last listing of its sockets.
    pub(super) listed_ns: u64,
    pub(super) counters: Option<NetCounters>,
}

impl IdleNetns {
    /// Whether it also holds for such a listing.
    pub(super) fn is_of(&self, is_poll: bool, wanted: &ListingOptions) -> bool {
        self.segments.is_none() || is_poll && (self.states, self.stuck) == (wanted.states, wanted.stuck)
    }

    /// Whether the namespace need not be entered yet. Events announce activity there, except SYNs and what the filter
    /// drops.
    pub(super) const fn is_left_alone(&self, now_ns: u64) -> bool {
        let for_ns = if self.segments.is_some() { IDLE_FOR_NS } else { EMPTY_FOR_NS };
        self.is_settled() && now_ns.saturating_sub(self.seen_ns) < for_ns
    }

    /// Whether its sockets were listed long enough after the last segment for received data to have been read. What is
    /// unread counts only from then on.
    pub(super) const fn is_settled(&self) -> bool {
        !self.stuck || self.segments.is_none() || self.listed_ns.saturating_sub(self.since_ns) > UNREAD_NS
    }
}

/// Polls re-enter a namespace after this time in ns if it has idle listeners and received no segments.
const IDLE_FOR_NS: u64 = 3_000_000_000;
/// Polls re-enter a namespace without sockets after this time in ns.
const EMPTY_FOR_NS: u64 = 10_000_000_000;
