//! Names of what events hold as numbers: cgroups, network namespaces, reasons of RSTs, executables.

use std::collections::{HashMap, hash_map::Entry};

use rustc_hash::FxHashMap;

use crate::model::{
    event::{Command, Owner, ProcessId},
    keyed::Addresses,
};

/// Finds the path of a cgroup by its id.
pub type CgroupLookup = Box<dyn FnMut(u64) -> Option<String>>;

/// Finds the path of the executable of a process.
pub type ExecutableLookup = Box<dyn FnMut(ProcessId, Command) -> Option<String>>;

/// Names of things that events hold as numbers.
pub struct Names {
    reset_reasons: HashMap<u32, String>,
    cgroups: FxHashMap<u64, String>,
    find_cgroup: CgroupLookup,
    /// Names of network namespaces by inode number, as far as they have some.
    pub netns: FxHashMap<u32, String>,
    /// Inode number of tcptrace's own network namespace.
    pub own_netns: Option<u32>,
    /// Finds the executable of a process.
    pub find_executable: Option<ExecutableLookup>,
    /// What stands for addresses of the kernel.
    pub addresses: Addresses,
}

/// Cgroups whose paths are remembered.
const MAX_CGROUPS: usize = 10_000;

impl Names {
    /// Names of reasons of RSTs by the kernel's number, and a way to find cgroups.
    #[must_use]
    pub fn new(reset_reasons: HashMap<u32, String>, find_cgroup: CgroupLookup) -> Self {
        Self {
            reset_reasons,
            cgroups: FxHashMap::default(),
            find_cgroup,
            netns: FxHashMap::default(),
            own_netns: None,
            find_executable: None,
            addresses: Addresses::new(false),
        }
    }

    /// The name of a RST's reason, in the kernel's words and lower case.
    #[must_use]
    pub fn reset_reason(&self, code: u32) -> Option<&str> {
        self.reset_reasons.get(&code).map(String::as_str)
    }

    /// The path of the executable of a process, if it can be found.
    pub fn executable(&mut self, owner: &Owner) -> Option<String> {
        self.find_executable.as_mut()?(owner.id(), owner.command)
    }

    /// How many paths of cgroups are remembered.
    #[must_use]
    pub fn cgroups(&self) -> usize {
        self.cgroups.len()
    }

    /// The path of a cgroup, looked up until it is found.
    pub fn cgroup(&mut self, id: u64) -> Option<&str> {
        if self.cgroups.len() >= MAX_CGROUPS {
            self.cgroups.clear();
        }
        match self.cgroups.entry(id) {
            Entry::Occupied(known) => Some(known.into_mut()),
            Entry::Vacant(place) => Some(place.insert((self.find_cgroup)(id)?)),
        }
    }
}
