//! Iterators: what sockets there are, and who holds them. They run when user space reads their files, and write one
//! entry of [`tcptrace_common::listing`] for each.

use aya_ebpf::{
    bindings::seq_file,
    helpers::generated::{bpf_seq_write, bpf_sock_from_file},
};
use core::ffi::c_void;
use tcptrace_common::{
    config::kernel,
    listing::{HolderEntry, KIND_FULL, KIND_MINI, KIND_REQUEST, Request, SocketEntry, timer},
    record::{owner_source, socket_flag},
    state::{self, CLOSE_WAIT, CLOSING, ESTABLISHED, FIN_WAIT1, FIN_WAIT2, LAST_ACK, LISTEN},
    tracked::{Memo, owner_match},
};

use crate::{
    config::{config, member},
    kernel::sock::{IPPROTO_MPTCP, Kernel, SockCommon, TcpSock, inode_of, jiffies, mini, netns_of, read, request},
    maps::{HOLDER_ENTRY, REQUEST, SOCKET_ENTRY},
    mem, owner, tracked,
};

/// `struct bpf_iter_meta` as far as it is read.
#[repr(C)]
struct Meta {
    seq: *mut seq_file,
    /// Another one each time that an iterator is opened.
    session_id: u64,
}

/// `struct bpf_iter__tcp` (`net/ipv4/tcp_ipv4.c`).
#[repr(C)]
struct TcpContext {
    meta: *const Meta,
    sk: *const c_void,
    uid: u32,
}

/// `struct bpf_iter__task_file` (`kernel/bpf/task_iter.c`).
#[repr(C)]
struct TaskFileContext {
    meta: *const Meta,
    task: *const c_void,
    fd: u32,
    file: *const c_void,
}

/// Each TCP socket of the network namespace of whoever opened the iterator.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
extern "C" fn list_sockets(ctx: *mut TcpContext) -> i32 {
    // SAFETY: the context of this kind of iterator. Each member is read once: of a second value the verifier would not
    // know that it is not null.
    let (meta, sk, uid) = unsafe {
        (
            (&raw const (*ctx).meta).read_volatile(),
            (&raw const (*ctx).sk).read_volatile(),
            (&raw const (*ctx).uid).read_volatile(),
        )
    };
    if sk.is_null() {
        return 0; // the end
    }
    let Some(request) = REQUEST.get(0) else {
        return 0;
    };
    let state = SockCommon(Kernel::new(sk)).state();
    let counts_as = if state == state::NEW_SYN_RECV { state::SYN_RECV } else { state };
    // A mini-socket in FIN_WAIT2 is in TIME_WAIT here.
    let is_asked_for = request.states == 0 || request.states & state::bit(counts_as) != 0;
    if !is_asked_for && (request.ailing == 0 || !is_ailing(sk, state)) {
        return 0;
    }
    let Some(entry) = SOCKET_ENTRY.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: this CPU's own value, which nobody else writes: one thread reads this iterator.
    unsafe {
        mem::blank(entry);
        fill(entry, sk, uid);
        bpf_seq_write((*meta).seq, entry.cast_const().cast(), size_of::<SocketEntry>() as u32);
    }
    0
}

/// Does a connection wait for a process, as [`tcptrace_common::listing::Request::ailing`] says?
#[inline(always)]
fn is_ailing(sk: *const c_void, state: u8) -> bool {
    if !matches!(state, ESTABLISHED | CLOSE_WAIT | FIN_WAIT1 | FIN_WAIT2 | CLOSING | LAST_ACK) {
        return false;
    }
    let Some(sock) = TcpSock::of_common(sk) else {
        return false; // a mini-socket
    };
    if matches!(state, ESTABLISHED | CLOSE_WAIT) && !sock.is_attached() {
        return true;
    }
    let (unread, unacked) = sock.queues(sock.flags());
    let is_held_up = unacked != 0 && sock.load::<u32, _>(member!(tcp_sock_snd_wnd)) == 0;
    if is_held_up || sock.load::<u8, _>(member!(inet_connection_sock_icsk_pending)) == PROBE0 {
        return true;
    }
    let received = sock.load_at(config!(layout.inet_connection_sock_icsk_ack_lrcvtime));
    unread != 0 && (jiffies() as u32).wrapping_sub(received) >= config!(hz)
}

#[inline(always)]
unsafe fn fill(entry: *mut SocketEntry, sk: *const c_void, uid: u32) {
    let common = SockCommon(Kernel::new(sk));
    // SAFETY: `entry` is a value of a map.
    unsafe {
        (*entry).sk = sk as u64;
        (*entry).cookie = common.cookie(sk);
        (*entry).uid = uid;
        if let Some(sock) = TcpSock::of_common(sk) {
            (*entry).kind = KIND_FULL;
            sock.tuple().write(&raw mut (*entry).socket, common.state(), sock.flags());
            fill_full(entry, sock);
        } else if let Some(mini) = mini(sk) {
            (*entry).kind = KIND_MINI;
            (*entry).timer = timer::TIME_WAIT;
            (*entry).timer_ticks = ticks_until(mini.load(member!(inet_timewait_sock_tw_timer_expires)));
            let substate = mini.load(member!(inet_timewait_sock_tw_substate));
            SockCommon(mini).tuple().write(&raw mut (*entry).socket, substate, 0);
        } else if let Some(request) = request(sk) {
            (*entry).kind = KIND_REQUEST;
            (*entry).timer = timer::RETRANSMIT;
            (*entry).timer_ticks = ticks_until(request.load(member!(request_sock_rsk_timer_expires)));
            (*entry).timeouts = request.load(member!(request_sock_num_retrans));
            SockCommon(request).tuple().write(&raw mut (*entry).socket, common.state(), 0);
        }
    }
}

/// What only full sockets have.
#[inline(always)]
unsafe fn fill_full(entry: *mut SocketEntry, sock: TcpSock) {
    let now = jiffies() as u32;
    let since = |offset: u32| now.wrapping_sub(sock.load_at(offset));
    // SAFETY: `entry` is a value of a map.
    unsafe {
        if config!(kernel) & kernel::MEMOS != 0
            && let Some(memo) = tracked::known(sock.memo_key())
        {
            mem::copy(&raw mut (*entry).owner, &raw const memo.owner);
            if memo.state == sock.common.state() {
                (*entry).entered_ns = memo.entered_ns;
            }
        }
        (*entry).mptcp_inode = sock.mptcp_inode();
        if sock.common.state() == LISTEN {
            (*entry).receive_queue = sock.load(member!(sock_sk_ack_backlog));
            (*entry).send_queue = sock.load(member!(sock_sk_max_ack_backlog));
            return;
        }
        (*entry).receive_queue = sock.positive_difference(member!(tcp_sock_rcv_nxt), member!(tcp_sock_copied_seq));
        (*entry).send_queue = sock.positive_difference(member!(tcp_sock_write_seq), member!(tcp_sock_snd_una));
        (*entry).bytes_acked = sock.bytes_acked();
        (*entry).bytes_received = sock.bytes_received();
        (*entry).last_sent_ticks = since(config!(layout.tcp_sock_lsndtime));
        (*entry).last_received_ticks = since(config!(layout.inet_connection_sock_icsk_ack_lrcvtime));
        (*entry).last_ack_ticks = since(config!(layout.tcp_sock_rcv_tstamp));
        (*entry).srtt_us8 = sock.srtt_us8();
        (*entry).total_retrans = sock.total_retrans();
        (*entry).timeouts = sock.timeouts();
        (*entry).probes = sock.load(member!(inet_connection_sock_icsk_probes_out));
        (*entry).rto_ticks = sock.load(member!(inet_connection_sock_icsk_rto));
        (*entry).backoff = sock.load(member!(inet_connection_sock_icsk_backoff));
        (*entry).user_timeout_ms = sock.load(member!(inet_connection_sock_icsk_user_timeout));
        (*entry).ulp = u8::from(sock.load::<u64, _>(member!(inet_connection_sock_icsk_ulp_ops)) != 0);
        (*entry).send_window = sock.load(member!(tcp_sock_snd_wnd));
        (*entry).unsent = sock.positive_difference(member!(tcp_sock_write_seq), member!(tcp_sock_snd_nxt));
        (*entry).receive_window = sock.load(member!(tcp_sock_rcv_wnd));
        if (*entry).socket.flags & socket_flag::KEEPALIVE != 0 {
            (*entry).keepalive_ticks = sock.load(member!(tcp_sock_keepalive_time));
            (*entry).keepalive_interval_ticks = sock.load(member!(tcp_sock_keepalive_intvl));
            (*entry).keepalive_probes = sock.load(member!(tcp_sock_keepalive_probes));
        }
        let (kind, expires) = running_timer(sock);
        if kind != timer::NONE {
            (*entry).timer = kind;
            (*entry).timer_ticks = ticks_until(expires);
        }
    }
}

/// `ICSK_TIME_PROBE0` of `include/net/inet_connection_sock.h`.
const PROBE0: u8 = 3;

/// The timer that sock_diag would tell of (`net/ipv4/inet_diag.c`, `inet_sk_diag_fill`), and when it ends, in jiffies.
#[inline(always)]
fn running_timer(sock: TcpSock) -> (u8, u64) {
    /// `ICSK_TIME_RETRANS`, `_LOSS_PROBE`, `_REO_TIMEOUT` of the same file.
    const RETRANS: u8 = 1;
    const LOSS_PROBE: u8 = 5;
    const REO_TIMEOUT: u8 = 6;
    match sock.load::<u8, _>(member!(inet_connection_sock_icsk_pending)) {
        RETRANS | LOSS_PROBE | REO_TIMEOUT => {
            (timer::RETRANSMIT, sock.load(member!(inet_connection_sock_icsk_timeout)))
        }
        PROBE0 => (timer::PROBE, sock.load(member!(inet_connection_sock_icsk_timeout))),
        _ if sock.load::<u64, _>(member!(sock_keepalive_pprev)) != 0 => {
            (timer::KEEPALIVE, sock.load(member!(sock_keepalive_expires)))
        }
        _ => (timer::NONE, 0),
    }
}

#[inline(always)]
fn ticks_until(expires: u64) -> i32 {
    (expires as u32).wrapping_sub(jiffies() as u32) as i32
}

/// Each descriptor of each process that refers to a TCP socket, of any network namespace.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn list_holders(ctx: *mut TaskFileContext) -> i32 {
    // SAFETY: as above.
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
    // SAFETY: the verifier knows the file as such.
    let socket = unsafe { bpf_sock_from_file(file.cast_mut().cast()) };
    if socket.is_null() {
        return 0;
    }
    let sk: *const c_void = Kernel::new(socket.cast_const().cast()).follow(member!(socket_sk)).pointer();
    if sk.is_null() {
        return 0;
    }
    let sock = TcpSock::new(sk);
    let is_mptcp = sock.is_none() && SockCommon(Kernel::new(sk)).protocol() == IPPROTO_MPTCP;
    if sock.is_none() && !is_mptcp {
        return 0; // another protocol
    }
    let Some(draft) = HOLDER_ENTRY.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: this CPU's own value, which nobody else writes: one thread reads this iterator.
    unsafe {
        let entry = &raw mut (*draft).entry;
        let session = (&raw const (*meta).session_id).read_volatile();
        if (*draft).session != session || (*draft).task != task as u64 {
            fill_holder(entry, Kernel::new(task));
            (*draft).session = session;
            (*draft).task = task as u64;
        }
        (*entry).fd = fd;
        (*entry).netns = netns_of(Kernel::new(sk));
        (*entry).sk = match sock {
            Some(sock) => sock.key,
            None => inode_of(socket as u64).unwrap_or(0),
        };
        if config!(kernel) & kernel::MEMOS != 0
            && let Some(sock) = sock
            && let Some(request) = REQUEST.get_ptr_mut(0)
            && (*request).seeding != 0
        {
            seed(sock, &*entry, task as u64, request, session);
        }
        bpf_seq_write((*meta).seq, entry.cast_const().cast(), size_of::<HolderEntry>() as u32);
    }
    0
}

#[inline(always)]
unsafe fn fill_holder(entry: *mut HolderEntry, task: Kernel) {
    let pid: u32 = task.load(member!(task_struct_tgid));
    let task = task.address();
    // SAFETY: `entry` is a value of a map.
    unsafe {
        (*entry).pid = pid;
        (*entry).ns_pid = own_pid(task).unwrap_or(pid);
        (*entry).uid = uid(task).unwrap_or(0);
        (*entry).cgroup = owner::cgroup_id(task).unwrap_or(0);
        (*entry).comm = owner::command(task).unwrap_or_default();
        (*entry).start = owner::start(task).unwrap_or(0);
    }
}

/// Real UID of a task.
#[inline(always)]
fn uid(task: u64) -> Option<u32> {
    let cred: u64 = read(task + u64::from(config!(layout.task_struct_real_cred)))?;
    read(cred + u64::from(config!(layout.cred_uid)))
}

/// PID of a task's process in its own PID namespace, the last of `pid.numbers` (`struct upid`, 16 bytes, the number
/// first).
#[inline(always)]
fn own_pid(task: u64) -> Option<u32> {
    let pid: u64 = read(owner::leader(task)? + u64::from(config!(layout.task_struct_thread_pid)))?;
    let level: u32 = read(pid + u64::from(config!(layout.pid_level)))?;
    read(pid + u64::from(config!(layout.pid_numbers)) + 16 * u64::from(level))
}

/// Makes the holder the owner of a socket that has none, as long as seeds are left: that, and no other socket, is at
/// this address, since the file is held while the iterator shows it.
///
/// # Safety
/// `request` is valid, and nobody else's while the iterator runs.
#[inline(always)]
unsafe fn seed(sock: TcpSock, holder: &HolderEntry, task: u64, request: *mut Request, session: u64) {
    let state = sock.common.state();
    // SAFETY: as the caller says.
    let seeds = unsafe { if (*request).seeding == 1 { (*request).seeds } else { 0 } };
    if state == state::CLOSE {
        return; // it has no memo before it connects or listens
    }
    let matches = owner::matches(holder.pid, || task);
    let memo = match tracked::known(sock.memo_key()) {
        Some(memo) => memo,
        None if !matches && state != LISTEN || seeds == 0 => return,
        None => {
            // SAFETY: as the caller says.
            unsafe { (*request).seeds = seeds - 1 };
            let Some(memo) = tracked::Place::of(sock.memo_key()).memo() else {
                return;
            };
            memo
        }
    };
    if state == LISTEN {
        seed_listener(memo, holder, session);
    } else if !seed_connection(memo, holder) {
        return; // the programs saw who uses it
    }
    if matches {
        memo.owner_matches = owner_match::YES;
    }
}

/// Gives whether the holder counts.
#[inline(always)]
fn seed_connection(memo: &mut Memo, holder: &HolderEntry) -> bool {
    let source = memo.owner.source;
    if source == owner_source::UNKNOWN {
        hold(memo, holder);
    } else if !matches!(source, owner_source::HOLDER | owner_source::SHARED) {
        return false;
    } else if memo.owner.pid != holder.pid {
        memo.owner.source = owner_source::SHARED;
    }
    true
}

/// A listener is of those that hold it now: who called `listen` may have ended, or executed another program. What is
/// kept of its last state's beginning, which nobody asks for while it listens, says in which run it was met last.
#[inline(always)]
fn seed_listener(memo: &mut Memo, holder: &HolderEntry, session: u64) {
    if memo.deferred_from != 0 {
        return; // that is asked for
    }
    let is_same = memo.owner.pid == holder.pid && memo.owner.start == holder.start;
    if memo.previous_ns == session {
        if !is_same {
            memo.owner.source = owner_source::SHARED;
        }
        return;
    }
    memo.previous_ns = session;
    if is_same && memo.owner.source == owner_source::LISTEN {
        memo.owner.comm = holder.comm;
    } else {
        hold(memo, holder);
    }
}

#[inline(always)]
fn hold(memo: &mut Memo, holder: &HolderEntry) {
    memo.owner.cgroup = holder.cgroup;
    memo.owner.pid = holder.pid;
    memo.owner.uid = holder.uid;
    memo.owner.source = owner_source::HOLDER;
    memo.owner.start = holder.start;
    memo.owner.comm = holder.comm;
}
