//! Writes records into the rings.
//!
//! The kernel's own ring buffer (`BPF_MAP_TYPE_RINGBUF`) takes 110 to 180 ns per record: a lock that all CPUs share, and
//! two helper calls. tcptrace's per-CPU rings need neither. They are memory that user space maps. A program reserves the
//! next slot, writes the record, and then its sequence number. Where these rings are used, other tasks cannot preempt a
//! program; a softirq that interrupts it takes the slot after. User space waits for the sequence number.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::bpf_get_smp_processor_id,
    maps::ring_buf::RingBufEntry,
};
use tcptrace_common::{
    record::{Header, WIRE_VERSION},
    ring::{CpuRing, MAX_RECORD, Slot, Wakeup},
};

use crate::{
    config::config,
    counters::count,
    maps::{COUNTERS, CPU_RINGS, EVENTS, SLOTS},
};

/// Number of this CPU.
#[inline(always)]
fn this_cpu() -> u32 {
    // SAFETY: takes no arguments.
    unsafe { bpf_get_smp_processor_id() }
}

/// Sends a record of type `T`, all of which `fill` must write. Counts it as sent or lost.
///
/// To wake user space costs more than the rest of an event. So user space reads on a timer, and is woken only if a burst
/// would fill a ring before the timer expires.
#[inline(always)]
pub(crate) fn send<T: 'static>(fill: impl FnOnce(*mut T)) {
    let Some(ring) = CPU_RINGS.get_ptr_mut(this_cpu()) else {
        return;
    };
    if let Some(mut room) = Room::reserve(ring) {
        fill(room.as_mut_ptr());
        room.submit(ring);
    }
}

/// A record to be filled in and submitted, for callers whose closure [`send`] would not inline.
pub(crate) struct Reserved<T: 'static> {
    ring: *mut CpuRing,
    room: Room<T>,
}

impl<T: 'static> Reserved<T> {
    /// Reserves room for the next record. Counts a lost record if there is none.
    #[inline(always)]
    pub(crate) fn new() -> Option<Self> {
        let ring = CPU_RINGS.get_ptr_mut(this_cpu())?;
        Some(Self { ring, room: Room::reserve(ring)? })
    }

    #[inline(always)]
    pub(crate) fn as_mut_ptr(&mut self) -> *mut T {
        self.room.as_mut_ptr()
    }

    #[inline(always)]
    pub(crate) fn submit(self) {
        self.room.submit(self.ring);
    }
}

/// Room for a record.
enum Room<T: 'static> {
    /// A slot of this CPU's ring, and the sequence number of the record.
    Own(*mut Slot, u64),
    /// An entry of the ring buffer that all CPUs share.
    Shared(
        RingBufEntry<T>,
        #[allow(dead_code, reason = "the verifier requires each register that may be stored to have a value")] u64,
    ),
}

impl<T: 'static> Room<T> {
    #[inline(always)]
    fn reserve(ring: *mut CpuRing) -> Option<Self> {
        const { assert!(size_of::<T>() <= MAX_RECORD) };
        // SAFETY: this CPU's own ring, except for `consumed`. Volatile, since programs interrupt each other.
        unsafe {
            if config!(ring_slots) == 0 {
                let room = EVENTS.reserve(0).map(|record| Self::Shared(record, 0));
                if room.is_none() {
                    count!(ring_full);
                }
                return room;
            }
            // Free of branches: the verifier would follow each way to the end of the program. If there is no room, the lookup
            // uses an index beyond the array and fails.
            let is_reserving = &raw mut (*ring).is_reserving;
            let interrupts = is_reserving.read_volatile() & 1;
            is_reserving.write_volatile(1);
            let reserved = (&raw const (*ring).reserved).read_volatile();
            let unread = reserved.wrapping_sub((&raw const (*ring).consumed).read_volatile());
            let has_room = unread.wrapping_sub(config!(ring_slots).into()) >> 63;
            let reserves = has_room & (interrupts ^ 1);
            (&raw mut (*ring).reserved).write_volatile(reserved.wrapping_add(reserves));
            is_reserving.write_volatile(interrupts);
            let index =
                this_cpu().wrapping_mul(config!(ring_slots)) | reserved as u32 & config!(ring_slots).wrapping_sub(1);
            let slot = SLOTS.get_ptr_mut(index | (reserves as u32 ^ 1) << 31);
            if slot.is_none()
                && let Some(counters) = COUNTERS.get_ptr_mut(0)
            {
                (*counters).interrupted += interrupts;
                (*counters).ring_full += interrupts ^ 1;
            }
            slot.map(|slot| Self::Own(slot, reserved.wrapping_add(1)))
        }
    }

    #[inline(always)]
    fn as_mut_ptr(&mut self) -> *mut T {
        match self {
            Self::Own(slot, _) => slot.cast(),
            Self::Shared(record, _) => record.as_mut_ptr(),
        }
    }

    /// Hands the finished record to user space.
    #[inline(always)]
    fn submit(self, ring: *mut CpuRing) {
        // SAFETY: as above.
        unsafe {
            match self {
                Self::Own(slot, number) => {
                    (&raw mut (*slot).number).write_volatile(number);
                    let unread = number.wrapping_sub((&raw const (*ring).consumed).read_volatile());
                    if unread & u64::from(config!(wake_slots)).wrapping_sub(1) == 0 {
                        let _ = EVENTS.output::<Wakeup>(0, BPF_RB_FORCE_WAKEUP.into()); // fails only if many are pending
                    }
                }
                Self::Shared(record, _) => {
                    (*ring).reserved += 1;
                    let must_wake = (*ring).reserved & u64::from(config!(wake_check_mask)) == 0
                        && EVENTS.query(BPF_RB_AVAIL_DATA.into()) >= u64::from(config!(wake_bytes));
                    record.submit(if must_wake { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP }.into());
                }
            }
        }
    }
}

/// Writes the whole header of a `T`.
#[inline(always)]
pub(crate) fn write_header<T>(to: *mut Header, kind: u8, time_ns: u64, sk: u64, cookie: u64) {
    // SAFETY: `to` points to the header of a reserved record.
    unsafe {
        (*to).kind = kind;
        (*to).version = WIRE_VERSION;
        (*to).len = size_of::<T>() as u16;
        (*to).cpu = this_cpu();
        (*to).time_ns = time_ns;
        (*to).sk = sk;
        (*to).cookie = cookie;
    }
}
