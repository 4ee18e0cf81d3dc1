//! Applies the filter to sockets of the table.

use crate::{
    model::{
        age::Age,
        filter::{ConnectionFacts, Known},
        holders::Holder,
        socket_filter::SocketFilter,
    },
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

impl Connection {
    /// What filter expressions see of it at `now_ns`, CLOCK_MONOTONIC.
    #[must_use]
    pub fn subject<'a>(&self, holders: &'a [Holder], now_ns: u64) -> ConnectionFacts<'a> {
        let listed = self.facts().map(|facts| &facts.socket);
        let owner = self.owner();
        ConnectionFacts {
            state: self.state,
            ends: [self.local(), self.remote()],
            netns: self.netns(),
            cookie: self.cookie(),
            age: Known::from(Age { ns: now_ns.saturating_sub(self.since_ns), source: self.since }),
            queues: listed.map(|socket| (socket.receive_queue, socket.send_queue)),
            connection: listed.and_then(|socket| socket.connection),
            holders,
            owner,
            is_complete: !holders.is_empty() || owner.is_some() || self.orphan == Some(true),
        }
    }
}
