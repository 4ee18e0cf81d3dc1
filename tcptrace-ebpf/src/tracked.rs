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
    record::{Owner, socket_flag},
    tracked::{Memo, WAYS, owner_match},
};

use crate::{
    config::{CONFIG, config},
    emit::count,
    maps::{MEMO_KEYS, MEMOS},
    mem,
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

    /// That of the socket which is so many bytes before the one that this would name.
    #[inline(always)]
    pub(crate) fn before(self, bytes: u32) -> Self {
        Self(self.0.wrapping_sub(bytes.into()))
    }

    /// As a number.
    #[inline(always)]
    pub(crate) fn number(self) -> u64 {
        self.0
    }

    /// What [`Key::number`] gave.
    #[inline(always)]
    pub(crate) fn numbered(number: u64) -> Self {
        Self(number)
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

/// No place.
const NOWHERE: u64 = u64::MAX;

/// The place of what has exactly this key.
#[inline(always)]
fn find(key: u64) -> u64 {
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
        let is_free = (mem::is_zero(there) | there & ENDED) as u32;
        ways |= is_free << way;
        count += is_free;
    }
    (ways, count)
}

/// A place for a key that has none.
#[inline(always)]
fn take(key: u64) -> u64 {
    let sets = Key(key).sets();
    let (Some(first), Some(second)) = (set_of(sets[0]), set_of(sets[1])) else {
        return NOWHERE;
    };
    let ((ways, count), (other_ways, other_count)) = (free_ways(first), free_ways(second));
    let (number, ways) = if count >= other_count { (sets[0], ways) } else { (sets[1], other_ways) };
    if ways == 0 {
        return NOWHERE;
    }
    // SAFETY: takes nothing.
    let start = unsafe { bpf_get_smp_processor_id() } % WAYS;
    let turned = (ways | ways << WAYS) >> start;
    let lowest = turned & turned.wrapping_neg();
    let bit = |mask: u32| 1 ^ mem::is_zero((lowest & mask).into()) as u32;
    let way = (start + (bit(0xaa) | bit(0xcc) << 1 | bit(0xf0) << 2)) % WAYS; // the number of the lowest bit, turned back
    u64::from(number * WAYS + way)
}

/// Writes a key to a free place. Two CPUs may race for it: each adds the difference between its key and the value it read,
/// reads again, and undoes the addition if the place does not hold its key. CPUs begin at different ways, so that this is
/// rare. Gives the place, or that it is another's.
#[inline(always)]
fn claim(place: u64, key: u64) -> u64 {
    let Some(set) = set_of(place as u32 / WAYS) else {
        return NOWHERE;
    };
    // SAFETY: a value's memory stays the map's while a program runs; the place is within the set.
    unsafe {
        let word = set.cast::<u64>().add((place as u32 % WAYS) as usize);
        let change = key.wrapping_sub(word.read_volatile());
        mem::add(word, change);
        if word.read_volatile() != key {
            mem::add(word, change.wrapping_neg());
            return NOWHERE;
        }
    }
    place
}

/// A place for what finds none in the table: one for each CPU, behind all sets.
#[inline(always)]
fn spare() -> u64 {
    // SAFETY: a place within the counters.
    count(|counters| unsafe { &raw mut (*counters).table_full });
    // SAFETY: takes nothing.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    u64::from((config!(memo_sets_mask) + 1) * WAYS + cpu)
}

/// Where the memo with exactly this key is. As the next one it is a global function of the object: the verifier goes
/// through it once and by itself, not on each path of each program that calls it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_memo(key: u64) -> u64 {
    find(key)
}

/// Where the memo with this key is; a blank one, made now, where there is none or the socket's life begins.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_or_make_memo(key: u64, begins: u64) -> u64 {
    let mut place = find(key);
    if place != NOWHERE && begins == 0 {
        return place;
    }
    if place == NOWHERE {
        // That of an earlier socket at the same address goes first: there are never two that ended with one key, of which
        // [`ended`] might find the wrong one.
        place = find(key | ENDED);
        if place == NOWHERE {
            place = take(key);
        }
        if place != NOWHERE {
            place = claim(place, key);
        }
    }
    if place == NOWHERE {
        place = spare();
    }
    if let Some(memo) = MEMOS.get_ptr_mut(place as u32) {
        // SAFETY: a memo is made of integers.
        unsafe { mem::blank(memo) };
    }
    place
}

/// Where a memo is.
#[derive(Clone, Copy)]
pub(crate) struct Place(u32);

impl Place {
    /// That of a socket, made now if there is none.
    #[inline(always)]
    pub(crate) fn of(key: Key) -> Self {
        Self(find_or_make_memo(key.0, 0) as u32)
    }

    /// That of a socket whose life begins: blank, also where another socket's is left under the same address. Where the
    /// table is full it is forgotten again.
    #[inline(always)]
    pub(crate) fn begun(key: Key) -> Self {
        Self(find_or_make_memo(key.0, 1) as u32)
    }

    /// That of a socket if there is one.
    #[inline(always)]
    pub(crate) fn known(key: Key) -> Option<Self> {
        Self::found(find_memo(key.0))
    }

    #[inline(always)]
    fn found(place: u64) -> Option<Self> {
        if place == NOWHERE { None } else { Some(Self(place as u32)) }
    }

    /// By its number.
    #[inline(always)]
    pub(crate) fn number(self) -> u64 {
        self.0.into()
    }

    /// What [`Place::number`] gave.
    #[inline(always)]
    pub(crate) fn numbered(number: u64) -> Self {
        Self(number as u32)
    }

    /// The memo.
    #[inline(always)]
    pub(crate) fn memo(self) -> Option<&'static mut Memo> {
        // SAFETY: a value's memory stays the map's while a program runs.
        MEMOS.get_ptr_mut(self.0).map(|memo| unsafe { &mut *memo })
    }

    /// The socket went to CLOSE.
    #[inline(always)]
    pub(crate) fn end(self) {
        if let Some(set) = set_of(self.0 / WAYS) {
            // SAFETY: within the set.
            unsafe { mem::add(set.cast::<u64>().add((self.0 % WAYS) as usize), ENDED) };
        }
    }
}

/// The memo of a socket if there is one.
#[inline(always)]
pub(crate) fn known(key: Key) -> Option<&'static mut Memo> {
    Place::known(key)?.memo()
}

/// The memo of a socket that went to CLOSE, as long as no other has taken its place.
#[inline(always)]
pub(crate) fn ended(key: Key) -> Option<&'static mut Memo> {
    Place::found(find_memo(key.0 + ENDED))?.memo()
}

/// The socket goes from one state to another now. Gives when it entered the old one, 0 where nobody knows: another one
/// was entered meanwhile, and the kernel passed the program over or nobody asked for the time.
#[inline(always)]
pub(crate) fn move_clock(memo: &mut Memo, (old, new): (u8, u8), now_ns: u64) -> u64 {
    let is_known = mem::is_zero((memo.state ^ old).into()) | mem::is_zero(memo.state.into());
    let left_ns = memo.entered_ns * is_known;
    memo.previous_ns = left_ns;
    memo.entered_ns = now_ns;
    memo.state = new;
    left_ns
}

/// To be called when the event at hand was sent: a socket whose owner left the filter is heard of no more.
#[inline(always)]
pub(crate) fn let_go(memo: &mut Memo) {
    memo.owner_matches &= owner_match::SERVED;
}

/// Bits of [`socket_flag`]: whether SYN cookies were in use, and whether the event at hand is the socket's last one since
/// its owner left the filter.
#[inline(always)]
pub(crate) fn flags(memo: &Memo) -> u16 {
    let has_left = mem::is_zero((memo.owner_matches ^ owner_match::LEFT).into()) as u16;
    (u16::from(memo.syn_cookies & 1) * socket_flag::SYN_COOKIES) | (has_left * socket_flag::OWNER_LEFT)
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
            Some(memo) => mem::copy(to, &raw const memo.owner),
            None => mem::blank(to),
        }
    }
}
