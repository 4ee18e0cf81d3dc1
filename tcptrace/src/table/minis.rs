//! What becomes of mini-sockets, of which there are no events: as listings and new connections with the same ends tell.

use super::{Table, mini_key};
use crate::{
    model::{
        age::{AgeSource, TIME_WAIT_NS},
        close_reason::CloseReason,
        event::{Event, EventKind, Socket, StateSource, TimeInState, TimeSource, Transition},
        state::State,
    },
    table::connection::Connection,
};

/// When a mini-socket left its state.
struct Left {
    /// CLOCK_MONOTONIC for the event, in ns.
    time_ns: u64,
    /// CLOCK_MONOTONIC up to which the time in the state counts, in ns.
    end_ns: u64,
    /// How that is known.
    source: TimeSource,
}

impl Table {
    /// To be called before [`Table::ingest`]: what a new connection tells of the mini-socket with the same ends, which made
    /// room for it. The kernel ends TIME_WAIT for a SYN that comes in (`net/ipv4/tcp_ipv4.c`, `tcp_v4_rcv`, TCP_TW_SYN),
    /// and for a `connect` that takes the port again (`net/ipv4/inet_hashtables.c`, `__inet_check_established`).
    pub fn take_over(&mut self, event: &Event) -> Vec<Event> {
        let EventKind::Transition(transition) = event.what else { return Vec::new() };
        let socket = &event.socket;
        let has_begun = matches!(transition.old, State::SynSent | State::SynRecv);
        if self.minis.len() == 0 || !has_begun && transition.source != StateSource::Inferred {
            return Vec::new();
        }
        let key = mini_key(socket.netns, socket.local, socket.remote);
        let is_other = |mini: &&Connection| {
            let cookies = mini.cookie().zip(socket.cookie);
            let has_ends = (mini.local(), mini.remote()) == (socket.local, socket.remote);
            has_ends && mini.since_ns <= event.time_ns && cookies.map_or(has_begun, |(mini, new)| mini != new)
        };
        let Some(mini) = self.minis.get(key).filter(is_other) else { return Vec::new() };
        // The SYN came, or was sent, when the state began that is left now.
        let began = transition.time_in_old.filter(|_| has_begun).map(|time| (event.time_ns - time.ns, time.source));
        let began = began.filter(|(_, source)| matches!(source, TimeSource::Observed | TimeSource::Handshake));
        let (end_ns, is_exact) = began.map_or((event.time_ns, false), |(began_ns, _)| (began_ns, true));
        let left = |source| Left { time_ns: end_ns, end_ns, source };
        let polled = left(TimeSource::Polled);
        let told = match mini.state {
            // The kernel lets nobody have the place of an orphan in FIN_WAIT2: its TIME_WAIT came and went.
            State::FinWait2 => {
                let mut over = of(mini, State::Close, StateSource::Inferred, None, &polled, None);
                over.socket.state = State::TimeWait;
                if let EventKind::Transition(transition) = &mut over.what {
                    (transition.old, transition.time_in_old) = (State::TimeWait, None);
                }
                let ending = Some(CloseReason::Normal);
                vec![of(mini, State::TimeWait, StateSource::Inferred, ending, &polled, None), over]
            }
            _ => {
                let source = match mini.since {
                    AgeSource::Timer => TimeSource::Timer,
                    AgeSource::Observed | AgeSource::LowerBound => TimeSource::Observed,
                };
                let left = if is_exact { left(source) } else { polled };
                vec![of(mini, State::Close, StateSource::Inferred, None, &left, None)]
            }
        };
        self.minis.remove(key);
        told
    }
}

/// An orphan's mini-socket went from FIN_WAIT2 to TIME_WAIT: since `began_ns`, where its timer tells, and else since the
/// poll before.
pub(super) fn began_time_wait(mini: &Connection, began_ns: Option<u64>, expires_ns: Option<u64>, now_ns: u64) -> Event {
    let began_ns = began_ns.map(|began_ns| began_ns.clamp(mini.since_ns, now_ns));
    let time_ns = began_ns.unwrap_or(now_ns);
    let source = if began_ns.is_some() { TimeSource::Timer } else { TimeSource::Polled };
    let left = Left { time_ns, end_ns: time_ns, source };
    let left_ns = expires_ns.map(|end_ns| end_ns.saturating_sub(time_ns));
    of(mini, State::TimeWait, StateSource::Polled, Some(CloseReason::Normal), &left, left_ns)
}

/// A mini-socket is gone, since the poll that began at `polled_from_ns`.
pub(super) fn is_gone(mini: &Connection, polled_from_ns: u64, now_ns: u64) -> Event {
    let seen_ns = mini.since_ns.max(polled_from_ns);
    // Had the peer closed meanwhile, TIME_WAIT would have begun, and not be over.
    let certain = now_ns < seen_ns.saturating_add(TIME_WAIT_NS);
    let ran_out_ns = mini.expires_ns().filter(|end_ns| certain && *end_ns <= now_ns);
    let ending = match mini.state {
        State::FinWait2 => Some(if ran_out_ns.is_some() { CloseReason::PeerNeverClosed } else { CloseReason::Unknown }),
        _ => None, // told of when TIME_WAIT began
    };
    // The kernel's timers are never early, and late by an eighth at most (`kernel/time/timer.c`).
    let latest_ns = mini.expires_ns().map_or(now_ns, |end_ns| now_ns.min(end_ns.saturating_add(TIME_WAIT_NS / 8)));
    let (end_ns, source) = match mini.since {
        AgeSource::LowerBound => (ran_out_ns.unwrap_or(seen_ns), TimeSource::LowerBound),
        AgeSource::Observed | AgeSource::Timer => (latest_ns, TimeSource::Polled),
    };
    of(mini, State::Close, StateSource::Polled, ending, &Left { time_ns: now_ns, end_ns, source }, None)
}

fn of(
    mini: &Connection,
    new: State,
    source: StateSource,
    ending: Option<CloseReason>,
    left: &Left,
    expires_in_ns: Option<u64>,
) -> Event {
    let time_source = if mini.since == AgeSource::LowerBound { TimeSource::LowerBound } else { left.source };
    let time = TimeInState { ns: left.end_ns.saturating_sub(mini.since_ns), source: time_source };
    Event {
        owner: mini.owner(),
        ..Event::new(
            left.time_ns,
            Socket {
                sk: None,
                cookie: mini.cookie(),
                netns: mini.netns(),
                ipv6: mini.is_ipv6(),
                state: mini.state,
                local: mini.local(),
                remote: mini.remote(),
                flags: 0,
            },
            EventKind::Transition(Transition {
                source,
                time_in_old: Some(time),
                ending,
                expires_in_ns,
                ..Transition::new(mini.state, new)
            }),
        )
    }
}
