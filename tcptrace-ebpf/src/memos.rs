//! The memory of sockets, from the first event of their life to the last.
//!
//! A table of fixed size without locks, since the hash of the kernel costs more than all the rest of a program: a
//! look-up 70 ns, an insertion with its deletion 300, where an array is a multiplication and a load. A socket's memo is
//! in one of two sets of [`WAYS`] places that its key names, in the emptier one when it was made. With two sets to choose
//! from hardly any overflows while half of all places are free (3 of 131,072, by a simulation).
//!
//! A place is free again when its socket goes to CLOSE, without a look-up at the end of the socket's life: what begins a
//! life begins a memo too, so that an address used again never joins two lives. Until the place is taken again, what
//! follows CLOSE (a RST) still finds the owner there.

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use core::hint::black_box;
use tcptrace_common::{
    memo::{Memo, WAYS, owner_match},
    record::{Owner, socket_flag},
};

use crate::{
    config::{CONFIG, config},
    emit::count,
    maps::{MEMO_KEYS, MEMOS, SCRATCH},
    words,
};

/// Added to the key of a socket that went to CLOSE: its place may be taken.
const ENDED: u64 = 1;

/// Names a socket while it lives: where its `struct sock` is, counted from where the constants are. The verifier lets no
/// one reckon with an address of the kernel, but with the distance of two.
#[derive(Clone, Copy)]
pub(crate) struct Key(u64);

impl Key {
    #[inline(always)]
    pub(crate) fn of(sk: u64) -> Self {
        Self(black_box(sk.wrapping_sub((&raw const CONFIG) as u64)))
    }

    /// The two sets.
    #[inline(always)]
    fn sets(self) -> [u32; 2] {
        let mixed = self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mask = config!(memo_sets_mask);
        [(mixed >> 32) as u32 & mask, (mixed >> 12) as u32 & mask]
    }
}

/// Places in a set: their keys fill half a line of the cache.
type Set = [u64; WAYS as usize];

#[inline(always)]
fn set_of(number: u32) -> Option<*mut Set> {
    MEMO_KEYS.get_ptr_mut(number)
}

/// What the functions below give for no place. They are global functions of the object: the verifier goes through each
/// once and by itself, not on each path of each program that calls it.
const NOWHERE: u64 = u64::MAX;

#[inline(always)]
fn place(found: u64) -> Option<u32> {
    if found == NOWHERE { None } else { Some(found as u32) }
}

/// The place of what has exactly this key.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_memo(key: u64) -> u64 {
    for number in Key(key & !ENDED).sets() {
        let Some(set) = set_of(number) else {
            return NOWHERE;
        };
        for way in 0..WAYS {
            // SAFETY: a value's memory stays the map's while a program runs.
            if unsafe { (&raw const (*set)[way as usize]).read_volatile() } == key {
                return u64::from(number * WAYS + way);
            }
        }
    }
    NOWHERE
}

/// The free ways of a set, one bit each, and how many these are.
#[inline(always)]
fn free_ways(set: *const Set) -> (u32, u32) {
    let (mut ways, mut count) = (0, 0);
    for way in 0..WAYS {
        // SAFETY: as above.
        let there = unsafe { (&raw const (*set)[way as usize]).read_volatile() };
        let is_free = (words::is_zero(there) | there & ENDED) as u32;
        ways |= is_free << way;
        count += is_free;
    }
    (ways, count)
}

/// A place for a key that has none. Two CPUs may want the same: each adds what makes its key of the word that it found,
/// and who does not find its key there then takes that back. CPUs begin at different ways, so that this is rare.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn take_place(key: u64) -> u64 {
    let sets = Key(key).sets();
    let (Some(first), Some(second)) = (set_of(sets[0]), set_of(sets[1])) else {
        return NOWHERE;
    };
    let ((ways, count), (other_ways, other_count)) = (free_ways(first), free_ways(second));
    let (number, set, ways) = if count >= other_count { (sets[0], first, ways) } else { (sets[1], second, other_ways) };
    if ways == 0 {
        return NOWHERE;
    }
    // SAFETY: takes nothing.
    let start = unsafe { bpf_get_smp_processor_id() } % WAYS;
    let turned = (ways | ways << WAYS) >> start;
    let lowest = turned & turned.wrapping_neg();
    let bit = |mask: u32| 1 ^ words::is_zero((lowest & mask).into()) as u32;
    let way = (start + (bit(0xaa) | bit(0xcc) << 1 | bit(0xf0) << 2)) % WAYS; // the number of the lowest bit, turned back
    // SAFETY: as above; `way` is within the set.
    unsafe {
        let word = set.cast::<u64>().add(way as usize);
        let change = key.wrapping_sub(word.read_volatile());
        words::add(word, change);
        if word.read_volatile() != key {
            words::add(word, change.wrapping_neg());
            return NOWHERE;
        }
    }
    u64::from(number * WAYS + way)
}

/// The memo of a socket, made now if there is none.
#[inline(always)]
pub(crate) fn of(key: Key) -> Option<Found> {
    match place(find_memo(key.0)) {
        Some(place) => Found::at(place),
        None => blank(place(take_place(key.0))),
    }
}

/// The memo of a socket whose life begins: blank, also where another socket's is left under the same address.
#[inline(always)]
pub(crate) fn begun(key: Key) -> Option<Found> {
    blank(place(find_memo(key.0)).or_else(|| place(take_place(key.0))))
}

/// A blank memo. Where the table is full, one that is forgotten again.
#[inline(always)]
fn blank(place: Option<u32>) -> Option<Found> {
    let found = match place {
        Some(place) => Found::at(place)?,
        None => {
            // SAFETY: a place within the counters.
            count(|counters| unsafe { &raw mut (*counters).table_full });
            // SAFETY: this CPU's own value.
            Found { memo: unsafe { &mut *SCRATCH.get_ptr_mut(0)? }, place: u32::MAX }
        }
    };
    // SAFETY: a memo is made of integers.
    unsafe { words::blank(found.memo) };
    Some(found)
}

/// The memo of a socket if there is one.
#[inline(always)]
pub(crate) fn known(key: Key) -> Option<&'static mut Memo> {
    Some(Found::at(place(find_memo(key.0))?)?.memo)
}

/// The memo of a socket that went to CLOSE, as long as no other has taken its place.
#[inline(always)]
pub(crate) fn ended(key: Key) -> Option<&'static mut Memo> {
    Some(Found::at(place(find_memo(key.0 + ENDED))?)?.memo)
}

/// A memo, and where it is.
pub(crate) struct Found {
    pub(crate) memo: &'static mut Memo,
    place: u32,
}

impl Found {
    #[inline(always)]
    fn at(place: u32) -> Option<Self> {
        // SAFETY: a value's memory stays the map's while a program runs.
        MEMOS.get_ptr_mut(place).map(|memo| Self { memo: unsafe { &mut *memo }, place })
    }

    /// The socket went to CLOSE.
    #[inline(always)]
    pub(crate) fn end(&self) {
        if let Some(set) = set_of(self.place / WAYS) {
            // SAFETY: within the set.
            unsafe { words::add(set.cast::<u64>().add((self.place % WAYS) as usize), ENDED) };
        }
    }
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
