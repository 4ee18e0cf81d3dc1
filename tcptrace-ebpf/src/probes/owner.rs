//! Reads and accepts, which show the process that uses a connection.

use aya_ebpf::{
    macros::{btf_tracepoint, fexit},
    programs::{BtfTracePointContext, FExitContext},
};
use core::ffi::c_void;
use tcptrace_common::{
    record::{KIND_OWNER, OwnerChange, owner_source},
    state,
    tracked::TrackedSock,
};

use crate::{
    aggregate, attribution, emit, filter,
    kernel::{
        clock::now_ns,
        ptr::KernelPtr,
        sock::{IPPROTO_TCP, SockCommon, SockKey, TcpSock},
    },
    owner::{self, Inferred},
    tracked::{self, Entry},
};

/// `tcp_rcv_space_adjust` (`net/ipv4/tcp_input.c`): a process reads from the socket. The tracepoint is cheap and exists on all
/// kernels, but misses processes that never read. Softirqs call it too (TLS, strparser), without owning the lock.
#[btf_tracepoint(function = "tcp_rcv_space_adjust")]
fn read(ctx: BtfTracePointContext) -> i32 {
    let sk: *const c_void = ctx.arg(0);
    if !SockCommon(KernelPtr::new(sk)).is_owned() {
        return 0;
    }
    let found = Entry::find(SockKey::of(sk as u64));
    if let Some(tracked) = found.and_then(Entry::get)
        && !owner::is_news(tracked, owner_source::IO)
    {
        return 0; // the usual case
    }
    attribute(sk, found, owner_source::IO);
    0
}

/// `struct sock *inet_csk_accept(sk, arg)`, since 6.10. The result follows the two arguments.
#[fexit(function = "inet_csk_accept")]
fn accept_2(ctx: FExitContext) -> i32 {
    accepted(ctx.arg(2))
}

/// `struct sock *inet_csk_accept(sk, flags, err, kern)`, before 6.10.
#[fexit(function = "inet_csk_accept")]
fn accept_4(ctx: FExitContext) -> i32 {
    accepted(ctx.arg(4))
}

#[inline(always)]
fn accepted(sk: *const c_void) -> i32 {
    if sk.is_null() {
        return 0; // accept() failed
    }
    if SockCommon(KernelPtr::new(sk)).protocol() == IPPROTO_TCP {
        attribute(sk, None, owner_source::ACCEPT);
    }
    0
}

/// Makes the current task's process the owner, and sends a record if the owner changed. `found` is the socket's entry, if
/// already looked up.
#[inline(always)]
fn attribute(sk: *const c_void, found: Option<Entry>, source: u8) {
    if SockCommon(KernelPtr::new(sk)).state() == state::CLOSE {
        return; // the process reads what arrived before the end
    }
    let entry = found.unwrap_or_else(|| Entry::of(SockKey::of(sk as u64)));
    let Some(tracked) = entry.get() else {
        return;
    };
    let known_before = tracked.owner.pid != 0 || tracked.state != 0; // a new entry is all zero
    let (inferred, _) = owner::infer(entry, source);
    attribution::update_listener(inferred, entry, sk);
    let Some(tracked) = entry.get() else {
        return;
    };
    if matches!(inferred, Inferred::Changed | Inferred::ChangedFromListener)
        && known_before
        && !aggregate::is_on()
        && let Some(sock) = TcpSock::new(sk)
    {
        emit_owner(sock, sk, tracked);
    }
    tracked::forget_if_owner_left(tracked);
}

/// Sends the new owner if the socket passes the filter.
#[inline(always)]
fn emit_owner(sock: TcpSock, sk: *const c_void, tracked: &TrackedSock) {
    let tuple = sock.tuple();
    let current = sock.common.state();
    if !filter::passes(|| state::bit(current), &tuple, Some(tracked)) {
        return;
    }
    emit::send::<OwnerChange>(|record| {
        // SAFETY: `record` is a reserved record, and all of it is written.
        unsafe {
            emit::write_header::<OwnerChange>(
                &raw mut (*record).header,
                KIND_OWNER,
                now_ns(),
                sock.address,
                sock.cookie(sk),
            );
            let flags = sock.flags() | tracked::flags(tracked);
            tuple.write(&raw mut (*record).socket, current, flags);
            tracked::write_owner(Some(tracked), &raw mut (*record).owner);
        }
    });
}
