//! State of the processes that connections wait for.

use std::{fs, os::unix::fs::MetadataExt as _};

use rustc_hash::FxHashSet;
use rustix::param::clock_ticks_per_second;

use crate::{
    model::{
        event::{ProcessId, is_same_process},
        holders::{Holder, Holders},
        snapshot::ProcessState,
        socket::ListedSocket,
        state::State,
    },
    sys::{clock::now_ns, pids, processes::Stat},
};

/// Maximum number of processes that one listing reads.
const MAX_PROCESSES: usize = 32;

/// States of the requested processes, and of the holders of sockets that wait for them.
pub(super) fn states(asked: &[ProcessId], sockets: &[ListedSocket], holders: Option<&Holders>) -> Vec<ProcessState> {
    let waits = |socket: &&ListedSocket| {
        socket.state == State::Listen && socket.receive_queue > 0 || socket.stuck_reasons().any()
    };
    let held = holders.into_iter().flat_map(|holders| {
        let waiting = sockets.iter().filter(waits);
        waiting.flat_map(|socket| holders.of(socket.handle)).map(Holder::id)
    });
    let mut seen = FxHashSet::default();
    asked
        .iter()
        .copied()
        .chain(held)
        .filter(|process| seen.insert(*process))
        .take(MAX_PROCESSES)
        .filter_map(read)
        .collect()
}

/// `None` if the process is gone, may not be read, or is another one: PIDs are reused, and each PID namespace has its
/// own.
fn read(process: ProcessId) -> Option<ProcessState> {
    let (pid, _) = process;
    if !pids::match_proc() {
        return None;
    }
    let text = |name: &str| fs::read(format!("/proc/{pid}/{name}")).ok();
    let stat = Stat::read(pid).filter(|stat| stat.start.is_some() && is_same_process(process, (pid, stat.start)))?;
    let limits = text("limits").map(|limits| String::from_utf8_lossy(&limits).into_owned());
    let waits_in = text("wchan").and_then(|name| String::from_utf8(name).ok());
    Some(ProcessState {
        pid,
        read_ns: now_ns(),
        letter: stat.letter,
        cpu_ns: stat.cpu_ticks.saturating_mul(tick_of_proc_ns()),
        descriptors: descriptors(pid),
        max_descriptors: limits.as_deref().and_then(max_descriptors),
        waits_in: waits_in.filter(|name| !matches!(name.as_str(), "" | "0")),
    })
}

/// Number of open descriptors: the size of the directory since 6.2, else the number of its entries.
fn descriptors(pid: u32) -> Option<u64> {
    let path = format!("/proc/{pid}/fd");
    let size = fs::metadata(&path).ok()?.size();
    if size > 0 { Some(size) } else { fs::read_dir(path).ok().map(|entries| entries.count() as u64) }
}

/// The soft limit in `Max open files`.
fn max_descriptors(limits: &str) -> Option<u64> {
    limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_ascii_whitespace().next()?.parse().ok()
}

/// Unit of the times in `/proc` (USER_HZ), in ns.
fn tick_of_proc_ns() -> u64 {
    1_000_000_000 / clock_ticks_per_second().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_if_it_is_the_one_that_is_meant() {
        let pid = std::process::id();
        let start = Stat::read(pid).unwrap().start.unwrap();
        let state = read((pid, Some(start))).unwrap();
        assert_eq!(state.pid, pid);
        assert!(matches!(state.letter, b'R' | b'S'), "{}", state.letter);
        assert!(state.descriptors.unwrap() >= 3 && state.max_descriptors.unwrap() >= 3, "{state:?}");
        assert_eq!(read((pid, Some(start.saturating_add(1)))), None, "another one has the PID");
        assert_eq!(read((u32::MAX, None)), None);
    }

    #[test]
    fn the_soft_limit_counts() {
        let limits =
            "Limit   Soft Limit Hard Limit Units\nMax open files            64                   1024   files\n";
        assert_eq!(max_descriptors(limits), Some(64));
        assert_eq!(max_descriptors("Max open files unlimited unlimited files"), None);
    }
}
