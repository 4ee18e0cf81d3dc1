//! How many descriptors this process may have open (RLIMIT_NOFILE).

/// So many a trace has open while it begins: maps, programs, files, sockets of outputs.
pub const NEEDED: u64 = 128;
/// So many it takes where it may: clients of the HTTP server have one each.
const WANTED: u64 = 1024;

/// Raises the limit as far as it is useful and allowed; gives what it is then.
pub fn raise() -> Option<u64> {
    let limit = limit()?;
    if limit.rlim_cur < WANTED {
        // To raise the hard limit as well takes CAP_SYS_RESOURCE.
        let _ = set(libc::rlimit { rlim_cur: WANTED, rlim_max: limit.rlim_max.max(WANTED) })
            || set(libc::rlimit { rlim_cur: limit.rlim_max.min(WANTED), ..limit });
    }
    allowed()
}

/// The limit that is in force.
#[must_use]
pub fn allowed() -> Option<u64> {
    limit().map(|limit| limit.rlim_cur)
}

fn limit() -> Option<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place to write to.
    (unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0).then_some(limit)
}

fn set(limit: libc::rlimit) -> bool {
    // SAFETY: `limit` is valid.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0 }
}
