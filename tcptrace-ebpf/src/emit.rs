//! Puts records into the ring buffer, and counts what happens.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns},
};
use tcptrace_common::{
    counters::Counters,
    record::{Header, WIRE_VERSION},
};

use crate::{
    config::config,
    maps::{COUNTERS, EVENTS},
};

/// CLOCK_MONOTONIC in ns.
#[inline(always)]
pub(crate) fn now_ns() -> u64 {
    // SAFETY: takes nothing.
    unsafe { bpf_ktime_get_ns() }
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
/// would otherwise fill the buffer before the timer ends. Each CPU looks for that with one in so many of its records.
#[inline(always)]
pub(crate) fn send<T: 'static>(fill: impl FnOnce(*mut T)) {
    let Some(mut record) = EVENTS.reserve::<T>(0) else {
        // SAFETY: a place within the counters.
        count(|counters| unsafe { &raw mut (*counters).ring_full });
        return;
    };
    fill(record.as_mut_ptr());
    let mut flag = u64::from(BPF_RB_NO_WAKEUP);
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: this CPU's own counters.
        let sent = unsafe {
            (*counters).sent += 1;
            (*counters).sent
        };
        if sent & u64::from(config!(wake_mask)) == 0
            && EVENTS.query(u64::from(BPF_RB_AVAIL_DATA)) >= u64::from(config!(wake_bytes))
        {
            flag = BPF_RB_FORCE_WAKEUP.into();
        }
    }
    record.submit(flag);
}

/// Writes all of a record's header.
#[inline(always)]
pub(crate) fn header<T>(to: *mut Header, kind: u8, time_ns: u64, sk: u64, cookie: u64) {
    // SAFETY: `to` points to the header of a reserved record.
    unsafe {
        (*to).kind = kind;
        (*to).version = WIRE_VERSION;
        (*to).len = size_of::<T>() as u16;
        (*to).cpu = bpf_get_smp_processor_id();
        (*to).time_ns = time_ns;
        (*to).sk = sk;
        (*to).cookie = cookie;
    }
}
