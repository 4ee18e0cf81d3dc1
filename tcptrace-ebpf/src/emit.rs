//! Puts records into the rings, and counts what happens.
//!
//! A ring of the kernel (`BPF_MAP_TYPE_RINGBUF`) takes a lock that all CPUs share and two calls for a record, 110 to 180
//! ns. The ring of a CPU is memory that user space has mapped, and takes neither: what runs on the CPU writes its next
//! place, and then the record's number behind it. Programs cannot be preempted there, and what interrupts one while it
//! writes (a softirq) ends before it goes on; the records of that go to the kernel's ring.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns},
    maps::ring_buf::RingBufEntry,
};
use tcptrace_common::{
    cpu::{Bell, Cpu, MAX_RECORD, Slot},
    record::{Header, WIRE_VERSION},
};

use crate::{
    config::config,
    maps::{CPUS, EVENTS, SLOTS},
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
pub(crate) fn count(field: impl FnOnce(*mut Cpu) -> *mut u64) {
    if let Some(cpu) = CPUS.get_ptr_mut(this_cpu()) {
        // SAFETY: `field` gives a place within what this CPU alone writes.
        unsafe { *field(cpu) += 1 };
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
    // SAFETY: this CPU's own, but for what user space has read.
    unsafe {
        let Some(mut place) = Place::take(cpu) else {
            (*cpu).ring_full += 1;
            return;
        };
        fill(place.as_mut_ptr());
        place.submit(cpu);
    }
}

/// Where a record is written.
enum Place<T: 'static> {
    /// In this CPU's ring.
    Own(*mut Slot),
    /// In the ring buffer that all CPUs share.
    Shared(RingBufEntry<T>),
}

impl<T: 'static> Place<T> {
    /// The next one, if there is one.
    ///
    /// # Safety
    /// `cpu` is this CPU's.
    #[inline(always)]
    unsafe fn take(cpu: *mut Cpu) -> Option<Self> {
        const { assert!(size_of::<T>() <= MAX_RECORD) };
        // SAFETY: as the caller says; what is volatile is seen by who interrupts this.
        unsafe {
            if config!(slots) == 0 || (&raw const (*cpu).is_writing).read_volatile() != 0 {
                return EVENTS.reserve(0).map(Self::Shared);
            }
            (&raw mut (*cpu).is_writing).write_volatile(1);
            let written = (&raw const (*cpu).written).read_volatile();
            let is_full = written.wrapping_sub((&raw const (*cpu).read).read_volatile()) >= u64::from(config!(slots));
            let number = this_cpu().wrapping_mul(config!(slots)) | written as u32 & config!(slots).wrapping_sub(1);
            let slot = if is_full { None } else { SLOTS.get_ptr_mut(number) };
            let Some(slot) = slot else {
                (&raw mut (*cpu).is_writing).write_volatile(0);
                return None;
            };
            Some(Self::Own(slot))
        }
    }

    #[inline(always)]
    fn as_mut_ptr(&mut self) -> *mut T {
        match self {
            Self::Own(slot) => slot.cast(),
            Self::Shared(record) => record.as_mut_ptr(),
        }
    }

    /// The record is written.
    ///
    /// # Safety
    /// `cpu` is this CPU's.
    #[inline(always)]
    unsafe fn submit(self, cpu: *mut Cpu) {
        // SAFETY: as the caller says.
        unsafe {
            match self {
                Self::Own(slot) => {
                    let written = (*cpu).written.wrapping_add(1);
                    (&raw mut (*slot).number).write_volatile(written);
                    (*cpu).written = written;
                    (&raw mut (*cpu).is_writing).write_volatile(0);
                    let waiting = written.wrapping_sub((&raw const (*cpu).read).read_volatile());
                    if waiting & u64::from(config!(wake_slots)).wrapping_sub(1) == 0 {
                        let _ = EVENTS.output::<Bell>(0, BPF_RB_FORCE_WAKEUP.into()); // fails only where many wait to be heard
                    }
                }
                Self::Shared(record) => {
                    (*cpu).aside += 1;
                    let is_full = (*cpu).aside & u64::from(config!(wake_mask)) == 0
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
