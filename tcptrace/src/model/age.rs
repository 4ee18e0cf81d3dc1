//! How long a socket has been in its state, where no transition was seen: from its timers and the times of its segments.

use crate::model::{
    socket::{Kind, ListedSocket, TimerKind},
    state::State,
};

/// How long a socket has been in its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age {
    /// The time in ns.
    pub ns: u64,
    /// How it is known.
    pub source: AgeSource,
}

/// How an age is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AgeSource {
    /// The transition was seen.
    Observed,
    /// From the time that is left on the timer of TIME_WAIT.
    Timer,
    /// It is at least this: from the times of the last segments, or since it was first seen.
    LowerBound,
}

impl AgeSource {
    /// Name in machine-readable outputs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Observed => "observed",
            Self::Timer => "timer",
            Self::LowerBound => "lower_bound",
        }
    }

    /// What stands before an age for people.
    #[must_use]
    pub const fn mark(self) -> &'static str {
        match self {
            Self::Observed => "",
            Self::Timer => "~",
            Self::LowerBound => "≥",
        }
    }
}

/// `TCP_TIMEOUT_INIT` of `include/net/tcp.h`: 1 s.
const TIMEOUT_INIT_NS: u64 = 1_000_000_000;
/// `TCP_RTO_MIN` of it: 200 ms.
const RTO_MIN_NS: u64 = 200_000_000;
/// `TCP_RTO_MAX` of it: 120 s.
const RTO_MAX_NS: u64 = 120_000_000_000;

/// `TCP_TIMEWAIT_LEN` of `include/net/tcp.h`: 60 s.
pub const TIME_WAIT_NS: u64 = 60_000_000_000;

impl ListedSocket {
    /// How long it has been in its state at `now_ns`, the time of the listing; `None` where nothing tells.
    #[must_use]
    pub fn age(&self, now_ns: u64) -> Option<Age> {
        if let Some(entered_ns) = self.entered_ns {
            return Some(Age { ns: now_ns.saturating_sub(entered_ns), source: AgeSource::Observed });
        }
        let at_least = match (self.kind, self.state, &self.connection) {
            (Kind::Mini, State::TimeWait, _) => {
                let timer = self.timer.filter(|timer| timer.kind == TimerKind::TimeWait)?;
                return Some(Age { ns: TIME_WAIT_NS.saturating_sub(timer.left_ns), source: AgeSource::Timer });
            }
            // All timeouts were those of the SYN.
            (Kind::Full, State::SynSent, _) => self.timeouts_took_ns()?,
            // The same of the FIN where it alone is not acknowledged: with data before it they may be older.
            (Kind::Full, State::FinWait1 | State::LastAck, _) if self.send_queue == 1 => self.timeouts_took_ns()?,
            // Whatever was sent or received, it was established then.
            (Kind::Full, State::Established, Some(info)) => {
                info.last_sent_ns.max(info.last_received_ns).max(info.last_ack_ns)
            }
            // Entered by a segment with an ACK, which was the last or came before the last.
            (Kind::Full, State::CloseWait | State::FinWait2 | State::Closing, Some(info)) => info.last_ack_ns,
            _ => return None,
        };
        Some(Age { ns: at_least, source: AgeSource::LowerBound })
    }

    /// How long its timeouts in a row took at least, in ns; `None` where there was none. Each takes twice as long as the one
    /// before, up to TCP_RTO_MAX, but those that did not raise the backoff: the first ones of a SYN
    /// (`tcp_syn_linear_timeouts`, since 6.5), and those of thin streams (`net/ipv4/tcp_timer.c`, `tcp_retransmit_timer`).
    fn timeouts_took_ns(&self) -> Option<u64> {
        let timeouts = u32::from(self.timeouts);
        let (rto_ns, backoff) = match self.rto_ns.zip(self.backoff) {
            Some((rto_ns, backoff)) => (rto_ns, u32::from(backoff).min(timeouts)),
            None if self.state == State::SynSent => (TIMEOUT_INIT_NS, 0),
            None => (RTO_MIN_NS, 0),
        };
        let first_ns = (rto_ns >> self.backoff.unwrap_or(0).min(63)).min(RTO_MAX_NS);
        let doubled = (0..backoff).map(|times| first_ns.saturating_mul(1 << times.min(32)).min(RTO_MAX_NS));
        let took_ns = doubled.fold(u64::from(timeouts - backoff).saturating_mul(first_ns), u64::saturating_add);
        (timeouts > 0).then_some(took_ns)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;
    use crate::model::socket::{ConnectionInfo, Timer};

    fn listed(kind: Kind, state: State) -> ListedSocket {
        let end = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 1);
        ListedSocket::new(kind, state, 1, end, end)
    }

    #[test]
    fn an_age_is_seen_or_what_the_kernel_knows_at_least() {
        let info =
            ConnectionInfo { last_sent_ns: 300, last_received_ns: 500, last_ack_ns: 200, ..ConnectionInfo::default() };
        for state in State::ALL {
            let socket = ListedSocket { connection: Some(info), ..listed(Kind::Full, state) };
            let at_least = |ns| Some(Age { ns, source: AgeSource::LowerBound });
            let expected = match state {
                State::Established => at_least(500),
                State::CloseWait | State::FinWait2 | State::Closing => at_least(200),
                // Entered by what this side sends, and kept by what comes in: the times of segments tell nothing.
                _ => None,
            };
            assert_eq!(socket.age(1000), expected, "{state}");
            let seen = ListedSocket { entered_ns: Some(400), ..socket };
            assert_eq!(seen.age(1000), Some(Age { ns: 600, source: AgeSource::Observed }), "{state}");
            assert_eq!(seen.age(300).unwrap().ns, 0, "entered while it was being listed");
            assert_eq!(listed(Kind::Full, state).age(1000), None, "{state}");
        }
    }

    #[test]
    fn what_waits_for_an_answer_has_waited_for_as_long_as_its_timeouts_take() {
        const S: u64 = 1_000_000_000;
        let waits = |state, timeouts, rto_ns: u64, backoff| ListedSocket {
            timeouts,
            rto_ns: Some(rto_ns),
            backoff: Some(backoff),
            send_queue: 1,
            connection: ConnectionInfo::is_kept(Kind::Full, state).then(ConnectionInfo::default),
            ..listed(Kind::Full, state)
        };
        let at_least = |socket: &ListedSocket| socket.age(100 * S).map(|age| (age.ns, age.source));
        let lower = |ns| Some((ns, AgeSource::LowerBound));
        assert_eq!(at_least(&waits(State::SynSent, 0, S, 0)), None);
        // 1, 3 and 7 s; with four that do not double, 1, 2, 3, 4, 5, 7 and 11 s.
        assert_eq!(at_least(&waits(State::SynSent, 3, 8 * S, 3)), lower(7 * S));
        assert_eq!(at_least(&waits(State::SynSent, 4, S, 0)), lower(4 * S));
        assert_eq!(at_least(&waits(State::SynSent, 7, 8 * S, 3)), lower(11 * S));
        // The timeout stops to double at 120 s.
        let long = waits(State::SynSent, 9, 120 * S, 9);
        assert!(at_least(&long).unwrap().0 <= (1 + 2 + 4 + 8 + 16 + 32 + 64 + 120 + 120) * S);
        for state in [State::FinWait1, State::LastAck] {
            let fin = waits(state, 5, 6_400_000_000, 5);
            assert_eq!(at_least(&fin), lower(6_200_000_000), "{state}");
            assert_eq!(
                at_least(&ListedSocket { send_queue: 9, ..fin }),
                None,
                "the data may have waited before: {state}"
            );
        }
        let unknown = ListedSocket { rto_ns: None, backoff: None, ..waits(State::SynSent, 3, 0, 0) };
        assert_eq!(at_least(&unknown), lower(3 * S));
        let extreme = waits(State::SynSent, 255, u64::MAX, 255);
        assert!(at_least(&extreme).is_some());
    }

    #[test]
    fn only_time_waits_timer_tells_its_age() {
        let mini = |state, kind, left_ns| {
            let timer = Some(Timer { kind, left_ns });
            ListedSocket { timer, ..listed(Kind::Mini, state) }.age(1000)
        };
        let timer = |ns| Some(Age { ns, source: AgeSource::Timer });
        assert_eq!(mini(State::TimeWait, TimerKind::TimeWait, 45_000_000_000), timer(15_000_000_000));
        assert_eq!(mini(State::TimeWait, TimerKind::TimeWait, TIME_WAIT_NS + 1), timer(0));
        assert_eq!(mini(State::FinWait2, TimerKind::TimeWait, 45_000_000_000), None, "tcp_fin_timeout may be any");
        assert_eq!(mini(State::TimeWait, TimerKind::Keepalive, 1), None);
        assert_eq!(listed(Kind::Request, State::SynRecv).age(1000), None);
    }
}
