//! The memory of sockets, from their first event to `tcp_destroy_sock`.

use aya_ebpf::bindings::BPF_NOEXIST;
use tcptrace_common::{
    memo::{Memo, owner_match},
    record::{Owner, socket_flag},
};

use crate::{
    emit::count,
    maps::{SCRATCH, SOCKETS},
    words,
};

/// What is remembered of a new socket, in read-only memory.
static BLANK: Memo =
    // SAFETY: made of integers only.
    unsafe { core::mem::zeroed() };

/// The memo of a socket, made now if there is none. Where the table is full, a blank one that is forgotten again.
#[inline(always)]
pub(crate) fn of(key: u64) -> Option<&'static mut Memo> {
    known(key).or_else(|| blank(key))
}

/// A new memo, also where another socket's is left under the same address.
#[inline(always)]
#[expect(clippy::needless_borrows_for_generic_args, reason = "by value it would be copied to the stack first")]
pub(crate) fn blank(key: u64) -> Option<&'static mut Memo> {
    if SOCKETS.insert(key, &BLANK, 0).is_ok() {
        return known(key);
    }
    // SAFETY: a place within the counters.
    count(|counters| unsafe { &raw mut (*counters).table_full });
    let memo = SCRATCH.get_ptr_mut(0)?;
    // SAFETY: this CPU's own value.
    unsafe {
        words::blank(memo);
        Some(&mut *memo)
    }
}

/// The memo of a socket that had none, unless a program on another CPU has just made it one; `None` where there is no room.
#[inline(always)]
#[expect(clippy::needless_borrows_for_generic_args, reason = "by value it would be copied to the stack first")]
pub(crate) fn fresh(key: u64) -> Option<&'static mut Memo> {
    let _ = SOCKETS.insert(key, &BLANK, u64::from(BPF_NOEXIST)); // fails where there is one now, or no room
    known(key)
}

/// The memo of a socket if there is one.
#[inline(always)]
pub(crate) fn known(key: u64) -> Option<&'static mut Memo> {
    // SAFETY: a value's memory stays the map's while a program runs.
    SOCKETS.get_ptr_mut(key).map(|memo| unsafe { &mut *memo })
}

/// To be called when the event at hand was sent: a socket whose owner left the filter is heard of no more.
#[inline(always)]
pub(crate) fn let_go(memo: &mut Memo) {
    if memo.owner_matches == owner_match::LEFT {
        memo.owner_matches = owner_match::NO;
    }
}

/// [`socket_flag::OWNER_LEFT`] where the event at hand is the socket's last one.
#[inline(always)]
pub(crate) fn left_flag(memo: &Memo) -> u16 {
    if memo.owner_matches == owner_match::LEFT { socket_flag::OWNER_LEFT } else { 0 }
}

/// Forgets a socket.
#[inline(always)]
pub(crate) fn forget(key: u64) {
    let _ = SOCKETS.remove(key); // fails only where nothing was remembered
}

/// Writes the owner that a memo tells, all zero where there is none.
///
/// # Safety
/// `to` points into a reserved record.
#[inline(always)]
pub(crate) unsafe fn write_owner(memo: Option<&Memo>, to: *mut Owner) {
    // SAFETY: records are aligned to 8 bytes, and so is the owner in each.
    unsafe {
        match memo {
            Some(memo) => words::copy(to, &raw const memo.owner),
            None => words::blank(to),
        }
    }
}
