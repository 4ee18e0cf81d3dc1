//! The heap of a run that lists once and ends, and that of a long one.

/// Makes memory cheap for whoever needs some megabytes for a moment: one heap for all threads, in huge pages where the
/// kernel has them, and what is freed is used again. Each small page that is touched for the first time costs 1 to
/// 4 µs, which was a quarter of the CPU time of `tcptrace sockets` on 20,000 sockets. To be called before all else; what
/// cannot be had is done without.
#[cfg(target_env = "gnu")]
pub fn be_brief() {
    /// Below the threshold, so that it lies in the heap.
    const HEAP_BYTES: usize = 24 << 20;
    /// The largest that all versions of glibc take.
    const MMAP_THRESHOLD: i32 = 32 << 20;
    const HUGE_PAGE: usize = 2 << 20;
    // SAFETY: takes numbers only.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
    // Freed at the end, it stays part of the heap.
    let mut heap = Vec::<u8>::with_capacity(HEAP_BYTES);
    let whole_pages = heap.as_mut_ptr().map_addr(|address| address.next_multiple_of(HUGE_PAGE));
    // SAFETY: the range lies within the allocation; the advice does not change what is there.
    unsafe { libc::madvise(whole_pages.cast(), HEAP_BYTES - HUGE_PAGE, libc::MADV_HUGEPAGE) };
}

/// Other allocators are left as they are.
#[cfg(not(target_env = "gnu"))]
pub fn be_brief() {}

/// Keeps the heap of a long run as small as what lies in it: what is large, as the listing of many sockets, is mapped by
/// itself and given back when it is dropped, however often it comes, and threads that come and go leave no heaps of their
/// own behind. glibc would keep 100 MB after listings of 50,000 sockets. To be called before all else.
#[cfg(target_env = "gnu")]
pub fn be_steady() {
    /// A threshold that is set does not grow by what is freed.
    const MMAP_THRESHOLD: i32 = 1 << 20;
    // SAFETY: takes numbers only.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
        libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD);
    }
}

/// Other allocators are left as they are.
#[cfg(not(target_env = "gnu"))]
pub fn be_steady() {}
