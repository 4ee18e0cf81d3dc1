//! Everything that a session is told, as values: a live run and a replay feed the same inputs to the same function,
//! [`Session::apply`](crate::pipeline::session::Session::apply).

use std::{borrow::Cow, net::IpAddr};

use serde::{Deserialize, Serialize};
use tcptrace_common::counters::Counters;

use crate::model::{
    processes::{ProcessAnswer, ProcessQuestion},
    snapshot::Snapshot,
    time::WallOffset,
};

/// One input of a session. Recordings contain all but [`Input::Record`] in this form: another order, or another field, is
/// another version of their format.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Input<'a> {
    /// What the clocks show: CLOCK_MONOTONIC in ns, and how far the wall clock is ahead of it.
    Clock(u64, WallOffset),
    /// The names of network namespaces by inode number, where they have changed.
    NetnsNames(Cow<'a, [(u32, String)]>),
    /// All events until this time (CLOCK_MONOTONIC in ns) were read.
    Read(u64),
    /// The counters of the kernel and of the outputs.
    Counters(CounterReading<'a>),
    /// A listing of all sockets begins.
    ListingBegun,
    /// The listing that began has failed; true if it was the first one, so that the sockets from before the start are
    /// unknown.
    ListingFailed(bool),
    /// The result of a listing.
    Listed(ListingKind, Cow<'a, Snapshot>),
    /// Findings are evaluated at this time (CLOCK_MONOTONIC in ns).
    Evaluated(u64),
    /// An interval between summaries ends at this time (CLOCK_MONOTONIC in ns).
    IntervalEnded(u64),
    /// The run has read everything, and ends at this time (CLOCK_MONOTONIC in ns).
    Finished(u64),
    /// What was read about a process.
    Process(ProcessQuestion, Cow<'a, ProcessAnswer>),
    /// The names of users by UID.
    Users(Cow<'a, [(u32, String)]>),
    /// The names of TCP ports.
    Services(Cow<'a, [(u16, Box<str>)]>),
    /// The name of an address, if it has one.
    Host(IpAddr, Option<String>),
    /// Records that wait for names may be written if these are known or took too long.
    Released,
    /// The names that open findings need are asked for, at this time (CLOCK_MONOTONIC in ns).
    NamesAsked(u64),
    /// Why the run ended; its last record says so.
    Ended(Cow<'a, str>),
    /// The bytes of a record from a ring. Recordings contain them unchanged, so that it has no number here; it stays the last
    /// variant, because serde numbers those after it differently in both directions.
    #[serde(skip)]
    Record(&'a [u8]),
}

impl Input<'_> {
    /// The time of the input, CLOCK_MONOTONIC in ns, if it is at a time. Records come later than what they tell happened.
    #[must_use]
    pub fn time_ns(&self) -> Option<u64> {
        match self {
            Self::Clock(now_ns, _)
            | Self::Read(now_ns)
            | Self::Evaluated(now_ns)
            | Self::IntervalEnded(now_ns)
            | Self::Finished(now_ns)
            | Self::NamesAsked(now_ns) => Some(*now_ns),
            Self::Counters(counters) => Some(counters.now_ns),
            Self::Listed(_, snapshot) => Some(snapshot.ended_ns),
            _ => None,
        }
    }
}

/// What a listing is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListingKind {
    /// All sockets, at the start or after a gap.
    All,
    /// The sockets that have no events.
    Poll,
    /// More about sockets under suspicion.
    Suspects,
    /// The listeners, to find the owners of connections.
    Listeners,
}

/// Counters as of a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterReading<'a> {
    /// CLOCK_MONOTONIC in ns at which they were read.
    pub now_ns: u64,
    /// The counters of each CPU, in the order of [`tcptrace_common::counters::Counters`].
    by_cpu: Cow<'a, [[u64; 9]]>,
    /// How often the kernel skipped a program because it was already running.
    pub passed_over: u64,
    /// Records that outputs have lost.
    pub outputs: u64,
}

impl CounterReading<'static> {
    /// The counters at `now_ns`.
    #[must_use]
    pub fn new(now_ns: u64, by_cpu: &[Counters], passed_over: u64, outputs: u64) -> Self {
        let by_cpu = by_cpu.iter().map(|cpu| zerocopy::transmute!(*cpu)).collect();
        Self { now_ns, by_cpu, passed_over, outputs }
    }
}

impl CounterReading<'_> {
    /// The counters of each CPU.
    #[must_use]
    pub fn by_cpu(&self) -> Vec<Counters> {
        self.by_cpu.iter().map(|cpu| zerocopy::transmute!(*cpu)).collect()
    }
}
