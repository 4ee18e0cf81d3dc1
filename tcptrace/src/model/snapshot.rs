//! The answer of one listing: the sockets there are, who holds them, and what could not be read. It is the same whether BPF
//! iterators or sock_diag and `/proc` gave it.

use std::net::IpAddr;

use crate::model::{holders::Holders, namespace::Namespace, skipped::Skipped, socket::ListedSocket, state::StateSet};

/// All sockets of the namespaces that were visited.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// CLOCK_MONOTONIC just before the first socket was looked at, in ns.
    pub started_ns: u64,
    /// CLOCK_MONOTONIC just after the last one.
    pub ended_ns: u64,
    /// States that were asked for; empty for all.
    pub states: StateSet,
    /// Does it show all connections that wait for a process, of any state?
    pub ailing: bool,
    /// The sockets, those of one namespace together, no socket twice.
    pub sockets: Vec<ListedSocket>,
    /// Who holds them; `None` where nobody asked.
    pub holders: Option<Holders>,
    /// What processes do that connections wait for.
    pub processes: Vec<ProcessState>,
    /// Where packets go first toward addresses that were asked about.
    pub next_hops: Vec<NextHop>,
    /// The namespaces that were visited.
    pub namespaces: Vec<Namespace>,
    /// Inode numbers of those that were not, as there was no socket in them, or none that a poll is for, some seconds ago,
    /// and nothing happened since.
    pub left_alone: Vec<u32>,
    /// What could not be looked at.
    pub skipped: Skipped,
    /// CPU time of the thread that looked, in ns.
    pub cpu_ns: u64,
}

/// Where packets to an address go first, by the routes of a network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// Inode number of the namespace.
    pub netns: u32,
    /// The address.
    pub remote: IpAddr,
    /// The neighbour: the address itself, or a gateway.
    pub hop: IpAddr,
    /// Does the neighbour answer ARP or neighbour discovery? `None` where nobody has asked lately.
    pub answers: Option<bool>,
    /// CLOCK_MONOTONIC at which that was read, in ns.
    pub read_ns: u64,
}

/// What a process does, as `/proc` shows it (proc(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessState {
    /// PID, as that of a [`Holder`].
    pub pid: u32,
    /// CLOCK_MONOTONIC at which it was read, in ns.
    pub read_ns: u64,
    /// The letter of its state: `R` runs, `S` and `D` wait, `T` and `t` are stopped, `Z` is over.
    pub letter: u8,
    /// CPU time that it has used, its threads' too, in ns.
    pub cpu_ns: u64,
    /// Open descriptors; `None` where they may not be looked at.
    pub descriptors: Option<u64>,
    /// Limit of these (RLIMIT_NOFILE).
    pub max_descriptors: Option<u64>,
    /// Function of the kernel in which its first thread waits.
    pub waits_in: Option<String>,
}
