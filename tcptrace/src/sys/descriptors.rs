//! How many file descriptors this process may open (RLIMIT_NOFILE).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that a trace needs while it starts: maps, programs, files, sockets of outputs.
pub const NEEDED: u64 = 128;
/// Descriptors that a trace would like to have: each client of the HTTP server needs one.
const WANTED: u64 = 1024;

/// Raises the limit as far as is useful and permitted; returns the new limit.
pub fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < WANTED) {
        let set = |current, maximum| setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum });
        // Raising the hard limit as well requires CAP_SYS_RESOURCE.
        let raised = set(WANTED, maximum.map(|maximum| maximum.max(WANTED)));
        let _ = raised.or_else(|_| set(maximum.map_or(WANTED, |maximum| maximum.min(WANTED)), maximum));
    }
    allowed()
}

/// The soft limit in force.
#[must_use]
pub fn allowed() -> Option<u64> {
    Some(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
}
