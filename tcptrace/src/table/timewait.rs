//! Transitions of timewait sockets. The kernel sends no events for them, so they are derived from listings, and from
//! new connections with the same address pair.
//!
//! A timewait socket (`struct tcp_timewait_sock`) replaces a full socket in TIME_WAIT, or in FIN_WAIT2 after its
//! process has closed it. For example, if one poll shows it and the next does not, it went to CLOSE in between, and the
//! event says that its time is polled.

use super::{Table, timewait_key};
use crate::{
    model::{
        age::{AgeSource, TIME_WAIT_NS},
        close_reason::CloseReason,
        event::{Event, EventKind, Peer, PeerSource, Socket, StateSource, TimeInState, TimeSource, Transition},
        state::State,
    },
    table::connection::Connection,
};

/// The end of a timewait socket's state.
struct StateEnd {
    /// CLOCK_MONOTONIC of the event, in ns.
    time_ns: u64,
    /// CLOCK_MONOTONIC up to which the time in the state counts, in ns.
    end_ns: u64,
    /// How the time was determined.
    source: TimeSource,
}

impl Table {
    /// Ends the timewait socket that a new connection with the same address pair has replaced; returns the events for
    /// that. Call it before [`Table::ingest`]. The kernel ends TIME_WAIT for an incoming SYN (`net/ipv4/tcp_ipv4.c`,
    /// `tcp_v4_rcv`, TCP_TW_SYN), and for a `connect` that reuses the port (`net/ipv4/inet_hashtables.c`,
    /// `__inet_check_established`).
    pub fn end_replaced(&mut self, event: &Event) -> Vec<Event> {
        let EventKind::Transition(transition) = event.what else { return Vec::new() };
        let socket = &event.socket;
        let has_begun = matches!(transition.old, State::SynSent | State::SynRecv);
        if self.timewait.len() == 0 || !has_begun && transition.source != StateSource::Inferred {
            return Vec::new();
        }
        let key = timewait_key(socket.netns, socket.local, socket.remote);
        let is_other = |timewait: &&Connection| {
            let cookies = timewait.cookie().zip(socket.cookie);
            let has_ends = (timewait.local(), timewait.remote()) == (socket.local, socket.remote);
            has_ends
                && timewait.since_ns <= event.time_ns
                && cookies.map_or(has_begun, |(timewait, new)| timewait != new)
        };
        let Some(timewait) = self.timewait.get(key).filter(is_other) else { return Vec::new() };
        // The SYN arrived, or was sent, when the state that is left now began.
        let began = transition.time_in_old.filter(|_| has_begun).map(|time| (event.time_ns - time.ns, time.source));
        let began = began.filter(|(_, source)| matches!(source, TimeSource::Observed | TimeSource::Handshake));
        let (end_ns, is_exact) = began.map_or((event.time_ns, false), |(began_ns, _)| (began_ns, true));
        let left = |source| StateEnd { time_ns: end_ns, end_ns, source };
        let polled = left(TimeSource::Polled);
        let events = match timewait.state {
            // The kernel does not let a new connection replace an orphan in FIN_WAIT2: its TIME_WAIT has come and gone.
            State::FinWait2 => {
                let mut over = transition_event(timewait, State::Close, StateSource::Inferred, None, &polled, None);
                over.socket.state = State::TimeWait;
                if let EventKind::Transition(transition) = &mut over.what {
                    (transition.old, transition.time_in_old) = (State::TimeWait, None);
                }
                let ending = Some(CloseReason::Normal);
                vec![transition_event(timewait, State::TimeWait, StateSource::Inferred, ending, &polled, None), over]
            }
            _ => {
                let source = match timewait.since {
                    AgeSource::Timer => TimeSource::Timer,
                    AgeSource::Observed | AgeSource::LowerBound => TimeSource::Observed,
                };
                let left = if is_exact { left(source) } else { polled };
                vec![transition_event(timewait, State::Close, StateSource::Inferred, None, &left, None)]
            }
        };
        self.timewait.remove(key);
        events
    }
}

/// An orphan went from FIN_WAIT2 to TIME_WAIT: at `began_ns` if its timer dates that, otherwise since the previous
/// poll.
pub(super) fn began_time_wait(
    timewait: &Connection,
    began_ns: Option<u64>,
    expires_ns: Option<u64>,
    now_ns: u64,
) -> Event {
    let began_ns = began_ns.map(|began_ns| began_ns.clamp(timewait.since_ns, now_ns));
    let time_ns = began_ns.unwrap_or(now_ns);
    let source = if began_ns.is_some() { TimeSource::Timer } else { TimeSource::Polled };
    let left = StateEnd { time_ns, end_ns: time_ns, source };
    let left_ns = expires_ns.map(|end_ns| end_ns.saturating_sub(time_ns));
    transition_event(timewait, State::TimeWait, StateSource::Polled, Some(CloseReason::Normal), &left, left_ns)
}

/// A timewait socket disappeared since the poll that began at `polled_from_ns`.
pub(super) fn is_gone(timewait: &Connection, polled_from_ns: u64, now_ns: u64) -> Event {
    let seen_ns = timewait.since_ns.max(polled_from_ns);
    // If the peer had closed in the meantime, TIME_WAIT would have begun, and would not be over.
    let certain = now_ns < seen_ns.saturating_add(TIME_WAIT_NS);
    let ran_out_ns = timewait.expires_ns().filter(|end_ns| certain && *end_ns <= now_ns);
    let ending = match timewait.state {
        State::FinWait2 => Some(if ran_out_ns.is_some() { CloseReason::PeerNeverClosed } else { CloseReason::Unknown }),
        _ => None, // reported when TIME_WAIT began
    };
    // The kernel's timers never fire early, and late by at most an eighth (`kernel/time/timer.c`).
    let latest_ns = timewait.expires_ns().map_or(now_ns, |end_ns| now_ns.min(end_ns.saturating_add(TIME_WAIT_NS / 8)));
    let (end_ns, source) = match timewait.since {
        AgeSource::LowerBound => (ran_out_ns.unwrap_or(seen_ns), TimeSource::LowerBound),
        AgeSource::Observed | AgeSource::Timer => (latest_ns, TimeSource::Polled),
    };
    transition_event(
        timewait,
        State::Close,
        StateSource::Polled,
        ending,
        &StateEnd { time_ns: now_ns, end_ns, source },
        None,
    )
}

fn transition_event(
    timewait: &Connection,
    new: State,
    source: StateSource,
    ending: Option<CloseReason>,
    left: &StateEnd,
    expires_in_ns: Option<u64>,
) -> Event {
    let time_source = if timewait.since == AgeSource::LowerBound { TimeSource::LowerBound } else { left.source };
    let time = TimeInState { ns: left.end_ns.saturating_sub(timewait.since_ns), source: time_source };
    Event {
        owner: timewait.owner(),
        peer: timewait.peer().map(|owner| Peer { owner, source: PeerSource::Earlier }),
        ..Event::new(
            left.time_ns,
            Socket {
                sk: None,
                cookie: timewait.cookie(),
                netns: timewait.netns(),
                ipv6: timewait.is_ipv6(),
                state: timewait.state,
                local: timewait.local(),
                remote: timewait.remote(),
                flags: 0,
            },
            EventKind::Transition(Transition {
                source,
                time_in_old: Some(time),
                ending,
                expires_in_ns,
                ..Transition::new(timewait.state, new)
            }),
        )
    }
}
