//! What a session does with listings and polls, and which ones it wants.

use std::{collections::HashMap, net::IpAddr};

use rustc_hash::FxHashSet;
use tcptrace_common::listener::{Listener, ListenerKey};

use super::{MAX_AWAITED, MAX_NAMESPACES, Session, joined};
use crate::{
    findings::Findings,
    model::{
        event::{Event, ProcessId},
        holders::Holder,
        names::Names,
        notice::{Gap, Notice},
        snapshot::Snapshot,
        socket::ListedSocket,
        socket_filter::SocketFilter,
        state::{State, StateSet},
    },
    pipeline::listeners,
};

impl Session {
    /// Marks the start of a listing, whose result goes to [`Session::reconcile`].
    pub fn begin_listing(&mut self) {
        self.table.begin_listing();
        self.healing = joined(self.healing.take(), self.gap.take());
    }

    /// The listing that began produced no result.
    pub fn abandon_listing(&mut self) {
        self.table.abandon_listing();
        self.gap = joined(self.healing.take(), self.gap.take());
    }

    /// Applies the listing of all states that began: the sockets that existed at the start, or after a gap, which it
    /// heals.
    pub fn reconcile(&mut self, snapshot: &Snapshot) {
        let mut events = Vec::new();
        let wanted = wanted(&self.settings.selection, &mut self.context.names);
        let reconciled = self.table.reconcile(snapshot, wanted, |event| events.push(event));
        if let Some(gap) = self.healing.take() {
            self.notice(&Notice::Gap(Gap { healed: Some((snapshot.ended_ns, reconciled)), ..gap }));
        }
        self.take_in_polled(snapshot, &events);
        self.routes.iter_mut().for_each(|route| route.listed(snapshot));
        if self.filters_by_names {
            self.apply_filter(snapshot.ended_ns); // asks for the names of the processes that were listed
        }
    }

    /// The listeners of a listing, for the BPF programs.
    pub fn listener_hints(&mut self, snapshot: &Snapshot) -> HashMap<ListenerKey, Listener> {
        let (selection, names) = (&self.settings.selection, &mut self.context.names);
        listeners::hints(snapshot, selection, |id| names.cgroup(id).map(str::to_owned))
    }

    /// Returns true if there was an event in a new namespace since the last call.
    pub fn take_new_namespace(&mut self) -> bool {
        if self.namespaces.len() > MAX_NAMESPACES {
            self.namespaces.clear();
        }
        std::mem::take(&mut self.has_new_namespace)
    }

    /// Namespaces with activity since the last call.
    pub fn take_active(&mut self) -> FxHashSet<u32> {
        self.last_netns = None;
        std::mem::take(&mut self.active)
    }

    /// States and namespaces (empty: all) to list with holders for more details about the suspects. The listener that a
    /// SYN goes to may be in any namespace.
    #[must_use]
    pub fn suspects(&self) -> (StateSet, FxHashSet<u32>) {
        let states: StateSet = self.table.suspects().map(|known| known.state).chain([State::Listen]).collect();
        let namespaces = if states.contains(State::SynSent) {
            FxHashSet::default()
        } else {
            self.table.suspects().filter_map(|known| known.netns()).collect()
        };
        (states, namespaces)
    }

    /// The processes that connections wait for, if their holders were listed.
    #[must_use]
    pub fn awaited_processes(&self) -> Vec<ProcessId> {
        if !self.has_findings() {
            return Vec::new();
        }
        let holders = self.table.awaited().filter_map(|known| self.table.holders_of(known)).flatten();
        let processes: FxHashSet<_> = holders.map(Holder::id).take(MAX_AWAITED).collect();
        processes.into_iter().collect()
    }

    /// Destinations that connections have just failed to reach: perhaps a neighbour does not answer.
    #[must_use]
    pub fn unreachable(&self) -> Vec<(u32, IpAddr)> {
        self.findings.as_ref().map_or_else(Vec::new, Findings::unreachable)
    }

    /// Applies the listing of suspects.
    pub fn update_suspects(&mut self, snapshot: &Snapshot) {
        self.table.update_listed(snapshot);
        self.take_in_polled(snapshot, &[]);
    }

    /// Whether a listing of listeners is due at `now_ns`, to determine the owners of connections that they accept.
    #[must_use]
    pub fn wants_listeners(&self, now_ns: u64) -> bool {
        self.table.wants_listeners(now_ns)
    }

    /// Applies the listing of listeners.
    pub fn update_listeners(&mut self, snapshot: &Snapshot) {
        self.table.update_listeners(snapshot);
        self.take_in_polled(snapshot, &[]);
    }

    /// Applies a listing of the sockets that have no events.
    pub fn poll(&mut self, snapshot: &Snapshot) {
        let mut events = Vec::new();
        let wanted = wanted(&self.settings.selection, &mut self.context.names);
        self.table.poll(snapshot, wanted, |event| events.push(event));
        self.take_in_polled(snapshot, &events);
    }

    pub(super) fn take_in_polled(&mut self, snapshot: &Snapshot, events: &[Event]) {
        self.losses.unlisted = self.losses.unlisted.max(snapshot.skipped.unseen());
        if snapshot.states.is_empty() {
            // The inode number of a deleted namespace may be reused.
            let visited = snapshot.namespaces.iter().map(|namespace| namespace.inode);
            self.namespaces = visited.chain(snapshot.left_alone.iter().copied()).collect();
            self.time_wait_overflows.retain(|inode, _| self.namespaces.contains(inode));
            self.context.names.netns.retain(|inode, _| self.namespaces.contains(inode));
            self.last_netns = None;
        }
        for namespace in &snapshot.namespaces {
            // The kernel reuses the inode number of a deleted namespace for the next one, which may have no name.
            match &namespace.name {
                Some(name) => _ = self.context.names.netns.insert(namespace.inode, name.clone()),
                None => _ = self.context.names.netns.remove(&namespace.inode),
            }
            let Some(now) = namespace.counters.map(|counters| counters.time_wait_overflows) else { continue };
            if let Some(before) = self.time_wait_overflows.insert(namespace.inode, now)
                && now > before
            {
                let (time_ns, netns, count) = (snapshot.ended_ns, namespace.inode, now - before);
                self.notice(&Notice::TimeWaitOverflow { time_ns, netns, count });
            }
        }
        if let Some(findings) = &mut self.findings {
            findings.listed(snapshot);
        }
        self.routes.iter_mut().for_each(|route| route.namespaces(snapshot));
        events.iter().for_each(|event| self.dispatch(event, None));
    }
}

/// Filter for listed sockets.
fn wanted<'a>(selection: &'a SocketFilter, names: &'a mut Names) -> impl FnMut(&ListedSocket, &[Holder]) -> bool + 'a {
    move |socket, holders| selection.matches(socket, holders, |_, cgroup| names.cgroup(cgroup?).map(str::to_owned))
}
