//! Attributes sockets to processes by their transitions: infers the owner, and keeps the list of listeners.

use core::ffi::c_void;
use tcptrace_common::{
    record::owner_source,
    state::{CLOSE, CLOSE_WAIT, ESTABLISHED, FIN_WAIT1, LAST_ACK, LISTEN, SYN_RECV, SYN_SENT},
    tracked::TrackedSock,
};

use crate::{
    kernel::{
        sock::{SockCommon, TcpSock},
        task,
    },
    listeners,
    owner::{self, Inferred},
    tracked::Entry,
};

/// Infers the owner from a transition. If the current task closes the socket, returns the result of
/// [`task::exit_of_current`], else 0.
#[inline(always)]
pub(crate) fn infer_owner(entry: Entry, common: SockCommon, sk: *const c_void, states: (u8, u8)) -> u64 {
    let source = action_of_current_task(common, states);
    if source != owner_source::UNKNOWN {
        let (inferred, exit) = owner::infer(entry, source);
        update_listener(inferred, entry, sk);
        return exit;
    }
    if states == (LISTEN, CLOSE) && common.is_owned() { task::exit_of_current() } else { 0 }
}

/// Updates the listener of a connection if its owner reveals something about it.
#[inline(always)]
pub(crate) fn update_listener(inferred: Inferred, entry: Entry, sk: *const c_void) {
    if matches!(inferred, Inferred::ChangedFromListener | Inferred::RenamedFromListener)
        && let Some(sock) = TcpSock::new(sk)
    {
        listeners::update(sk, sock.tcp_ptr(), entry.0, inferred == Inferred::RenamedFromListener);
    }
}

/// Whether [`update_listeners`] has anything to do.
#[inline(always)]
pub(crate) fn involves_listener(tracked: &TrackedSock, (old, new): (u8, u8)) -> bool {
    old == LISTEN || new == LISTEN || old == SYN_RECV && tracked.owner.pid == 0
}

/// Adds and removes listeners, and gives a new connection its listener's owner.
#[inline(always)]
pub(crate) fn update_listeners(tracked: &mut TrackedSock, sock: TcpSock, sk: *const c_void, states: (u8, u8)) {
    if involves_listener(tracked, states) {
        update_involved(tracked, sk, sock.tcp_ptr(), u64::from(states.0) << 8 | u64::from(states.1));
    }
}

/// Not inlined: its addresses and keys would take too much stack. All functions on a call path share one, and kernels before
/// 6.6 round up each frame to 32 bytes (`kernel/bpf/verifier.c`, `check_max_stack_depth`).
#[inline(never)]
fn update_involved(tracked: &mut TrackedSock, sk: *const c_void, tcp: *const c_void, states: u64) {
    let sock = TcpSock::from_parts(sk, tcp);
    match ((states >> 8) as u8, states as u8) {
        (_, LISTEN) => listeners::add(&sock.tuple(), tracked, sock.key()),
        (LISTEN, CLOSE) => listeners::remove(&sock.tuple()),
        (LISTEN, SYN_RECV) => {
            tracked.syn_cookies = sock.follows_syn_cookies().into();
            if !sock.is_attached() {
                listeners::inherit(sock, tracked);
            }
        }
        // Before 6.18 the addresses were not known at LISTEN→SYN_RECV. With SO_REUSEPORT there may be unknown listeners on
        // the same address, so the address does not determine the owner. A socket that a process opened is attached to it.
        (SYN_RECV, ESTABLISHED) if tracked.owner.pid == 0 && !sock.is_attached() && !sock.common.has_reuseport() => {
            listeners::inherit_by_address(&sock.tuple(), tracked);
        }
        _ => {}
    }
}

/// The action by which the current task causes this transition, as an [`owner_source`]; unknown if another task or a softirq
/// may cause it.
#[inline(always)]
fn action_of_current_task(common: SockCommon, (old, new): (u8, u8)) -> u8 {
    match (old, new) {
        _ if !common.is_owned() => owner_source::UNKNOWN,
        (CLOSE, SYN_SENT) => owner_source::CONNECT,
        (_, LISTEN) => owner_source::LISTEN,
        // Only close() and shutdown() come this way.
        (_, FIN_WAIT1 | LAST_ACK) => owner_source::CLOSE,
        // A close() that aborts. Unlike tcp_abort() it sets both shutdown bits first; unlike a RST that is processed while a
        // task holds the lock, it leaves sk_err at 0.
        (ESTABLISHED | CLOSE_WAIT | SYN_SENT | SYN_RECV, CLOSE) if common.err() == 0 && common.is_shut_down() => {
            owner_source::CLOSE
        }
        _ => owner_source::UNKNOWN,
    }
}
