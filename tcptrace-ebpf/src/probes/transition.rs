//! Every change of a socket's state.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use aya_log_ebpf::{debug, trace};
use core::ffi::c_void;
use tcptrace_common::{
    memo::Memo,
    record::{KIND_TRANSITION, Transition, owner_source, socket_flag},
    state::{
        self, CLOSE, CLOSE_WAIT, CLOSING, ESTABLISHED, FIN_WAIT1, FIN_WAIT2, LAST_ACK, LISTEN, SYN_RECV, SYN_SENT,
    },
};

use crate::{
    aggregate, emit, filter, listeners, memos,
    owner::{self, Learned},
    sock::{IPPROTO_TCP, Kernel, SockCommon, TcpSock, Tuple},
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
    let key = memos::Key::of(sk as u64);
    let begins = old == CLOSE || old == LISTEN && new == SYN_RECV;
    let found = if begins { memos::begun(key) } else { memos::of(key) };
    let Some(found) = found else {
        return 0;
    };
    let memo = &mut *found.memo;
    // The cookie, not the address: the verifier lets a pointer be stored, but not be formatted.
    trace!(&ctx, "socket {}: {} -> {}", common.cookie(sk), old, new);
    learn_owner(memo, common, sk, (old, new));
    if new == ESTABLISHED {
        // Generates it, whether the filter lets this event pass or not: a mini-socket has its socket's cookie only where
        // that has one before it goes to CLOSE (`net/ipv4/inet_timewait_sock.c`, `inet_twsk_alloc`).
        common.cookie(sk);
    }
    let passes = filter::may_pass((old, new));
    let sock = if passes || memo.deferred_from != 0 { TcpSock::new(sk) } else { None };
    if let Some(sock) = sock
        && memo.deferred_from != 0
    {
        send_deferred(sock, sk, memo);
    }
    // Where another state was entered meanwhile (the kernel passed this program over), nobody knows when.
    let left_ns = if memo.state == old || memo.state == 0 { memo.entered_ns } else { 0 };
    memo.previous_ns = left_ns;
    memo.entered_ns = now_ns;
    memo.state = new;
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
        let cookies = if memo.syn_cookies != 0 { socket_flag::SYN_COOKIES } else { 0 };
        let flags = sock.flags() | at_end | memos::left_flag(memo) | cookies;
        send(sock, sk, memo, &tuple, &Change { old, new, left_ns, now_ns, flags, err: common.err() });
    }
    memos::let_go(memo);
    if new == CLOSE {
        found.end();
    }
    0
}

/// Is it the peer who acts? Then no owner is learnt, and no place becomes free; after SYN_RECV a transition may have been held
/// back, which goes out with the next one.
#[inline(always)]
fn teaches_nothing((old, new): (u8, u8)) -> bool {
    old != SYN_RECV && matches!(new, CLOSE_WAIT | FIN_WAIT2 | CLOSING)
}

/// Sends the transition into the present state that was held back, if its addresses are known now.
#[inline(always)]
pub(crate) fn send_deferred(sock: TcpSock, sk: *const c_void, memo: &mut Memo) {
    let change = take_deferred(sock, memo);
    send(sock, sk, memo, &sock.tuple(), &change);
}

/// The transition that was held back, which is so no more.
#[inline(always)]
pub(crate) fn take_deferred(sock: TcpSock, memo: &mut Memo) -> Change {
    let old = memo.deferred_from;
    memo.deferred_from = 0;
    Change { old, new: sock.common.state(), left_ns: memo.previous_ns, now_ns: memo.entered_ns, flags: 0, err: 0 }
}

pub(crate) struct Change {
    pub(crate) old: u8,
    pub(crate) new: u8,
    pub(crate) left_ns: u64,
    pub(crate) now_ns: u64,
    pub(crate) flags: u16,
    pub(crate) err: i32,
}

impl Change {
    /// Does it pass the filter?
    #[inline(always)]
    pub(crate) fn passes(&self, tuple: &Tuple, memo: &Memo) -> bool {
        let mut states = state::bit(self.old) | state::bit(self.new);
        if self.new == CLOSE {
            states |= state::bit(state::after_close(self.old, self.err, self.flags));
        }
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
        let (receive_queue, send_queue) = if state::CONNECTED & old != 0 { sock.queues(change.flags) } else { (0, 0) };
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

/// Sends a transition, or counts it, if it passes the filter.
#[inline(always)]
fn send(sock: TcpSock, sk: *const c_void, memo: &Memo, tuple: &Tuple, change: &Change) {
    if !change.passes(tuple, memo) {
        return;
    }
    if aggregate::is_on() {
        return aggregate::transition(sock, memo, change);
    }
    let facts = Facts::of(sock, change);
    emit::send::<Transition>(|record| {
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
            memos::write_owner(Some(memo), &raw mut (*record).owner);
            (*record).entered_ns = change.left_ns;
            (*record).bytes_acked = facts.bytes_acked;
            (*record).bytes_received = facts.bytes_received;
            (*record).srtt_us8 = facts.srtt_us8;
            (*record).total_retrans = facts.total_retrans;
            (*record).receive_queue = facts.receive_queue;
            (*record).send_queue = facts.send_queue;
            (*record).err = change.err;
            (*record).old = change.old;
            (*record).new = change.new;
            (*record).pad = [0; 2];
        }
    });
}

/// Learns who owns the socket where this transition shows it, and keeps the list of listeners.
#[inline(always)]
pub(crate) fn learn_owner(memo: &mut Memo, common: SockCommon, sk: *const c_void, (old, new): (u8, u8)) {
    match (old, new) {
        (CLOSE, SYN_SENT) if common.owned() => {
            owner::learn(memo, owner_source::CONNECT);
        }
        (_, LISTEN) => {
            if common.owned() {
                owner::learn(memo, owner_source::LISTEN);
            }
            if let Some(sock) = TcpSock::new(sk) {
                listeners::add(&sock.tuple(), memo);
            }
        }
        (LISTEN, CLOSE) => {
            if let Some(sock) = TcpSock::new(sk) {
                listeners::remove(&sock.tuple());
            }
        }
        (LISTEN, SYN_RECV) => {
            if let Some(sock) = TcpSock::new(sk) {
                memo.syn_cookies = sock.comes_after_syn_cookies().into();
                inherit(memo, sock);
            }
        }
        // Before 6.18 its addresses were not known then.
        (SYN_RECV, ESTABLISHED) if memo.owner.pid == 0 => {
            if let Some(sock) = TcpSock::new(sk) {
                inherit(memo, sock);
            }
        }
        // close() and shutdown() come this way, and nothing that acts on a socket from outside does.
        (_, FIN_WAIT1) | (_, LAST_ACK) if common.owned() => closes(memo, sk),
        // close() that aborts: it sets both shutdown bits first, unlike tcp_abort(), and leaves sk_err at 0, unlike
        // a RST that is processed while some task holds the lock.
        (ESTABLISHED | CLOSE_WAIT | SYN_SENT | SYN_RECV, CLOSE)
            if common.owned() && common.err() == 0 && common.is_shut_down() =>
        {
            closes(memo, sk);
        }
        _ => {}
    }
}

/// A socket that came in belongs to its listener's owner, but not one that some process has opened for itself: that is
/// attached to it. With SO_REUSEPORT there may be listeners on the same address that are older than this trace: whose it
/// is cannot be told.
#[inline(always)]
fn inherit(memo: &mut Memo, sock: TcpSock) {
    if !sock.is_attached() && !sock.common.shares_port() {
        listeners::inherit(&sock.tuple(), memo);
    }
}

/// The current task closes the socket.
#[inline(always)]
fn closes(memo: &mut Memo, sk: *const c_void) {
    let was_listeners = memo.owner.source == owner_source::LISTENER;
    if owner::learn(memo, owner_source::CLOSE) == Learned::Changed
        && was_listeners
        && let Some(sock) = TcpSock::new(sk)
    {
        listeners::doubt(&sock.tuple());
    }
}
