//! Puts records into the rings, and counts what happens.
//!
//! A ring of the kernel (`BPF_MAP_TYPE_RINGBUF`) takes a lock that all CPUs share and two calls for a record, 110 to 180
//! ns. The ring of a CPU is memory that user space has mapped, and takes neither: what runs on the CPU takes the next
//! place, writes the record, and then its number behind it. Programs cannot be preempted there, and what interrupts one
//! while it writes (a softirq) takes the place after it. User space waits for the number.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns},
    maps::ring_buf::RingBufEntry,
};
use tcptrace_common::{
    record::{Header, WIRE_VERSION},
    ring::{Bell, Counters, Cpu, MAX_RECORD, Slot},
};

use crate::{
    config::config,
    maps::{COUNTERS, CPUS, EVENTS, SLOTS},
};

/// CLOCK_MONOTONIC in ns.
#[inline(always)]
pub(crate) fn now_ns() -> u64 {
    // SAFETY: takes nothing.
    unsafe { bpf_ktime_get_ns() }
}

/// Number of this CPU.
#[inline(always)]
fn this_cpu() -> u32 {
    // SAFETY: takes nothing.
    unsafe { bpf_get_smp_processor_id() }
}

/// Adds 1 to a counter of this CPU.
#[inline(always)]
pub(crate) fn count(field: impl FnOnce(*mut Counters) -> *mut u64) {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: `field` gives a place within this CPU's own counters.
        unsafe { *field(counters) += 1 };
    }
}

/// Sends a record of type `T`, which `fill` writes completely. Counts it as sent or lost.
///
/// Waking user space costs more than all the rest of an event, so it reads on a timer and is woken only where a burst
/// would otherwise fill a ring before the timer ends.
#[inline(always)]
pub(crate) fn send<T: 'static>(fill: impl FnOnce(*mut T)) {
    let Some(cpu) = CPUS.get_ptr_mut(this_cpu()) else {
        return;
    };
    if let Some(mut place) = Place::take(cpu) {
        fill(place.as_mut_ptr());
        place.submit(cpu);
    }
}

/// A record to be written completely, and sent by [`Reserved::submit`]. As [`send`], where the closure would not be inlined.
pub(crate) struct Reserved<T: 'static> {
    cpu: *mut Cpu,
    place: Place<T>,
}

impl<T: 'static> Reserved<T> {
    /// Takes the place of the next record. Where there is none, that is counted.
    #[inline(always)]
    pub(crate) fn take() -> Option<Self> {
        let cpu = CPUS.get_ptr_mut(this_cpu())?;
        Some(Self { cpu, place: Place::take(cpu)? })
    }

    #[inline(always)]
    pub(crate) fn as_mut_ptr(&mut self) -> *mut T {
        self.place.as_mut_ptr()
    }

    #[inline(always)]
    pub(crate) fn submit(self) {
        self.place.submit(self.cpu);
    }
}

/// Where a record is written.
enum Place<T: 'static> {
    /// In this CPU's ring, with the number that the record gets.
    Own(*mut Slot, u64),
    /// In the ring buffer that all CPUs share, where they have none.
    Shared(
        RingBufEntry<T>,
        #[allow(dead_code, reason = "the verifier wants each register that may be stored to have a value")] u64,
    ),
}

impl<T: 'static> Place<T> {
    /// The next one. Where there is none, that is counted.
    #[inline(always)]
    fn take(cpu: *mut Cpu) -> Option<Self> {
        const { assert!(size_of::<T>() <= MAX_RECORD) };
        // SAFETY: this CPU's own, but for what user space has read; volatile, since others interrupt this.
        unsafe {
            if config!(slots) == 0 {
                let place = EVENTS.reserve(0).map(|record| Self::Shared(record, 0));
                if place.is_none() {
                    count(|counters| &raw mut (*counters).ring_full);
                }
                return place;
            }
            // Without branches: the verifier would follow each way to the end of the program. What has no place has a number
            // that none has.
            let is_taking = &raw mut (*cpu).is_taking;
            let interrupts = is_taking.read_volatile() & 1;
            is_taking.write_volatile(1);
            let taken = (&raw const (*cpu).taken).read_volatile();
            let waiting = taken.wrapping_sub((&raw const (*cpu).read).read_volatile());
            let has_room = waiting.wrapping_sub(config!(slots).into()) >> 63;
            let takes = has_room & (interrupts ^ 1);
            (&raw mut (*cpu).taken).write_volatile(taken.wrapping_add(takes));
            is_taking.write_volatile(interrupts);
            let number = this_cpu().wrapping_mul(config!(slots)) | taken as u32 & config!(slots).wrapping_sub(1);
            let slot = SLOTS.get_ptr_mut(number | (takes as u32 ^ 1) << 31);
            if slot.is_none()
                && let Some(counters) = COUNTERS.get_ptr_mut(0)
            {
                (*counters).interrupted += interrupts;
                (*counters).ring_full += interrupts ^ 1;
            }
            slot.map(|slot| Self::Own(slot, taken.wrapping_add(1)))
        }
    }

    #[inline(always)]
    fn as_mut_ptr(&mut self) -> *mut T {
        match self {
            Self::Own(slot, _) => slot.cast(),
            Self::Shared(record, _) => record.as_mut_ptr(),
        }
    }

    /// The record is written.
    #[inline(always)]
    fn submit(self, cpu: *mut Cpu) {
        // SAFETY: as above.
        unsafe {
            match self {
                Self::Own(slot, number) => {
                    (&raw mut (*slot).number).write_volatile(number);
                    let waiting = number.wrapping_sub((&raw const (*cpu).read).read_volatile());
                    if waiting & u64::from(config!(wake_slots)).wrapping_sub(1) == 0 {
                        let _ = EVENTS.output::<Bell>(0, BPF_RB_FORCE_WAKEUP.into()); // fails only where many wait to be heard
                    }
                }
                Self::Shared(record, _) => {
                    (*cpu).taken += 1;
                    let is_full = (*cpu).taken & u64::from(config!(wake_mask)) == 0
                        && EVENTS.query(BPF_RB_AVAIL_DATA.into()) >= u64::from(config!(wake_bytes));
                    record.submit(if is_full { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP }.into());
                }
            }
        }
    }
}

/// Writes all of a record's header.
#[inline(always)]
pub(crate) fn header<T>(to: *mut Header, kind: u8, time_ns: u64, sk: u64, cookie: u64) {
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
