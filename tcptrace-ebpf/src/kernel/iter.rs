//! Contexts of BPF iterators.

use aya_ebpf::{bindings::seq_file, helpers::generated::bpf_seq_write};

/// The start of `struct bpf_iter_meta` (`include/linux/bpf.h`).
#[repr(C)]
pub(crate) struct IterMeta {
    seq: *mut seq_file,
    /// Differs between iterator runs.
    pub(crate) session_id: u64,
}

/// Writes an entry to the iterator's file.
///
/// # Safety
/// `meta` comes from the iterator's context, and `entry` points into a map.
#[inline(always)]
pub(crate) unsafe fn write_entry<T>(meta: *const IterMeta, entry: *const T) {
    // SAFETY: as the caller guarantees.
    unsafe { bpf_seq_write((*meta).seq, entry.cast(), size_of::<T>() as u32) };
}
