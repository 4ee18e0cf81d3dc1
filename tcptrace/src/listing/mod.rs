//! The edge that lists what is there: sockets, their holders and namespaces. It makes a [`crate::snapshot::Snapshot`],
//! by BPF iterators where the kernel has them, else by sock_diag and `/proc`. No policy.

pub mod entry;
mod inet_diag;
pub mod netns;
pub mod proc;
mod procfs;
pub mod sock_diag;

use std::io;

use rustc_hash::{FxHashMap, FxHashSet};
use thiserror::Error;

use crate::{
    bpf::iterators::Iterators,
    cli::parse::NetnsChoice,
    now,
    snapshot::{Holder, Holders, ListedSocket, Namespace, Skipped, Snapshot},
    state::{State, StateSet},
};

/// Lists sockets. To be used in a thread that nobody else works in: it moves between network namespaces.
pub struct Lister {
    /// `None`: by sock_diag and `/proc`.
    iterators: Option<Iterators>,
    choice: Option<NetnsChoice>,
    tick_ns: u64,
}

/// What is to be listed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// Sockets in these states; empty for all.
    pub states: StateSet,
    /// Holders too?
    pub holders: bool,
    /// Are the programs to remember holders as owners?
    pub seed: bool,
}

/// Why nothing was listed.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Error {
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

impl Lister {
    /// Lists the namespaces of `choice` (all where it is `None`), by these iterators if there are some.
    #[must_use]
    pub fn new(iterators: Option<Iterators>, choice: Option<NetnsChoice>) -> Self {
        Self { iterators, choice, tick_ns: now::tick_ns() }
    }

    /// Lists the namespaces of `choice` without tracing, by iterators of its own where these can be had and `no_iter` does
    /// not forbid it.
    #[must_use]
    pub fn alone(no_iter: bool, choice: Option<NetnsChoice>) -> Self {
        // Without rights for them, or on an older kernel, the other way is as good, only slower.
        Self::new(if no_iter { None } else { Iterators::alone().ok() }, choice)
    }

    /// Lists what is wanted. What cannot be looked at is counted; the calling thread is in its own namespace afterwards.
    ///
    /// # Errors
    /// Where nothing can be listed at all.
    pub fn list(&mut self, wanted: &Wanted) -> Result<Snapshot, Error> {
        let started_ns = now::now_ns();
        let (mut namespaces, mut skipped) = netns::find(self.choice.as_ref())?;
        let home = netns::find(Some(&NetnsChoice::Own))?.0.remove(0);
        let mut holders = None;
        if let Some(iterators) = self.iterators.as_mut().filter(|_| wanted.holders) {
            let bytes =
                iterators.holders(wanted.seed).map_err(|source| Error::Iterator { which: "task_file", source })?;
            let (found, broken) = entry::holders(&bytes);
            skipped.cut_short += broken;
            if self.choice.is_none() {
                namespaces.extend(kept_by_sockets(&namespaces, &found));
            }
            holders = Some(found.into_iter().map(|(holder, _)| holder).collect());
        }
        let (mut sockets, mut visited) = (Vec::new(), Vec::new());
        let mut failed = None;
        for namespace in namespaces {
            match namespace.enter() {
                Ok(()) => {}
                Err(error) if self.choice.is_some() => {
                    failed = Some(Error::Enter(error));
                    break;
                }
                Err(netns::EnterError::Gone(_)) => {
                    skipped.namespaces_gone += 1;
                    continue;
                }
                Err(_) => {
                    skipped.namespaces_denied += 1;
                    continue;
                }
            }
            match self.sockets_here(namespace.inode, wanted.states, &mut skipped) {
                Ok(found) => sockets.extend(found),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
            let time_wait_overflows = netns::time_wait_overflows();
            visited.push(Namespace { inode: namespace.inode, name: namespace.name, time_wait_overflows });
        }
        home.enter()?;
        if let Some(error) = failed {
            return Err(error);
        }
        each_once(&mut sockets);
        if wanted.holders && holders.is_none() {
            let inodes: FxHashSet<u64> =
                sockets.iter().map(|socket| socket.handle).filter(|inode| *inode != 0).collect();
            let (found, mut gone) = proc::holders(|inode| inodes.contains(&inode)).map_err(Error::Proc)?;
            // Those that are denied were so when namespaces were looked for: once is enough.
            gone.processes_denied = gone.processes_denied.saturating_sub(skipped.processes_denied);
            skipped.add(&gone);
            holders = Some(found);
        }
        Ok(Snapshot {
            started_ns,
            ended_ns: now::now_ns(),
            states: wanted.states,
            sockets,
            holders: holders.map(Holders::new),
            namespaces: visited,
            skipped,
        })
    }

    fn sockets_here(
        &mut self,
        netns: u32,
        states: StateSet,
        skipped: &mut Skipped,
    ) -> Result<Vec<ListedSocket>, Error> {
        let Some(iterators) = &mut self.iterators else {
            let (found, broken) = sock_diag::list(netns, states).map_err(Error::SockDiag)?;
            skipped.add(&broken);
            return Ok(found);
        };
        // To the program a mini-socket in FIN_WAIT2 is in TIME_WAIT.
        let minis = states.contains(State::FinWait2).then_some(State::TimeWait);
        let asked = states.iter().chain(minis).collect();
        let bytes = iterators.sockets(asked).map_err(|source| Error::Iterator { which: "tcp", source })?;
        let (mut found, broken) = entry::sockets(&bytes, self.tick_ns);
        if !states.is_empty() {
            found.retain(|socket| states.contains(socket.state));
        }
        skipped.cut_short += broken;
        Ok(found)
    }
}

/// The namespaces of held sockets that are not among those that were found: no thread lives in them any more.
fn kept_by_sockets(known: &[netns::Found], holders: &[(Holder, u32)]) -> Vec<netns::Found> {
    let mut seen: FxHashSet<u32> = known.iter().map(|namespace| namespace.inode).collect();
    let others = holders.iter().filter(|(_, netns)| seen.insert(*netns));
    // What is gone meanwhile, or may not be looked at, was told of by its holder at least.
    others.filter_map(|(holder, _)| netns::by_socket(holder.pid, holder.fd).ok()).collect()
}

/// A socket that moves from one table of the kernel's to another while they are walked is met twice, or a request and
/// its child are: the later one counts.
fn each_once(sockets: &mut Vec<ListedSocket>) {
    let mut last: FxHashMap<(u32, u64), usize> = FxHashMap::default();
    for (index, socket) in sockets.iter().enumerate() {
        if let Some(name) = socket.cookie.or(socket.sk) {
            last.insert((socket.netns, name), index);
        }
    }
    let mut index = 0;
    sockets.retain(|socket| {
        index += 1;
        socket.cookie.or(socket.sk).is_none_or(|name| last.get(&(socket.netns, name)) == Some(&(index - 1)))
    });
}
