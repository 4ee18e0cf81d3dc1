//! What a listing could not read.

use serde::{Deserialize, Serialize};

/// Counts of what a listing could not read. None of it is fatal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Namespaces that disappeared while they were being entered.
    pub namespaces_gone: u64,
    /// Namespaces that could not be entered for lack of permission (CAP_SYS_ADMIN).
    pub namespaces_denied: u64,
    /// Replies of the kernel that were truncated or malformed.
    pub cut_short: u64,
    /// Processes that ended while their files were being read.
    pub processes_gone: u64,
    /// Processes whose files may not be read, mostly for lack of CAP_SYS_PTRACE; all processes hidden by hidepid count
    /// as one.
    pub processes_denied: u64,
    /// The first of the denied processes.
    pub denied: Denied,
}

/// The first processes that could not be read, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denied {
    /// Their PIDs; unused places are 0.
    pub pids: [u32; 3],
    /// The errno for the first of them; 0 if there is none.
    pub errno: i32,
}

impl Denied {
    /// Adds a process, if there is room.
    pub fn add(&mut self, pid: u32, errno: i32) {
        if let Some(place) = self.pids.iter_mut().find(|place| [0, pid].contains(*place)) {
            *place = pid;
            self.errno = if self.errno == 0 { errno } else { self.errno };
        }
    }
}

impl Skipped {
    /// Name and count of each kind.
    #[must_use]
    pub const fn fields(&self) -> [(&'static str, u64); 5] {
        [
            ("namespaces_gone", self.namespaces_gone),
            ("namespaces_denied", self.namespaces_denied),
            ("cut_short", self.cut_short),
            ("processes_gone", self.processes_gone),
            ("processes_denied", self.processes_denied),
        ]
    }

    /// How many of these may have had sockets. Namespaces and processes that are gone have none.
    #[must_use]
    pub const fn unseen(&self) -> u64 {
        self.namespaces_denied + self.cut_short
    }

    /// Adds the counts of another part of the listing.
    pub fn add(&mut self, other: &Self) {
        self.namespaces_gone += other.namespaces_gone;
        self.namespaces_denied += other.namespaces_denied;
        self.cut_short += other.cut_short;
        self.processes_gone += other.processes_gone;
        self.processes_denied += other.processes_denied;
        self.add_denied(&other.denied);
    }

    /// Adds processes that could not be read, skipping duplicates.
    pub fn add_denied(&mut self, denied: &Denied) {
        denied.pids.iter().filter(|pid| **pid != 0).for_each(|pid| self.denied.add(*pid, denied.errno));
    }
}
