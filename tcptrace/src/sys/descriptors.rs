//! How many file descriptors this process may open (RLIMIT_NOFILE).

/// Descriptors that a trace needs while it starts: maps, programs, files, sockets of outputs.
pub const NEEDED: u64 = 128;
/// Descriptors that a trace would like to have: each client of the HTTP server needs one.
const WANTED: u64 = 1024;

/// Raises the limit as far as is useful and permitted; returns the new limit.
pub fn raise() -> Option<u64> {
    let limit = limit()?;
    if limit.rlim_cur < WANTED {
        // Raising the hard limit as well requires CAP_SYS_RESOURCE.
        let _ = set(libc::rlimit { rlim_cur: WANTED, rlim_max: limit.rlim_max.max(WANTED) })
            || set(libc::rlimit { rlim_cur: limit.rlim_max.min(WANTED), ..limit });
    }
    allowed()
}

/// The soft limit in force.
#[must_use]
pub fn allowed() -> Option<u64> {
    limit().map(|limit| limit.rlim_cur)
}

fn limit() -> Option<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for writes.
    (unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0).then_some(limit)
}

fn set(limit: libc::rlimit) -> bool {
    // SAFETY: `limit` is valid.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0 }
}
