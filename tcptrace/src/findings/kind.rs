//! The troubles that have a name.

use std::str::FromStr;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Good to know; nothing breaks.
    Info,
    /// Something is wrong, and will get worse or has failed.
    Warning,
    /// Service is being refused, or will be soon.
    Critical,
}

impl Severity {
    /// Name in all outputs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

macro_rules! kinds {
    ($($variant:ident = $id:literal: $doc:literal),* $(,)?) => {
        /// A trouble.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $(#[doc = $doc] $variant),*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its identifier in all outputs, which never changes.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self {
                    $(Self::$variant => $id),*
                }
            }

            /// Where the documentation tells of it.
            #[must_use]
            pub const fn docs(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!("docs/findings.md#", $id)),*
                }
            }
        }
    };
}

kinds! {
    CloseWaitLeak = "close-wait-leak": "The peer closed, the application does not.",
    FinWait2Stuck = "fin-wait2-stuck": "This side closed, the peer does not.",
    FinWait1Stuck = "fin-wait1-stuck": "The FIN of this side is not acknowledged.",
    LastAckLost = "last-ack-lost": "The same in LAST_ACK: both sides closed, and the last acknowledgement does not come.",
    SynSentUnanswered = "syn-sent-unanswered": "SYNs get no answer.",
    ConnectRefused = "connect-refused": "A SYN was answered with a RST.",
    ConnectFailed = "connect-failed": "`connect` failed: no answer in time, or unreachable.",
    SynFlood = "syn-flood": "A listener has many half-open connections.",
    AcceptQueueFull = "accept-queue-full": "A listener's process does not accept fast enough.",
    AcceptStalled = "accept-stalled": "Connections wait to be accepted, and nobody accepts them.",
    ReadStalled = "read-stalled": "Data lies unread in connections that a process accepted.",
    ZeroWindow = "zero-window": "The receiver does not read: its window is closed, and the sender waits.",
    HalfOpen = "half-open": "Nothing was heard for long, and nobody asks whether the peer is still there.",
    PeerDead = "peer-dead": "Data is sent again and again, and no answer comes.",
    KeepaliveTimeout = "keepalive-timeout": "Keepalive probes went unanswered, and the kernel ended the connection.",
    IdleReset = "idle-reset": "The first segment after a long silence was answered with a RST.",
    ResetByPeer = "reset-by-peer": "The peer sent a RST.",
    AbortedClose = "aborted-close": "This side closed by a RST.",
    WriteAfterClose = "write-after-close": "Data was sent to a peer that had closed, and answered with a RST.",
    ProcessKilled = "process-killed": "A signal ended a process, and its connections with it.",
    SelfConnect = "self-connect": "A socket is connected to itself.",
    TimeWaitPressure = "time-wait-pressure": "TIME_WAIT takes the local ports toward one destination.",
    RetransmitStorm = "retransmit-storm": "Many segments are lost on the way.",
    ForeignListener = "foreign-listener": "Something listens where nothing is expected to.",
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = || Self::ALL.iter().map(|kind| kind.id()).collect::<Vec<_>>().join(", ");
        let found = Self::ALL.iter().copied().find(|kind| kind.id() == text);
        found.ok_or_else(|| format!("`{text}` is no finding: there are {}", all()))
    }
}

impl Kind {
    /// Does it count connections that are over, each with a cause of its own?
    pub(super) const fn is_of_failures(self) -> bool {
        use Kind::{AbortedClose, ConnectFailed, ConnectRefused, IdleReset, ResetByPeer, WriteAfterClose};
        matches!(self, ConnectRefused | ConnectFailed | IdleReset | ResetByPeer | AbortedClose | WriteAfterClose)
    }

    /// For how long evidence is waited for at most, in ns. Where there may be no trouble at all, it is worth more time.
    #[must_use]
    pub const fn patience_ns(self) -> u64 {
        match self {
            Self::CloseWaitLeak | Self::FinWait2Stuck => 10_000_000_000,
            Self::ReadStalled | Self::ZeroWindow => 3_000_000_000,
            _ => 900_000_000,
        }
    }

    /// How long it stays open after it was seen last, in ns: what comes and goes within that is one finding. What only polls
    /// show may come and go between two of them.
    #[must_use]
    pub const fn hold_ns(self) -> u64 {
        match self {
            Self::AcceptQueueFull
            | Self::AcceptStalled
            | Self::ReadStalled
            | Self::ZeroWindow
            | Self::SynFlood
            | Self::TimeWaitPressure => 3_000_000_000,
            _ => 2_000_000_000,
        }
    }
}
