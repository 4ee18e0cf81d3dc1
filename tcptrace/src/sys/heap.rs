//! Tunes the heap: for a run that lists once and ends, and for a long one.

/// Makes allocation cheap for a short run that needs some megabytes: a single heap for all threads, in huge pages if
/// the kernel has them, whose freed memory is reused. The first touch of a small page costs 1 to 4 µs, which was a
/// quarter of the CPU time of `tcptrace sockets` on 20,000 sockets. Call it first; failures are ignored.
#[cfg(target_env = "gnu")]
pub fn be_brief() {
    /// Less than the threshold, so that the allocation lies in the heap.
    const HEAP_BYTES: usize = 24 << 20;
    /// The largest value that every version of glibc accepts.
    const MMAP_THRESHOLD: i32 = 32 << 20;
    const HUGE_PAGE: usize = 2 << 20;
    // SAFETY: takes only numbers.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
    // After it is freed it remains part of the heap.
    let mut heap = Vec::<u8>::with_capacity(HEAP_BYTES);
    let whole_pages = heap.as_mut_ptr().map_addr(|address| address.next_multiple_of(HUGE_PAGE));
    // SAFETY: the range lies within the allocation; the advice does not change its content.
    unsafe { libc::madvise(whole_pages.cast(), HEAP_BYTES - HUGE_PAGE, libc::MADV_HUGEPAGE) };
}

/// Does nothing with other allocators.
#[cfg(not(target_env = "gnu"))]
pub fn be_brief() {}

/// Keeps the heap of a long run small: large blocks, such as the listing of many sockets, are mapped separately and
/// unmapped when dropped, however often they recur, and short-lived threads leave no heaps of their own behind. glibc
/// would keep 100 MB after listings of 50,000 sockets. Call it first.
#[cfg(target_env = "gnu")]
pub fn be_steady() {
    /// Setting the threshold stops glibc from raising it when large blocks are freed.
    const MMAP_THRESHOLD: i32 = 1 << 20;
    // SAFETY: takes only numbers.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
        libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD);
    }
}

/// Does nothing with other allocators.
#[cfg(not(target_env = "gnu"))]
pub fn be_steady() {}
