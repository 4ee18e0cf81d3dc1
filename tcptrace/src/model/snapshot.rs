//! The result of one listing: the sockets, the processes that hold them, and what could not be read. BPF iterators and
//! sock_diag with `/proc` both produce it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::model::{holders::Holders, namespace::Namespace, skipped::Skipped, socket::ListedSocket, state::StateSet};

/// All sockets of the namespaces that were listed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// CLOCK_MONOTONIC in ns just before the first socket was read.
    pub started_ns: u64,
    /// CLOCK_MONOTONIC in ns just after the last socket was read.
    pub ended_ns: u64,
    /// The requested states; empty for all.
    pub states: StateSet,
    /// True if it contains the connections that wait for a process, whatever their state.
    pub stuck: bool,
    /// The sockets, grouped by namespace, without duplicates.
    pub sockets: Vec<ListedSocket>,
    /// The processes that hold them; `None` if not requested.
    pub holders: Option<Holders>,
    /// State of the processes that connections wait for.
    pub processes: Vec<ProcessState>,
    /// Next hops toward the addresses that were requested.
    pub next_hops: Vec<NextHop>,
    /// The namespaces that were listed.
    pub namespaces: Vec<Namespace>,
    /// Inode numbers of namespaces that were skipped: a few seconds ago they had no socket that this poll needs, and
    /// nothing has happened since.
    pub left_alone: Vec<u32>,
    /// What could not be read.
    pub skipped: Skipped,
    /// CPU time of the listing thread, in ns.
    pub cpu_ns: u64,
}

/// Next hop toward an address, by the routes of a network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextHop {
    /// Inode number of the namespace.
    pub netns: u32,
    /// The destination address that was requested.
    pub remote: IpAddr,
    /// The neighbour on the way: the address itself, or a gateway.
    pub hop: IpAddr,
    /// Whether the neighbour answers ARP or neighbour discovery; `None` if the kernel has not tried lately.
    pub answers: Option<bool>,
    /// CLOCK_MONOTONIC in ns at which the neighbour entry was read.
    pub read_ns: u64,
}

/// State of a process, from `/proc` (proc(5)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessState {
    /// PID, as in [`Holder::pid`](crate::model::holders::Holder::pid).
    pub pid: u32,
    /// CLOCK_MONOTONIC in ns at which it was read.
    pub read_ns: u64,
    /// State letter: `R` running, `S` and `D` sleeping, `T` and `t` stopped, `Z` zombie.
    pub letter: u8,
    /// CPU time used so far by all its threads, in ns.
    pub cpu_ns: u64,
    /// Number of open descriptors; `None` if they may not be read.
    pub descriptors: Option<u64>,
    /// Limit on open descriptors (RLIMIT_NOFILE).
    pub max_descriptors: Option<u64>,
    /// Kernel function in which its main thread waits.
    pub waits_in: Option<String>,
}
