//! An iterator over the file descriptors of all processes. It runs when user space reads its file, and writes a
//! [`HolderEntry`] for each descriptor of a TCP socket. It can also make holders the owners of their sockets.

use aya_ebpf::helpers::generated::bpf_sock_from_file;
use core::ffi::c_void;
use tcptrace_common::{
    config::feature,
    listing::{HolderEntry, ListingRequest, seeding},
    record::owner_source,
    state::{self, LISTEN},
    tracked::{TrackedSock, owner_match},
};

use crate::{
    config::{config, member},
    filter,
    kernel::{
        iter::{IterMeta, write_entry},
        ptr::KernelPtr,
        sock::{IPPROTO_MPTCP, SockCommon, TcpSock, inode_of, netns_of},
        task,
    },
    maps::{HOLDER_ENTRY, REQUEST},
    tracked::{self, Entry},
};

/// `struct bpf_iter__task_file` (`kernel/bpf/task_iter.c`).
#[repr(C)]
struct TaskFileContext {
    meta: *const IterMeta,
    task: *const c_void,
    fd: u32,
    file: *const c_void,
}

/// Each descriptor of a TCP socket, of all processes and network namespaces.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn list_holders(ctx: *mut TaskFileContext) -> i32 {
    // SAFETY: the context of this kind of iterator. Each member is read once: the verifier would not know that a second
    // value is not null.
    let (meta, task, fd, file) = unsafe {
        (
            (&raw const (*ctx).meta).read_volatile(),
            (&raw const (*ctx).task).read_volatile(),
            (&raw const (*ctx).fd).read_volatile(),
            (&raw const (*ctx).file).read_volatile(),
        )
    };
    if task.is_null() || file.is_null() {
        return 0; // the end
    }
    // SAFETY: the verifier knows the type of the file.
    let socket = unsafe { bpf_sock_from_file(file.cast_mut().cast()) };
    if socket.is_null() {
        return 0;
    }
    let sk: *const c_void = KernelPtr::new(socket.cast_const().cast()).follow(member!(socket_sk)).as_ptr();
    if sk.is_null() {
        return 0;
    }
    let sock = TcpSock::new(sk);
    let is_mptcp = sock.is_none() && SockCommon(KernelPtr::new(sk)).protocol() == IPPROTO_MPTCP;
    if sock.is_none() && !is_mptcp {
        return 0; // another protocol
    }
    let Some(scratch) = HOLDER_ENTRY.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: the value of this CPU. No other program writes it, since only one thread reads this iterator.
    unsafe {
        let entry = &raw mut (*scratch).entry;
        let session = (&raw const (*meta).session_id).read_volatile();
        if (*scratch).session != session || (*scratch).task != task as u64 {
            fill_task(entry, KernelPtr::new(task));
            (*scratch).session = session;
            (*scratch).task = task as u64;
        }
        (*entry).fd = fd;
        (*entry).netns = netns_of(KernelPtr::new(sk));
        (*entry).sk = match sock {
            Some(sock) => sock.address,
            None => inode_of(socket as u64).unwrap_or(0),
        };
        if config!(features) & feature::TRACKING != 0
            && let Some(sock) = sock
            && let Some(request) = REQUEST.get_ptr_mut(0)
            && (*request).seeding != seeding::OFF
        {
            seed(sock, &*entry, task as u64, request, session);
        }
        write_entry(meta, entry);
    }
    0
}

#[inline(always)]
unsafe fn fill_task(entry: *mut HolderEntry, task: KernelPtr) {
    let pid: u32 = task.load(member!(task_struct_tgid));
    let task = task.address();
    // SAFETY: `entry` is a map value.
    unsafe {
        (*entry).pid = pid;
        (*entry).ns_pid = task::ns_pid(task).unwrap_or(pid);
        (*entry).uid = task::uid(task).unwrap_or(0);
        (*entry).cgroup = task::cgroup_id(task).unwrap_or(0);
        (*entry).comm = task::comm(task).unwrap_or_default();
        (*entry).start_ticks = task::start_ticks(task).unwrap_or(0);
    }
}

/// Makes the holder the owner of a socket that has none, as long as the request allows it. The socket cannot be replaced by
/// another one at the same address meanwhile, since the iterator holds its file.
///
/// # Safety
/// `request` is valid, and no other program uses it while the iterator runs.
#[inline(always)]
unsafe fn seed(sock: TcpSock, holder: &HolderEntry, task: u64, request: *mut ListingRequest, session: u64) {
    let state = sock.common.state();
    // SAFETY: as the caller guarantees.
    let seeds_left = unsafe { if (*request).seeding == seeding::ALL { (*request).seeds_left } else { 0 } };
    if state == state::CLOSE {
        return; // sockets are tracked once they connect or listen
    }
    let passes = filter::task_passes(holder.pid, || task);
    let tracked = match tracked::get(sock.key()) {
        Some(tracked) => tracked,
        None if !passes && state != LISTEN || seeds_left == 0 => return,
        None => {
            // SAFETY: as the caller guarantees.
            unsafe { (*request).seeds_left = seeds_left - 1 };
            let Some(tracked) = Entry::of(sock.key()).get() else {
                return;
            };
            tracked
        }
    };
    if state == LISTEN {
        seed_listener(tracked, holder, session);
    } else if !seed_connection(tracked, holder) {
        return; // the programs saw which process uses it
    }
    if passes {
        tracked.owner_match = owner_match::YES;
    }
}

/// Returns whether the holder is an owner of the connection.
#[inline(always)]
fn seed_connection(tracked: &mut TrackedSock, holder: &HolderEntry) -> bool {
    let source = tracked.owner.source;
    if source == owner_source::UNKNOWN {
        set_owner(tracked, holder);
    } else if !matches!(source, owner_source::HOLDER | owner_source::SHARED) {
        return false;
    } else if tracked.owner.pid != holder.pid {
        tracked.owner.source = owner_source::SHARED;
    }
    true
}

/// The owners of a listener are the processes that hold it now: the process that called listen() may have ended, or executed
/// another program. The listener's `previous_entered_ns`, which is not needed while it listens, marks the iterator run that
/// saw it last.
#[inline(always)]
fn seed_listener(tracked: &mut TrackedSock, holder: &HolderEntry, session: u64) {
    if tracked.deferred_from != 0 {
        return; // the deferred transition needs that time
    }
    let is_same = tracked.owner.pid == holder.pid && tracked.owner.start_ticks == holder.start_ticks;
    if tracked.previous_entered_ns == session {
        if !is_same {
            tracked.owner.source = owner_source::SHARED;
        }
        return;
    }
    tracked.previous_entered_ns = session;
    if is_same && tracked.owner.source == owner_source::LISTEN {
        tracked.owner.comm = holder.comm;
    } else {
        set_owner(tracked, holder);
    }
}

#[inline(always)]
fn set_owner(tracked: &mut TrackedSock, holder: &HolderEntry) {
    tracked.owner.cgroup = holder.cgroup;
    tracked.owner.pid = holder.pid;
    tracked.owner.uid = holder.uid;
    tracked.owner.source = owner_source::HOLDER;
    tracked.owner.start_ticks = holder.start_ticks;
    tracked.owner.comm = holder.comm;
}
