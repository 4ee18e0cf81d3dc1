//! Events per second: the last minutes of a run, and what happens now on each edge and in each process.

use std::collections::VecDeque;

use crate::{
    analysis::{report::Activity, summary::Summary},
    model::{event::Command, keyed::KeyedMap, state::State},
};

/// Events per second.
pub type Rate = f64;

/// Length of the past that is kept, in seconds.
pub const KEPT_SECONDS: usize = 600;
/// Time over which the rates of now are measured, in seconds.
const WINDOW: usize = 3;
const SECOND_NS: u64 = 1_000_000_000;
const STATES: usize = State::ALL.len();

/// One second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Second {
    /// Connections that this host opened (SYN_SENT to ESTABLISHED).
    pub opened: u64,
    /// Connections that came in (SYN_RECV to ESTABLISHED).
    pub came_in: u64,
    /// Connections that could not be opened (SYN_SENT to CLOSE).
    pub failed: u64,
    /// Events by kind.
    pub activity: Activity,
    /// Sockets that were alive at its end.
    pub sockets: u64,
}

/// Events of a process per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Changes of state.
    pub transitions: Rate,
    /// Retransmitted segments.
    pub retransmits: Rate,
    /// RSTs, sent and received.
    pub resets: Rate,
}

/// The counts at one moment.
#[derive(Clone, Debug)]
struct Counts {
    at_ns: u64,
    activity: Activity,
    edges: [[u64; STATES]; STATES],
    /// Processes with events, at most as many as the summary counts.
    processes: KeyedMap<(u32, Command), Activity>,
}

impl Counts {
    fn of(at_ns: u64, summary: &Summary) -> Self {
        let mut edges = [[0; STATES]; STATES];
        for (old, new, count) in summary.transition_counts() {
            edges[old.index()][new.index()] = count;
        }
        let processes = summary.activities().filter_map(|(process, activity)| Some((process?, activity)));
        Self { at_ns, activity: summary.activity(), edges, processes: processes.collect() }
    }

    fn edge(&self, old: State, new: State) -> u64 {
        self.edges[old.index()][new.index()]
    }
}

/// The last [`KEPT_SECONDS`] seconds, by CLOCK_MONOTONIC.
#[derive(Clone, Debug)]
pub struct History {
    next_ns: u64,
    seconds: VecDeque<Second>,
    /// Oldest first, one for each second of the window and one before.
    counts: VecDeque<Counts>,
}

impl History {
    /// An empty one that begins at `start_ns`.
    #[must_use]
    pub fn new(start_ns: u64) -> Self {
        let next_ns = start_ns.saturating_add(SECOND_NS);
        Self { next_ns, seconds: VecDeque::new(), counts: VecDeque::new() }
    }

    /// True if a second has passed since the last one ended.
    #[must_use]
    pub const fn is_due(&self, now_ns: u64) -> bool {
        now_ns >= self.next_ns
    }

    /// Ends the current second if it is over at `now_ns`. Where several have passed, as on a host that was suspended, what
    /// was counted is in the first of them.
    pub fn advance(&mut self, now_ns: u64, summary: &Summary, sockets: u64) {
        if !self.is_due(now_ns) {
            return;
        }
        let now = Counts::of(now_ns, summary);
        self.push(now.since(self.counts.back(), sockets));
        self.counts.push_back(now);
        if self.counts.len() > WINDOW + 1 {
            self.counts.pop_front();
        }
        let missed = (now_ns - self.next_ns) / SECOND_NS;
        for _ in 0..missed.min(KEPT_SECONDS as u64) {
            self.push(Second { sockets, ..Second::default() });
        }
        self.next_ns = self.next_ns.saturating_add((missed + 1).saturating_mul(SECOND_NS));
    }

    fn push(&mut self, second: Second) {
        self.seconds.push_back(second);
        if self.seconds.len() > KEPT_SECONDS {
            self.seconds.pop_front();
        }
    }

    /// Starts to count again from zero; what was shown stays.
    pub fn forget_counts(&mut self) {
        self.counts.clear();
    }

    /// The seconds that are over, oldest first.
    pub fn seconds(&self) -> impl DoubleEndedIterator<Item = &Second> + ExactSizeIterator {
        self.seconds.iter()
    }

    /// Transitions per second on an edge.
    #[must_use]
    pub fn of_edge(&self, old: State, new: State) -> Rate {
        self.rate(|counts| counts.edge(old, new))
    }

    /// Events per second of a process.
    #[must_use]
    pub fn of_process(&self, process: (u32, Command)) -> Rates {
        let (Some(first), Some(last)) = (self.counts.front(), self.counts.back()) else { return Rates::default() };
        let Some(now) = last.processes.get(&process) else { return Rates::default() };
        let before = first.processes.get(&process).copied().unwrap_or_default();
        let rate = |count: fn(&Activity) -> u64| per_second(count(now), count(&before), first.at_ns, last.at_ns);
        Rates {
            transitions: rate(|activity| activity.transitions),
            retransmits: rate(|activity| activity.retransmits),
            resets: rate(|activity| activity.resets_sent + activity.resets_received),
        }
    }

    fn rate(&self, count: impl Fn(&Counts) -> u64) -> Rate {
        match (self.counts.front(), self.counts.back()) {
            (Some(first), Some(last)) => per_second(count(last), count(first), first.at_ns, last.at_ns),
            _ => 0.0,
        }
    }
}

fn per_second(now: u64, before: u64, before_ns: u64, now_ns: u64) -> Rate {
    let span_ns = now_ns.saturating_sub(before_ns);
    if span_ns == 0 { 0.0 } else { now.saturating_sub(before) as f64 * SECOND_NS as f64 / span_ns as f64 }
}

impl Counts {
    fn since(&self, before: Option<&Self>, sockets: u64) -> Second {
        use State::{Close, Established, SynRecv, SynSent};
        let edge = |old, new| self.edge(old, new).saturating_sub(before.map_or(0, |before| before.edge(old, new)));
        Second {
            opened: edge(SynSent, Established),
            came_in: edge(SynRecv, Established),
            failed: edge(SynSent, Close),
            activity: before.map_or(self.activity, |before| self.activity.since(&before.activity)),
            sockets,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;
    use crate::model::event::{Event, EventKind, Socket, Transition};

    fn opened(summary: &mut Summary, count: u64) {
        let end = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 1);
        let what = EventKind::Transition(Transition::new(State::SynSent, State::Established));
        for _ in 0..count {
            summary.ingest(&Event::new(0, Socket::new(State::Established, end, end), what));
        }
    }

    #[test]
    fn each_second_has_what_happened_in_it() {
        let (mut summary, mut history) = (Summary::new(false), History::new(0));
        for (second, count) in [(1, 5), (2, 0), (3, 7)] {
            opened(&mut summary, count);
            history.advance(second * SECOND_NS - 1, &summary, 9);
            history.advance(second * SECOND_NS, &summary, 9);
        }
        assert_eq!(history.seconds().map(|second| second.opened).collect::<Vec<_>>(), [5, 0, 7]);
        assert!(history.seconds().all(|second| second.sockets == 9));
        let rate = history.of_edge(State::SynSent, State::Established);
        assert!((rate - 3.5).abs() < 1e-9, "7 in the two seconds that were measured: {rate}");
    }

    #[test]
    fn seconds_without_a_look_are_empty_and_bounded() {
        let (mut summary, mut history) = (Summary::new(false), History::new(0));
        opened(&mut summary, 3);
        history.advance(4 * SECOND_NS, &summary, 1);
        assert_eq!(history.seconds().map(|second| second.opened).collect::<Vec<_>>(), [3, 0, 0, 0]);
        history.advance(100_000 * SECOND_NS, &summary, 1);
        history.advance(u64::MAX, &summary, 1);
        assert_eq!(history.seconds().len(), KEPT_SECONDS);
    }
}
