//! Constants that user space sets before loading: each is in the instructions themselves, so that it costs nothing and
//! the verifier removes the branches that it rules out. Only lists are read from memory, a frozen read-only map.
//!
//! The compiler knows none of them. It is given instructions with numbers that stand for fields
//! ([`tcptrace_common::config::place`]), and user space replaces these numbers.

use tcptrace_common::config::{Config, place};

/// The constants that are lists. Read it through [`listed!`] only: the compiler must not see its value.
#[unsafe(no_mangle)]
pub(crate) static CONFIG: Config =
    // SAFETY: made of integers only.
    unsafe { core::mem::zeroed() };

/// Loads one field of [`CONFIG`].
macro_rules! listed {
    ($($field:tt)+) => {{
        #[allow(unused_unsafe, reason = "it may stand in an unsafe block")]
        // SAFETY: the static is valid and aligned; volatile, because user space changes it before loading.
        unsafe { (&raw const $crate::config::CONFIG.$($field)+).read_volatile() }
    }};
}

/// The value of one field.
macro_rules! config {
    ($($field:tt)+) => {
        $crate::config::constant::<_, { ::core::mem::offset_of!(::tcptrace_common::config::Config, $($field)+) as u32 }>(
            |config| &config.$($field)+,
        )
    };
}

/// Where a member of a kernel's struct is, by its field of [`tcptrace_common::config::Layout`].
macro_rules! member {
    ($field:ident) => {
        $crate::config::Member::<{ ::core::mem::offset_of!(::tcptrace_common::config::Layout, $field) as u32 / 4 }>
    };
}
pub(crate) use {config, listed, member};

/// The field of [`Config`] that is `OFFSET` bytes from its start; `field` gives its type.
#[inline(always)]
pub(crate) fn constant<T: Word, const OFFSET: u32>(field: fn(&Config) -> &T) -> T {
    let _ = field;
    T::constant::<OFFSET>()
}

/// A member of a kernel's struct, by the number of its field of [`tcptrace_common::config::Layout`].
#[derive(Clone, Copy)]
pub(crate) struct Member<const NUMBER: u32>;

/// An integer that one instruction loads.
pub(crate) trait Word: Copy {
    /// The constant `OFFSET` bytes from the start of [`Config`].
    fn constant<const OFFSET: u32>() -> Self;

    /// The member with this number of the struct at `from`, and what comes `EIGHTS` times 8 bytes after it.
    ///
    /// # Safety
    /// The verifier checks the load.
    unsafe fn load<const NUMBER: u32, const EIGHTS: u32>(from: *const u8) -> Self;
}

macro_rules! word {
    ($type:ty, $load:literal) => {
        impl Word for $type {
            #[inline(always)]
            fn constant<const OFFSET: u32>() -> Self {
                let value: u64;
                #[cfg(target_arch = "bpf")]
                // SAFETY: a number.
                unsafe {
                    core::arch::asm!(
                        "{value} = {place}",
                        value = out(reg) value,
                        place = const place::constant(OFFSET, size_of::<$type>() as u32),
                        options(pure, nomem, nostack, preserves_flags),
                    );
                }
                #[cfg(not(target_arch = "bpf"))]
                {
                    value = place::constant(OFFSET, size_of::<$type>() as u32).into();
                }
                value as Self
            }

            #[inline(always)]
            unsafe fn load<const NUMBER: u32, const EIGHTS: u32>(from: *const u8) -> Self {
                let value: u64;
                #[cfg(target_arch = "bpf")]
                // SAFETY: as the caller says.
                unsafe {
                    core::arch::asm!(
                        concat!("{value} = *(", $load, " *)({from} + {place})"),
                        value = out(reg) value,
                        from = in(reg) from,
                        place = const place::member(NUMBER, EIGHTS),
                        options(pure, readonly, nostack, preserves_flags),
                    );
                }
                #[cfg(not(target_arch = "bpf"))]
                {
                    value = from as u64 + u64::from(place::member(NUMBER, EIGHTS));
                }
                value as Self
            }
        }
    };
}

word!(u8, "u8");
word!(u16, "u16");
word!(u32, "u32");
word!(i32, "u32");
word!(u64, "u64");
