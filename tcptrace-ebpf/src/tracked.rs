//! The table of tracked sockets.
//!
//! A set-associative hash table of fixed size in arrays, without locks. The kernel's hash maps cost more than the rest of a
//! program: 70 ns for a lookup, 300 ns for an insertion and its deletion. An array costs a multiplication and a load. A key
//! hashes to two sets of [`WAYS`] slots, and a new socket takes a slot of the set with more free ones. With this choice
//! hardly any set overflows while half of all slots are free (3 of 131,072 in a simulation).
//!
//! A slot is free again when its socket goes to CLOSE, so no lookup is needed when the kernel frees the socket. The first
//! event of a socket's life starts a new entry, so a reused address never joins two lives. Until the slot is reused, events
//! after CLOSE (a RST) still find the owner in it.

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use tcptrace_common::{
    record::{Owner, socket_flag},
    tracked::{TrackedSock, WAYS, owner_match},
};

use crate::{
    config::config,
    counters::count,
    kernel::sock::SockKey,
    maps::{TRACKED, TRACKED_KEYS},
    mem,
};

/// Added to the key of a socket that went to CLOSE: its slot is free.
const ENDED: u64 = 1;

/// Numbers of the two sets that a key hashes to.
#[inline(always)]
fn sets_of(key: u64) -> [u32; 2] {
    let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mask = config!(tracked_sets_mask);
    [(hash >> 32) as u32 & mask, (hash >> 12) as u32 & mask]
}

/// Keys of the slots of a set: half a cache line.
type Set = [u64; WAYS as usize];

#[inline(always)]
fn set(number: u32) -> Option<*mut Set> {
    TRACKED_KEYS.get_ptr_mut(number)
}

/// Returned instead of a slot.
const NO_SLOT: u64 = u64::MAX;

/// The slot with exactly this key.
#[inline(always)]
fn find(key: u64) -> u64 {
    for number in sets_of(key & !ENDED) {
        let Some(set) = set(number) else {
            return NO_SLOT;
        };
        for way in 0..WAYS {
            // SAFETY: map values stay valid while a program runs.
            if unsafe { (&raw const (*set)[way as usize]).read_volatile() } == key {
                return u64::from(number * WAYS + way);
            }
        }
    }
    NO_SLOT
}

/// The free ways of a set as a bit mask, and their number.
#[inline(always)]
fn free_ways(set: *const Set) -> (u32, u32) {
    let (mut ways, mut count) = (0, 0);
    for way in 0..WAYS {
        // SAFETY: as above.
        let key = unsafe { (&raw const (*set)[way as usize]).read_volatile() };
        let is_free = (mem::is_zero(key) | key & ENDED) as u32;
        ways |= is_free << way;
        count += is_free;
    }
    (ways, count)
}

/// A free slot for a new key.
#[inline(always)]
fn free_slot(key: u64) -> u64 {
    let sets = sets_of(key);
    let (Some(first), Some(second)) = (set(sets[0]), set(sets[1])) else {
        return NO_SLOT;
    };
    let ((ways, count), (other_ways, other_count)) = (free_ways(first), free_ways(second));
    let (number, ways) = if count >= other_count { (sets[0], ways) } else { (sets[1], other_ways) };
    if ways == 0 {
        return NO_SLOT;
    }
    // Each CPU starts at a way of its own: rotate the mask, take its lowest bit, and rotate the number of that bit back.
    // SAFETY: takes no arguments.
    let start = unsafe { bpf_get_smp_processor_id() } % WAYS;
    let rotated = (ways | ways << WAYS) >> start;
    let lowest = rotated & rotated.wrapping_neg();
    let bit = |mask: u32| 1 ^ mem::is_zero((lowest & mask).into()) as u32;
    let way = (start + (bit(0xaa) | bit(0xcc) << 1 | bit(0xf0) << 2)) % WAYS;
    u64::from(number * WAYS + way)
}

/// Writes a key to a free slot and returns the slot, or [`NO_SLOT`] if another CPU was faster.
///
/// Two CPUs may race for a free slot. Each atomically adds the difference between its key and the value it read, re-reads,
/// and undoes the addition if the slot does not hold its key. This is rare, since CPUs start at different ways.
#[inline(always)]
fn claim(slot: u64, key: u64) -> u64 {
    let Some(set) = set(slot as u32 / WAYS) else {
        return NO_SLOT;
    };
    // SAFETY: map values stay valid while a program runs; the way is within the set.
    unsafe {
        let word = set.cast::<u64>().add((slot as u32 % WAYS) as usize);
        let difference = key.wrapping_sub(word.read_volatile());
        mem::atomic_add(word, difference);
        if word.read_volatile() != key {
            mem::atomic_add(word, difference.wrapping_neg());
            return NO_SLOT;
        }
    }
    slot
}

/// This CPU's spare slot, behind all sets, for a socket that does not fit in the table.
#[inline(always)]
fn spare_slot() -> u64 {
    count!(table_full);
    // SAFETY: takes no arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    u64::from((config!(tracked_sets_mask) + 1) * WAYS + cpu)
}

/// The slot with exactly this key. This and the next one are global functions of the object: the verifier checks them once
/// and on their own, not on each path of each caller.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_tracked(key: u64) -> u64 {
    find(key)
}

/// The slot with this key. If there is none or the socket's life begins, a slot with a zeroed entry.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_or_track(key: u64, begins: u64) -> u64 {
    let mut slot = find(key);
    if slot != NO_SLOT && begins == 0 {
        return slot;
    }
    if slot == NO_SLOT {
        // First choice is the slot of an earlier socket at the same address. So there are never two ended ones with the
        // same key, of which `Entry::find_ended` might return the wrong one.
        slot = find(key | ENDED);
        if slot == NO_SLOT {
            slot = free_slot(key);
        }
        if slot != NO_SLOT {
            slot = claim(slot, key);
        }
    }
    if slot == NO_SLOT {
        slot = spare_slot();
    }
    if let Some(tracked) = TRACKED.get_ptr_mut(slot as u32) {
        // SAFETY: all fields are integers.
        unsafe { mem::zero(tracked) };
    }
    slot
}

/// The slot of a tracked socket.
#[derive(Clone, Copy)]
pub(crate) struct Entry(pub(crate) u32);

impl Entry {
    /// The entry of a socket, created if there is none.
    #[inline(always)]
    pub(crate) fn of(key: SockKey) -> Self {
        Self(find_or_track(key.0, 0) as u32)
    }

    /// A zeroed entry for a socket whose life begins, even if an earlier socket at the same address left one. If the table
    /// is full, the entry lasts only until the next such socket on this CPU.
    #[inline(always)]
    pub(crate) fn start(key: SockKey) -> Self {
        Self(find_or_track(key.0, 1) as u32)
    }

    /// The entry of a socket, if there is one.
    #[inline(always)]
    pub(crate) fn find(key: SockKey) -> Option<Self> {
        Self::at(find_tracked(key.0))
    }

    /// The entry of a socket that went to CLOSE, unless its slot was reused.
    #[inline(always)]
    fn find_ended(key: SockKey) -> Option<Self> {
        Self::at(find_tracked(key.0 + ENDED))
    }

    #[inline(always)]
    fn at(slot: u64) -> Option<Self> {
        if slot == NO_SLOT { None } else { Some(Self(slot as u32)) }
    }

    #[inline(always)]
    pub(crate) fn get(self) -> Option<&'static mut TrackedSock> {
        // SAFETY: map values stay valid while a program runs.
        TRACKED.get_ptr_mut(self.0).map(|tracked| unsafe { &mut *tracked })
    }

    /// Frees the slot of a socket that went to CLOSE.
    #[inline(always)]
    pub(crate) fn end(self) {
        if let Some(set) = set(self.0 / WAYS) {
            // SAFETY: the way is within the set.
            unsafe { mem::atomic_add(set.cast::<u64>().add((self.0 % WAYS) as usize), ENDED) };
        }
    }
}

/// The tracked socket with this key, if there is one.
#[inline(always)]
pub(crate) fn get(key: SockKey) -> Option<&'static mut TrackedSock> {
    Entry::find(key)?.get()
}

/// The same for a socket that went to CLOSE, unless its slot was reused.
#[inline(always)]
pub(crate) fn get_ended(key: SockKey) -> Option<&'static mut TrackedSock> {
    Entry::find_ended(key)?.get()
}

/// Records that the socket goes from one state to another. Returns when it entered the old one, or 0 if that is unknown:
/// the kernel skipped the program at a transition in between, or no time was needed then.
#[inline(always)]
pub(crate) fn enter_state(tracked: &mut TrackedSock, (old, new): (u8, u8), now_ns: u64) -> u64 {
    let is_known = mem::is_zero((tracked.state ^ old).into()) | mem::is_zero(tracked.state.into());
    let entered_ns = tracked.entered_ns * is_known;
    tracked.previous_entered_ns = entered_ns;
    tracked.entered_ns = now_ns;
    tracked.state = new;
    entered_ns
}

/// Stops reporting a socket whose owner has left the filter. Call this after sending the current event.
#[inline(always)]
pub(crate) fn forget_if_owner_left(tracked: &mut TrackedSock) {
    tracked.owner_match &= owner_match::SERVED;
}

/// [`socket_flag::SYN_COOKIES`], and [`socket_flag::OWNER_LEFT`] if the current event is the last one of the socket.
#[inline(always)]
pub(crate) fn flags(tracked: &TrackedSock) -> u16 {
    let has_left = mem::is_zero((tracked.owner_match ^ owner_match::LEFT).into()) as u16;
    (u16::from(tracked.syn_cookies & 1) * socket_flag::SYN_COOKIES) | (has_left * socket_flag::OWNER_LEFT)
}

/// Writes the owner of a tracked socket; all zero if there is none.
///
/// # Safety
/// `to` points into a reserved record.
#[inline(always)]
pub(crate) unsafe fn write_owner(tracked: Option<&TrackedSock>, to: *mut Owner) {
    // SAFETY: records and their owners are aligned to 8 bytes.
    unsafe {
        match tracked {
            Some(tracked) => mem::copy(to, &raw const tracked.owner),
            None => mem::zero(to),
        }
    }
}
