//! Events and listed sockets as subjects of expressions, and the texts that [`Names`] can find.

use std::net::SocketAddr;

use super::{
    eval::{Known, Lookup, Party, Subject},
    expr::{Expr, Test},
    fields::{EventName, Number, Text},
};
use crate::model::{
    age::{Age, AgeSource},
    event::{Event, EventKind, MAX_CANDIDATES, Owner, OwnerSource, Process, TimeSource},
    holders::Holder,
    names::Names,
    place::Place,
    processes::ProcessQuestion,
    socket::{ConnectionInfo, ListedSocket},
    state::{State, StateSet},
};

impl From<&Owner> for Party {
    fn from(owner: &Owner) -> Self {
        let cgroup = Some(owner.cgroup).filter(|id| *id != 0);
        Self { pid: owner.pid, start: owner.start, uid: Some(owner.uid), cgroup, command: Some(owner.command) }
    }
}

impl From<&Process> for Party {
    fn from(process: &Process) -> Self {
        let cgroup = Some(process.cgroup).filter(|id| *id != 0);
        Self { pid: process.pid, start: process.start, uid: Some(process.uid), cgroup, command: Some(process.command) }
    }
}

impl From<&Holder> for Party {
    fn from(holder: &Holder) -> Self {
        let Holder { pid, start, uid, cgroup, command, .. } = *holder;
        Self { pid, start, uid: Some(uid), cgroup, command: Some(command) }
    }
}

/// Whether `test` is true of one of these; if not, unknown where it is unknown of one, or where there may be more.
fn any_of(
    parties: impl Iterator<Item = Party>,
    is_complete: bool,
    test: &mut dyn FnMut(&Party) -> Option<bool>,
) -> Option<bool> {
    let mut all = is_complete.then_some(false);
    for party in parties {
        match test(&party) {
            Some(true) => return Some(true),
            result => all = all.and(result),
        }
    }
    all
}

impl From<Age> for Known {
    fn from(age: Age) -> Self {
        match age.source {
            AgeSource::Observed | AgeSource::Timer => Self::Exactly(age.ns),
            AgeSource::LowerBound => Self::AtLeast(age.ns),
        }
    }
}

impl Place {
    /// Whether `is_it` is true of one of the names of the unit, container or pod, in all the ways that a user may write it.
    pub(crate) fn any_name(&self, text: Text, is_it: &mut dyn FnMut(&str) -> bool) -> bool {
        let mut any = |names: &[Option<&str>]| names.iter().flatten().any(|name| is_it(name));
        match text {
            Text::Unit => any(&[self.unit_name()]),
            Text::Container => any(&[self.container_id(), self.short_container_id(), self.container_name()]),
            Text::Pod => {
                let full_name =
                    self.pod_namespace().zip(self.pod_name()).map(|(space, name)| format!("{space}/{name}"));
                any(&[self.pod_uid(), self.pod_name(), full_name.as_deref()])
            }
            Text::Comm | Text::Exe | Text::User | Text::Cgroup => false,
        }
    }
}

/// An event.
#[derive(Clone, Copy, Debug)]
pub struct EventSubject<'a>(pub &'a Event);

impl Subject for EventSubject<'_> {
    fn event(&self) -> EventName {
        match self.0.what {
            EventKind::Transition(_) => EventName::Transition,
            EventKind::Retransmit { .. } | EventKind::SynAckRetransmit { .. } => EventName::Retransmit,
            EventKind::ResetSent { .. } | EventKind::ResetReceived(_) => EventName::Reset,
            EventKind::OwnerChanged => EventName::Owner,
        }
    }

    fn states(&self) -> Option<StateSet> {
        Some(match self.change() {
            Some((old, new)) => [old, new].into_iter().collect(),
            None => [self.0.socket.state].into_iter().collect(),
        })
    }

    fn change(&self) -> Option<(State, State)> {
        match self.0.what {
            EventKind::Transition(transition) => Some((transition.old, transition.new)),
            _ => None,
        }
    }

    fn ends(&self) -> [Option<SocketAddr>; 2] {
        [Some(self.0.socket.local), Some(self.0.socket.remote)]
    }

    fn netns(&self) -> Option<u32> {
        self.0.socket.netns
    }

    fn number(&self, number: Number) -> Known {
        let of_srtt = |us: Option<u32>| us.map(|us| u64::from(us) * 1000);
        match (number, &self.0.what) {
            (Number::Cookie, _) => self.0.socket.cookie.into(),
            (Number::Age, EventKind::Transition(transition)) => match transition.time_in_old {
                Some(time) if time.source.is_measured() => Known::Exactly(time.ns),
                Some(time) if time.source != TimeSource::HandshakeUnreliable => Known::AtLeast(time.ns),
                _ => Known::Unknown,
            },
            (Number::ReceiveQueue, EventKind::Transition(transition)) => {
                Known::Exactly(transition.receive_queue.into())
            }
            (Number::SendQueue, EventKind::Transition(transition)) => Known::Exactly(transition.send_queue.into()),
            (Number::Retransmits, EventKind::Transition(transition)) => Known::Exactly(transition.total_retrans.into()),
            (Number::Rtt, EventKind::Transition(transition)) => of_srtt(transition.srtt_us).into(),
            (Number::Retransmits, EventKind::Retransmit(retransmit)) => Known::Exactly(retransmit.total_retrans.into()),
            (Number::Rtt, EventKind::Retransmit(retransmit)) => of_srtt(retransmit.srtt_us).into(),
            (
                Number::ReceiveQueue,
                EventKind::ResetSent { facts: Some(facts), .. } | EventKind::ResetReceived(Some(facts)),
            ) => Known::Exactly(facts.receive_queue.into()),
            (
                Number::SendQueue,
                EventKind::ResetSent { facts: Some(facts), .. } | EventKind::ResetReceived(Some(facts)),
            ) => Known::Exactly(facts.send_queue.into()),
            _ => Known::Unknown,
        }
    }

    fn any_process(&self, by_pid: bool, test: &mut dyn FnMut(&Party) -> Option<bool>) -> Option<bool> {
        let owner = self.0.owner.as_ref()?;
        let candidates = self.0.candidates.as_deref().unwrap_or_default();
        let is_shared = owner.source == OwnerSource::Shared;
        let is_complete = !is_shared || (1..MAX_CANDIDATES).contains(&candidates.len());
        let of_listener = |(pid, start)| Party { pid, start, uid: None, cgroup: None, command: None };
        let listener = self.0.listener.filter(|_| by_pid).map(of_listener);
        let parties = std::iter::once(owner.into()).chain(candidates.iter().map(Party::from)).chain(listener);
        any_of(parties, is_complete, test)
    }
}

/// What tables and listings know about a socket.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionFacts<'a> {
    /// Its state.
    pub state: State,
    /// The local and the remote end.
    pub ends: [SocketAddr; 2],
    /// Inode number of the network namespace, if known.
    pub netns: Option<u32>,
    /// Cookie, if known.
    pub cookie: Option<u64>,
    /// Time in its state.
    pub age: Known,
    /// Bytes received and not read, and bytes written and not acknowledged, if known.
    pub queues: Option<(u32, u32)>,
    /// Details of the connection, if known.
    pub connection: Option<ConnectionInfo>,
    /// The processes that hold it.
    pub holders: &'a [Holder],
    /// The owner, if known.
    pub owner: Option<Owner>,
    /// True if no other process can hold it.
    pub is_complete: bool,
}

/// A socket of a listing with its holders, at the end of the listing (CLOCK_MONOTONIC in ns). It is `is_complete` if no other
/// process can hold it.
#[derive(Clone, Copy, Debug)]
pub struct ListedSubject<'a> {
    /// The socket.
    pub socket: &'a ListedSocket,
    /// Its holders.
    pub holders: &'a [Holder],
    /// End of the listing.
    pub now_ns: u64,
    /// True if no other process can hold it.
    pub is_complete: bool,
}

impl<'a> From<ListedSubject<'a>> for ConnectionFacts<'a> {
    fn from(listed: ListedSubject<'a>) -> Self {
        let socket = listed.socket;
        Self {
            state: socket.state,
            ends: [socket.local, socket.remote],
            netns: Some(socket.netns),
            cookie: socket.cookie,
            age: socket.age(listed.now_ns).map_or(Known::Unknown, Known::from),
            queues: (!socket.is_unlisted).then_some((socket.receive_queue, socket.send_queue)),
            connection: socket.connection,
            holders: listed.holders,
            owner: socket.owner,
            is_complete: listed.is_complete,
        }
    }
}

impl Subject for ConnectionFacts<'_> {
    fn event(&self) -> EventName {
        EventName::Socket
    }

    fn states(&self) -> Option<StateSet> {
        Some([self.state].into_iter().collect())
    }

    fn ends(&self) -> [Option<SocketAddr>; 2] {
        self.ends.map(Some)
    }

    fn netns(&self) -> Option<u32> {
        self.netns
    }

    fn number(&self, number: Number) -> Known {
        let info = self.connection.as_ref();
        match number {
            Number::Age => self.age,
            Number::Cookie => self.cookie.into(),
            Number::ReceiveQueue => self.queues.map(|(receive, _)| receive.into()).into(),
            Number::SendQueue => self.queues.map(|(_, send)| send.into()).into(),
            Number::Retransmits => info.map(|info| info.total_retrans.into()).into(),
            Number::Rtt => info.and_then(|info| info.srtt_us).map(|us| u64::from(us) * 1000).into(),
            Number::Pid | Number::Uid => Known::Unknown,
        }
    }

    fn any_process(&self, _: bool, test: &mut dyn FnMut(&Party) -> Option<bool>) -> Option<bool> {
        let owner = self.owner.as_ref().map(Party::from);
        any_of(self.holders.iter().map(Party::from).chain(owner), self.is_complete, test)
    }
}

/// Processes are read elsewhere: one that is not read yet is asked for, and its texts are unknown until then.
impl Lookup for Names {
    fn any_text(&mut self, text: Text, process: &Party, is_it: &mut dyn FnMut(&str) -> bool) -> Option<bool> {
        match text {
            Text::Cgroup => self.cgroup(process.cgroup?).map(is_it),
            Text::Exe => {
                let command = process.command?;
                self.processes.of_process(process.question(), command)?.executable(command).map(is_it)
            }
            Text::Unit | Text::Container | Text::Pod => {
                let known = self.processes.of_process(process.question(), process.command?);
                if let Some(place) = known.and_then(|known| known.place.as_deref()) {
                    return Some(place.any_name(text, is_it));
                }
                let is_being_read = self.processes.is_being_read((process.pid, process.start));
                let place = self.place_of_cgroup(process.cgroup.filter(|_| !is_being_read)?)?;
                Some(place.any_name(text, is_it))
            }
            Text::Comm | Text::User => None,
        }
    }

    fn netns_name(&self, inode: u32) -> Option<&str> {
        self.netns.get(&inode).map(String::as_str)
    }
}

impl Party {
    fn question(&self) -> ProcessQuestion {
        ProcessQuestion { id: (self.pid, self.start), cgroup: self.cgroup.unwrap_or(0) }
    }
}

/// [`Names`], with what a decision lacked of them.
pub struct FilterNames<'a> {
    /// The names.
    pub names: &'a mut Names,
    /// True if the name of a process was asked for that was not known.
    pub lacks: bool,
    /// True if such a process is being read.
    pub waits: bool,
}

impl<'a> FilterNames<'a> {
    /// Nothing was asked for yet.
    pub const fn new(names: &'a mut Names) -> Self {
        Self { names, lacks: false, waits: false }
    }
}

impl Lookup for FilterNames<'_> {
    fn any_text(&mut self, text: Text, process: &Party, is_it: &mut dyn FnMut(&str) -> bool) -> Option<bool> {
        let known = self.names.any_text(text, process, is_it);
        if known.is_none() && text.is_read() {
            self.lacks = true;
            self.waits |= self.names.processes.is_being_read((process.pid, process.start));
        }
        known
    }

    fn netns_name(&self, inode: u32) -> Option<&str> {
        self.names.netns_name(inode)
    }
}

impl Expr {
    /// True if it depends on names of processes that are read from `/proc`.
    #[must_use]
    pub fn needs_names(&self) -> bool {
        self.mentions(|test| matches!(test, Test::Text(text, _) if text.is_read()))
    }
}
