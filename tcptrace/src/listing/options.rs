//! What a listing should contain, and why it may fail.

use std::{io, net::IpAddr};

use rustc_hash::FxHashSet;
use thiserror::Error;

use crate::{
    listing::netns,
    model::{event::ProcessId, state::StateSet},
};

/// What a listing should contain.
#[derive(Clone, Debug, Default)]
pub struct ListingOptions {
    /// States of the sockets; empty for all.
    pub states: StateSet,
    /// Inode numbers of the namespaces; empty for all.
    pub namespaces: FxHashSet<u32>,
    /// Namespaces with activity since the previous listing. Others are skipped for some seconds: those without sockets
    /// by any listing, those with only idle listeners by polls. `None`: none is skipped.
    pub active: Option<FxHashSet<u32>>,
    /// Whether there may be namespaces that the last listing did not find.
    pub finds_namespaces: bool,
    /// Whether to list holders.
    pub holders: bool,
    /// Whether to read the settings of all namespaces, rather than only of new ones.
    pub settings: bool,
    /// Whether to add connections in other states that wait for a process ([`stuck_reasons`](crate::model::socket::ListedSocket::stuck_reasons)).
    pub stuck: bool,
    /// Processes whose state to read.
    pub processes: Vec<ProcessId>,
    /// Addresses to find the next hop for, each with the inode number of a namespace.
    pub next_hops: Vec<(u32, IpAddr)>,
    /// Maximum number of sockets, unknown to the BPF programs, whose holders they should remember as owners.
    pub new_owners: u32,
}

/// Why nothing was listed.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("cannot list sockets: {0}")]
    Thread(io::Error),
    #[error("sockets were not listed: the listing thread crashed (a bug in tcptrace)")]
    Hangs,
    #[error(transparent)]
    Netns(#[from] netns::Error),
    #[error("cannot enter the network namespace: {0}")]
    Enter(#[from] netns::EnterError),
    #[error("cannot list sockets by sock_diag: {0}")]
    SockDiag(io::Error),
    #[error("cannot list the processes that hold sockets: /proc: {0}")]
    Proc(io::Error),
    #[error("cannot list sockets by the iterator `{which}`: {source}; --no-iter lists them by sock_diag and /proc")]
    Iterator { which: &'static str, source: io::Error },
}

impl Error {
    /// True if the selected namespace no longer exists.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Enter(netns::EnterError::Gone(_)) => true,
            Self::Netns(error) => error.is_gone(),
            _ => false,
        }
    }
}
