//! Version of the running kernel, and its limits on this process.

use rustix::{
    process::{Resource, getrlimit},
    system::uname,
};

/// Major and minor version in a kernel release string.
#[must_use]
pub fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.trim().split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// The kernel's release by uname(2), without reading a file.
#[must_use]
pub fn release() -> String {
    uname().release().to_string_lossy().into_owned()
}

/// The hard limit on locked memory (RLIMIT_MEMLOCK), in bytes; the largest number if there is none.
#[must_use]
pub fn memlock_bytes() -> Option<u64> {
    Some(getrlimit(Resource::Memlock).maximum.unwrap_or(u64::MAX))
}
