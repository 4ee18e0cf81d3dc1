//! Who listens where, so that a connection has an owner before it is accepted.

use tcptrace_common::{
    listener::{Listener, ListenerKey},
    memo::{Memo, owner_match},
    record::{AF_INET6, Owner, owner_source},
};

use crate::{
    emit::count,
    maps::LISTENERS,
    sock::{Tuple, mapped},
    words,
};

#[inline(always)]
fn key(tuple: &Tuple, address: [u64; 2]) -> ListenerKey {
    ListenerKey {
        address: (u128::from(address[0]) | u128::from(address[1]) << 64).to_le_bytes(),
        netns: tuple.netns,
        port: tuple.local_port,
        family: tuple.family,
    }
}

/// A socket began to listen; its owner is in `memo`.
#[inline(always)]
pub(crate) fn add(tuple: &Tuple, memo: &Memo) {
    if tuple.local_port == 0 {
        return; // listen() without bind(): the port is chosen after the event (`inet_csk_listen_start`)
    }
    let key = key(tuple, tuple.local);
    if let Some(there) = LISTENERS.get_ptr_mut(key) {
        // SAFETY: a value's memory stays the map's while a program runs.
        let there = unsafe { &mut *there };
        there.sockets += 1;
        if there.owner.pid != memo.owner.pid {
            there.shared = 1;
        }
        return;
    }
    let listener = Listener {
        owner: Owner { source: owner_source::LISTENER, ..memo.owner },
        sockets: 1,
        shared: 0,
        owner_matches: u8::from(memo.owner_matches == owner_match::YES),
        pad: [0; 2],
    };
    if LISTENERS.insert(key, listener, 0).is_err() {
        // SAFETY: a place within the counters.
        count(|counters| unsafe { &raw mut (*counters).listeners_full });
    }
}

/// A socket stopped listening.
#[inline(always)]
pub(crate) fn remove(tuple: &Tuple) {
    let key = key(tuple, tuple.local);
    let Some(there) = LISTENERS.get_ptr_mut(key) else {
        return;
    };
    // SAFETY: a value's memory stays the map's while a program runs.
    let there = unsafe { &mut *there };
    if there.sockets > 1 {
        there.sockets -= 1;
        return;
    }
    let _ = LISTENERS.remove(key); // fails only where it is gone already
}

/// Another process than the listener's uses a connection that came in: it may be the listener's heir (fork), and
/// whose the next connections are cannot be told.
#[inline(always)]
pub(crate) fn doubt(tuple: &Tuple) {
    let unspecified = if tuple.family == AF_INET6 { [0, 0] } else { mapped(0) };
    for address in [tuple.local, unspecified] {
        if let Some(there) = LISTENERS.get_ptr_mut(key(tuple, address)) {
            // SAFETY: a value's memory stays the map's while a program runs.
            unsafe { (*there).shared = 1 };
            return;
        }
    }
}

/// Gives a connection that came in, and has no owner yet, that of its listener: the one on its very address, else
/// the one on the unspecified address. A child has its listener's family.
#[inline(always)]
pub(crate) fn inherit(tuple: &Tuple, memo: &mut Memo) {
    if tuple.local_port == 0 {
        return;
    }
    let unspecified = if tuple.family == AF_INET6 { [0, 0] } else { mapped(0) };
    let exact = LISTENERS.get_ptr(key(tuple, tuple.local));
    let Some(there) = exact.or_else(|| LISTENERS.get_ptr(key(tuple, unspecified))) else {
        return;
    };
    // SAFETY: a value's memory stays the map's while a program runs.
    let there = unsafe { &*there };
    if there.shared == 0 {
        // SAFETY: two owners, in two maps.
        unsafe { words::copy(&raw mut memo.owner, &raw const there.owner) };
        memo.owner_matches = there.owner_matches;
    }
}
