//! Constants that user space sets before it loads the programs.
//!
//! A constant is an immediate value or load offset in the instructions, so it costs nothing, and the verifier removes the
//! branches that it rules out. The compiler sees none of the values: it emits instructions with placeholders
//! ([`tcptrace_common::config::placeholder`]), which user space replaces. Only arrays are read from memory, from a frozen
//! read-only map.

use tcptrace_common::config::{Config, placeholder};

/// The constants in memory, for arrays. Use [`config_array!`] only: the compiler must not see the value.
#[unsafe(no_mangle)]
pub(crate) static CONFIG: Config =
    // SAFETY: all fields are integers.
    unsafe { core::mem::zeroed() };

/// Loads an element of an array in [`CONFIG`].
macro_rules! config_array {
    ($($field:tt)+) => {{
        #[allow(unused_unsafe, reason = "the caller may be in an unsafe block")]
        // SAFETY: the static is valid and aligned; volatile, because user space changes it before loading.
        unsafe { (&raw const $crate::config::CONFIG.$($field)+).read_volatile() }
    }};
}

/// The value of an integer field of [`Config`].
macro_rules! config {
    ($($field:tt)+) => {
        $crate::config::constant::<_, { ::core::mem::offset_of!(::tcptrace_common::config::Config, $($field)+) as u32 }>(
            |config| &config.$($field)+,
        )
    };
}

/// The member of a kernel struct that a field of [`tcptrace_common::config::Layout`] locates.
macro_rules! member {
    ($field:ident) => {
        $crate::config::Member::<{ ::core::mem::offset_of!(::tcptrace_common::config::Layout, $field) as u32 / 4 }>
    };
}
pub(crate) use {config, config_array, member};

/// The field at `OFFSET` in [`Config`]; `field` determines its type.
#[inline(always)]
pub(crate) fn constant<T: Scalar, const OFFSET: u32>(field: fn(&Config) -> &T) -> T {
    let _ = field;
    T::constant::<OFFSET>()
}

/// A member of a kernel struct, by the index of its field in [`tcptrace_common::config::Layout`].
#[derive(Clone, Copy)]
pub(crate) struct Member<const FIELD: u32>;

/// An integer that one instruction loads.
pub(crate) trait Scalar: Copy {
    /// The constant at `OFFSET` in [`Config`].
    fn constant<const OFFSET: u32>() -> Self;

    /// Loads a member of the struct at `from`, starting at its 8-byte word `WORD`.
    ///
    /// # Safety
    /// The verifier checks the load.
    unsafe fn load<const FIELD: u32, const WORD: u32>(from: *const u8) -> Self;
}

macro_rules! scalar {
    ($type:ty, $load:literal) => {
        impl Scalar for $type {
            #[inline(always)]
            fn constant<const OFFSET: u32>() -> Self {
                let value: u64;
                #[cfg(target_arch = "bpf")]
                // SAFETY: only sets a register.
                unsafe {
                    core::arch::asm!(
                        "{value} = {placeholder}",
                        value = out(reg) value,
                        placeholder = const placeholder::constant(OFFSET, size_of::<$type>() as u32),
                        options(pure, nomem, nostack, preserves_flags),
                    );
                }
                #[cfg(not(target_arch = "bpf"))]
                {
                    value = placeholder::constant(OFFSET, size_of::<$type>() as u32).into();
                }
                value as Self
            }

            #[inline(always)]
            unsafe fn load<const FIELD: u32, const WORD: u32>(from: *const u8) -> Self {
                let value: u64;
                #[cfg(target_arch = "bpf")]
                // SAFETY: as the caller guarantees.
                unsafe {
                    core::arch::asm!(
                        concat!("{value} = *(", $load, " *)({from} + {placeholder})"),
                        value = out(reg) value,
                        from = in(reg) from,
                        placeholder = const placeholder::member(FIELD, WORD),
                        options(pure, readonly, nostack, preserves_flags),
                    );
                }
                #[cfg(not(target_arch = "bpf"))]
                {
                    value = from as u64 + u64::from(placeholder::member(FIELD, WORD));
                }
                value as Self
            }
        }
    };
}

scalar!(u8, "u8");
scalar!(u16, "u16");
scalar!(u32, "u32");
scalar!(i32, "u32");
scalar!(u64, "u64");
