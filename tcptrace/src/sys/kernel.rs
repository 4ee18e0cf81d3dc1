//! The running kernel, and the limits that it sets to this process.

use rustix::{
    process::{Resource, getrlimit},
    system::uname,
};

/// The first two numbers of a kernel's release.
#[must_use]
pub fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.trim().split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// The kernel's release by uname(2), which needs no file.
#[must_use]
pub fn release() -> String {
    uname().release().to_string_lossy().into_owned()
}

/// The hard limit of locked memory (RLIMIT_MEMLOCK), in bytes; the largest number where there is none.
#[must_use]
pub fn memlock_bytes() -> Option<u64> {
    Some(getrlimit(Resource::Memlock).maximum.unwrap_or(u64::MAX))
}
