//! Ends the chosen sockets, each after one more check.

use std::{collections::HashSet, io, thread};

use crate::{
    commands::kill::choose::{Reason, Target},
    listing::{
        destroy::Destroyer,
        holders,
        netns::{self, Netns},
    },
    model::{age::Age, event::ProcessId, netns_choice::NetnsChoice, socket::ListedSocket, state::State},
    sys::clock::now_ns,
};

/// What became of a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing yet: a dry run.
    WouldEnd,
    /// It was ended.
    Ended,
    /// It is not what was chosen any more, and was left alone.
    Changed(String),
    /// It no longer exists.
    Gone,
    /// It was not ended.
    Failed(String),
}

impl Outcome {
    /// The name in machine-readable outputs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::WouldEnd => "would_end",
            Self::Ended => "ended",
            Self::Changed(_) => "changed",
            Self::Gone => "gone",
            Self::Failed(_) => "failed",
        }
    }

    /// More about it, in words.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::Changed(why) | Self::Failed(why) => Some(why),
            Self::WouldEnd | Self::Ended | Self::Gone => None,
        }
    }

    /// True if nothing is left to do about it.
    #[must_use]
    pub const fn is_fine(&self) -> bool {
        matches!(self, Self::WouldEnd | Self::Ended | Self::Gone)
    }
}

/// Why the kernel cannot end sockets, and what else helps.
pub const IMPOSSIBLE: &str = "this kernel cannot end sockets: it is built without CONFIG_INET_DIAG_DESTROY (and `ss --kill` \
                              needs it, too); end or restart the processes that hold them, or set TCP_USER_TIMEOUT or \
                              keepalive in the application";

/// Why a listener that exists is not found: of several at one address the kernel finds the one that gets a certain
/// connection (`net/ipv4/inet_hashtables.c`, `inet_lookup_reuseport`).
const SHARED: &str =
    "the kernel finds another listener with its address (SO_REUSEPORT), or it does not listen any more";

/// Difference between two readings of an age that rounding explains, in ns: ten ticks of the kernel at HZ=100.
const ROUNDING_NS: u64 = 100_000_000;

/// Whether the kernel can end sockets.
///
/// # Errors
/// If it does not answer.
pub fn can_end() -> io::Result<bool> {
    Destroyer::open()?.is_possible()
}

/// Ends the sockets, in a thread that visits their network namespaces one after another. Returns what became of each.
///
/// # Errors
/// If no namespace can be found, or the holders cannot be read again.
pub fn end(targets: &[Target], choice: Option<&NetnsChoice>) -> anyhow::Result<Vec<Outcome>> {
    let (namespaces, _) = netns::find(choice)?;
    let inodes: HashSet<u64> = targets.iter().map(|target| target.socket.handle).filter(|inode| *inode != 0).collect();
    let (now_held, _) = holders::holders(|inode| inodes.contains(&inode))?;
    let held: HashSet<(u64, ProcessId, u32)> =
        now_held.iter().map(|holder| (holder.handle, holder.id(), holder.fd)).collect();
    let is_held_alike = |target: &Target| {
        let known: HashSet<_> = target.holders.iter().map(|holder| (holder.handle, holder.id(), holder.fd)).collect();
        held.iter().filter(|(inode, ..)| *inode == target.socket.handle).all(|holder| known.contains(holder))
    };
    let mut outcomes = vec![Outcome::Gone; targets.len()];
    let mut work = || {
        let mut here = None;
        let mut inodes: Vec<u32> = targets.iter().map(|target| target.socket.netns).collect();
        inodes.sort_unstable();
        inodes.dedup();
        for inode in inodes {
            let mut destroyer = enter(&namespaces, targets, inode, &mut here);
            let mut is_first = true;
            let mut again = true;
            while std::mem::take(&mut again) {
                let in_it = targets.iter().zip(&mut outcomes).filter(|(target, _)| target.socket.netns == inode);
                let in_it = in_it.filter(|(_, outcome)| is_first || **outcome == Outcome::Failed(SHARED.into()));
                for (target, outcome) in in_it {
                    *outcome = match &mut destroyer {
                        Ok(_) if !is_held_alike(target) => {
                            Outcome::Changed("another process or descriptor holds it, too".into())
                        }
                        Ok(destroyer) => end_one(destroyer, target),
                        Err(reason) => Outcome::Failed(reason.clone()),
                    };
                    // Now the kernel finds another one of its group.
                    again |= *outcome == Outcome::Ended && target.socket.state == State::Listen;
                }
                is_first = false;
            }
        }
    };
    thread::scope(|scope| {
        let ending = thread::Builder::new().name("namespaces".to_owned()).spawn_scoped(scope, &mut work)?;
        ending.join().map_err(|_| io::Error::other("the thread that ends sockets crashed (a bug in tcptrace)"))
    })?;
    Ok(outcomes)
}

/// Enters a namespace, if needed through a descriptor of one of its sockets.
fn enter(namespaces: &[Netns], targets: &[Target], inode: u32, here: &mut Option<u32>) -> Result<Destroyer, String> {
    let held;
    let found = match namespaces.iter().find(|found| found.inode == inode) {
        Some(found) => found,
        None => {
            let holders =
                targets.iter().filter(|target| target.socket.netns == inode).flat_map(|target| &target.holders);
            let mut found = holders.filter_map(|holder| netns::by_socket(holder.pid, holder.fd).ok());
            let found = found.find(|found| found.inode == inode);
            held = found.ok_or_else(|| format!("the network namespace {inode} is gone"))?;
            &held
        }
    };
    found.enter_from(here).map_err(|error| error.to_string())?;
    Destroyer::open().map_err(|error| format!("sock_diag: {error}"))
}

/// Checks a socket again, and ends it.
fn end_one(destroyer: &mut Destroyer, target: &Target) -> Outcome {
    let now = match destroyer.look_up(&target.socket) {
        Ok(now) => now,
        Err(error) => {
            let is_gone = failed(&error) == Outcome::Gone;
            let is_hidden = target.socket.state == State::Listen && target.holders.iter().any(holders::still_holds);
            return if is_gone && is_hidden { Outcome::Failed(SHARED.into()) } else { failed(&error) };
        }
    };
    if let Some(change) = change(target, &now, now_ns()) {
        return Outcome::Changed(change);
    }
    if matches!(target.reason, Reason::Finding(..)) && target.has_unknown_holder() {
        return Outcome::Failed("its holder is unknown, so that it cannot be checked".into());
    }
    if !target.holders.iter().all(holders::still_holds) {
        return Outcome::Changed("a process that held it does not any more".into());
    }
    match destroyer.destroy(&now) {
        Ok(()) => Outcome::Ended,
        Err(error) => failed(&error),
    }
}

fn failed(error: &io::Error) -> Outcome {
    match error.raw_os_error() {
        Some(libc::ENOENT) => Outcome::Gone,
        Some(libc::EPERM) => Outcome::Failed("CAP_NET_ADMIN is missing: run it with sudo".into()),
        Some(libc::EOPNOTSUPP) => Outcome::Failed("the kernel cannot end it (CONFIG_INET_DIAG_DESTROY)".into()),
        _ => Outcome::Failed(format!("sock_diag: {error}")),
    }
}

/// How the socket differs from the one that was chosen, if it does.
fn change(target: &Target, now: &ListedSocket, now_ns: u64) -> Option<String> {
    let then = &target.socket;
    if (now.cookie, now.local, now.remote) != (then.cookie, then.local, then.remote) {
        return Some("another socket has its ends".into());
    }
    if (now.state, now.kind) != (then.state, then.kind) {
        return Some(format!("it is in {} now", now.state));
    }
    if now.handle != then.handle {
        return Some("another file refers to it".into());
    }
    let is_younger = |least: Age| now.age(now_ns).is_none_or(|age| age.ns.saturating_add(ROUNDING_NS) < least.ns);
    target.least_age.is_some_and(is_younger).then(|| "it has been in use since: a segment came".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        age::AgeSource,
        socket::{ConnectionInfo, Kind},
    };

    #[test]
    fn what_is_not_the_same_any_more_is_left_alone() {
        let ends = (([10, 0, 0, 1], 80).into(), ([10, 0, 0, 2], 9).into());
        let quiet = |last_ack_ns| Some(ConnectionInfo { last_ack_ns, ..ConnectionInfo::default() });
        let then = ListedSocket {
            cookie: Some(4),
            handle: 77,
            connection: quiet(5_000_000_000),
            ..ListedSocket::new(Kind::Full, State::CloseWait, 1, ends.0, ends.1)
        };
        let age = Some(Age { ns: 5_000_000_000, source: AgeSource::LowerBound });
        let target =
            Target { socket: then, netns_name: None, age, least_age: age, holders: Vec::new(), reason: Reason::Filter };
        let change = |now: ListedSocket| change(&target, &now, 0);
        assert_eq!(change(then), None);
        assert_eq!(change(ListedSocket { connection: quiet(4_900_000_000), ..then }), None, "rounding");
        let changed = [
            (ListedSocket { cookie: Some(5), ..then }, "another socket"),
            (ListedSocket { remote: ends.0, ..then }, "another socket"),
            (ListedSocket { state: State::LastAck, ..then }, "it is in LAST_ACK now"),
            (ListedSocket { handle: 78, ..then }, "another file"),
            (ListedSocket { handle: 0, ..then }, "another file"),
            (ListedSocket { connection: quiet(4_899_999_999), ..then }, "in use since"),
            (ListedSocket { connection: None, ..then }, "in use since"),
        ];
        for (now, words) in changed {
            assert!(change(now).is_some_and(|change| change.contains(words)), "{words}");
        }
        let any_age = Target { least_age: None, ..target.clone() };
        assert_eq!(super::change(&any_age, &ListedSocket { connection: quiet(0), ..then }, 0), None);
    }
}
