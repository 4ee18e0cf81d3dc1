//! Names for the numbers in events: processes, users, cgroups, network namespaces, ports, hosts, RST reasons.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use crate::model::{
    event::Owner,
    hosts::Hosts,
    keyed::Addresses,
    place::Place,
    processes::{KnownProcess, ProcessAnswer, ProcessQuestion, Processes},
};
use rustc_hash::FxHashMap;

/// Returns the path of a cgroup by its id.
pub type CgroupLookup = Box<dyn FnMut(u64) -> Option<String>>;

/// Names for the numbers in events.
pub struct Names {
    reset_reasons: HashMap<u32, String>,
    cgroups: FxHashMap<u64, Arc<Place>>,
    find_cgroup: CgroupLookup,
    /// Names of network namespaces by inode number; only those that have a name.
    pub netns: FxHashMap<u32, String>,
    /// Inode number of tcptrace's own network namespace.
    pub own_netns: Option<u32>,
    /// Processes that were read from `/proc`.
    pub processes: Processes,
    /// Names of users by UID.
    pub users: FxHashMap<u32, String>,
    /// Names of TCP ports.
    pub services: FxHashMap<u16, Box<str>>,
    /// Names of remote hosts.
    pub hosts: Hosts,
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
            processes: Processes::default(),
            users: FxHashMap::default(),
            services: FxHashMap::default(),
            hosts: Hosts::new(None),
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

    /// Number of cgroup paths in the cache.
    #[must_use]
    pub fn cgroups(&self) -> usize {
        self.cgroups.len()
    }

    /// The path of a cgroup. Ids that were not found are looked up again the next time.
    pub fn cgroup(&mut self, id: u64) -> Option<&str> {
        self.place_of_cgroup(id).map(|place| &*place.cgroup)
    }

    /// Where the processes of a cgroup run: as far as its path says, and with names once a process of it was read.
    pub fn place_of_cgroup(&mut self, id: u64) -> Option<&Place> {
        place_of_cgroup(&mut self.cgroups, &mut self.find_cgroup, id)
    }

    /// What is known about a process, and where it runs. Names of containers and pods are known only once it was read.
    pub fn of(&mut self, owner: &Owner) -> (Option<&KnownProcess>, Option<&Place>) {
        let known = self.processes.of(owner);
        let place = match known.and_then(|known| known.place.as_deref()) {
            Some(place) => Some(place),
            None => place_of_cgroup(&mut self.cgroups, &mut self.find_cgroup, owner.cgroup),
        };
        (known, place)
    }

    /// Takes what was read of a process.
    pub fn learn(&mut self, question: ProcessQuestion, answer: ProcessAnswer) {
        // It may have moved to another cgroup since the event, and v1 hierarchies have other paths.
        if let Some(place) = &answer.place
            && self.place_of_cgroup(question.cgroup).is_some_and(|known| known.cgroup == place.cgroup)
        {
            self.cgroups.insert(question.cgroup, Arc::clone(place));
        }
        self.processes.learn(question.id, answer);
    }
}

/// See [`Names::place_of_cgroup`].
fn place_of_cgroup<'a>(
    cgroups: &'a mut FxHashMap<u64, Arc<Place>>,
    find: &mut CgroupLookup,
    id: u64,
) -> Option<&'a Place> {
    if cgroups.len() >= MAX_CGROUPS {
        cgroups.clear();
    }
    match cgroups.entry(id) {
        Entry::Occupied(known) => Some(known.into_mut()),
        Entry::Vacant(room) => {
            let path = find(id)?;
            Some(room.insert(Arc::new(Place::from_cgroup(&path))))
        }
    }
}
