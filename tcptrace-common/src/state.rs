//! TCP states as the kernel numbers them (`include/net/tcp_states.h`; RFC 9293 section 3.3.2).

use crate::record::socket_flag;

/// `TCP_ESTABLISHED`.
pub const ESTABLISHED: u8 = 1;
/// `TCP_SYN_SENT`.
pub const SYN_SENT: u8 = 2;
/// `TCP_SYN_RECV`.
pub const SYN_RECV: u8 = 3;
/// `TCP_FIN_WAIT1`.
pub const FIN_WAIT1: u8 = 4;
/// `TCP_FIN_WAIT2`.
pub const FIN_WAIT2: u8 = 5;
/// `TCP_TIME_WAIT`. No full socket is ever in this state: the kernel creates a mini-socket and closes the full one.
pub const TIME_WAIT: u8 = 6;
/// `TCP_CLOSE`.
pub const CLOSE: u8 = 7;
/// `TCP_CLOSE_WAIT`.
pub const CLOSE_WAIT: u8 = 8;
/// `TCP_LAST_ACK`.
pub const LAST_ACK: u8 = 9;
/// `TCP_LISTEN`.
pub const LISTEN: u8 = 10;
/// `TCP_CLOSING`.
pub const CLOSING: u8 = 11;
/// `TCP_NEW_SYN_RECV`: a request socket, not yet a full one.
pub const NEW_SYN_RECV: u8 = 12;

/// The bit of `state` in a mask of states; 0 for states that do not exist.
#[inline(always)]
pub const fn bit(state: u8) -> u16 {
    if state < 16 { 1 << state } else { 0 }
}

/// States of full sockets whose connection was established, as [`bit`]s.
pub const CONNECTED: u16 =
    bit(ESTABLISHED) | bit(FIN_WAIT1) | bit(FIN_WAIT2) | bit(CLOSE_WAIT) | bit(LAST_ACK) | bit(CLOSING);

/// The states whose start time is needed to report how long a socket was in the old state of each transition into or out of
/// `states` (0: all): these states and their predecessors, as [`bit`]s.
#[must_use]
pub const fn timed_states(states: u16) -> u16 {
    const ALL: u16 = u16::MAX;
    if states == 0 || states & bit(CLOSE) != 0 {
        return ALL; // any state may end there
    }
    const fn predecessors(states: u16, to: u16, from: u16) -> u16 {
        if states & to != 0 { from } else { 0 }
    }
    states
        | predecessors(states, bit(SYN_SENT) | bit(LISTEN), bit(CLOSE))
        | predecessors(states, bit(SYN_RECV), bit(CLOSE) | bit(LISTEN) | bit(SYN_SENT))
        | predecessors(states, bit(ESTABLISHED), bit(SYN_SENT) | bit(SYN_RECV))
        | predecessors(states, bit(FIN_WAIT1) | bit(CLOSE_WAIT), bit(ESTABLISHED) | bit(SYN_RECV))
        | predecessors(states, bit(LAST_ACK), bit(CLOSE_WAIT))
        | predecessors(states, bit(FIN_WAIT2) | bit(CLOSING), bit(FIN_WAIT1))
        | predecessors(states, bit(TIME_WAIT), bit(FIN_WAIT1) | bit(FIN_WAIT2) | bit(CLOSING))
}

/// The state of the connection after a transition from `old` to CLOSE: [`TIME_WAIT`] or [`FIN_WAIT2`] if the kernel replaced
/// the socket by a mini-socket (`net/ipv4/tcp_minisocks.c`, `tcp_time_wait`), else [`CLOSE`].
///
/// `err` is `sk_err`, `flags` are [`socket_flag`]s, both read at the transition. The kernel creates the mini-socket in the
/// same call, so the result is inferred, not observed; it was right in all tests on 5.10 to 7.2. If the table of TIME_WAIT
/// sockets is full (`tcp_max_tw_buckets`), the kernel creates no mini-socket, which cannot be seen here.
#[inline(always)]
pub const fn after_close(old: u8, err: i32, flags: u16) -> u8 {
    if !matches!(old, FIN_WAIT1 | FIN_WAIT2 | CLOSING) || err != 0 {
        return CLOSE;
    }
    if is_linger_abort(flags) {
        return CLOSE;
    }
    if flags & socket_flag::DONE != 0 {
        return TIME_WAIT;
    }
    if flags & socket_flag::LINGER2_NEGATIVE != 0 || old == FIN_WAIT1 {
        return CLOSE;
    }
    if flags & socket_flag::DEAD != 0 { FIN_WAIT2 } else { CLOSE }
}

/// Whether a socket that leaves `old` comes from a passive open. During the handshake it was a request socket; the full
/// socket, created at the end, passes through SYN_RECV within microseconds and no process has it yet. After a simultaneous
/// open a socket really is in SYN_RECV, and a process has it.
#[inline(always)]
pub const fn is_passive_open(old: u8, flags: u16) -> bool {
    old == SYN_RECV && flags & socket_flag::ATTACHED == 0
}

/// Whether close() sends a RST because SO_LINGER is on with a time of 0 (`net/ipv4/tcp.c`, `__tcp_close`).
#[inline(always)]
pub const fn is_linger_abort(flags: u16) -> bool {
    use socket_flag::{DEAD, LINGER, LINGER_ZERO, OWNED};
    flags & (LINGER | LINGER_ZERO | OWNED | DEAD) == LINGER | LINGER_ZERO | OWNED
}
