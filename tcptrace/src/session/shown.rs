//! What of a run is shown. Where trouble is looked for, the BPF programs send all events of the network namespaces that
//! are looked at, the table keeps all sockets, and the filter is applied here; else the BPF programs have applied it.

use rustc_hash::FxHashMap;
use tcptrace_common::record::socket_flag;

use super::SessionSettings;
use crate::{event::Event, render::Names, select::Selection, snapshot::Holder, table::Connection};

/// Events that wait for their ports at most.
const MAX_WAITING: usize = 65_536;

/// The filter, where it is applied in user space.
#[derive(Debug, Default)]
pub(super) struct Shown {
    filter: Selection,
    /// Events that wait until their local port is chosen, by socket.
    waiting: FxHashMap<u64, Event>,
}

impl Shown {
    pub(super) fn new(settings: &SessionSettings) -> Self {
        let (states, selection) = (settings.states, &settings.selection);
        let filter = if settings.findings.is_some() {
            // The network namespace is what the BPF programs and the listings are limited to.
            Selection { states, netns: None, ..selection.clone() }
        } else if settings.owner_unchecked {
            let (pids, cgroups) = (selection.pids.clone(), selection.cgroups.clone());
            Selection { states, pids, cgroups, ..Selection::default() }
        } else {
            // The BPF programs let pass what only the decoder can tell.
            Selection { states, ..Selection::default() }
        };
        Self { filter, waiting: FxHashMap::default() }
    }

    /// Is there a filter at all?
    pub(super) fn chooses(&self) -> bool {
        self.filter != Selection::default()
    }

    /// Is the event shown?
    pub(super) fn event(&self, event: &Event, names: &mut Names) -> bool {
        // The last event of a socket whose owner left the filter tells the table alone.
        !event.socket.is(socket_flag::OWNER_LEFT)
            && self.filter.matches_event(event, |id| names.cgroup(id).map(str::to_owned))
    }

    /// Is the socket shown?
    pub(super) fn socket(&self, known: &Connection, holders: &[Holder], names: &mut Names) -> bool {
        self.filter.matches_known(known, holders, |id| names.cgroup(id).map(str::to_owned))
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
