//! Tasks: the process, cgroup and exit signal of a `struct task_struct`.

use aya_ebpf::helpers::{
    bpf_get_current_pid_tgid,
    generated::{bpf_get_current_task, bpf_get_current_task_btf},
};
use tcptrace_common::{config::feature, record::START_TICK_NS};

use super::{
    ptr::{KernelPtr, probe_read},
    tuple::bytes_of,
};
use crate::config::{config, member};

/// `PF_EXITING` of `include/linux/sched.h`.
const PF_EXITING: u32 = 0x0000_0004;
/// The bits of `group_exit_code` that hold the signal (wait(2)).
const SIGNAL: u32 = 0x7f;

/// Address of the current task.
#[inline(always)]
pub(crate) fn current() -> u64 {
    // SAFETY: takes no arguments.
    unsafe { bpf_get_current_task() }
}

#[inline(always)]
fn current_btf() -> KernelPtr {
    // SAFETY: takes no arguments.
    KernelPtr::new(unsafe { bpf_get_current_task_btf() }.cast_const().cast())
}

/// PID of the current process.
#[inline(always)]
pub(crate) fn current_pid() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

/// Flags of the current task, and the command name of its process.
#[inline(always)]
pub(crate) fn current_flags_and_comm() -> Option<(u32, [u8; 16])> {
    if config!(features) & feature::TASK_BTF != 0 {
        let task = current_btf();
        let ids = bpf_get_current_pid_tgid();
        let is_leader = ids as u32 == (ids >> 32) as u32;
        let comm = if is_leader { bytes_of(task.load_pair(member!(task_struct_comm))) } else { comm(task.address())? };
        return Some((task.load(member!(task_struct_flags)), comm));
    }
    let task = current();
    Some((probe_read(task + u64::from(config!(layout.task_struct_flags)))?, comm(task)?))
}

/// The result of [`exit_of_current`] has this bit if the task is exiting; the bits below are the signal.
pub(crate) const EXITING: u64 = 0x100;

/// Whether the current task is exiting, and by which signal. A global function, which the verifier checks on its own.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn exit_of_current() -> u64 {
    exit_of(current_flags())
}

/// The same for the known flags of the current task.
#[inline(always)]
pub(crate) fn exit_of(flags: u32) -> u64 {
    if flags & PF_EXITING == 0 {
        return 0; // the usual case
    }
    EXITING | u64::from(exit_signal(current()).unwrap_or(0))
}

#[inline(always)]
fn current_flags() -> u32 {
    if config!(features) & feature::TASK_BTF != 0 {
        return current_btf().load(member!(task_struct_flags));
    }
    probe_read(current() + u64::from(config!(layout.task_struct_flags))).unwrap_or(0)
}

#[inline(always)]
fn exit_signal(task: u64) -> Option<u32> {
    let signal: u64 = probe_read(task + u64::from(config!(layout.task_struct_signal)))?;
    let code: u32 = probe_read(signal + u64::from(config!(layout.signal_struct_group_exit_code)))?;
    Some(code & SIGNAL)
}

/// Start time of the current process, see [`start_ticks`]. A function of its own because the stack is small.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn start_of_current() -> u64 {
    start_ticks(current()).unwrap_or(0).into()
}

/// Command name of a task's process: its leader's, since threads may have names of their own.
#[inline(always)]
pub(crate) fn comm(task: u64) -> Option<[u8; 16]> {
    probe_read(leader(task)? + u64::from(config!(layout.task_struct_comm))).map(bytes_of)
}

/// Start time of a task's process, see [`tcptrace_common::record::Owner::start_ticks`].
#[inline(always)]
pub(crate) fn start_ticks(task: u64) -> Option<u32> {
    let boottime_ns: u64 = probe_read(leader(task)? + u64::from(config!(layout.task_struct_start_boottime)))?;
    Some((boottime_ns / START_TICK_NS) as u32)
}

/// Leader of a task's thread group. Read by a helper: if a program follows a pointer from a trusted one, the verifier
/// searches all kernel types by name, on each path.
#[inline(always)]
fn leader(task: u64) -> Option<u64> {
    probe_read(task + u64::from(config!(layout.task_struct_group_leader)))
}

/// Real UID of a task.
#[inline(always)]
pub(crate) fn uid(task: u64) -> Option<u32> {
    let cred: u64 = probe_read(task + u64::from(config!(layout.task_struct_real_cred)))?;
    probe_read(cred + u64::from(config!(layout.cred_uid)))
}

/// PID of a task's process in its own PID namespace: the last entry of `pid.numbers` (`struct upid` has 16 bytes and begins
/// with the number).
#[inline(always)]
pub(crate) fn ns_pid(task: u64) -> Option<u32> {
    let pid: u64 = probe_read(leader(task)? + u64::from(config!(layout.task_struct_thread_pid)))?;
    let level: u32 = probe_read(pid + u64::from(config!(layout.pid_level)))?;
    probe_read(pid + u64::from(config!(layout.pid_numbers)) + 16 * u64::from(level))
}

/// Id of a task's cgroup in the v2 hierarchy.
#[inline(always)]
pub(crate) fn cgroup_id(task: u64) -> Option<u64> {
    id_of(cgroup(task)?)
}

/// The `struct cgroup` of a task in the v2 hierarchy.
#[inline(always)]
pub(crate) fn cgroup(task: u64) -> Option<u64> {
    let set: u64 = probe_read(task + u64::from(config!(layout.task_struct_cgroups)))?;
    probe_read(set + u64::from(config!(layout.css_set_dfl_cgrp)))
}

#[inline(always)]
fn id_of(cgroup: u64) -> Option<u64> {
    let node: u64 = probe_read(cgroup + u64::from(config!(layout.cgroup_kn)))?;
    probe_read(node + u64::from(config!(layout.kernfs_node_id)))
}

/// Id of the ancestor of `cgroup`, or of itself, at this depth of the hierarchy. There is a helper too, but it takes the
/// current task only, and tp_btf programs may call it from 5.15 on only.
#[inline(always)]
pub(crate) fn ancestor_id(cgroup: u64, level: u32) -> Option<u64> {
    let depth: u32 = probe_read(cgroup + u64::from(config!(layout.cgroup_level)))?;
    if depth < level {
        return None;
    }
    let ancestor: u64 = probe_read(cgroup + u64::from(config!(layout.cgroup_ancestors)) + 8 * u64::from(level))?;
    if config!(features) & feature::ANCESTOR_IDS != 0 { Some(ancestor) } else { id_of(ancestor) }
}
