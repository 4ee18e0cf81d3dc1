//! How many descriptors this process may have open (RLIMIT_NOFILE).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// So many a trace has open while it begins: maps, programs, files, sockets of outputs.
pub const NEEDED: u64 = 128;
/// So many it takes where it may: clients of the HTTP server have one each.
const WANTED: u64 = 1024;

/// Raises the limit as far as it is useful and allowed; gives what it is then.
pub fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < WANTED) {
        let set = |current, maximum| setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum });
        // To raise the hard limit as well takes CAP_SYS_RESOURCE.
        let raised = set(WANTED, maximum.map(|maximum| maximum.max(WANTED)));
        let _ = raised.or_else(|_| set(maximum.map_or(WANTED, |maximum| maximum.min(WANTED)), maximum));
    }
    allowed()
}

/// The limit that is in force.
#[must_use]
pub fn allowed() -> Option<u64> {
    Some(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
}
