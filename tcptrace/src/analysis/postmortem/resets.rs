//! RSTs by sender.

use tcptrace_common::record::socket_flag;

use crate::model::{
    event::{Command, Event, EventKind},
    keyed::KeyedMap,
    state::State,
};

/// Most senders that are counted separately.
const MAX_SENDERS: usize = 1_000;

/// What made this host send a RST.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResetOrigin {
    /// A process, by an operation on the socket.
    Process,
    /// The kernel for a socket, in answer to a segment.
    Socket,
    /// The kernel, for a listener.
    Listener,
    /// The kernel, for a mini-socket in TIME_WAIT or FIN_WAIT2.
    TimeWait,
    /// The kernel, because there was no socket.
    NoSocket,
}

/// What made this host send a RST, and for which process, if it is known.
pub type Sender = (ResetOrigin, Option<(u32, Command)>);

/// Counts of RSTs that this host sent.
#[derive(Debug, Default)]
pub struct Resets {
    counts: KeyedMap<Sender, u64>,
    /// Number of RSTs whose senders had no room.
    pub others: u64,
}

impl Resets {
    pub(super) fn event(&mut self, event: &Event) {
        let EventKind::ResetSent { .. } = event.what else { return };
        let origin = match (event.socket.is_from_packet(), event.socket.state) {
            (true, State::Listen) => ResetOrigin::Listener,
            (true, State::TimeWait) => ResetOrigin::TimeWait,
            (true, _) => ResetOrigin::NoSocket,
            (false, _) if event.socket.is(socket_flag::OWNED) => ResetOrigin::Process,
            (false, _) => ResetOrigin::Socket,
        };
        let owner = event.owner.map(|owner| (owner.pid, owner.command));
        let owner = owner.filter(|_| !matches!(origin, ResetOrigin::TimeWait | ResetOrigin::NoSocket));
        let key = (origin, owner);
        if self.counts.len() < MAX_SENDERS || self.counts.contains_key(&key) {
            *self.counts.entry(key).or_default() += 1;
        } else {
            self.others += 1;
        }
    }

    /// Senders with the number of their RSTs, the most first.
    #[must_use]
    pub fn most(&self) -> Vec<(Sender, u64)> {
        let mut all: Vec<_> = self.counts.iter().map(|(&sender, &count)| (sender, count)).collect();
        all.sort_by_key(|&(sender, count)| (std::cmp::Reverse(count), sender));
        all
    }
}
