//! Why a connection ended, derived from the fields that the kernel leaves in the socket at →CLOSE.

use tcptrace_common::{
    record::socket_flag::{ATTACHED, DEAD, LINGER2_NEGATIVE, OWNED, SHUTDOWN_RECEIVE, SHUTDOWN_SEND},
    state::is_linger_abort,
};

use crate::model::state::State;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// Both sides closed, or a listener was closed.
    Normal,
    /// The peer answered the SYN with a RST (ECONNREFUSED).
    Refused,
    /// The peer sent a RST. Holds the positive errno: ECONNRESET, or EPIPE in CLOSE_WAIT.
    ResetByPeer(i32),
    /// Reset after this side had closed: by the peer's RST, or by our RST in reply to data that no process can read any
    /// more. The kernel leaves ECONNRESET in both cases (`net/ipv4/tcp_input.c`, `tcp_rcv_state_process`).
    ResetAfterClose,
    /// Retransmissions, keepalive probes or the user timeout ran out (ETIMEDOUT).
    TimedOut,
    /// Another error, as a positive errno, for example after ICMP unreachable.
    Failed(i32),
    /// This side closed, but the peer did not within tcp_fin_timeout, so the kernel dropped the connection.
    PeerNeverClosed,
    /// This side ended the connection other than by a FIN.
    Aborted(Abort),
    /// Matches none of the known patterns.
    Unknown,
}

/// How this side aborted a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Abort {
    /// `close` with SO_LINGER on and a linger time of 0.
    LingerZero,
    /// `close` with unread data in the receive queue.
    UnreadData,
    /// `connect` with AF_UNSPEC, or `shutdown` before the connection was established.
    Disconnect,
    /// `close` before the connection was established.
    BeforeEstablished,
    /// `connect` failed before a SYN was sent: no free local port, the address pair is in use, or no route.
    NeverSent,
    /// The listener was closed while the connection waited to be accepted.
    ListenerClosed,
    /// TCP_LINGER2 is negative: FIN_WAIT2 is skipped.
    Linger2,
    /// Too many orphaned sockets, or too little memory for them (`tcp_max_orphans`, `tcp_mem`).
    OrphanLimit,
    /// Destroyed from outside, for example by `ss -K` or a BPF program (ECONNABORTED).
    Destroyed,
    /// `close` in repair mode (TCP_REPAIR): nothing is sent to the peer.
    Repair,
}

impl CloseReason {
    /// Classifies a socket that went from `old` to CLOSE without leaving a timewait socket, by its `sk_err` and its
    /// [`tcptrace_common::record::socket_flag`]s. `syn_sent`: a connecting socket sent its SYN. `unread`: bytes left in
    /// the receive queue. The checks follow the order of `__tcp_close`, most certain first.
    #[must_use]
    pub fn classify(old: State, err: i32, flags: u16, syn_sent: bool, unread: u32) -> Self {
        let is = |flag: u16| flags & flag != 0;
        match err {
            0 => {}
            libc::ECONNREFUSED if old == State::SynSent => return Self::Refused,
            libc::ECONNABORTED => return Self::Aborted(Abort::Destroyed),
            libc::ETIMEDOUT => return Self::TimedOut,
            libc::ECONNRESET if matches!(old, State::FinWait1 | State::FinWait2) && is(SHUTDOWN_RECEIVE) => {
                return Self::ResetAfterClose;
            }
            libc::ECONNRESET | libc::EPIPE => return Self::ResetByPeer(err),
            errno => return Self::Failed(errno),
        }
        let closed_by_task = is(SHUTDOWN_SEND) && is(SHUTDOWN_RECEIVE);
        // `__tcp_close` goes straight to CLOSE for these two, and counts the bytes that it discards.
        let closed = Self::Aborted(if unread > 0 { Abort::UnreadData } else { Abort::Repair });
        match old {
            State::Listen | State::LastAck => Self::Normal,
            _ if is_linger_abort(flags) => Self::Aborted(Abort::LingerZero),
            State::SynSent if closed_by_task => Self::Aborted(Abort::BeforeEstablished),
            State::SynSent if is(OWNED) && !syn_sent => Self::Aborted(Abort::NeverSent),
            State::SynSent if is(OWNED) => Self::Aborted(Abort::Disconnect),
            State::SynRecv | State::Established | State::CloseWait => {
                if !is(ATTACHED) && !is(DEAD) {
                    Self::Aborted(Abort::ListenerClosed)
                } else if closed_by_task {
                    closed
                } else if is(OWNED) {
                    Self::Aborted(Abort::Disconnect)
                } else {
                    Self::Unknown
                }
            }
            // Still attached to a file: an orphan's aborts, below, come after the socket was detached from it.
            State::FinWait1 | State::FinWait2 if is(OWNED) && !is(DEAD) => {
                if closed_by_task {
                    closed
                } else {
                    Self::Aborted(Abort::Disconnect)
                }
            }
            State::FinWait1 | State::FinWait2 if is(LINGER2_NEGATIVE) => Self::Aborted(Abort::Linger2),
            State::FinWait1 if is(DEAD) => Self::Aborted(Abort::OrphanLimit),
            _ => Self::Unknown,
        }
    }

    /// Name in machine-readable outputs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Refused => "refused",
            Self::ResetByPeer(_) => "reset_by_peer",
            Self::ResetAfterClose => "reset_after_close",
            Self::TimedOut => "timed_out",
            Self::Failed(_) => "failed",
            Self::PeerNeverClosed => "peer_never_closed",
            Self::Aborted(how) => match how {
                Abort::LingerZero => "aborted_linger_zero",
                Abort::UnreadData => "aborted_unread_data",
                Abort::Disconnect => "aborted_disconnect",
                Abort::BeforeEstablished => "aborted_before_established",
                Abort::NeverSent => "aborted_never_sent",
                Abort::ListenerClosed => "aborted_listener_closed",
                Abort::Linger2 => "aborted_linger2",
                Abort::OrphanLimit => "aborted_orphan_limit",
                Abort::Destroyed => "aborted_destroyed",
                Abort::Repair => "aborted_repair",
            },
            Self::Unknown => "unknown",
        }
    }

    /// Description in text output.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Normal => "closed",
            Self::Refused => "refused by peer",
            Self::ResetByPeer(_) => "reset by peer",
            Self::ResetAfterClose => "reset after close",
            Self::TimedOut => "timed out",
            Self::Failed(_) => "failed",
            Self::PeerNeverClosed => "forgotten: the peer never closed",
            Self::Aborted(how) => match how {
                Abort::LingerZero => "aborted: close with SO_LINGER 0",
                Abort::UnreadData => "aborted: close with unread data",
                Abort::Disconnect => "aborted: connect(AF_UNSPEC), or shutdown while connecting",
                Abort::BeforeEstablished => "aborted: closed while connecting",
                Abort::NeverSent => "aborted: connect failed locally",
                Abort::ListenerClosed => "aborted: listener closed before accept",
                Abort::Linger2 => "aborted: TCP_LINGER2 < 0",
                Abort::OrphanLimit => "aborted: too many orphans",
                Abort::Destroyed => "aborted: socket destroyed from outside",
                Abort::Repair => "aborted: closed in repair mode, nothing sent",
            },
            Self::Unknown => "ended, reason unknown",
        }
    }

    /// The errno that the application gets for it, if there is one.
    #[must_use]
    pub const fn errno(self) -> Option<i32> {
        match self {
            Self::Refused => Some(libc::ECONNREFUSED),
            Self::ResetAfterClose => Some(libc::ECONNRESET),
            Self::TimedOut => Some(libc::ETIMEDOUT),
            Self::ResetByPeer(errno) | Self::Failed(errno) => Some(errno),
            Self::Aborted(Abort::Destroyed) => Some(libc::ECONNABORTED),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use tcptrace_common::record::socket_flag::{DONE, LINGER, LINGER_ZERO};
    use tcptrace_common::state::{self, after_close};

    use super::*;

    const CLOSED: u16 = SHUTDOWN_SEND | SHUTDOWN_RECEIVE | OWNED | ATTACHED;

    #[test]
    fn each_ending_is_told_by_its_facts() {
        use State::{CloseWait, Established, FinWait1, FinWait2, LastAck, Listen, SynRecv, SynSent};
        let cases = [
            (LastAck, 0, DEAD, CloseReason::Normal),
            (Listen, 0, CLOSED, CloseReason::Normal),
            (SynSent, libc::ECONNREFUSED, ATTACHED, CloseReason::Refused),
            (SynSent, libc::EHOSTUNREACH, ATTACHED, CloseReason::Failed(libc::EHOSTUNREACH)),
            (SynSent, libc::ETIMEDOUT, ATTACHED, CloseReason::TimedOut),
            (SynSent, 0, CLOSED, CloseReason::Aborted(Abort::BeforeEstablished)),
            (SynSent, 0, OWNED | ATTACHED, CloseReason::Aborted(Abort::Disconnect)),
            (FinWait2, 0, CLOSED | LINGER_ZERO, CloseReason::Aborted(Abort::UnreadData)),
            (FinWait2, 0, OWNED | ATTACHED | SHUTDOWN_SEND, CloseReason::Aborted(Abort::Disconnect)),
            (Established, libc::ECONNRESET, ATTACHED, CloseReason::ResetByPeer(libc::ECONNRESET)),
            (CloseWait, libc::EPIPE, ATTACHED, CloseReason::ResetByPeer(libc::EPIPE)),
            (FinWait2, libc::ECONNRESET, SHUTDOWN_RECEIVE | DEAD, CloseReason::ResetAfterClose),
            (FinWait2, libc::ECONNRESET, ATTACHED, CloseReason::ResetByPeer(libc::ECONNRESET)),
            (Established, libc::ECONNABORTED, OWNED, CloseReason::Aborted(Abort::Destroyed)),
            (Established, 0, CLOSED | LINGER | LINGER_ZERO, CloseReason::Aborted(Abort::LingerZero)),
            (Established, 0, CLOSED | LINGER_ZERO, CloseReason::Aborted(Abort::UnreadData)),
            (Established, 0, OWNED | ATTACHED, CloseReason::Aborted(Abort::Disconnect)),
            (Established, 0, 0, CloseReason::Aborted(Abort::ListenerClosed)),
            (SynRecv, 0, ATTACHED, CloseReason::Unknown),
            (FinWait2, 0, DEAD | LINGER2_NEGATIVE, CloseReason::Aborted(Abort::Linger2)),
            (FinWait1, 0, DEAD, CloseReason::Aborted(Abort::OrphanLimit)),
        ];
        for (old, err, flags, ending) in cases {
            assert_eq!(CloseReason::classify(old, err, flags, true, 1), ending, "{old} {err} {flags:#x}");
        }
        let never_sent = CloseReason::classify(SynSent, 0, OWNED | ATTACHED, false, 0);
        assert_eq!(never_sent, CloseReason::Aborted(Abort::NeverSent), "no port was to be had, or the ends are in use");
        let all_read = CloseReason::classify(Established, 0, CLOSED, true, 0);
        assert_eq!(all_read, CloseReason::Aborted(Abort::Repair), "nothing was thrown away, and no RST is sent");
    }

    #[test]
    fn mini_sockets_are_told_from_closed_ones() {
        let after = |old: State, err, flags| after_close(old as u8, err, flags);
        assert_eq!(after(State::FinWait2, 0, DONE | DEAD), state::TIME_WAIT);
        assert_eq!(after(State::Closing, 0, DONE), state::TIME_WAIT);
        assert_eq!(after(State::FinWait2, 0, DEAD), state::FIN_WAIT2);
        assert_eq!(after(State::FinWait2, 0, DEAD | LINGER2_NEGATIVE), state::CLOSE);
        assert_eq!(after(State::FinWait1, 0, DEAD), state::CLOSE);
        assert_eq!(after(State::FinWait1, 0, DONE | DEAD), state::TIME_WAIT);
        assert_eq!(after(State::FinWait2, libc::ECONNRESET, DONE), state::CLOSE);
        assert_eq!(after(State::FinWait2, 0, DONE | LINGER | LINGER_ZERO | OWNED), state::CLOSE);
        assert_eq!(after(State::LastAck, 0, DONE | DEAD), state::CLOSE);
        assert_eq!(after(State::Established, 0, DONE), state::CLOSE);
    }
}
