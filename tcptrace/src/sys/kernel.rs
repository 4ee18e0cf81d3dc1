//! Version of the running kernel, and its limits on this process.

use std::ffi::CStr;

/// Major and minor version in a kernel release string.
#[must_use]
pub fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.trim().split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// The kernel's release by uname(2), without reading a file.
#[must_use]
pub fn release() -> String {
    // SAFETY: arrays of bytes may be zero.
    let mut names: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills it with NUL-terminated strings.
    let release = unsafe { (libc::uname(&raw mut names) == 0).then(|| CStr::from_ptr(names.release.as_ptr())) };
    release.map_or_else(String::new, |release| release.to_string_lossy().into_owned())
}

/// The hard limit on locked memory (RLIMIT_MEMLOCK), in bytes.
#[must_use]
pub fn memlock_bytes() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for writes.
    (unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) } == 0).then_some(limit.rlim_max)
}
