//! Transitions whose addresses were not known yet. They wait in the tracked socket and are sent before its next event.

use core::ffi::c_void;
use tcptrace_common::tracked::TrackedSock;

use crate::{
    aggregate,
    change::Change,
    kernel::{sock::TcpSock, tuple::Tuple},
};

/// Sends or counts the deferred transition into the current state, whose addresses are known now.
#[inline(always)]
pub(crate) fn emit(sock: TcpSock, sk: *const c_void, tracked: &mut TrackedSock) {
    let (change, tuple) = (take(sock, tracked), sock.tuple());
    if aggregate::is_on() {
        count(sock, tracked, &tuple, &change);
    } else {
        change.send(sock, sk, tracked, &tuple);
    }
}

/// Not inlined: most runs count nothing.
#[inline(never)]
fn count(sock: TcpSock, tracked: &TrackedSock, tuple: &Tuple, change: &Change) {
    aggregate::count_change(Some(sock), tracked, tuple, change);
}

/// Returns the deferred transition, which is no longer deferred.
#[inline(always)]
pub(crate) fn take(sock: TcpSock, tracked: &mut TrackedSock) -> Change {
    let old = tracked.deferred_from;
    tracked.deferred_from = 0;
    Change {
        old,
        new: sock.common.state(),
        entered_ns: tracked.previous_entered_ns,
        now_ns: tracked.entered_ns,
        flags: 0,
        err: 0,
        exit_signal: 0,
    }
}
