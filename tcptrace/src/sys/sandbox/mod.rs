//! What a process can still do once it runs: capabilities, `no_new_privs`, system calls, and where it writes.
//!
//! Capabilities and Landlock belong to threads, and there is no way to take them from threads that run: [`enter`] is called
//! before all others start, which then inherit them. Threads that read other processes cannot be under Landlock (see
//! `writes.rs`). They are started by a thread that was there before ([`readers`]), under a filter by which they open no
//! file for writing. So no thread writes elsewhere.

pub mod readers;
pub mod seccomp;
pub mod writes;

use std::{
    io,
    path::Path,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use rustix::fs::{Access, AtFlags, CWD, accessat};
use thiserror::Error;

use self::{seccomp::Calls, writes::Writable};
use crate::sys::{capabilities::Capabilities, signals::leave_to_others};

/// What a process needs from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// The capabilities that are kept, as far as they are there.
    pub capabilities: Capabilities,
    /// The system calls that are needed besides the usual ones.
    pub calls: Calls,
    /// Where files are written; `None` leaves that to the rights of the user: a thread that writes also reads processes.
    pub writable: Option<Writable>,
}

/// What could not be given up, although the kernel has what it takes.
#[derive(Debug, Error)]
#[error("the sandbox is not complete: {what}: {source}; --no-sandbox goes without it")]
pub struct Incomplete {
    what: &'static str,
    source: io::Error,
}

/// Whether [`enter`] was called.
static IS_ON: AtomicBool = AtomicBool::new(false);

/// Gives up all but `needs`. No other threads may run but those that have given up all ([`confine_idle_thread`]).
/// A kernel without seccomp filters or Landlock goes without; what else fails is returned, and the rest is given up.
pub fn enter(needs: &Needs) -> Vec<Incomplete> {
    let mut failed = Vec::new();
    let mut note = |what, result: io::Result<()>| failed.extend(result.err().map(|source| Incomplete { what, source }));
    note("capabilities", needs.capabilities.keep());
    note("no_new_privs", rustix::thread::set_no_new_privs(true).map_err(Into::into));
    if seccomp::is_available() {
        note("system calls", seccomp::confine(needs.calls));
    }
    if let Some(writable) = &needs.writable {
        note("threads that read processes", readers::start());
        note("Landlock", writes::confine(writable).map(drop).map_err(io::Error::other));
    }
    IS_ON.store(true, Relaxed);
    failed
}

/// Gives up everything in a thread that writes to open descriptors and sockets alone.
pub fn confine_idle_thread() {
    leave_to_others();
    // A thread that keeps what it has is no reason to end: it is seen in /proc/PID/task.
    let _ = Capabilities::of(&[]).keep();
    let _ = rustix::thread::set_no_new_privs(true);
    let _ = writes::confine(&Writable::default());
}

/// Adds to a refusal that the sandbox is the reason, if it is: the rights of the user would suffice, or those that root
/// had.
#[must_use]
pub fn explained(error: io::Error, path: &Path) -> io::Error {
    if error.kind() != io::ErrorKind::PermissionDenied || !IS_ON.load(Relaxed) {
        return error;
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let place = if path.exists() { path } else { folder };
    // access(2) knows nothing of Landlock (landlock(7)).
    let may_write = accessat(CWD, place, Access::WRITE_OK, AtFlags::EACCESS).is_ok();
    if may_write || rustix::process::geteuid().is_root() {
        return io::Error::new(
            error.kind(),
            format!(
                "{error}; the sandbox forbids it: files are written in the folders that outputs had at the start; start \
                 tcptrace anew, or with --no-sandbox"
            ),
        );
    }
    error
}
