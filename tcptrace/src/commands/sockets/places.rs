//! What filter expressions can ask about the holders of listed sockets.

use std::sync::Arc;

use crate::{
    listing::holders::executable,
    model::{
        filter::{Lookup, Party, Text},
        keyed::KeyedMap,
        names::PlaceNames,
    },
    sys::cgroup::names::{CgroupNames, places},
};

/// Finds the texts of processes now.
pub(super) struct Places<'a> {
    /// The cgroup of a process.
    pub(super) cgroup: &'a dyn Fn(u32) -> Option<Arc<CgroupNames>>,
    /// Names of network namespaces by inode number.
    pub(super) netns: &'a KeyedMap<u32, &'a str>,
}

impl Lookup for Places<'_> {
    fn any_text(&mut self, text: Text, process: &Party, is_it: &mut dyn FnMut(&str) -> bool) -> Option<bool> {
        match text {
            Text::Exe => executable((process.pid, process.start), process.command?).map(|path| is_it(&path)),
            Text::Cgroup => (self.cgroup)(process.pid).map(|names| is_it(&names.path)),
            Text::Unit | Text::Container | Text::Pod => {
                let PlaceNames { units, containers, pods } = places(&(self.cgroup)(process.pid)?.path);
                let values = match text {
                    Text::Unit => units,
                    Text::Container => containers,
                    _ => pods,
                };
                Some(values.iter().any(|value| is_it(value)))
            }
            Text::Comm | Text::User => None,
        }
    }

    fn netns_name(&self, inode: u32) -> Option<&str> {
        self.netns.get(&inode).copied()
    }
}
