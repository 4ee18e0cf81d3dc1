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
/// `TCP_TIME_WAIT`. No full socket is ever in it: the kernel makes a mini-socket and closes the full one.
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

/// A bit for `state` in a mask of states; states that do not exist have no bit.
#[inline(always)]
pub const fn bit(state: u8) -> u16 {
    if state < 16 { 1 << state } else { 0 }
}

/// The states of full sockets whose connection was established, as [`bit`]s.
pub const CONNECTED: u16 =
    bit(ESTABLISHED) | bit(FIN_WAIT1) | bit(FIN_WAIT2) | bit(CLOSE_WAIT) | bit(LAST_ACK) | bit(CLOSING);

/// The states whose beginning must be known to tell how long a socket was in what it leaves, where transitions into and out
/// of `states` are told (0: all): these states, and those that lead to them, by [`bit`].
#[must_use]
pub const fn timed(states: u16) -> u16 {
    const ALL: u16 = u16::MAX;
    if states == 0 || states & bit(CLOSE) != 0 {
        return ALL; // any state may end there
    }
    const fn leads(states: u16, to: u16, from: u16) -> u16 {
        if states & to != 0 { from } else { 0 }
    }
    states
        | leads(states, bit(SYN_SENT) | bit(LISTEN), bit(CLOSE))
        | leads(states, bit(SYN_RECV), bit(CLOSE) | bit(LISTEN) | bit(SYN_SENT))
        | leads(states, bit(ESTABLISHED), bit(SYN_SENT) | bit(SYN_RECV))
        | leads(states, bit(FIN_WAIT1) | bit(CLOSE_WAIT), bit(ESTABLISHED) | bit(SYN_RECV))
        | leads(states, bit(LAST_ACK), bit(CLOSE_WAIT))
        | leads(states, bit(FIN_WAIT2) | bit(CLOSING), bit(FIN_WAIT1))
        | leads(states, bit(TIME_WAIT), bit(FIN_WAIT1) | bit(FIN_WAIT2) | bit(CLOSING))
}

/// What the tracepoint's CLOSE means for a socket that was in `old`: [`TIME_WAIT`] or [`FIN_WAIT2`] where the kernel
/// put a mini-socket in its place (`net/ipv4/tcp_minisocks.c`, `tcp_time_wait`), else [`CLOSE`].
///
/// `err` is `sk_err`, `flags` are bits of [`socket_flag`], all read at the transition. The kernel makes the mini-socket
/// in the same call, so this is inferred, not observed; it was right for all endings tried on 5.10 to 7.2. With the
/// table of TIME_WAIT sockets full (`tcp_max_tw_buckets`) the mini-socket is missing and nothing here shows it.
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

/// Did the connection of a socket that leaves `old` come in? It was a request socket while it was in SYN_RECV; its full
/// socket is made when the handshake is over, and passes through SYN_RECV within microseconds. No process has it yet,
/// unlike the socket of a simultaneous open, which really is in SYN_RECV.
#[inline(always)]
pub const fn came_in(old: u8, flags: u16) -> bool {
    old == SYN_RECV && flags & socket_flag::ATTACHED == 0
}

/// Is this the close of a socket with SO_LINGER and a time of 0, which sends a RST (`__tcp_close`)?
#[inline(always)]
pub const fn is_linger_abort(flags: u16) -> bool {
    use socket_flag::{DEAD, LINGER, LINGER_ZERO, OWNED};
    flags & (LINGER | LINGER_ZERO | OWNED | DEAD) == LINGER | LINGER_ZERO | OWNED
}
