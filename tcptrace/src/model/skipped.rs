//! What a listing could not read.

/// What a listing could not look at. Nothing of this is fatal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Namespaces that went while they were being entered.
    pub namespaces_gone: u64,
    /// Namespaces that may not be entered (CAP_SYS_ADMIN is missing).
    pub namespaces_denied: u64,
    /// Answers of the kernel that were cut short, or could not be understood.
    pub cut_short: u64,
    /// Processes that ended while their files were being read.
    pub processes_gone: u64,
    /// Processes whose files may not be read (CAP_SYS_PTRACE is missing, mostly); all that hidepid does not even show are
    /// one.
    pub processes_denied: u64,
    /// Some of these.
    pub denied: Denied,
}

/// The first processes that could not be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Denied {
    /// Their PIDs; 0 where there are no more.
    pub pids: [u32; 3],
    /// Why the first of them was not read; 0 where there is none.
    pub errno: i32,
}

impl Denied {
    /// Adds one, if there is room.
    pub fn add(&mut self, pid: u32, errno: i32) {
        if let Some(place) = self.pids.iter_mut().find(|place| [0, pid].contains(*place)) {
            *place = pid;
            self.errno = if self.errno == 0 { errno } else { self.errno };
        }
    }
}

impl Skipped {
    /// Names and counts.
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

    /// How many of these may have had sockets. What is gone has none.
    #[must_use]
    pub const fn unseen(&self) -> u64 {
        self.namespaces_denied + self.cut_short
    }

    /// Adds what another part of the listing could not look at.
    pub fn add(&mut self, other: &Self) {
        self.namespaces_gone += other.namespaces_gone;
        self.namespaces_denied += other.namespaces_denied;
        self.cut_short += other.cut_short;
        self.processes_gone += other.processes_gone;
        self.processes_denied += other.processes_denied;
        self.add_denied(&other.denied);
    }

    /// Adds processes that could not be read, which may be known already.
    pub fn add_denied(&mut self, denied: &Denied) {
        denied.pids.iter().filter(|pid| **pid != 0).for_each(|pid| self.denied.add(*pid, denied.errno));
    }
}
