//! Records that wait until the processes that they name, or that decide about them, are read.

use std::collections::VecDeque;

use crate::{
    findings::Finding,
    model::{
        event::{Event, Owner},
        filter::{Expr, FilterNames, Subject},
        names::Names,
        time::WallOffset,
    },
    render::context::Context,
    table::Connection,
};

/// Most records of a route, and of a session, that wait for names of processes.
const MAX_HELD: usize = 4096;

/// Most records that are released before events are read again. A number, because output that waits to be taken is not the
/// same in a replay: what is written may not depend on it.
pub(super) const RELEASED_AT_ONCE: usize = 256;

/// Records that wait, in order.
pub(super) struct Held<T>(VecDeque<(u64, WallOffset, T)>);

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

pub(super) enum HeldRecord {
    Event(Box<Event>),
    Finding(Box<Finding>),
}

/// What waits in a session, because a filter cannot decide about it yet.
pub(super) enum Undecided {
    /// An event, and the table's entry of the socket that ended with it.
    Event(Box<Event>, Option<Box<Connection>>),
    /// A finding.
    Finding(Box<Finding>),
}

impl HeldRecord {
    pub(super) fn owners(&self) -> impl Iterator<Item = &Owner> {
        let (owner, peer) = match self {
            Self::Event(event) => (event.owner.as_ref(), event.peer.as_ref().map(|peer| &peer.owner)),
            Self::Finding(finding) => (finding.detection.owner.as_ref(), None),
        };
        owner.into_iter().chain(peer)
    }
}

impl<T> Held<T> {
    pub(super) fn add(&mut self, context: &Context, record: T) {
        self.0.push_back((context.now_ns, context.wall, record));
    }

    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= MAX_HELD
    }

    pub(super) fn first(&self) -> Option<(u64, &T)> {
        self.0.front().map(|(held_ns, _, record)| (*held_ns, record))
    }

    /// The first one, with the time since when it waits.
    pub(super) fn take_first(&mut self) -> Option<(u64, WallOffset, T)> {
        self.0.pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Whether none of these processes is being read. Those that nobody asked for are asked for.
pub(super) fn settled<'a>(owners: impl Iterator<Item = &'a Owner>, context: &mut Context) -> bool {
    // All are asked for at once.
    owners.filter(|owner| !context.names.processes.is_settled(owner)).count() == 0
}

/// Whether this cannot be decided yet, because a process is being read.
pub(super) fn is_undecided(filter: &Expr, subject: &dyn Subject, names: &mut Names) -> bool {
    let mut lookup = FilterNames::new(names);
    filter.eval(subject, &mut lookup).is_none() && lookup.waits
}
