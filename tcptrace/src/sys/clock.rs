//! Reads this machine's clocks.

use crate::model::time::WallOffset;

fn read(clock: libc::clockid_t, call: unsafe extern "C" fn(libc::clockid_t, *mut libc::timespec) -> i32) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writes; the calls do not fail for the clocks used here.
    unsafe { call(clock, &raw mut time) };
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// CLOCK_MONOTONIC in ns, the clock of `bpf_ktime_get_ns`.
#[must_use]
pub fn now_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC, libc::clock_gettime) as u64
}

/// How far the wall clock is ahead of CLOCK_MONOTONIC.
#[must_use]
pub fn wall_offset() -> WallOffset {
    WallOffset(read(libc::CLOCK_REALTIME, libc::clock_gettime) - read(libc::CLOCK_MONOTONIC, libc::clock_gettime))
}

/// CPU time used by the calling thread, in ns.
#[must_use]
pub fn thread_cpu_ns() -> u64 {
    read(libc::CLOCK_THREAD_CPUTIME_ID, libc::clock_gettime) as u64
}

/// CPU time used by this process, in ns.
#[must_use]
pub fn process_cpu_ns() -> u64 {
    read(libc::CLOCK_PROCESS_CPUTIME_ID, libc::clock_gettime) as u64
}

/// Length of a jiffy in ns: the resolution of the coarse clocks (`kernel/time/posix-timers.c`, `posix_get_coarse_res`).
#[must_use]
pub fn tick_ns() -> u64 {
    (read(libc::CLOCK_MONOTONIC_COARSE, libc::clock_getres) as u64).max(1)
}
