//! Applies the filter in user space. With findings, the BPF programs send all events of the selected network
//! namespaces, the table keeps all sockets, and the filter is applied here; otherwise the BPF programs have already
//! applied it.

use rustc_hash::{FxHashMap, FxHashSet};
use tcptrace_common::record::socket_flag;

use crate::{
    model::{
        event::{Event, EventKind, OwnerSource},
        filter::{End, EventSubject, Expr, Filter, FilterNames, NoLookup, Test},
        holders::Holder,
        names::Names,
        socket_filter::{SocketFilter, begins_without_port},
        state::State,
    },
    pipeline::{held::is_undecided, settings::SessionSettings},
    table::Connection,
};

/// Maximum number of events that wait for their port.
const MAX_WAITING: usize = 65_536;
/// Maximum number of remembered connections of selected services.
const MAX_SERVED: usize = 1 << 20;

/// The filter, if user space applies it.
#[derive(Debug, Default)]
pub(super) struct UserFilter {
    filter: SocketFilter,
    /// The same filter without its owner criteria.
    any_owner: SocketFilter,
    /// What must be true besides, which only user space can decide.
    rest: Option<Expr>,
    /// True if `rest` depends on the local port.
    rest_has_port: bool,
    /// Cookies of connections accepted through a listener of a process selected by PID: everything its service does is
    /// reported, even if another process handles the connection (`owner_match::SERVED` of the BPF programs).
    served: FxHashSet<u64>,
    /// Events that wait until their local port is bound, by socket.
    waiting: FxHashMap<u64, Event>,
}

impl UserFilter {
    pub(super) fn new(settings: &SessionSettings) -> Self {
        let (states, selection) = (settings.states, &settings.selection);
        let filter = if settings.unfiltered {
            SocketFilter { states, ..selection.clone() }
        } else if settings.findings.is_some() {
            // The BPF programs and the listings are already limited to the network namespace.
            SocketFilter { states, netns: None, ..selection.clone() }
        } else if settings.owner_unchecked {
            let (pids, cgroups) = (selection.pids.clone(), selection.cgroups.clone());
            SocketFilter { states, pids, cgroups, ..SocketFilter::default() }
        } else {
            // The BPF programs pass what only the decoder can decide.
            SocketFilter { states, ..SocketFilter::default() }
        };
        Self::from_parts(filter, settings.rest.clone())
    }

    /// The filter that an expression is, where nothing else has filtered.
    pub(super) fn of(expr: &Expr) -> Self {
        let Filter { sockets, rest, netns, .. } = expr.lower();
        // A name of a namespace is not looked up here; the expression knows how to.
        let netns = netns.map(|id| Expr::Test(Test::Netns(vec![id])));
        let rest = (rest.is_some() || netns.is_some()).then(|| Expr::all(netns.into_iter().chain(rest)));
        Self::from_parts(sockets, rest)
    }

    fn from_parts(filter: SocketFilter, rest: Option<Expr>) -> Self {
        let any_owner = SocketFilter { pids: Vec::new(), cgroups: Vec::new(), ..filter.clone() };
        let is_port = |test: &Test| matches!(test, Test::Port(end, _) | Test::Endpoint(end, _) if *end != End::Remote);
        let rest_has_port = rest.as_ref().is_some_and(|rest| rest.mentions(is_port));
        Self { filter, any_owner, rest, rest_has_port, ..Self::default() }
    }

    /// True if there is a filter.
    pub(super) fn is_active(&self) -> bool {
        self.filter != SocketFilter::default() || self.rest.is_some()
    }

    /// Processes an event with the owner that the BPF programs know.
    pub(super) fn ingest(&mut self, event: &Event) {
        let (Some(owner), Some(cookie)) = (&event.owner, event.socket.cookie) else { return };
        let is_listeners = matches!(owner.source, OwnerSource::Listener | OwnerSource::Shared);
        if is_listeners && self.filter.pids.contains(&owner.pid) && self.served.len() < MAX_SERVED {
            self.served.insert(cookie);
        }
    }

    /// True if it depends on names of processes that are read from `/proc`.
    pub(super) fn needs_names(&self) -> bool {
        self.rest.as_ref().is_some_and(Expr::needs_names)
    }

    /// Whether an event cannot be decided yet, because a process is being read.
    pub(super) fn is_undecided(&self, event: &Event, names: &mut Names) -> bool {
        self.rest
            .as_ref()
            .is_some_and(|rest| self.selects(event, names) && is_undecided(rest, &EventSubject(event), names))
    }

    /// What the socket filter decides. The last event of a socket whose owner no longer matches is only for the table.
    fn selects(&self, event: &Event, names: &mut Names) -> bool {
        !event.socket.is(socket_flag::OWNER_LEFT)
            && self.filter_of(event.socket.cookie).matches_event(event, |id| names.cgroup(id).map(str::to_owned))
    }

    /// Whether the event matches the filter; `None` if that is unknown.
    pub(super) fn matches_event(&mut self, event: &Event, lookup: &mut FilterNames<'_>) -> Option<bool> {
        let is_selected = self.selects(event, lookup.names);
        let is_shown = match &self.rest {
            Some(rest) if is_selected => rest.eval(&EventSubject(event), lookup),
            _ => Some(is_selected),
        };
        if let (EventKind::Transition(transition), Some(cookie)) = (&event.what, event.socket.cookie)
            && transition.new == State::Close
        {
            self.served.remove(&cookie);
        }
        is_shown
    }

    /// True if the socket matches the filter at `now_ns`.
    pub(super) fn matches_socket(
        &self,
        known: &Connection,
        holders: &[Holder],
        lookup: &mut FilterNames<'_>,
        now_ns: u64,
    ) -> bool {
        self.filter_of(known.cookie()).matches_known(known, holders, |id| lookup.names.cgroup(id).map(str::to_owned))
            && self.rest.as_ref().is_none_or(|rest| rest.selects(&known.subject(holders, now_ns), lookup))
    }

    fn filter_of(&self, cookie: Option<u64>) -> &SocketFilter {
        if cookie.is_some_and(|cookie| self.served.contains(&cookie)) { &self.any_owner } else { &self.filter }
    }

    /// Holds back an event whose local port is not bound yet, if the filter depends on the port; returns true if it
    /// did.
    pub(super) fn hold_back(&mut self, event: &Event) -> bool {
        let Some(sk) = event.socket.sk else { return false };
        let rest_waits = || {
            let rest = self.rest.as_ref().filter(|_| self.rest_has_port && begins_without_port(event));
            rest.is_some_and(|rest| rest.eval(&EventSubject(event), &mut NoLookup).is_none())
        };
        let holds = (self.filter.waits_for_port(event) || rest_waits()) && self.waiting.len() < MAX_WAITING;
        if holds {
            self.waiting.insert(sk, event.clone());
        }
        holds
    }

    /// The event of the same socket that was held back, with the addresses known by now.
    pub(super) fn take_held(&mut self, event: &Event) -> Option<Event> {
        if self.waiting.is_empty() {
            return None;
        }
        let mut held = self.waiting.remove(&event.socket.sk?)?;
        // If the event of its end was lost, another socket may have its address now.
        let is_same = held.socket.cookie.zip(event.socket.cookie).is_none_or(|(held, now)| held == now);
        (held.socket.local, held.socket.remote) = (event.socket.local, event.socket.remote);
        is_same.then_some(held)
    }
}
