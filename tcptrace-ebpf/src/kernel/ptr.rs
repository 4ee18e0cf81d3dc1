//! Loads members of kernel structs.
//!
//! There are two ways. Through a [`KernelPtr`], whose type the verifier knows from BTF, a load is one instruction. From any
//! other address, [`probe_read`] copies by a helper.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use core::{ffi::c_void, mem::MaybeUninit};

use crate::config::{Member, Scalar};

/// A pointer to a kernel struct whose BTF type the verifier knows. If a load faults, the kernel's exception table makes it
/// return zero.
#[derive(Clone, Copy)]
pub(crate) struct KernelPtr(*const u8);

impl KernelPtr {
    #[inline(always)]
    pub(crate) fn new(pointer: *const c_void) -> Self {
        Self(pointer.cast())
    }

    /// The address, for [`probe_read`].
    #[inline(always)]
    pub(crate) fn address(self) -> u64 {
        self.0 as u64
    }

    /// The pointer, for helpers.
    #[inline(always)]
    pub(crate) fn as_ptr(self) -> *const c_void {
        self.0.cast()
    }

    #[inline(always)]
    pub(crate) fn load<T: Scalar, const FIELD: u32>(self, _: Member<FIELD>) -> T {
        // SAFETY: the verifier checks the load against the BTF of the struct, and rejects the program if it is invalid.
        unsafe { T::load::<FIELD, 0>(self.0) }
    }

    /// Loads a member of 16 bytes.
    #[inline(always)]
    pub(crate) fn load_pair<const FIELD: u32>(self, _: Member<FIELD>) -> [u64; 2] {
        // SAFETY: as above.
        unsafe { [u64::load::<FIELD, 0>(self.0), u64::load::<FIELD, 1>(self.0)] }
    }

    /// Loads from an offset that is not a member's.
    #[inline(always)]
    pub(crate) fn load_at<T: Copy>(self, offset: u32) -> T {
        // SAFETY: as above.
        unsafe { self.0.add(offset as usize).cast::<T>().read_volatile() }
    }

    /// Loads a member that is a pointer.
    #[inline(always)]
    pub(crate) fn follow<const FIELD: u32>(self, member: Member<FIELD>) -> Self {
        Self(self.load::<u64, FIELD>(member) as *const u8)
    }
}

/// Copies a `T` from kernel memory by a helper; `None` if the address cannot be read. `T` must consist of integers only.
#[inline(always)]
pub(crate) fn probe_read<T: Copy>(address: u64) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes all of `value` and nothing else, and rejects addresses that cannot be read.
    unsafe {
        let failed = bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, address as *const c_void);
        if failed == 0 { Some(value.assume_init()) } else { None }
    }
}
