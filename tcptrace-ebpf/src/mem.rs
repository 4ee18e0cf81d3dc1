//! Copies and blanks values of 8-byte words.
//!
//! The compiler turns the assignment of a struct into a call of `memmove` or `memset` where nothing says how it is
//! aligned or that the two places do not overlap. In BPF these are loops over single bytes: some 300 instructions for
//! an owner, and as many for the verifier to follow on each path. Volatile loads and stores stay what they are.

/// 1 where `word` is 0, without a branch: the verifier would follow each way by itself.
#[inline(always)]
pub(crate) const fn is_zero(word: u64) -> u64 {
    (word | word.wrapping_neg()) >> 63 ^ 1
}

/// Adds to a word, whoever else does so at the same time.
///
/// # Safety
/// The word is a map's.
#[inline(always)]
pub(crate) unsafe fn add(word: *mut u64, value: u64) {
    // By hand: for this target the compiler has no atomic operations but loads and stores.
    #[cfg(target_arch = "bpf")]
    // SAFETY: as the caller says.
    unsafe {
        core::arch::asm!("lock *(u64 *)({word} + 0) += {value}", word = in(reg) word, value = in(reg) value);
    }
    #[cfg(not(target_arch = "bpf"))]
    let _ = (word, value);
}

/// How many words a `T` has.
const fn count<T>() -> usize {
    assert!(align_of::<T>() == 8 && size_of::<T>().is_multiple_of(8), "not made of words");
    size_of::<T>() / 8
}

/// Copies a `T`.
///
/// # Safety
/// Both places are valid and aligned, and a `T` is made of integers only.
#[inline(always)]
pub(crate) unsafe fn copy<T>(to: *mut T, from: *const T) {
    for word in 0..const { count::<T>() } {
        // SAFETY: the word lies within both places.
        unsafe { to.cast::<u64>().add(word).write_volatile(from.cast::<u64>().add(word).read_volatile()) };
    }
}

/// Makes all of a `T` zero.
///
/// # Safety
/// The place is valid and aligned, and a `T` is made of integers only.
#[inline(always)]
pub(crate) unsafe fn blank<T>(to: *mut T) {
    for word in 0..const { count::<T>() } {
        // SAFETY: the word lies within the place.
        unsafe { to.cast::<u64>().add(word).write_volatile(0) };
    }
}
