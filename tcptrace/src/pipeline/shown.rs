//! What of a run is shown. Where trouble is looked for, the BPF programs send all events of the network namespaces that
//! are looked at, the table keeps all sockets, and the filter is applied here; else the BPF programs have applied it.

use rustc_hash::{FxHashMap, FxHashSet};
use tcptrace_common::record::socket_flag;

use crate::{
    model::{
        event::{Event, EventKind, OwnerSource},
        holders::Holder,
        names::Names,
        socket_filter::SocketFilter,
        state::State,
    },
    pipeline::settings::SessionSettings,
    table::Connection,
};

/// Events that wait for their ports at most.
const MAX_WAITING: usize = 65_536;
/// Connections of wanted services that are remembered at most.
const MAX_SERVED: usize = 1 << 20;

/// The filter, where it is applied in user space.
#[derive(Debug, Default)]
pub(super) struct Shown {
    filter: SocketFilter,
    /// The same whoever the owner is.
    any_owner: SocketFilter,
    /// Connections, by cookie, that came to a listener of a process that is asked for by PID: all that its service does is
    /// shown, also where another process takes them (`owner_match::SERVED` of the BPF programs).
    served: FxHashSet<u64>,
    /// Events that wait until their local port is chosen, by socket.
    waiting: FxHashMap<u64, Event>,
}

impl Shown {
    pub(super) fn new(settings: &SessionSettings) -> Self {
        let (states, selection) = (settings.states, &settings.selection);
        let filter = if settings.findings.is_some() {
            // The network namespace is what the BPF programs and the listings are limited to.
            SocketFilter { states, netns: None, ..selection.clone() }
        } else if settings.owner_unchecked {
            let (pids, cgroups) = (selection.pids.clone(), selection.cgroups.clone());
            SocketFilter { states, pids, cgroups, ..SocketFilter::default() }
        } else {
            // The BPF programs let pass what only the decoder can tell.
            SocketFilter { states, ..SocketFilter::default() }
        };
        let any_owner = SocketFilter { pids: Vec::new(), cgroups: Vec::new(), ..filter.clone() };
        Self { filter, any_owner, ..Self::default() }
    }

    /// Is there a filter at all?
    pub(super) fn chooses(&self) -> bool {
        self.filter != SocketFilter::default()
    }

    /// Takes in an event with the owner that the BPF programs know.
    pub(super) fn ingest(&mut self, event: &Event) {
        let (Some(owner), Some(cookie)) = (&event.owner, event.socket.cookie) else { return };
        let is_listeners = matches!(owner.source, OwnerSource::Listener | OwnerSource::Shared);
        if is_listeners && self.filter.pids.contains(&owner.pid) && self.served.len() < MAX_SERVED {
            self.served.insert(cookie);
        }
    }

    /// Is the event shown?
    pub(super) fn event(&mut self, event: &Event, names: &mut Names) -> bool {
        // The last event of a socket whose owner left the filter tells the table alone.
        let is_shown = !event.socket.is(socket_flag::OWNER_LEFT)
            && self.filter_of(event.socket.cookie).matches_event(event, |id| names.cgroup(id).map(str::to_owned));
        if let (EventKind::Transition(transition), Some(cookie)) = (&event.what, event.socket.cookie)
            && transition.new == State::Close
        {
            self.served.remove(&cookie);
        }
        is_shown
    }

    /// Is the socket shown?
    pub(super) fn socket(&self, known: &Connection, holders: &[Holder], names: &mut Names) -> bool {
        self.filter_of(known.cookie()).matches_known(known, holders, |id| names.cgroup(id).map(str::to_owned))
    }

    fn filter_of(&self, cookie: Option<u64>) -> &SocketFilter {
        if cookie.is_some_and(|cookie| self.served.contains(&cookie)) { &self.any_owner } else { &self.filter }
    }

    /// Holds an event back whose local port is not known yet, and decides by it; gives whether it does.
    pub(super) fn holds_back(&mut self, event: &Event) -> bool {
        let Some(sk) = event.socket.sk else { return false };
        let holds = self.filter.waits_for_port(event) && self.waiting.len() < MAX_WAITING;
        if holds {
            self.waiting.insert(sk, event.clone());
        }
        holds
    }

    /// The event of the same socket that was held back, with the addresses that are known by now.
    pub(super) fn held_back(&mut self, event: &Event) -> Option<Event> {
        if self.waiting.is_empty() {
            return None;
        }
        let mut held = self.waiting.remove(&event.socket.sk?)?;
        // Another socket may have come to the place, where the event of this one's end was lost.
        let is_same = held.socket.cookie.zip(event.socket.cookie).is_none_or(|(held, now)| held == now);
        (held.socket.local, held.socket.remote) = (event.socket.local, event.socket.remote);
        is_same.then_some(held)
    }
}
