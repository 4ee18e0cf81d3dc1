//! Who listens where, so that a connection has an owner before it is accepted. A new child leads to its listener's memo;
//! where that is missing, and for what is learnt of the listener later, listeners are found by address.

use core::ffi::c_void;
use tcptrace_common::{
    listener::{Listener, ListenerKey},
    record::{AF_INET6, Owner, owner_source},
    tracked::{Memo, owner_match},
};

use crate::{
    emit::count,
    kernel::sock::{TcpSock, Tuple, mapped},
    maps::LISTENERS,
    mem,
    tracked::{self, Key, Place},
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

/// The listener for these ends: the one on the very address, else the one on the unspecified address. A child has its
/// listener's family.
#[inline(always)]
#[allow(clippy::needless_borrows_for_generic_args, reason = "a copy of the key takes stack")]
fn of(tuple: &Tuple) -> Option<&'static mut Listener> {
    let unspecified = if tuple.family == AF_INET6 { [0, 0] } else { mapped(0) };
    // One key, as the stack is small.
    let mut key = key(tuple, tuple.local);
    let mut there = LISTENERS.get_ptr_mut(&key);
    if there.is_none() {
        key.address = (u128::from(unspecified[0]) | u128::from(unspecified[1]) << 64).to_le_bytes();
        there = LISTENERS.get_ptr_mut(&key);
    }
    // SAFETY: a value's memory stays the map's while a program runs.
    there.map(|there| unsafe { &mut *there })
}

/// A socket began to listen; its owner is in `memo`, which is at `place`.
#[inline(always)]
pub(crate) fn add(tuple: &Tuple, memo: &Memo, place: Key) {
    if tuple.local_port == 0 {
        return; // listen() without bind(): the port is chosen after the event (`inet_csk_listen_start`)
    }
    let key = key(tuple, tuple.local);
    if let Some(there) = LISTENERS.get_ptr_mut(key) {
        // SAFETY: a value's memory stays the map's while a program runs.
        let there = unsafe { &mut *there };
        there.sockets += 1;
        there.memo = 0;
        there.owner_matches |= u8::from(memo.owner_matches == owner_match::YES);
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
        memo: place.number(),
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

/// What was learnt of a connection that came in, whose memo is at `place`, is news of its listener: its process has another
/// name, or is not the only one. Not inlined: it is rare.
#[inline(never)]
pub(crate) fn learn(sk: *const c_void, tcp: *const c_void, place: u64, is_renamed: bool) {
    let tuple = TcpSock::of_both(sk, tcp).tuple();
    let Some(user) = Place::numbered(place).memo() else {
        return;
    };
    if is_renamed {
        rename(&tuple, user);
    } else {
        doubt(&tuple, user);
    }
}

/// Another process than the listener's uses a connection that came in: it may be the listener's heir (fork), and the
/// next connections are of one of several. `user` is the connection's memo.
#[inline(always)]
fn doubt(tuple: &Tuple, user: &Memo) {
    let Some(there) = of(tuple) else {
        return;
    };
    there.shared = 1;
    there.owner_matches |= user.owner_matches & owner_match::YES;
    if let Some(listener) = memo_of(there) {
        listener.owner.source = owner_source::SHARED;
        listener.owner_matches |= user.owner_matches & owner_match::YES;
    }
}

/// The process that listens has executed another program: its name is in `user`, a connection's memo.
#[inline(always)]
fn rename(tuple: &Tuple, user: &Memo) {
    let Some(there) = of(tuple).filter(|there| is_same(&there.owner, &user.owner)) else {
        return;
    };
    there.owner.comm = user.owner.comm;
    if let Some(listener) = memo_of(there).filter(|listener| is_same(&listener.owner, &user.owner)) {
        listener.owner.comm = user.owner.comm;
    }
}

#[inline(always)]
fn is_same(one: &Owner, other: &Owner) -> bool {
    one.pid == other.pid && one.start == other.start
}

#[inline(always)]
fn memo_of(there: &Listener) -> Option<&'static mut Memo> {
    if there.memo == 0 { None } else { tracked::known(Key::numbered(there.memo)) }
}

/// Gives a new child, which has no owner yet, that of its listener: the very one, by its memo, else by its address. With
/// SO_REUSEPORT there may be listeners on the same address that nothing is known of: then whose it is cannot be told.
#[inline(always)]
pub(crate) fn inherit_from(sock: TcpSock, memo: &mut Memo) {
    match tracked::known(sock.listener_key()) {
        Some(listener) if listener.owner.pid != 0 => {
            // SAFETY: the owners of two sockets.
            unsafe { mem::copy(&raw mut memo.owner, &raw const listener.owner) };
            if memo.owner.source != owner_source::SHARED {
                memo.owner.source = owner_source::LISTENER;
            }
            memo.owner_matches = listener.owner_matches & owner_match::YES;
        }
        _ if sock.common.shares_port() => {}
        _ => inherit(&sock.tuple(), memo),
    }
}

/// The same by the address alone.
#[inline(always)]
pub(crate) fn inherit(tuple: &Tuple, memo: &mut Memo) {
    if tuple.local_port == 0 {
        return;
    }
    if let Some(there) = of(tuple) {
        // SAFETY: two owners, in two maps.
        unsafe { mem::copy(&raw mut memo.owner, &raw const there.owner) };
        if there.shared != 0 && there.owner.pid != 0 {
            memo.owner.source = owner_source::SHARED;
        }
        memo.owner_matches = there.owner_matches;
    }
}
