//! Names for the numbers in events: cgroups, network namespaces, RST reasons, executables.

use std::collections::{HashMap, hash_map::Entry};

use rustc_hash::FxHashMap;

use crate::model::{
    event::{Command, Owner, ProcessId},
    keyed::Addresses,
};

/// Returns the path of a cgroup by its id.
pub type CgroupLookup = Box<dyn FnMut(u64) -> Option<String>>;

/// Returns the path of the executable of a process.
pub type ExecutableLookup = Box<dyn FnMut(ProcessId, Command) -> Option<String>>;

/// Names for the numbers in events.
pub struct Names {
    reset_reasons: HashMap<u32, String>,
    cgroups: FxHashMap<u64, String>,
    find_cgroup: CgroupLookup,
    /// Names of network namespaces by inode number; only those that have a name.
    pub netns: FxHashMap<u32, String>,
    /// Inode number of tcptrace's own network namespace.
    pub own_netns: Option<u32>,
    /// Finds the executable of a process; `None` if executables are not looked up.
    pub find_executable: Option<ExecutableLookup>,
    /// How kernel addresses appear in output.
    pub addresses: Addresses,
}

/// Maximum number of cgroup paths in the cache.
const MAX_CGROUPS: usize = 10_000;

impl Names {
    /// Takes the names of RST reasons by the kernel's number, and the lookup for cgroups.
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

    /// Name of a RST reason: the kernel's name in lower case.
    #[must_use]
    pub fn reset_reason(&self, code: u32) -> Option<&str> {
        self.reset_reasons.get(&code).map(String::as_str)
    }

    /// The names of all RST reasons.
    pub fn reset_reasons(&self) -> impl Iterator<Item = (u32, &str)> {
        self.reset_reasons.iter().map(|(code, name)| (*code, name.as_str()))
    }

    /// The path of the executable of a process, if it can be found.
    pub fn executable(&mut self, owner: &Owner) -> Option<String> {
        self.find_executable.as_mut()?(owner.id(), owner.command)
    }

    /// Number of cgroup paths in the cache.
    #[must_use]
    pub fn cgroups(&self) -> usize {
        self.cgroups.len()
    }

    /// The path of a cgroup. Ids that were not found are looked up again the next time.
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
