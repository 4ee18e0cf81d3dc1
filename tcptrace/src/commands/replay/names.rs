//! The names in a recording: what the session looks up, it finds here as it found it then.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use crate::{
    model::{
        event::ProcessId,
        hosts::Hosts,
        keyed::{Addresses, KeyedMap},
        names::Names,
        processes::{ProcessQuestion, ProcessSource},
    },
    pipeline::recording::header::Header,
};

/// Most names of cgroups that are kept.
const MAX_KNOWN: usize = 1 << 20;

/// The names read so far.
#[derive(Debug, Default)]
pub(super) struct Known {
    cgroups: KeyedMap<u64, Option<String>>,
    /// How often questions for a process are refused until the next input.
    refused: HashMap<ProcessId, u32>,
}

impl Known {
    pub(super) fn add_cgroup(&mut self, id: u64, path: Option<String>) {
        if self.cgroups.len() < MAX_KNOWN || self.cgroups.contains_key(&id) {
            self.cgroups.insert(id, path);
        }
    }

    pub(super) fn cgroup(&self, id: u64) -> Option<String> {
        self.cgroups.get(&id)?.clone()
    }

    /// The next question for this process is refused.
    pub(super) fn refuse(&mut self, process: ProcessId) {
        *self.refused.entry(process).or_default() += 1;
    }

    /// An input was taken: what was refused with it is over.
    pub(super) fn input_taken(&mut self) {
        self.refused.clear();
    }

    fn takes_question(&mut self, process: ProcessId) -> bool {
        match self.refused.get_mut(&process) {
            Some(times @ 1..) => {
                *times -= 1;
                false
            }
            _ => true,
        }
    }
}

/// Names that come from `known` and from inputs alone; names of hosts if `resolve`.
pub(super) fn names(header: &Header, known: &Rc<RefCell<Known>>, resolve: bool) -> Names {
    let (cgroups, questions) = (Rc::clone(known), Rc::clone(known));
    let find_cgroup = move |id| cgroups.borrow().cgroup(id);
    let mut names = Names::new(header.reset_reasons.iter().cloned().collect(), Box::new(find_cgroup));
    let ask = move |question: ProcessQuestion| questions.borrow_mut().takes_question(question.id);
    names.processes.set_source(ProcessSource::Later(Box::new(ask)));
    if resolve {
        names.hosts = Hosts::new(Some(Box::new(|_| true)));
    }
    names.own_netns = header.own_netns;
    names.addresses = Addresses::Raw; // hidden by the recorder
    names
}
