//! The kinds of findings, and their severity.

use std::str::FromStr;

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing; nothing breaks.
    Info,
    /// Something failed, or will get worse.
    Warning,
    /// Clients are refused, or will be soon.
    Critical,
}

impl Severity {
    /// The name in all outputs.
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
        /// A kind of problem.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $(#[doc = $doc] $variant),*
        }

        impl Kind {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The identifier in all outputs. It never changes.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self {
                    $(Self::$variant => $id),*
                }
            }

            /// The command that prints its section of the documentation.
            #[must_use]
            pub const fn docs(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!("tcptrace explain ", $id)),*
                }
            }
        }
    };
}

kinds! {
    CloseWaitLeak = "close-wait-leak": "The peer closed, but the application does not.",
    FinWait2Stuck = "fin-wait2-stuck": "This side closed, but the peer does not.",
    FinWait1Stuck = "fin-wait1-stuck": "This side's FIN is not acknowledged.",
    LastAckLost = "last-ack-lost": "Both sides closed, but the acknowledgement of this side's FIN does not come.",
    SynSentUnanswered = "syn-sent-unanswered": "SYNs get no answer.",
    ConnectRefused = "connect-refused": "A SYN was answered with a RST.",
    ConnectFailed = "connect-failed": "`connect` failed: no answer in time, or unreachable.",
    SynFlood = "syn-flood": "A listener has many half-open connections.",
    AcceptQueueFull = "accept-queue-full": "A listener's process does not accept fast enough.",
    AcceptStalled = "accept-stalled": "Connections wait to be accepted, but the process does not accept them.",
    ReadStalled = "read-stalled": "A process accepted connections but does not read their data.",
    ZeroWindow = "zero-window": "The receiver does not read: its window is closed, and the sender waits.",
    HalfOpen = "half-open": "Nothing came for a long time, and nothing checks whether the peer still exists.",
    PeerDead = "peer-dead": "Data is retransmitted repeatedly without an answer.",
    KeepaliveTimeout = "keepalive-timeout": "Keepalive probes went unanswered, and the kernel ended the connection.",
    IdleReset = "idle-reset": "The first segment after a long silence was answered with a RST.",
    ResetByPeer = "reset-by-peer": "The peer sent a RST.",
    AbortedClose = "aborted-close": "This side closed with a RST.",
    WriteAfterClose = "write-after-close": "Data was sent to a peer that had closed, which answered with a RST.",
    ProcessKilled = "process-killed": "A signal killed a process, which cut its connections.",
    SelfConnect = "self-connect": "A socket is connected to itself.",
    TimeWaitPressure = "time-wait-pressure": "TIME_WAIT uses up the local ports for one destination.",
    RetransmitStorm = "retransmit-storm": "Many segments are lost on the path.",
    ForeignListener = "foreign-listener": "A process listens on an unexpected address or port.",
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = || Self::ALL.iter().map(|kind| kind.id()).collect::<Vec<_>>().join(", ");
        let found = Self::ALL.iter().copied().find(|kind| kind.id() == text);
        found.ok_or_else(|| format!("unknown finding `{text}`; known: {}", all()))
    }
}

impl Kind {
    /// True if the finding counts failed connections, each with its own cause.
    pub(super) const fn counts_failures(self) -> bool {
        use Kind::{AbortedClose, ConnectFailed, ConnectRefused, IdleReset, ResetByPeer, WriteAfterClose};
        matches!(self, ConnectRefused | ConnectFailed | IdleReset | ResetByPeer | AbortedClose | WriteAfterClose)
    }

    /// How long a new finding waits for evidence, in ns; longer where the evidence may show that there is no problem.
    #[must_use]
    pub const fn evidence_timeout_ns(self) -> u64 {
        match self {
            Self::CloseWaitLeak | Self::FinWait2Stuck => 10_000_000_000,
            Self::ReadStalled | Self::ZeroWindow => 3_000_000_000,
            _ => 900_000_000,
        }
    }

    /// How long a finding stays open after its last detection, in ns; a detection within that time continues it. Problems
    /// that only polls show get more, since one poll may miss them.
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
