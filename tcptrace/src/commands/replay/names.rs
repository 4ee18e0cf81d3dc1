//! The names in a recording: what the session looks up, it finds here as it found it then.

use std::{cell::RefCell, rc::Rc};

use crate::{
    model::{
        event::{Command, StartTicks},
        keyed::{Addresses, KeyedMap},
        names::Names,
    },
    pipeline::recording::header::Header,
};

/// Most names of cgroups, and of executables, that are kept.
const MAX_KNOWN: usize = 1 << 20;

/// The names read so far.
#[derive(Debug, Default)]
pub(super) struct Known {
    cgroups: KeyedMap<u64, Option<String>>,
    executables: KeyedMap<(u32, Option<StartTicks>, Command), Option<String>>,
}

impl Known {
    pub(super) fn add_cgroup(&mut self, id: u64, path: Option<String>) {
        if self.cgroups.len() < MAX_KNOWN || self.cgroups.contains_key(&id) {
            self.cgroups.insert(id, path);
        }
    }

    pub(super) fn add_executable(&mut self, process: (u32, Option<StartTicks>, Command), path: Option<String>) {
        if self.executables.len() < MAX_KNOWN || self.executables.contains_key(&process) {
            self.executables.insert(process, path);
        }
    }

    pub(super) fn cgroup(&self, id: u64) -> Option<String> {
        self.cgroups.get(&id)?.clone()
    }
}

/// Names that come from `known` alone.
pub(super) fn names(header: &Header, known: &Rc<RefCell<Known>>) -> Names {
    let (cgroups, executables) = (Rc::clone(known), Rc::clone(known));
    let find_cgroup = move |id| cgroups.borrow().cgroup(id);
    let mut names = Names::new(header.reset_reasons.iter().cloned().collect(), Box::new(find_cgroup));
    names.find_executable = Some(Box::new(move |(pid, start), command| {
        executables.borrow().executables.get(&(pid, start, command))?.clone()
    }));
    names.own_netns = header.own_netns;
    names.addresses = Addresses::Raw; // hidden by the recorder
    names
}
