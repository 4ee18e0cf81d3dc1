//! Reads this machine's clocks.

use rustix::time::{ClockId, Timespec, clock_getres, clock_gettime};

use crate::model::time::WallOffset;

fn ns(time: Timespec) -> i64 {
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// CLOCK_MONOTONIC in ns, the clock of `bpf_ktime_get_ns`.
#[must_use]
pub fn now_ns() -> u64 {
    ns(clock_gettime(ClockId::Monotonic)) as u64
}

/// How far the wall clock is ahead of CLOCK_MONOTONIC.
#[must_use]
pub fn wall_offset() -> WallOffset {
    WallOffset(ns(clock_gettime(ClockId::Realtime)) - ns(clock_gettime(ClockId::Monotonic)))
}

/// CPU time used by the calling thread, in ns.
#[must_use]
pub fn thread_cpu_ns() -> u64 {
    ns(clock_gettime(ClockId::ThreadCPUTime)) as u64
}

/// CPU time used by this process, in ns.
#[must_use]
pub fn process_cpu_ns() -> u64 {
    ns(clock_gettime(ClockId::ProcessCPUTime)) as u64
}

/// Length of a jiffy in ns: the resolution of the coarse clocks (`kernel/time/posix-timers.c`, `posix_get_coarse_res`).
#[must_use]
pub fn tick_ns() -> u64 {
    (ns(clock_getres(ClockId::MonotonicCoarse)) as u64).max(1)
}
