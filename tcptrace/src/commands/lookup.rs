//! What filter expressions can ask about the holders of listed sockets.

use crate::{
    model::{
        filter::{Lookup, Party, Text},
        keyed::KeyedMap,
    },
    sys::{
        places::{self, Places},
        processes,
    },
};

/// Finds the texts of processes that run now.
pub(super) struct HolderLookup<'a> {
    /// The path of the cgroup of a process.
    pub(super) cgroup: &'a dyn Fn(u32) -> Option<String>,
    /// Names of network namespaces by inode number.
    pub(super) netns: &'a KeyedMap<u32, &'a str>,
    /// Where processes run, once that is asked.
    places: Option<Places>,
}

impl<'a> HolderLookup<'a> {
    pub(super) fn new(cgroup: &'a dyn Fn(u32) -> Option<String>, netns: &'a KeyedMap<u32, &'a str>) -> Self {
        Self { cgroup, netns, places: None }
    }
}

impl Lookup for HolderLookup<'_> {
    fn any_text(&mut self, text: Text, process: &Party, is_it: &mut dyn FnMut(&str) -> bool) -> Option<bool> {
        match text {
            Text::Exe => {
                let (names, ()) = processes::read((process.pid, process.start), false, |_| ())?;
                names.executable(process.command?).map(is_it)
            }
            Text::Cgroup => (self.cgroup)(process.pid).map(|path| is_it(&path)),
            Text::Unit | Text::Container | Text::Pod => {
                let path = (self.cgroup)(process.pid)?;
                let place = self
                    .places
                    .get_or_insert_with(|| Places::new(&places::host_root(None)))
                    .of_cgroup(&path, Some(process.pid));
                Some(place.any_name(text, is_it))
            }
            Text::Comm | Text::User => None,
        }
    }

    fn netns_name(&self, inode: u32) -> Option<&str> {
        self.netns.get(&inode).copied()
    }
}
