//! Lists what exists now: sockets, the processes that hold them, and their network namespaces.
//!
//! Events show only what changes, so a trace begins with a listing of the sockets that exist already, and repeats it to
//! find what events missed. [`Lister::list`] returns a [`crate::model::snapshot::Snapshot`]. It has two backends with
//! the same result: BPF iterators ([`iter_entry`]) if the kernel has them, otherwise sock_diag(7) ([`sock_diag`]) and a
//! walk through `/proc` ([`holders`]). For example, iterators list 20,000 sockets with owners in two passes, whereas
//! the walk visits every descriptor of every process.
//!
//! A kernel interface shows only one network namespace at a time, so the listing thread enters each of them in turn
//! ([`netns`]). This room makes no decisions about what is worth reporting.

pub(crate) mod chosen_netns;
pub mod destroy;
pub mod holders;
mod idle;
pub mod inet_diag;
pub mod iter_entry;
pub(crate) mod net_counters;
pub mod netns;
pub(crate) mod netns_names;
mod next_hop;
mod options;
mod process;
mod procfs;
pub mod skipped;
pub mod sock_diag;
pub mod worker;

use std::{collections::BTreeMap, io, panic::resume_unwind, thread};

use self::idle::IdleNetns;
pub use self::options::{Error, ListingOptions};
use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};
use thiserror::Error;

use crate::{
    bpf::iterators::{Iterators, KernelIterator},
    model::{
        holders::Holders,
        namespace::Namespace,
        netns_choice::NetnsChoice,
        skipped::Skipped,
        snapshot::Snapshot,
        socket::{Kind, ListedSocket, Timer},
        state::State,
    },
    sys::{
        clock,
        pids::{self, View},
        threads::beside,
        workers,
    },
};

/// Lists sockets, and remembers between listings what need not be read again.
pub struct Lister {
    /// `None`: uses sock_diag and `/proc`.
    iterators: Option<Iterators>,
    choice: Option<NetnsChoice>,
    /// Cookie of the selected namespace.
    cookie: Option<u64>,
    tick_ns: u64,
    /// The namespaces found by the last search, and its time.
    namespaces: Vec<netns::Netns>,
    found_ns: u64,
    /// Namespaces in which the last poll found nothing that changes by itself.
    idle: FxHashMap<u32, IdleNetns>,
    /// When the settings of each namespace were last read, in ns.
    settings_ns: FxHashMap<u32, u64>,
    /// Whether holders may be read from `/proc` if there are no iterators: its PIDs must be those of events.
    walks_proc: bool,
}

/// Polls re-read the settings of a namespace after this time in ns.
const SETTINGS_FOR_NS: u64 = 30_000_000_000;

/// Listings of selected states may reuse the namespaces found up to this long ago, in ns: a search visits all threads.
const FOUND_FOR_NS: u64 = 10_000_000_000;

impl Lister {
    /// Lists the namespaces of `choice` (`None`: all), using these iterators if there are any.
    #[must_use]
    pub fn new(iterators: Option<Iterators>, choice: Option<NetnsChoice>) -> Self {
        Self {
            iterators,
            choice,
            cookie: None,
            tick_ns: clock::tick_ns(),
            namespaces: Vec::new(),
            found_ns: 0,
            idle: FxHashMap::default(),
            settings_ns: FxHashMap::default(),
            // In another PID namespace, PIDs in events and in `/proc` cannot be matched.
            walks_proc: pids::match_proc(),
        }
    }

    /// Lists only this namespace, using these iterators if there are any. A new namespace that reuses its name or inode
    /// number does not match.
    #[must_use]
    pub fn of(iterators: Option<Iterators>, chosen: &chosen_netns::ChosenNetns) -> Self {
        Self { cookie: chosen.cookie, ..Self::new(iterators, Some(NetnsChoice::Inode(chosen.inode))) }
    }

    /// Lists the namespaces of `choice` without a trace. Loads iterators of its own, if possible and not forbidden by
    /// `no_iter`.
    #[must_use]
    pub fn alone(no_iter: bool, choice: Option<NetnsChoice>) -> Self {
        // Iterators show only the processes of this PID namespace. Without the privileges for them, or on an older
        // kernel, the other backend is as good, only slower.
        let does_without = no_iter || pids::view() == View::HostProc;
        let iterators = if does_without { None } else { Iterators::alone().ok() };
        Self { walks_proc: true, ..Self::new(iterators, choice) }
    }

    /// Lists sockets in a thread that moves between network namespaces, and ends in the last of them: returning is not
    /// always permitted. Whatever cannot be read is counted.
    ///
    /// # Errors
    /// If nothing can be listed at all.
    pub fn list(&mut self, wanted: &ListingOptions) -> Result<Snapshot, Error> {
        let worker = workers::mine();
        thread::scope(|scope| {
            let listing = thread::Builder::new().name("namespaces".to_owned()).spawn_scoped(scope, || {
                workers::work_for(worker);
                self.list_here(wanted)
            });
            listing.map_err(Error::Thread)?.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    fn list_here(&mut self, wanted: &ListingOptions) -> Result<Snapshot, Error> {
        let started_ns = clock::now_ns();
        let mut skipped = self.find_namespaces(wanted, started_ns)?;
        let (mut sockets, mut visited, mut next_hops) = (Vec::new(), Vec::new(), Vec::new());
        let (mut by_iterator, mut holding) = (None, None);
        if let Some(iterators) = &mut self.iterators {
            // The program sees an orphan in FIN_WAIT2 as TIME_WAIT.
            let timewait = wanted.states.contains(State::FinWait2).then_some(State::TimeWait);
            let states = wanted.states.iter().chain(timewait).collect();
            iterators
                .set_request(states, wanted.new_owners, wanted.stuck)
                .map_err(|source| Error::Iterator { which: "tcp", source })?;
            by_iterator = Some(&mut iterators.sockets);
            holding = Some(&mut iterators.holders).filter(|_| wanted.holders);
        }
        let (choice, tick_ns) = (&self.choice, self.tick_ns);
        let is_poll = !wanted.states.is_empty() && !wanted.holders;
        let mut was_still = std::mem::take(&mut self.idle);
        was_still.retain(|inode, _| wanted.active.as_ref().is_some_and(|active| !active.contains(inode)));
        let mut left_alone = Vec::new();
        let (idle, settings_ns) = (&mut self.idle, &mut self.settings_ns);
        settings_ns.retain(|_, read_ns| started_ns.saturating_sub(*read_ns) < SETTINGS_FOR_NS);
        let mut here = None;
        let mut visit = |namespaces: &[netns::Netns], skipped: &mut Skipped| {
            let is_wanted =
                |found: &&netns::Netns| wanted.namespaces.is_empty() || wanted.namespaces.contains(&found.inode);
            for namespace in namespaces.iter().filter(is_wanted) {
                workers::alive();
                let before = was_still.remove(&namespace.inode);
                let before = before.filter(|before| before.is_of(is_poll, wanted));
                if let Some(before) = before.filter(|before| before.is_left_alone(started_ns)) {
                    idle.insert(namespace.inode, before);
                    left_alone.push(namespace.inode);
                    continue;
                }
                match namespace.enter_from(&mut here) {
                    Ok(()) => {}
                    Err(error) if choice.is_some() => return Err(Error::Enter(error)),
                    Err(netns::EnterError::Gone(_)) => {
                        skipped.namespaces_gone += 1;
                        continue;
                    }
                    Err(_) => {
                        skipped.namespaces_denied += 1;
                        continue;
                    }
                }
                next_hops.extend(next_hop::next_hops(&wanted.next_hops, namespace.inode));
                let segments = is_poll.then(net_counters::segments).flatten();
                let same = before.filter(|before| before.segments.is_some() && before.segments == segments);
                let unchanged = same.filter(IdleNetns::is_settled);
                // The kernel scans the sockets of all namespaces for those of one.
                let count = if unchanged.is_some() { None } else { net_counters::tcp_sockets() };
                let is_empty = count == Some(0);
                // In 300 namespaces this takes seconds: the kernel keeps the settings with the same name of all
                // namespaces in one list.
                let reads_settings = (!is_empty || choice.is_some())
                    && unchanged.is_none()
                    && (wanted.settings || is_poll && !settings_ns.contains_key(&namespace.inode));
                if reads_settings {
                    settings_ns.insert(namespace.inode, started_ns);
                }
                let counters = unchanged.map_or_else(net_counters::counters, |before| before.counters);
                visited.push(Namespace {
                    inode: namespace.inode,
                    // It may have lost its name since it was found, and another namespace may have reused its inode
                    // number.
                    name: namespace.name.clone().filter(|name| netns::is_called(name, namespace.inode)),
                    counters,
                    settings: reads_settings.then(net_counters::settings),
                });
                let listed_ns = unchanged.map_or(started_ns, |before| before.listed_ns);
                let since_ns = same.map_or(started_ns, |before| before.since_ns);
                let (states, stuck) = (wanted.states, wanted.stuck);
                let now = IdleNetns { states, stuck, seen_ns: started_ns, segments, since_ns, listed_ns, counters };
                if is_empty || unchanged.is_some() {
                    let segments = if is_empty { None } else { segments };
                    idle.insert(namespace.inode, IdleNetns { segments, ..now });
                    continue;
                }
                let found = match &mut by_iterator {
                    Some(iterator) => {
                        let mut found = by_iteration(iterator, wanted, count, tick_ns, started_ns, skipped)?;
                        // The programs identify it differently if they use its cookie.
                        found.iter_mut().for_each(|socket| socket.netns = namespace.inode);
                        found
                    }
                    None => {
                        let states =
                            if stuck { wanted.states.iter().chain(STUCK_STATES).collect() } else { wanted.states };
                        let (mut found, broken) = sock_diag::list(namespace.inode, states).map_err(Error::SockDiag)?;
                        skipped.add(&broken);
                        retain_wanted(&mut found, wanted);
                        adjust_timers(started_ns, &mut found);
                        found
                    }
                };
                if segments.is_some() && found.iter().all(is_idle) {
                    idle.insert(namespace.inode, now);
                }
                if sockets.is_empty() {
                    sockets = found; // most hosts have one namespace with many sockets
                } else {
                    sockets.extend(found);
                }
            }
            Ok(())
        };
        let read = holding.map(|holding| || holders(holding));
        let mut beside_ns = 0;
        let (mut listed, held) = match read {
            None => (visit(&self.namespaces, &mut skipped), None),
            // Holders must be remembered as owners before the sockets are listed with their owners.
            Some(mut read) if wanted.new_owners > 0 => {
                let held = read();
                (visit(&self.namespaces, &mut skipped), Some(held))
            }
            Some(mut read) => thread::scope(|scope| {
                let worker = workers::mine();
                let reading = beside(scope, || {
                    workers::work_for(worker);
                    let held = read();
                    beside_ns = clock::thread_cpu_ns();
                    held
                });
                let listed = visit(&self.namespaces, &mut skipped);
                (listed, Some(reading.and_then(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))))
            }),
        };
        if let (Ok(()), None, Some(Ok(held))) = (&listed, choice, &held) {
            // Not cached: their open files keep them alive.
            listed = visit(&kept_by_sockets(&self.namespaces, &held.namespaces), &mut skipped);
        }
        listed?;
        let mut holders = None;
        if let Some(held) = held {
            let held = held.map_err(|source| Error::Iterator { which: "task_file", source })?;
            skipped.cut_short += held.broken;
            holders = Some(held.holders);
        }
        dedup(&mut sockets);
        if wanted.holders && holders.is_none() && self.walks_proc {
            let inodes: FxHashSet<u64> =
                sockets.iter().map(|socket| socket.handle).filter(|inode| *inode != 0).collect();
            let is_wanted = |inode| {
                workers::alive();
                inodes.contains(&inode)
            };
            let (found, gone) = holders::holders(is_wanted).map_err(Error::Proc)?;
            // Both walks visited the same processes.
            skipped.processes_gone = skipped.processes_gone.max(gone.processes_gone);
            skipped.processes_denied = skipped.processes_denied.max(gone.processes_denied);
            skipped.add_denied(&gone.denied);
            holders = Some(Holders::new(found));
        }
        let processes = process::states(&wanted.processes, &sockets, holders.as_ref());
        let ended_ns = clock::now_ns();
        for timer in timers(&mut sockets) {
            timer.left_ns = timer.left_ns.saturating_sub(ended_ns - started_ns);
        }
        Ok(Snapshot {
            started_ns,
            ended_ns,
            states: wanted.states,
            stuck: wanted.stuck || wanted.states.is_empty(),
            sockets,
            holders,
            processes,
            next_hops,
            namespaces: visited,
            left_alone,
            skipped,
            cpu_ns: clock::thread_cpu_ns() + beside_ns,
        })
    }

    fn find_namespaces(&mut self, wanted: &ListingOptions, now_ns: u64) -> Result<Skipped, Error> {
        let is_recent = now_ns.saturating_sub(self.found_ns) < FOUND_FOR_NS;
        let may_be_old = !wanted.states.is_empty() || wanted.active.is_some();
        if may_be_old && !self.namespaces.is_empty() && is_recent && !wanted.finds_namespaces {
            return Ok(Skipped::default());
        }
        let (mut found, skipped) = netns::find(self.choice.as_ref())?;
        found.iter_mut().for_each(|found| found.cookie = self.cookie);
        (self.namespaces, self.found_ns) = (found, now_ns);
        Ok(skipped)
    }
}

/// States in which a connection may wait for a process.
const STUCK_STATES: [State; 6] = {
    use State::{CloseWait, Closing, Established, FinWait1, FinWait2, LastAck};
    [Established, CloseWait, FinWait1, FinWait2, Closing, LastAck]
};

fn retain_wanted(found: &mut Vec<ListedSocket>, wanted: &ListingOptions) {
    if !wanted.states.is_empty() {
        found.retain(|socket| wanted.states.contains(socket.state) || wanted.stuck && socket.stuck_reasons().any());
    }
}

fn by_iteration(
    iterator: &mut KernelIterator,
    wanted: &ListingOptions,
    count: Option<usize>,
    tick_ns: u64,
    started_ns: u64,
    skipped: &mut Skipped,
) -> Result<Vec<ListedSocket>, Error> {
    // Growing a list of several megabytes would copy it again and again.
    let mut found = Vec::with_capacity(count.filter(|_| wanted.states.is_empty()).unwrap_or(0));
    let mut broken = 0;
    let read = iterator.read(|bytes| {
        let before = found.len();
        workers::alive();
        broken += iter_entry::sockets(bytes, tick_ns, &mut found);
        adjust_timers(started_ns, &mut found[before..]);
    });
    read.map_err(|source| Error::Iterator { which: "tcp", source })?;
    retain_wanted(&mut found, wanted);
    skipped.cut_short += broken;
    Ok(found)
}

/// Timers of timewait sockets, which indicate when TIME_WAIT began.
fn timers(sockets: &mut [ListedSocket]) -> impl Iterator<Item = &mut Timer> {
    sockets.iter_mut().filter(|socket| socket.kind == Kind::TimeWait).filter_map(|socket| socket.timer.as_mut())
}

/// Converts the time left on these timers from now to `started_ns`, since a long listing reads its sockets at different
/// times.
fn adjust_timers(started_ns: u64, sockets: &mut [ListedSocket]) {
    let since_ns = clock::now_ns() - started_ns;
    timers(sockets).for_each(|timer| timer.left_ns += since_ns);
}

/// The result of the holders iterator: holders, and the namespaces of their sockets.
struct Held {
    holders: Holders,
    /// Each with a PID and a descriptor of a socket in it.
    namespaces: BTreeMap<u32, (u32, u32)>,
    broken: u64,
}

fn holders(iterator: &mut KernelIterator) -> io::Result<Held> {
    let mut held = iter_entry::Held::default();
    iterator.read(|bytes| {
        workers::alive();
        held.add(bytes);
    })?;
    Ok(Held { holders: Holders::new(held.holders), namespaces: held.namespaces, broken: held.broken })
}

/// Whether the socket changes only when a segment arrives. That is true of a listener with an empty queue; timers and
/// processes change other sockets.
fn is_idle(socket: &ListedSocket) -> bool {
    socket.state == State::Listen && socket.receive_queue == 0
}

/// Namespaces of held sockets that the search did not find, because no thread is in them any more.
fn kept_by_sockets(known: &[netns::Netns], held: &BTreeMap<u32, (u32, u32)>) -> Vec<netns::Netns> {
    let others = held.iter().filter(|(inode, _)| known.iter().all(|found| found.inode != **inode));
    // If it is gone by now, or may not be read, at least its holders were listed.
    let entered = |(inode, (pid, fd)): (&u32, &(u32, u32))| {
        netns::by_socket(*pid, *fd).ok().filter(|found| found.inode == *inode) // the inode number may have been reused
    };
    others.filter_map(entered).collect()
}

/// Removes duplicates, keeping the later entry. A socket that moves between hash tables of the kernel during the walk
/// is listed twice; so may be a request and its child, or a full socket and its timewait socket.
fn dedup(sockets: &mut Vec<ListedSocket>) {
    let mut seen = FxHashSet::with_capacity_and_hasher(sockets.len(), FxBuildHasher);
    let mut earlier: Vec<usize> = Vec::new();
    for (index, socket) in sockets.iter().enumerate().rev() {
        if let Some(name) = socket.cookie.or(socket.sk)
            && !seen.insert((socket.netns, name))
        {
            earlier.push(index);
        }
    }
    let mut index = 0;
    sockets.retain(|_| {
        index += 1;
        earlier.pop_if(|earlier| *earlier == index - 1).is_none()
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listing::inet_diag::tests::{V4, diag, listed};

    #[test]
    fn of_one_socket_the_last_is_kept() {
        let full = listed(&diag(V4, [5, 2, 0], 1, 1));
        let timewait = listed(&diag(V4, [6, 3, 0], 0, 1));
        let nameless = ListedSocket { cookie: None, ..full };
        let other = ListedSocket { netns: full.netns + 1, ..full };
        let mut sockets = vec![full, nameless, other, full, timewait, nameless];
        dedup(&mut sockets);
        assert_eq!(sockets, [nameless, other, timewait, nameless]);
    }
}
