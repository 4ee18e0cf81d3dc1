//! The accept queues of listeners.

use crate::table::Connection;

/// How long a poll of a listener is valid, in ns.
pub(super) const FRESH_NS: u64 = 15_000_000_000;

/// True if a recent poll found the accept queue full.
pub(super) fn is_full(listener: &Connection, now_ns: u64) -> bool {
    let facts = listener.facts().filter(|facts| now_ns.saturating_sub(facts.listed_ns) < FRESH_NS);
    facts.is_some_and(|facts| facts.socket.is_full_listener())
}
