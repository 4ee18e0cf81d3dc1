//! Why a trouble is there: the one place that turns facts into words.
//!
//! A rule decides on a cause by the facts that [`Cause::proof`] names, and adds them as evidence. Findings and stories say
//! what the cause means and what helps. `docs/findings.md` has the same table, and a test compares the two.

macro_rules! causes {
    ($($variant:ident = $name:literal { proof: $proof:literal, words: $words:literal, remedy: $remedy:literal $(,)? })*) => {
        /// A cause.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Cause {
            $(#[doc = $proof] $variant),*
        }

        impl Cause {
            /// All causes.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name in all outputs. It never changes.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),*
                }
            }

            /// The facts that prove it.
            #[must_use]
            pub const fn proof(self) -> &'static str {
                match self {
                    $(Self::$variant => $proof),*
                }
            }

            /// What it means, in one line.
            #[must_use]
            pub const fn words(self) -> &'static str {
                match self {
                    $(Self::$variant => $words),*
                }
            }

            /// What helps, in one line.
            #[must_use]
            pub const fn remedy(self) -> &'static str {
                match self {
                    $(Self::$variant => $remedy),*
                }
            }
        }
    };
}

causes! {
    // Closing.
    NeverClosed = "never_closed" {
        proof: "A process holds the socket in CLOSE_WAIT beyond the threshold.",
        words: "the peer closed its side; the process still holds the socket and has not called close()",
        remedy: "fix the path that forgets close() (often an error path or a pooled connection); until then, restart the process",
    }
    WaitsForOtherSide = "waits_for_other_side" {
        proof: "A process holds the socket in CLOSE_WAIT, and has as many in FIN_WAIT2 that it shut down itself.",
        words: "the peer closed its side; the process passed that on to its own peer and waits for that side to close too",
        remedy: "look for close-wait-leak at the other side (see fin-wait2-stuck of this process); a time limit bounds the wait",
    }
    PeerKeepsOpen = "peer_keeps_open" {
        proof: "The socket is an orphan in FIN_WAIT2.",
        words: "this side closed and the peer acknowledged it but has not closed; the kernel drops the rest after tcp_fin_timeout",
        remedy: "look for close-wait-leak at the peer; nothing leaks here, and a lower tcp_fin_timeout frees the memory sooner",
    }
    OnlyShutDown = "only_shut_down" {
        proof: "A process holds the socket in FIN_WAIT2.",
        words: "the process shut down its sending side and keeps the socket; the peer has not closed, and no timer ends this",
        remedy: "call close() after a time limit instead of waiting for the peer's FIN; look for close-wait-leak at the peer",
    }
    FinUnanswered = "fin_unanswered" {
        proof: "FIN_WAIT1 or CLOSING beyond the threshold, and the FIN or the data before it was sent again without an answer.",
        words: "this side closed, but its last data or its FIN is not acknowledged: the peer or the path is gone",
        remedy: "check the path and the peer; a lower tcp_orphan_retries frees the memory of orphans sooner",
    }
    LastAckMissing = "last_ack_missing" {
        proof: "LAST_ACK beyond the threshold, and the FIN was sent again without an answer.",
        words: "both sides closed, but the last FIN is not acknowledged: the peer went away without a word",
        remedy: "harmless in small numbers (mobile clients do this); in large numbers, lower tcp_orphan_retries",
    }
    // Connecting.
    SynUnanswered = "syn_unanswered" {
        proof: "SYN_SENT beyond the threshold, and no listener of this host with a full queue is the destination.",
        words: "the SYNs get no answer at all: the host is down, or a firewall drops them",
        remedy: "check the address, the route and the firewalls on the way (a closed port would answer with RST)",
    }
    ScanLike = "scan_like" {
        proof: "One command sent SYNs to 10 destinations or more that did not answer.",
        words: "SYNs to many destinations get no answer: a scan, or an outdated list of peers",
        remedy: "find out what the process is meant to do; if it looks for peers, update its list",
    }
    PortClosed = "port_closed" {
        proof: "A RST answered the SYN.",
        words: "the destination answered the SYN with a RST: nothing listens on that port, or a firewall rejects it",
        remedy: "start the service, or correct the address or port; if a firewall rejects it, allow it there",
    }
    ConnectTimedOut = "connect_timed_out" {
        proof: "SYN_SENT ended with ETIMEDOUT.",
        words: "connect() failed with ETIMEDOUT: no SYN was answered",
        remedy: "check the address, the route and the firewalls on the way; a lower tcp_syn_retries fails sooner",
    }
    Unreachable = "unreachable" {
        proof: "SYN_SENT ended with EHOSTUNREACH, ENETUNREACH or another error that no RST explains.",
        words: "connect() failed: this host or a router on the way reported that the destination cannot be reached",
        remedy: "check the route and the neighbour (ip route get, ip neigh) and the firewalls that answer with ICMP",
    }
    NoLocalPort = "no_local_port" {
        proof: "connect() ended before a SYN was sent, and the socket had no local port.",
        words: "connect() failed with EADDRNOTAVAIL before a SYN was sent: no local port was free toward this destination",
        remedy: "reuse connections, or widen ip_local_port_range; see time-wait-pressure for what holds the ports",
    }
    // Listening.
    QueueFull = "queue_full" {
        proof: "The accept queue is longer than its limit.",
        words: "connections wait to be accepted and the queue is full: clients believe they are connected, but nobody serves them",
        remedy: "find out what keeps the process from calling accept(); then raise listen()'s backlog and net.core.somaxconn together",
    }
    AccepterStopped = "accepter_stopped" {
        proof: "Connections wait in the accept queue beyond the threshold, and a process that holds the listener is in state T.",
        words: "clients are connected and wait to be accepted, but the process is stopped: nobody serves them",
        remedy: "let the process go on (kill -CONT PID), or restart it; find out who stopped it",
    }
    AccepterOutOfDescriptors = "accepter_out_of_descriptors" {
        proof: "The same, and the process has as many descriptors open as RLIMIT_NOFILE allows.",
        words: "clients are connected and wait to be accepted, but the process has no descriptor left: accept() fails with EMFILE",
        remedy: "find what keeps descriptors open (ls -l /proc/PID/fd), then raise LimitNOFILE= or ulimit -n",
    }
    AccepterBusy = "accepter_busy" {
        proof: "The same, and the process used a CPU from one look to the next.",
        words: "clients are connected and wait to be accepted: the process computes all the time and does not call accept()",
        remedy: "see what it computes (perf top -p PID); move that out of the accept loop, or run more workers",
    }
    AccepterRuns = "accepter_runs" {
        proof: "The same, and the process was running when it was looked at.",
        words: "clients are connected and wait to be accepted: the process runs and does not call accept() fast enough",
        remedy: "see what it does instead of accepting (perf top -p PID), or run more workers",
    }
    AccepterWaits = "accepter_waits" {
        proof: "The same, and the process was sleeping when it was looked at.",
        words: "clients are connected and wait to be accepted: the process waits for something else and does not call accept()",
        remedy: "see what it waits for (a lock, a database, a long request): /proc/PID/stack, gdb -p PID",
    }
    NotAccepted = "not_accepted" {
        proof: "Connections wait in the accept queue beyond the threshold; what the process does is not known.",
        words: "clients are connected and wait to be accepted: the process does not call accept()",
        remedy: "find out what the process does instead of accepting: is it stopped, blocked, or out of descriptors?",
    }
    HandshakesUnfinished = "handshakes_unfinished" {
        proof: "Many half-open connections, at least half of which had their SYN-ACK sent again; or SYN cookies were sent.",
        words: "many handshakes with this listener were begun and not finished: forged SYNs, or a path that loses one direction",
        remedy: "keep tcp_syncookies at 1, raise tcp_max_syn_backlog and listen()'s backlog, and filter the sources upstream",
    }
    NotExpected = "not_expected" {
        proof: "The listener's address is not on the list of expected listeners.",
        words: "a process listens on a port that is not on the list of expected listeners",
        remedy: "find out what the process is; add the port to the list if it belongs there, else stop the process",
    }
    // Reading.
    RequestsUnread = "requests_unread" {
        proof: "Data lies unread beyond the threshold in accepted connections of a server, whose window is open.",
        words: "data lies unread in connections that the process has accepted: it serves others first, or does not get to them",
        remedy: "nothing to do if it serves one request after another; else see what it waits for: /proc/PID/stack, gdb -p PID",
    }
    ReaderStopped = "reader_stopped" {
        proof: "The same, and a process that holds the connections is in state T.",
        words: "data lies unread in connections that the process has accepted, and the process is stopped: no client gets an answer",
        remedy: "let the process go on (kill -CONT PID), or restart it; find out who stopped it",
    }
    DoesNotRead = "does_not_read" {
        proof: "The window is closed beyond the threshold, and the receiver of this host has unread data and was not seen to read any.",
        words: "the process does not read what it received: its window is closed, and the sender waits",
        remedy: "see why it does not read (stopped, blocked, a response body that nobody drains); read, or close the connection",
    }
    PeerDoesNotRead = "peer_does_not_read" {
        proof: "The sender waits for the window beyond the threshold, and the peer answers its probes.",
        words: "the peer answers but does not read: its window is closed, and the process cannot send what it has",
        remedy: "look at the peer's process (stopped, blocked, slow); here, a send timeout or TCP_USER_TIMEOUT bounds the wait",
    }
    EndedByUserTimeout = "ended_by_user_timeout" {
        proof: "The connection ended with ETIMEDOUT while data waited for a closed window and the peer answered, or without any retransmission.",
        words: "the peer was there but its window stayed closed: TCP_USER_TIMEOUT ended the connection, and the data that waited is lost",
        remedy: "look at the peer's process, which does not read; a longer TCP_USER_TIMEOUT is more patient with slow readers",
    }
    // Silence.
    NobodyAsks = "nobody_asks" {
        proof: "No segment for longer than the threshold, SO_KEEPALIVE is off, and the other end is not a socket of this host.",
        words: "nothing was heard of the peer for long and keepalive is off: if the peer has vanished, this socket stays for ever",
        remedy: "set SO_KEEPALIVE with TCP_KEEPIDLE below the path's idle limits, or send heartbeats; then close what is dead",
    }
    DataUnanswered = "data_unanswered" {
        proof: "Timeouts in a row without any acknowledgement.",
        words: "data was sent again and again without an answer: the peer or the path is gone, and the application does not know yet",
        remedy: "check the peer and the path; to learn of it sooner, set TCP_USER_TIMEOUT or lower tcp_retries2",
    }
    ProbesUnanswered = "probes_unanswered" {
        proof: "The connection ended with ETIMEDOUT while nothing was in flight.",
        words: "the peer did not answer the keepalive probes, and the kernel ended the connection: the peer or the path is gone",
        remedy: "reconnect; check the peer's host and firewalls that forget idle connections, and send keepalives more often",
    }
    // Resets.
    PeerSentReset = "peer_sent_reset" {
        proof: "A RST came, and nothing else is known of who sent it.",
        words: "a RST ended the connection; what was on its way is lost, and the application gets ECONNRESET",
        remedy: "look at the peer: it closed with unread data or SO_LINGER 0, it was killed, or a device on the path sent the RST",
    }
    ClientLeft = "client_left" {
        proof: "A client that had connected sent a RST, and nothing was unread or unacknowledged.",
        words: "a client ended the connection by a RST while nothing was on its way: no data is lost",
        remedy: "nothing to do if health checks or port scans do this; else look at the client",
    }
    ForgottenOnPath = "forgotten_on_path" {
        proof: "The first segment after a silence beyond the threshold was answered with a RST.",
        words: "after a long silence the first segment was answered with a RST: something had forgotten the connection",
        remedy: "set SO_KEEPALIVE with TCP_KEEPIDLE below the idle limit of firewalls, NAT and load balancers, or close idle connections first",
    }
    ClosedWithLinger = "closed_with_linger" {
        proof: "close() with SO_LINGER on and a time of 0.",
        words: "the process closed with SO_LINGER 0, which sends a RST: the peer gets ECONNRESET and loses what was on its way",
        remedy: "leave SO_LINGER alone; use shutdown() and wait for the peer's FIN",
    }
    ClosedUnread = "closed_unread" {
        proof: "close() with unread data in the receive queue.",
        words: "the process closed without reading all that had come, which sends a RST: the peer gets ECONNRESET and may lose data",
        remedy: "read to the end before close(), or shutdown() the sending side and read what is left",
    }
    WroteAfterClose = "wrote_after_close" {
        proof: "A RST came in CLOSE_WAIT after data was sent.",
        words: "the peer had closed, this process wrote all the same, and the peer's host answered with a RST: the data is lost",
        remedy: "treat read() returning 0 as the end of the connection; drop pooled connections when they become readable",
    }
    // Ports and loss.
    PortsInTimeWait = "ports_in_time_wait" {
        proof: "TIME_WAIT holds more than the threshold's share of ip_local_port_range toward one destination.",
        words: "each closed connection keeps its local port for 60 s toward this destination; connect() fails with EADDRNOTAVAIL when none is left",
        remedy: "reuse connections (keep-alive, pools), set tcp_tw_reuse=1, or widen ip_local_port_range",
    }
    PortsReused = "ports_reused" {
        proof: "The same, but tcp_tw_reuse lets new connections take the ports over.",
        words: "closed connections keep their local ports toward this destination; tcp_tw_reuse lets new ones take them over after 1 s",
        remedy: "nothing fails as long as both ends use TCP timestamps; reusing connections saves their handshakes",
    }
    PathLoses = "path_loses" {
        proof: "Retransmissions above the threshold, while acknowledgements come.",
        words: "many segments are sent again: the path loses packets",
        remedy: "look at the path (duplex, full queues, MTU, a firewall that drops) with ss -ti and the counters of interfaces and qdiscs",
    }
}
