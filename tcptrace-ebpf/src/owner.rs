//! Infers the process that uses a socket, at moments when the current task is known to act on it.
//!
//! At most events the current task has nothing to do with the socket, since softirqs interrupt any task. So callers come
//! here only if the kernel's code path implies that the current task acts and holds the socket's lock (`sk_lock.owned`).

use aya_ebpf::{
    bindings::bpf_pidns_info,
    helpers::{
        bpf_get_current_uid_gid,
        generated::{bpf_get_current_cgroup_id, bpf_get_ns_current_pid_tgid},
    },
};
use tcptrace_common::{
    filter::part,
    record::owner_source,
    tracked::{TrackedSock, owner_match},
};

use crate::{
    config::config,
    filter,
    kernel::task::{self, current_flags_and_comm, current_pid, exit_of, start_of_current},
    tracked::Entry,
};

/// `PF_KTHREAD` of `include/linux/sched.h`.
const PF_KTHREAD: u32 = 0x0020_0000;

/// Result of [`infer`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inferred {
    /// The owner is the same process as before.
    Same,
    /// The owner is a different process.
    Changed,
    /// The owner is a different process than the listener's, which matters to the listener.
    ChangedFromListener,
    /// The owner is the listener's process, which has executed another program since: that matters to the listener too.
    RenamedFromListener,
}

/// Whether `source` reveals more about the socket's owner than is already known.
#[inline(always)]
pub(crate) fn is_news(tracked: &TrackedSock, source: u8) -> bool {
    current_pid() != tracked.owner.pid || strength(source) > strength(tracked.owner.source)
}

/// Makes the current task's process the owner of a socket. `source` is not unknown. For a close, also returns the result of
/// [`task::exit_of_current`].
///
/// Kernel threads become owners only of sockets they open. Elsewhere they act for another process: delayed work closes a
/// file, or TLS and MPTCP workers read.
#[inline(always)]
pub(crate) fn infer(entry: Entry, source: u8) -> (Inferred, u64) {
    let result = infer_owner(entry.0.into(), source.into());
    let inferred = match result & INFERRED {
        SAME => Inferred::Same,
        CHANGED => Inferred::Changed,
        CHANGED_FROM_LISTENER => Inferred::ChangedFromListener,
        _ => Inferred::RenamedFromListener,
    };
    (inferred, result >> INFERRED_BITS)
}

/// The low bits of the result of [`infer_owner`]; above them is the exit of the task.
const SAME: u64 = 0;
const CHANGED: u64 = 1;
const CHANGED_FROM_LISTENER: u64 = 2;
const RENAMED_FROM_LISTENER: u64 = 3;
const INFERRED_BITS: u32 = 2;
const INFERRED: u64 = (1 << INFERRED_BITS) - 1;

/// A global function, which the verifier checks on its own.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn infer_owner(slot: u64, source: u64) -> u64 {
    let (pid, source) = (current_pid(), source as u8);
    let Some(tracked) = Entry(slot as u32).get() else {
        return SAME;
    };
    let same_pid = pid == tracked.owner.pid;
    let stronger = strength(source) > strength(tracked.owner.source);
    // The process may have changed its name or user (execve, setuid). Only a close, which is rare, checks that again. The
    // cgroup is not read again: that would cost more than all the rest.
    if same_pid && !stronger && source != owner_source::CLOSE {
        return SAME;
    }
    let opens = source == owner_source::CONNECT || source == owner_source::LISTEN;
    let Some((flags, comm)) = current_flags_and_comm() else {
        return SAME;
    };
    let exit = if source == owner_source::CLOSE { exit_of(flags) << INFERRED_BITS } else { 0 };
    if pid == 0 || (flags & PF_KTHREAD != 0 || is_tcptrace(pid)) && !opens {
        return SAME | exit;
    }
    // The process that closes a socket is nearly always its known owner. Then the known start time is kept, since reading it
    // costs more than the rest.
    let start_ticks = if same_pid && !stronger { tracked.owner.start_ticks } else { start_of_current() as u32 };
    let same = same_pid && start_ticks == tracked.owner.start_ticks;
    let (source_before, pid_before) = (tracked.owner.source, tracked.owner.pid);
    let has_news = !same || comm != tracked.owner.comm;
    let owner = &mut tracked.owner; // its padding is zero, as in every new entry
    if !same || stronger {
        // SAFETY: takes no arguments.
        owner.cgroup = unsafe { bpf_get_current_cgroup_id() };
        owner.source = source;
    }
    owner.pid = pid;
    owner.uid = bpf_get_current_uid_gid() as u32;
    owner.start_ticks = start_ticks;
    owner.comm = comm;
    tracked.owner_match = match (tracked.owner_match, filter::task_passes(pid, task::current)) {
        (owner_match::SERVED, _) => owner_match::SERVED,
        (owner_match::YES, _) if is_from_listener(source_before) && filter::names_pid(pid_before) => {
            owner_match::SERVED
        }
        (_, true) => owner_match::YES,
        (owner_match::YES, false) => owner_match::LEFT,
        (_, false) => owner_match::NO,
    };
    if same {
        let is_renamed = has_news && source_before == owner_source::LISTENER;
        return exit | if is_renamed { RENAMED_FROM_LISTENER } else { SAME };
    }
    // A listener that is marked as shared needs an update only if a filter may want the other process.
    let is_filtered = config!(filter.parts) & (part::PID | part::CGROUP) != 0;
    let concerns_listener =
        source_before == owner_source::LISTENER || source_before == owner_source::SHARED && is_filtered;
    exit | if concerns_listener { CHANGED_FROM_LISTENER } else { CHANGED }
}

/// Whether the current task is tcptrace. `pid` is its PID in the initial PID namespace. In another namespace tcptrace does
/// not know that PID, so its PID in its own namespace is compared.
#[inline(always)]
fn is_tcptrace(pid: u32) -> bool {
    let inode = config!(own_pidns);
    if inode == 0 {
        return pid == config!(own_pid);
    }
    let mut own = bpf_pidns_info { pid: 0, tgid: 0 };
    let len = size_of::<bpf_pidns_info>() as u32;
    // SAFETY: writes `len` bytes to `own`.
    let result =
        unsafe { bpf_get_ns_current_pid_tgid(config!(own_pidns_device).into(), inode.into(), &raw mut own, len) };
    result == 0 && own.tgid == config!(own_pid)
}

#[inline(always)]
fn is_from_listener(source: u8) -> bool {
    matches!(source, owner_source::LISTENER | owner_source::SHARED)
}

/// How strong the evidence of a source is. The owner of a listener may hand connections to other processes, and a process
/// that holds a socket need not use it.
#[inline(always)]
fn strength(source: u8) -> u8 {
    match source {
        owner_source::CONNECT | owner_source::LISTEN | owner_source::ACCEPT => 4,
        owner_source::IO => 3,
        owner_source::CLOSE => 2,
        owner_source::LISTENER => 1,
        _ => 0,
    }
}
