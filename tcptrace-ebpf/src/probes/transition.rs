//! Every change of a socket's state.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use aya_log_ebpf::{debug, trace};
use core::ffi::c_void;
use tcptrace_common::{
    record::{KIND_TRANSITION, Transition, owner_source, socket_flag},
    state::{
        self, CLOSE, CLOSE_WAIT, CLOSING, ESTABLISHED, FIN_WAIT1, FIN_WAIT2, LAST_ACK, LISTEN, SYN_RECV, SYN_SENT,
    },
    tracked::Memo,
};

use crate::{
    aggregate, emit, filter,
    kernel::sock::{IPPROTO_TCP, Kernel, SockCommon, TcpSock, Tuple},
    listeners,
    owner::{self, Learned},
    tracked::{self, Place},
};

/// `sock:inet_sock_set_state`: (sk, old state, new state).
#[btf_tracepoint(function = "inet_sock_set_state")]
pub(crate) fn transition(ctx: BtfTracePointContext) -> i32 {
    let sk: *const c_void = ctx.arg(0);
    let (old, new) = (ctx.arg::<i32>(1) as u8, ctx.arg::<i32>(2) as u8);
    if old == new {
        // No transition: close() after shutdown() sets the state that the socket is in (`net/ipv4/tcp.c`,
        // `tcp_close_state`; FIN_WAIT1, FIN_WAIT2, CLOSING and LAST_ACK on 5.10 to 7.2). Its clock must go on.
        return 0;
    }
    let common = SockCommon(Kernel::new(sk));
    if common.protocol() != IPPROTO_TCP {
        return 0; // DCCP, MPTCP, SCTP
    }
    let is_timed = filter::is_timed((old, new));
    if !is_timed && teaches_nothing((old, new)) {
        filter::count_filtered();
        return 0;
    }
    let now_ns = if is_timed { emit::now_ns() } else { 0 };
    let key = tracked::Key::of(sk as u64);
    let begins = old == CLOSE || old == LISTEN && new == SYN_RECV;
    let place = if begins { Place::begun(key) } else { Place::of(key) };
    // The cookie, not the address: the verifier lets a pointer be stored, but not be formatted.
    trace!(&ctx, "socket {}: {} -> {}", common.cookie(sk), old, new);
    let exit = learn(place, common, sk, (old, new));
    let Some(memo) = place.memo() else {
        return 0;
    };
    let passes = filter::may_pass((old, new));
    let sock =
        if passes || memo.deferred_from != 0 || asks_listeners(memo, (old, new)) { TcpSock::new(sk) } else { None };
    if let Some(sock) = sock {
        keep_listeners(memo, sock, sk, (old, new));
    }
    if new == ESTABLISHED && filter::minis_may_pass() {
        // Generates it, whether the filter lets this event pass or not: a mini-socket has its socket's cookie only where
        // that has one before it goes to CLOSE (`net/ipv4/inet_timewait_sock.c`, `inet_twsk_alloc`).
        common.cookie(sk);
    }
    if let Some(sock) = sock
        && memo.deferred_from != 0
    {
        let change = take_deferred(sock, memo);
        send(sock, sk, memo, &sock.tuple(), &change);
    }
    let left_ns = tracked::move_clock(memo, (old, new), now_ns);
    if let Some(sock) = sock
        && passes
    {
        if memo.netns_or_service == 0 {
            memo.netns_or_service = sock.netns();
        }
        let tuple = sock.tuple_in(memo.netns_or_service);
        let addresses_missing = new == SYN_RECV && tuple.remote_port == 0;
        if addresses_missing || matches!(new, SYN_SENT | LISTEN) && filter::waits_for_port(&tuple) {
            debug!(&ctx, "socket {}: {} -> {} waits for its addresses", sock.cookie(sk), old, new);
            memo.deferred_from = old;
            return 0;
        }
        let at_end = if new == CLOSE { sock.linger2_flag() } else { 0 };
        let exiting = if exit != 0 { socket_flag::EXITING } else { 0 };
        let flags = sock.flags() | at_end | exiting | tracked::flags(memo);
        let exit_signal = exit as u8;
        send(sock, sk, memo, &tuple, &Change { old, new, left_ns, now_ns, flags, err: common.err(), exit_signal });
    }
    tracked::let_go(memo);
    if new == CLOSE {
        place.end();
    }
    0
}

/// Does the peer act, so that no owner is learnt and no place becomes free? After SYN_RECV a transition may have been held
/// back, which goes out with the next one; after SYN_SENT only where that is told of, and so timed.
#[inline(always)]
fn teaches_nothing((old, new): (u8, u8)) -> bool {
    match new {
        CLOSE_WAIT | FIN_WAIT2 | CLOSING => old != SYN_RECV,
        ESTABLISHED => old == SYN_SENT && !filter::minis_may_pass(),
        _ => false,
    }
}

/// Sends or counts the transition into the present state that was held back, if its addresses are known now.
#[inline(always)]
pub(crate) fn tell_deferred(sock: TcpSock, sk: *const c_void, memo: &mut Memo) {
    let (change, tuple) = (take_deferred(sock, memo), sock.tuple());
    if aggregate::is_on() {
        count(sock, memo, &tuple, &change);
    } else {
        send(sock, sk, memo, &tuple, &change);
    }
}

/// Counts a transition if it passes the filter. Not inlined: in most runs nothing is counted.
#[inline(never)]
fn count(sock: TcpSock, memo: &Memo, tuple: &Tuple, change: &Change) {
    if change.passes(tuple, memo) {
        aggregate::transition(Some(sock), memo, change);
    }
}

/// The transition that was held back, which is so no more.
#[inline(always)]
pub(crate) fn take_deferred(sock: TcpSock, memo: &mut Memo) -> Change {
    let old = memo.deferred_from;
    memo.deferred_from = 0;
    Change {
        old,
        new: sock.common.state(),
        left_ns: memo.previous_ns,
        now_ns: memo.entered_ns,
        flags: 0,
        err: 0,
        exit_signal: 0,
    }
}

pub(crate) struct Change {
    pub(crate) old: u8,
    pub(crate) new: u8,
    pub(crate) left_ns: u64,
    pub(crate) now_ns: u64,
    pub(crate) flags: u16,
    pub(crate) err: i32,
    pub(crate) exit_signal: u8,
}

impl Change {
    /// Does it pass the filter?
    #[inline(always)]
    pub(crate) fn passes(&self, tuple: &Tuple, memo: &Memo) -> bool {
        let states = || {
            let becomes =
                if self.new == CLOSE { state::bit(state::after_close(self.old, self.err, self.flags)) } else { 0 };
            state::bit(self.old) | state::bit(self.new) | becomes
        };
        filter::passes(states, tuple, Some(memo))
    }
}

/// What a connection has done; all zero where none has begun.
#[derive(Default)]
struct Facts {
    bytes_acked: u64,
    bytes_received: u64,
    srtt_us8: u32,
    total_retrans: u32,
    receive_queue: u32,
    send_queue: u32,
}

impl Facts {
    #[inline(always)]
    fn of(sock: TcpSock, change: &Change) -> Self {
        let old = state::bit(change.old);
        if old & (state::bit(CLOSE) | state::bit(LISTEN)) != 0 {
            return Self::default();
        }
        let (receive_queue, send_queue) = if state::CONNECTED & old != 0 {
            sock.queues(change.flags)
        } else if change.old == SYN_SENT {
            (0, sock.unacked())
        } else {
            (0, 0)
        };
        Self {
            bytes_acked: sock.bytes_acked(),
            bytes_received: sock.bytes_received(),
            srtt_us8: sock.srtt_us8(),
            total_retrans: sock.total_retrans(),
            receive_queue,
            send_queue,
        }
    }
}

/// Sends a transition if it passes the filter.
#[inline(always)]
fn send(sock: TcpSock, sk: *const c_void, memo: &Memo, tuple: &Tuple, change: &Change) {
    if !change.passes(tuple, memo) {
        return;
    }
    let facts = Facts::of(sock, change);
    let Some(mut reserved) = emit::Reserved::<Transition>::take() else {
        return;
    };
    let record = reserved.as_mut_ptr();
    // SAFETY: `record` is a reserved record, and all of it is written.
    unsafe {
        emit::header::<Transition>(
            &raw mut (*record).header,
            KIND_TRANSITION,
            change.now_ns,
            sock.key,
            sock.cookie(sk),
        );
        tuple.write(&raw mut (*record).socket, change.old, change.flags);
        tracked::write_owner(Some(memo), &raw mut (*record).owner);
        (*record).entered_ns = change.left_ns;
        (*record).bytes_acked = facts.bytes_acked;
        (*record).bytes_received = facts.bytes_received;
        (*record).srtt_us8 = facts.srtt_us8;
        (*record).total_retrans = facts.total_retrans;
        (*record).receive_queue = facts.receive_queue;
        (*record).send_queue = facts.send_queue;
        (*record).err = change.err;
        // With the signal and the padding as one word.
        let states = u32::from(change.old) | u32::from(change.new) << 8 | u32::from(change.exit_signal) << 16;
        (&raw mut (*record).old).cast::<u32>().write(states.to_le());
    }
    reserved.submit();
}

/// Does this transition go by the list of listeners, or change it?
#[inline(always)]
fn asks_listeners(memo: &Memo, (old, new): (u8, u8)) -> bool {
    old == LISTEN || new == LISTEN || old == SYN_RECV && memo.owner.pid == 0
}

/// Learns who owns the socket where this transition shows it. Where the current task closes it: what
/// [`owner::exit_of_current`] tells.
#[inline(always)]
pub(crate) fn learn(place: Place, common: SockCommon, sk: *const c_void, states: (u8, u8)) -> u64 {
    let source = acts(common, states);
    if source != owner_source::UNKNOWN {
        let (learned, exit) = owner::learn(place, source);
        tell_listener(learned, place, sk);
        return exit;
    }
    if states == (LISTEN, CLOSE) && common.owned() { owner::exit_of_current() } else { 0 }
}

/// What was learnt of a connection that came in may be news of its listener.
#[inline(always)]
pub(crate) fn tell_listener(learned: Learned, place: Place, sk: *const c_void) {
    if matches!(learned, Learned::ChangedFromListener | Learned::RenamedFromListener)
        && let Some(sock) = TcpSock::new(sk)
    {
        listeners::learn(sk, sock.tcp_pointer(), place.number(), learned == Learned::RenamedFromListener);
    }
}

/// Keeps the list of listeners, and gives a connection that comes in its owner.
#[inline(always)]
pub(crate) fn keep_listeners(memo: &mut Memo, sock: TcpSock, sk: *const c_void, states: (u8, u8)) {
    if asks_listeners(memo, states) {
        keep(memo, sk, sock.tcp_pointer(), u64::from(states.0) << 8 | u64::from(states.1));
    }
}

/// Not inlined: its addresses and keys would take too much of the one stack of a program and all that it calls, which
/// kernels before 6.6 count in pieces of 32 bytes (`kernel/bpf/verifier.c`, `check_max_stack_depth`).
#[inline(never)]
fn keep(memo: &mut Memo, sk: *const c_void, tcp: *const c_void, states: u64) {
    let sock = TcpSock::of_both(sk, tcp);
    match ((states >> 8) as u8, states as u8) {
        (_, LISTEN) => listeners::add(&sock.tuple(), memo, sock.memo_key()),
        (LISTEN, CLOSE) => listeners::remove(&sock.tuple()),
        (LISTEN, SYN_RECV) => {
            memo.syn_cookies = sock.comes_after_syn_cookies().into();
            if !sock.is_attached() {
                listeners::inherit_from(sock, memo);
            }
        }
        // Before 6.18 its addresses were not known then. With SO_REUSEPORT there may be listeners on the same address that
        // nothing is known of: whose it is cannot be told. What some process has opened for itself is attached to it.
        (SYN_RECV, ESTABLISHED) if memo.owner.pid == 0 && !sock.is_attached() && !sock.common.shares_port() => {
            listeners::inherit(&sock.tuple(), memo);
        }
        _ => {}
    }
}

/// What the current task does to the socket in this transition, as a source of its owner; unknown where it is mostly a
/// bystander.
#[inline(always)]
fn acts(common: SockCommon, (old, new): (u8, u8)) -> u8 {
    match (old, new) {
        _ if !common.owned() => owner_source::UNKNOWN,
        (CLOSE, SYN_SENT) => owner_source::CONNECT,
        (_, LISTEN) => owner_source::LISTEN,
        // close() and shutdown() come this way, and nothing that acts on a socket from outside does.
        (_, FIN_WAIT1 | LAST_ACK) => owner_source::CLOSE,
        // close() that aborts: it sets both shutdown bits first, unlike tcp_abort(), and leaves sk_err at 0, unlike
        // a RST that is processed while some task holds the lock.
        (ESTABLISHED | CLOSE_WAIT | SYN_SENT | SYN_RECV, CLOSE) if common.err() == 0 && common.is_shut_down() => {
            owner_source::CLOSE
        }
        _ => owner_source::UNKNOWN,
    }
}
