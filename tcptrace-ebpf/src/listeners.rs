//! Gives a connection an owner before it is accepted: the owner of its listener.
//!
//! A new child still points to its listener, whose tracked socket has the owner. If that is missing, and for later updates,
//! listeners are found by address.

use core::ffi::c_void;
use tcptrace_common::{
    listener::{Listener, ListenerKey},
    record::{AF_INET6, Owner, owner_source},
    tracked::{TrackedSock, owner_match},
};

use crate::{
    counters::count,
    kernel::{
        sock::{SockKey, TcpSock},
        tuple::{Tuple, bytes_of, v4_mapped},
    },
    maps::LISTENERS,
    mem,
    tracked::{self, Entry},
};

#[inline(always)]
fn key(tuple: &Tuple) -> ListenerKey {
    ListenerKey { address: bytes_of(tuple.local), netns: tuple.netns, port: tuple.local_port, family: tuple.family }
}

/// The listener of a connection: the one on its local address, else the one on the unspecified address. A child has its
/// listener's family.
#[inline(always)]
#[allow(clippy::needless_borrows_for_generic_args, reason = "a copy of the key takes stack")]
fn find(tuple: &Tuple) -> Option<&'static mut Listener> {
    let unspecified = if tuple.family == AF_INET6 { [0, 0] } else { v4_mapped(0) };
    // One key for both lookups, because the stack is small.
    let mut key = key(tuple);
    let mut found = LISTENERS.get_ptr_mut(&key);
    if found.is_none() {
        key.address = bytes_of(unspecified);
        found = LISTENERS.get_ptr_mut(&key);
    }
    // SAFETY: map values stay valid while a program runs.
    found.map(|listener| unsafe { &mut *listener })
}

/// Adds a socket that began to listen.
#[inline(always)]
pub(crate) fn add(tuple: &Tuple, tracked: &TrackedSock, sock_key: SockKey) {
    if tuple.local_port == 0 {
        return; // listen() without bind(): the kernel chooses the port after the event (`inet_csk_listen_start`)
    }
    let key = key(tuple);
    if let Some(listener) = LISTENERS.get_ptr_mut(key) {
        // SAFETY: map values stay valid while a program runs.
        let listener = unsafe { &mut *listener };
        listener.sockets += 1;
        listener.tracked_key = 0;
        listener.owner_match |= u8::from(tracked.owner_match == owner_match::YES);
        if listener.owner.pid != tracked.owner.pid {
            listener.shared = 1;
        }
        return;
    }
    let listener = Listener {
        owner: Owner { source: owner_source::LISTENER, ..tracked.owner },
        sockets: 1,
        shared: 0,
        owner_match: u8::from(tracked.owner_match == owner_match::YES),
        pad: [0; 2],
        tracked_key: sock_key.0,
    };
    if LISTENERS.insert(key, listener, 0).is_err() {
        count!(listeners_full);
    }
}

/// Removes a socket that stopped listening.
#[inline(always)]
pub(crate) fn remove(tuple: &Tuple) {
    let key = key(tuple);
    let Some(listener) = LISTENERS.get_ptr_mut(key) else {
        return;
    };
    // SAFETY: map values stay valid while a program runs.
    let listener = unsafe { &mut *listener };
    if listener.sockets > 1 {
        listener.sockets -= 1;
        return;
    }
    let _ = LISTENERS.remove(key); // fails only if it is already gone
}

/// Updates the listener of a connection whose owner reveals that the listening process has another name, or is not the
/// only one. `slot` is the connection's. Not inlined: it is rare.
#[inline(never)]
pub(crate) fn update(sk: *const c_void, tcp: *const c_void, slot: u32, is_renamed: bool) {
    let tuple = TcpSock::from_parts(sk, tcp).tuple();
    let Some(connection) = Entry(slot).get() else {
        return;
    };
    if is_renamed {
        rename(&tuple, connection);
    } else {
        mark_shared(&tuple, connection);
    }
}

/// Another process than the listener's uses a connection: perhaps a child that inherited the listener (fork). New
/// connections then belong to one of several processes.
#[inline(always)]
fn mark_shared(tuple: &Tuple, connection: &TrackedSock) {
    let Some(listener) = find(tuple) else {
        return;
    };
    listener.shared = 1;
    listener.owner_match |= connection.owner_match & owner_match::YES;
    if let Some(tracked) = tracked_of(listener) {
        tracked.owner.source = owner_source::SHARED;
        tracked.owner_match |= connection.owner_match & owner_match::YES;
    }
}

/// The listening process has executed another program, whose name the connection's owner has.
#[inline(always)]
fn rename(tuple: &Tuple, connection: &TrackedSock) {
    let Some(listener) = find(tuple).filter(|listener| is_same_process(&listener.owner, &connection.owner)) else {
        return;
    };
    listener.owner.comm = connection.owner.comm;
    if let Some(tracked) = tracked_of(listener).filter(|tracked| is_same_process(&tracked.owner, &connection.owner)) {
        tracked.owner.comm = connection.owner.comm;
    }
}

#[inline(always)]
fn is_same_process(one: &Owner, other: &Owner) -> bool {
    one.pid == other.pid && one.start_ticks == other.start_ticks
}

#[inline(always)]
fn tracked_of(listener: &Listener) -> Option<&'static mut TrackedSock> {
    if listener.tracked_key == 0 { None } else { tracked::get(SockKey(listener.tracked_key)) }
}

/// Gives a new child the owner of its listener: of the listener itself if it is tracked, else of the one at its address.
/// With SO_REUSEPORT there may be unknown listeners on the same address, so the address does not determine the owner.
#[inline(always)]
pub(crate) fn inherit(child: TcpSock, tracked: &mut TrackedSock) {
    match tracked::get(child.listener_key()) {
        Some(listener) if listener.owner.pid != 0 => {
            // SAFETY: the owners of two sockets.
            unsafe { mem::copy(&raw mut tracked.owner, &raw const listener.owner) };
            if tracked.owner.source != owner_source::SHARED {
                tracked.owner.source = owner_source::LISTENER;
            }
            tracked.owner_match = listener.owner_match & owner_match::YES;
        }
        _ if child.common.has_reuseport() => {}
        _ => inherit_by_address(&child.tuple(), tracked),
    }
}

/// Gives a connection the owner of the listener at its address.
#[inline(always)]
pub(crate) fn inherit_by_address(tuple: &Tuple, tracked: &mut TrackedSock) {
    if tuple.local_port == 0 {
        return;
    }
    if let Some(listener) = find(tuple) {
        // SAFETY: two owners, in two maps.
        unsafe { mem::copy(&raw mut tracked.owner, &raw const listener.owner) };
        if listener.shared != 0 && listener.owner.pid != 0 {
            tracked.owner.source = owner_source::SHARED;
        }
        tracked.owner_match = listener.owner_match;
    }
}
