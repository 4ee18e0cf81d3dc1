//! Applies the filter to sockets of the table.

use crate::{
    model::{holders::Holder, socket_filter::SocketFilter},
    table::connection::Connection,
};

impl SocketFilter {
    /// True if a socket of the table with these holders matches. `cgroup_of` returns the path of the cgroup with an id.
    pub fn matches_known<Path: AsRef<str>>(
        &self,
        known: &Connection,
        holders: &[Holder],
        mut cgroup_of: impl FnMut(u64) -> Option<Path>,
    ) -> bool {
        let owner = || known.owner().into_iter().map(|owner| (owner.pid, Some(owner.cgroup)));
        let processes = || holders.iter().map(|holder| (holder.pid, holder.cgroup)).chain(owner());
        let mut is_below = |id: u64| cgroup_of(id).is_some_and(|path| self.has_cgroup(path.as_ref()));
        (self.states.is_empty() || self.states.contains(known.state))
            && self.netns.is_none_or(|netns| Some(netns) == known.netns())
            && self.ends_match(known.local(), known.remote())
            && (self.pids.is_empty() || processes().any(|(pid, _)| self.pids.contains(&pid)))
            && (self.cgroups.is_empty() || processes().filter_map(|(_, cgroup)| cgroup).any(&mut is_below))
    }
}
