//! Learns which process a socket belongs to, from moments at which the current task is known to act on it.
//!
//! The current task of an event is mostly a bystander (softirqs run on whatever was there), so callers come here only
//! where the kernel's code path says that the task itself acts, and holds the socket's lock (`sk_lock.owned`).

use aya_ebpf::{
    bindings::bpf_pidns_info,
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_current_uid_gid,
        generated::{
            bpf_get_current_cgroup_id, bpf_get_current_task, bpf_get_current_task_btf, bpf_get_ns_current_pid_tgid,
        },
    },
};
use tcptrace_common::{
    config::kernel,
    filter::{MAX_CGROUPS, part},
    record::{START_TICK_NS, owner_source},
    tracked::{Memo, owner_match},
};

use crate::{
    config::{config, listed, member},
    kernel::sock::{Kernel, read},
    maps::FILTER_PIDS,
    tracked,
};

/// `PF_EXITING` and `PF_KTHREAD` of `include/linux/sched.h`.
const PF_EXITING: u32 = 0x0000_0004;
const PF_KTHREAD: u32 = 0x0020_0000;
/// The part of `group_exit_code` that holds the signal (wait(2)).
const SIGNAL: u32 = 0x7f;

/// What [`learn`] found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Learned {
    /// Nothing new, or only better evidence for the same process.
    Same,
    /// Another process than before.
    Changed,
    /// Another one than that of the listener that the connection came through, or the same, which has executed another
    /// program since it began to listen: of interest to the listener.
    ChangedFromListener,
    /// See above.
    RenamedFromListener,
}

/// Does `source` say more of the socket's owner than is known already?
#[inline(always)]
pub(crate) fn is_news(memo: &Memo, source: u8) -> bool {
    current_pid() != memo.owner.pid || strength(source) > strength(memo.owner.source)
}

#[inline(always)]
fn current_pid() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

/// Makes the current task's process the owner of a socket, known by `source`, which is not unknown.
///
/// Kernel threads are taken for an owner only where they open the socket: elsewhere they act for somebody else (a file
/// closed by a delayed work item, TLS or MPTCP workers).
/// Also gives, where the task closes the socket, what [`exit_of_current`] does.
#[inline(always)]
pub(crate) fn learn(place: tracked::Place, source: u8) -> (Learned, u64) {
    let answer = learn_owner(place.number(), source.into());
    let learned = match answer & LEARNED {
        SAME => Learned::Same,
        CHANGED => Learned::Changed,
        CHANGED_FROM_LISTENER => Learned::ChangedFromListener,
        _ => Learned::RenamedFromListener,
    };
    (learned, answer >> LEARNED_BITS)
}

const SAME: u64 = 0;
const CHANGED: u64 = 1;
const CHANGED_FROM_LISTENER: u64 = 2;
const RENAMED_FROM_LISTENER: u64 = 3;
/// One of these, and above it how the task exits.
const LEARNED_BITS: u32 = 2;
const LEARNED: u64 = (1 << LEARNED_BITS) - 1;

/// A global function, which the verifier goes through by itself.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn learn_owner(place: u64, source: u64) -> u64 {
    let (pid, source) = (current_pid(), source as u8);
    let Some(memo) = tracked::Place::numbered(place).memo() else {
        return SAME;
    };
    let same_pid = pid == memo.owner.pid;
    let stronger = strength(source) > strength(memo.owner.source);
    // A process may have another name and user by now (execve, setuid): looked at again where that is rare. To find its
    // cgroup costs more than all of this.
    if same_pid && !stronger && source != owner_source::CLOSE {
        return SAME;
    }
    let opens = source == owner_source::CONNECT || source == owner_source::LISTEN;
    let Some((flags, comm)) = current_task() else {
        return SAME;
    };
    let exit = if source == owner_source::CLOSE { exit_of(flags) << LEARNED_BITS } else { 0 };
    if pid == 0 || (flags & PF_KTHREAD != 0 || is_own(pid)) && !opens {
        return SAME | exit;
    }
    // Who closes what it has used is not asked, as nearly always: to find when it started costs more.
    let start = if same_pid && !stronger { memo.owner.start } else { start_of_current() as u32 };
    let same = same_pid && start == memo.owner.start;
    let (source_before, pid_before) = (memo.owner.source, memo.owner.pid);
    let has_news = !same || comm != memo.owner.comm;
    let owner = &mut memo.owner; // its padding is zero since it was blank
    if !same || stronger {
        // SAFETY: takes nothing.
        owner.cgroup = unsafe { bpf_get_current_cgroup_id() };
        owner.source = source;
    }
    owner.pid = pid;
    owner.uid = bpf_get_current_uid_gid() as u32;
    owner.start = start;
    owner.comm = comm;
    // SAFETY: takes nothing.
    memo.owner_matches = match (memo.owner_matches, matches(pid, || unsafe { bpf_get_current_task() })) {
        (owner_match::SERVED, _) => owner_match::SERVED,
        (owner_match::YES, _) if is_through_listener(source_before) && is_wanted_pid(pid_before) => owner_match::SERVED,
        (_, true) => owner_match::YES,
        (owner_match::YES, false) => owner_match::LEFT,
        (_, false) => owner_match::NO,
    };
    if same {
        let is_renamed = has_news && source_before == owner_source::LISTENER;
        return exit | if is_renamed { RENAMED_FROM_LISTENER } else { SAME };
    }
    // A shared listener is told of it again only where a filter may want the other process.
    let is_filtered = config!(filter.parts) & (part::PID | part::CGROUP) != 0;
    let tells_listener =
        source_before == owner_source::LISTENER || source_before == owner_source::SHARED && is_filtered;
    exit | if tells_listener { CHANGED_FROM_LISTENER } else { CHANGED }
}

/// Is the current task tcptrace's? `pid` is that of the initial PID namespace. In another one tcptrace does not know its
/// PID there, and is told by that in its own.
#[inline(always)]
fn is_own(pid: u32) -> bool {
    let inode = config!(own_pidns);
    if inode == 0 {
        return pid == config!(own_pid);
    }
    let mut own = bpf_pidns_info { pid: 0, tgid: 0 };
    let len = size_of::<bpf_pidns_info>() as u32;
    // SAFETY: writes so many bytes to `own`.
    let result =
        unsafe { bpf_get_ns_current_pid_tgid(config!(own_pidns_device).into(), inode.into(), &raw mut own, len) };
    result == 0 && own.tgid == config!(own_pid)
}

#[inline(always)]
fn is_through_listener(source: u8) -> bool {
    matches!(source, owner_source::LISTENER | owner_source::SHARED)
}

/// Does the filter name this process?
#[inline(always)]
fn is_wanted_pid(pid: u32) -> bool {
    config!(filter.parts) & part::PID != 0 && FILTER_PIDS.get_ptr(pid).is_some()
}

/// [`exit_of_current`]: it is exiting; the bits below are the signal.
pub(crate) const EXITING: u64 = 0x100;

/// Is the current task exiting, and by which signal? A global function, which the verifier goes through by itself.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn exit_of_current() -> u64 {
    exit_of(current_flags())
}

/// The same of the current task, which has these flags.
#[inline(always)]
fn exit_of(flags: u32) -> u64 {
    if flags & PF_EXITING == 0 {
        return 0; // as nearly always
    }
    // SAFETY: takes nothing.
    EXITING | u64::from(exit_signal(unsafe { bpf_get_current_task() }).unwrap_or(0))
}

#[inline(always)]
fn current_flags() -> u32 {
    // SAFETY: takes nothing.
    unsafe {
        if config!(kernel) & kernel::TASK_BTF != 0 {
            return Kernel::new(bpf_get_current_task_btf().cast_const().cast()).load(member!(task_struct_flags));
        }
        read(bpf_get_current_task() + u64::from(config!(layout.task_struct_flags))).unwrap_or(0)
    }
}

#[inline(always)]
fn exit_signal(task: u64) -> Option<u32> {
    let signal: u64 = read(task + u64::from(config!(layout.task_struct_signal)))?;
    let code: u32 = read(signal + u64::from(config!(layout.signal_struct_group_exit_code)))?;
    Some(code & SIGNAL)
}

/// How much a source says about who uses the socket. A listener's owner may hand its connections to others.
#[inline(always)]
fn strength(source: u8) -> u8 {
    match source {
        owner_source::CONNECT | owner_source::LISTEN | owner_source::ACCEPT => 4,
        owner_source::IO => 3,
        owner_source::CLOSE => 2,
        owner_source::LISTENER => 1,
        // Who holds it now says nothing of who uses it.
        _ => 0,
    }
}

/// The current task's flags and the command name of its process: that of the thread group's leader, since threads
/// name themselves as they like.
#[inline(always)]
fn current_task() -> Option<(u32, [u8; 16])> {
    if config!(kernel) & kernel::TASK_BTF != 0 {
        // SAFETY: takes nothing.
        let task = Kernel::new(unsafe { bpf_get_current_task_btf() }.cast_const().cast());
        let ids = bpf_get_current_pid_tgid();
        let comm = if ids as u32 == (ids >> 32) as u32 {
            let [low, high] = task.load_pair(member!(task_struct_comm));
            words_of(low, high)
        } else {
            command(task.address())?
        };
        return Some((task.load(member!(task_struct_flags)), comm));
    }
    // SAFETY: takes nothing.
    let task = unsafe { bpf_get_current_task() };
    Some((read(task + u64::from(config!(layout.task_struct_flags)))?, command(task)?))
}

/// When the current process started, see [`tcptrace_common::record::Owner::start`]. A function of its own, as the stack is
/// small.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn start_of_current() -> u64 {
    // SAFETY: takes nothing.
    start(unsafe { bpf_get_current_task() }).unwrap_or(0).into()
}

#[inline(always)]
fn words_of(low: u64, high: u64) -> [u8; 16] {
    (u128::from(low) | u128::from(high) << 64).to_le_bytes()
}

/// The command name of a task's process.
#[inline(always)]
pub(crate) fn command(task: u64) -> Option<[u8; 16]> {
    let [a, b]: [u64; 2] = read(leader(task)? + u64::from(config!(layout.task_struct_comm)))?;
    Some(words_of(a, b))
}

/// When a task's process started.
#[inline(always)]
pub(crate) fn start(task: u64) -> Option<u32> {
    let boottime_ns: u64 = read(leader(task)? + u64::from(config!(layout.task_struct_start_boottime)))?;
    Some((boottime_ns / START_TICK_NS) as u32)
}

/// The leader of a task's thread group. By a helper, since a load of a pointer through a pointer that the verifier trusts
/// makes it look for names among all types of the kernel, on each path that comes here.
#[inline(always)]
pub(crate) fn leader(task: u64) -> Option<u64> {
    read(task + u64::from(config!(layout.task_struct_group_leader)))
}

/// Does a task of this process pass the filter by PID and cgroup?
#[inline(always)]
pub(crate) fn matches(pid: u32, task: impl FnOnce() -> u64) -> bool {
    let parts = config!(filter.parts);
    if parts & part::PID != 0 && FILTER_PIDS.get_ptr(pid).is_none() {
        return false;
    }
    parts & part::CGROUP == 0 || in_cgroups(task())
}

/// Is the task in one of the filter's cgroups, or below one? Not inlined: eight times this in each place at which an
/// owner is learnt would be most of the object.
#[inline(never)]
fn in_cgroups(task: u64) -> bool {
    let Some(cgroup) = cgroup_of(task) else {
        return false;
    };
    for index in 0..MAX_CGROUPS {
        let id = listed!(filter.cgroups[index]);
        if id == 0 {
            return false;
        }
        if ancestor(cgroup, listed!(filter.cgroup_levels[index])) == Some(id) {
            return true;
        }
    }
    false
}

/// The `struct cgroup` (v2) of a task.
#[inline(always)]
fn cgroup_of(task: u64) -> Option<u64> {
    let set: u64 = read(task + u64::from(config!(layout.task_struct_cgroups)))?;
    read(set + u64::from(config!(layout.css_set_dfl_cgrp)))
}

/// Id of the cgroup of a task.
#[inline(always)]
pub(crate) fn cgroup_id(task: u64) -> Option<u64> {
    id_of(cgroup_of(task)?)
}

#[inline(always)]
fn id_of(cgroup: u64) -> Option<u64> {
    let node: u64 = read(cgroup + u64::from(config!(layout.cgroup_kn)))?;
    read(node + u64::from(config!(layout.kernfs_node_id)))
}

/// Id of the cgroup at this depth of the hierarchy that `cgroup` is or is below. The helper that says so knows the
/// current task only, and may be called from these programs from 5.15 on only.
#[inline(always)]
fn ancestor(cgroup: u64, level: u32) -> Option<u64> {
    let depth: u32 = read(cgroup + u64::from(config!(layout.cgroup_level)))?;
    if depth < level {
        return None;
    }
    let found: u64 = read(cgroup + u64::from(config!(layout.cgroup_ancestors)) + 8 * u64::from(level))?;
    if config!(kernel) & kernel::ANCESTOR_IDS != 0 { Some(found) } else { id_of(found) }
}
