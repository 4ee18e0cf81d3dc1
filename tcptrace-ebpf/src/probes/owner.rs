//! Hooks that show which process uses a connection that came in.

use aya_ebpf::{
    macros::{btf_tracepoint, fexit},
    programs::{BtfTracePointContext, FExitContext},
};
use core::ffi::c_void;
use tcptrace_common::{
    record::{KIND_OWNER, OwnerChange, owner_source},
    state,
    tracked::Memo,
};

use crate::{
    aggregate, emit, filter,
    kernel::sock::{IPPROTO_TCP, Kernel, SockCommon, TcpSock},
    owner::{self, Learned},
    probes::transition::tell_listener,
    tracked::{self, Place},
};

/// A process reads from the socket (`net/ipv4/tcp_input.c`, `tcp_rcv_space_adjust`): on all kernels, and cheap, but
/// blind to processes that never read. Called in softirqs too (TLS, strparser), where the lock is not owned.
#[btf_tracepoint(function = "tcp_rcv_space_adjust")]
pub(crate) fn read(ctx: BtfTracePointContext) -> i32 {
    let sk: *const c_void = ctx.arg(0);
    if !SockCommon(Kernel::new(sk)).owned() {
        return 0;
    }
    let known = Place::known(tracked::Key::of(sk as u64));
    if let Some(memo) = known.and_then(Place::memo)
        && !owner::is_news(memo, owner_source::IO)
    {
        return 0; // as nearly always
    }
    attribute(sk, known, owner_source::IO);
    0
}

/// `struct sock *inet_csk_accept(sk, arg)`, from 6.10 on: what it returns stands behind its two arguments.
#[fexit(function = "inet_csk_accept")]
pub(crate) fn accept_2(ctx: FExitContext) -> i32 {
    accepted(ctx.arg(2))
}

/// `struct sock *inet_csk_accept(sk, flags, err, kern)`, before 6.10.
#[fexit(function = "inet_csk_accept")]
pub(crate) fn accept_4(ctx: FExitContext) -> i32 {
    accepted(ctx.arg(4))
}

#[inline(always)]
fn accepted(sk: *const c_void) -> i32 {
    if sk.is_null() {
        return 0; // accept failed
    }
    if SockCommon(Kernel::new(sk)).protocol() == IPPROTO_TCP {
        attribute(sk, None, owner_source::ACCEPT);
    }
    0
}

/// The current task uses the socket, whose memo may be known already. User space is told where that is another process
/// than it was told before.
#[inline(always)]
fn attribute(sk: *const c_void, known: Option<Place>, source: u8) {
    if SockCommon(Kernel::new(sk)).state() == state::CLOSE {
        return; // what was received before the end is read after it
    }
    let place = known.unwrap_or_else(|| Place::of(tracked::Key::of(sk as u64)));
    let Some(memo) = place.memo() else {
        return;
    };
    let known_before = memo.owner.pid != 0 || memo.state != 0; // a memo made now is blank
    let (learned, _) = owner::learn(place, source);
    tell_listener(learned, place, sk);
    let Some(memo) = place.memo() else {
        return;
    };
    if matches!(learned, Learned::Changed | Learned::ChangedFromListener)
        && known_before
        && !aggregate::is_on()
        && let Some(sock) = TcpSock::new(sk)
    {
        send(sock, sk, memo);
    }
    tracked::let_go(memo);
}

#[inline(always)]
fn send(sock: TcpSock, sk: *const c_void, memo: &Memo) {
    let tuple = sock.tuple();
    let current = sock.common.state();
    if !filter::passes(|| state::bit(current), &tuple, Some(memo)) {
        return;
    }
    emit::send::<OwnerChange>(|record| {
        // SAFETY: `record` is a reserved record, and all of it is written.
        unsafe {
            emit::header::<OwnerChange>(
                &raw mut (*record).header,
                KIND_OWNER,
                emit::now_ns(),
                sock.key,
                sock.cookie(sk),
            );
            let flags = sock.flags() | tracked::flags(memo);
            tuple.write(&raw mut (*record).socket, current, flags);
            tracked::write_owner(Some(memo), &raw mut (*record).owner);
        }
    });
}
