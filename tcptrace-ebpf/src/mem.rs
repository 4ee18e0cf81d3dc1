//! Copies and zeroes values in 8-byte words.
//!
//! If the compiler does not know the alignment of a struct, or that source and target do not overlap, it turns an
//! assignment into a call of `memmove` or `memset`. In BPF these are loops over single bytes: about 300 instructions for an
//! owner, and as many for the verifier on each path. Volatile word accesses are left alone.

/// 1 if `word` is 0, else 0. Free of branches, because the verifier would follow both ways.
#[inline(always)]
pub(crate) const fn is_zero(word: u64) -> u64 {
    (word | word.wrapping_neg()) >> 63 ^ 1
}

/// Adds to a word atomically.
///
/// # Safety
/// The word is in a map.
#[inline(always)]
pub(crate) unsafe fn atomic_add(word: *mut u64, value: u64) {
    // In assembly: for this target the compiler has no atomic operations other than loads and stores.
    #[cfg(target_arch = "bpf")]
    // SAFETY: as the caller guarantees.
    unsafe {
        core::arch::asm!("lock *(u64 *)({word} + 0) += {value}", word = in(reg) word, value = in(reg) value);
    }
    #[cfg(not(target_arch = "bpf"))]
    let _ = (word, value);
}

/// Size of a `T` in words.
const fn words_of<T>() -> usize {
    assert!(align_of::<T>() == 8 && size_of::<T>().is_multiple_of(8), "not made of words");
    size_of::<T>() / 8
}

/// Copies a `T`.
///
/// # Safety
/// Both pointers are valid and aligned, and a `T` consists of integers only.
#[inline(always)]
pub(crate) unsafe fn copy<T>(to: *mut T, from: *const T) {
    for word in 0..const { words_of::<T>() } {
        // SAFETY: the word lies within both values.
        unsafe { to.cast::<u64>().add(word).write_volatile(from.cast::<u64>().add(word).read_volatile()) };
    }
}

/// Sets all bytes of a `T` to zero.
///
/// # Safety
/// The pointer is valid and aligned, and a `T` consists of integers only.
#[inline(always)]
pub(crate) unsafe fn zero<T>(to: *mut T) {
    for word in 0..const { words_of::<T>() } {
        // SAFETY: the word lies within the value.
        unsafe { to.cast::<u64>().add(word).write_volatile(0) };
    }
}
