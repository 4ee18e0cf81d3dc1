//! Why a trouble is there: the one place that turns facts into words.
//!
//! A rule decides on a cause by the facts that [`Cause::proof`] names, and adds them as evidence. Findings and stories say
//! what the cause means and what helps. `docs/findings.md` has the same table, and a test compares the two.

pub(super) mod connect;
pub(super) mod reset;
#[cfg(test)]
mod tests;

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

impl Cause {
    /// What stands for it in the identity of a finding: who holds the local ports changes while they are short.
    pub(super) const fn of_key(self) -> Self {
        match self {
            Self::PortsHeldOpen | Self::PortsReserved => Self::NoLocalPort,
            cause => cause,
        }
    }
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
    IdlePooled = "idle_pooled" {
        proof: "At most 8 connections of a client to one destination are in CLOSE_WAIT, and they do not become more.",
        words: "the server closed connections that the client keeps: few, idle, and not more and more, as in a pool",
        remedy: "nothing leaks; the pool may drop connections that have become readable, or keep them for less time than the server does",
    }
    OnlyShutDown = "only_shut_down" {
        proof: "A process holds the socket in FIN_WAIT2.",
        words: "the process shut down its sending side and keeps the socket; the peer has not closed, and no timer ends this",
        remedy: "call close() after a time limit instead of waiting for the peer's FIN; look for close-wait-leak at the peer",
    }
    FinUnanswered = "fin_unanswered" {
        proof: "FIN_WAIT1 or CLOSING beyond the threshold, and nothing was acknowledged since the close; or a segment was sent again twice in a row without an answer, or once and nothing was acknowledged for 5 s.",
        words: "this side closed, but its last data or its FIN is not acknowledged: the peer or the path is gone",
        remedy: "check the path and the peer; a lower tcp_orphan_retries frees the memory of orphans sooner",
    }
    LastAckMissing = "last_ack_missing" {
        proof: "LAST_ACK beyond the threshold, and nothing was acknowledged since the close; or a segment was sent again twice in a row without an answer, or once and nothing was acknowledged for 5 s.",
        words: "both sides closed, but the last FIN is not acknowledged: the peer went away without a word",
        remedy: "harmless in small numbers (mobile clients do this); in large numbers, lower tcp_orphan_retries",
    }
    // Connecting.
    SynUnanswered = "syn_unanswered" {
        proof: "SYN_SENT beyond the threshold, and no listener of this host with a full queue is the destination.",
        words: "the SYNs get no answer at all: the host is down, a firewall drops them, or the service there has a full queue",
        remedy: "check the address, the route and the firewalls on the way (a closed port would answer with RST)",
    }
    GivenUpEarly = "given_up_early" {
        proof: "The process closed the socket in SYN_SENT after 0.2 s or more, before the first SYN was sent again (1 s).",
        words: "the process gives each attempt up before its SYN is sent again, and nothing had answered by then",
        remedy: "allow connect() 3 s at least, so that one lost SYN does no harm; check the address, the route and the firewalls on the way",
    }
    ScanLike = "scan_like" {
        proof: "One command sent SYNs to 10 destinations or more that did not answer.",
        words: "SYNs to many destinations get no answer: a scan, an outdated list of peers, or a path that is down",
        remedy: "check whether other hosts are reached (ip route get, ping); if so, find out what the process is meant to do, and update its list of peers",
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
        proof: "SYN_SENT ended with EHOSTUNREACH, ENETUNREACH or another error that no RST explains, and the next hop is not known to be silent.",
        words: "connect() failed: this host or a router on the way reported that the destination cannot be reached",
        remedy: "check the route and the next hop (ip route get; see next_hop_answers), and the routers and firewalls that answer with ICMP",
    }
    NeighbourSilent = "neighbour_silent" {
        proof: "SYN_SENT ended with EHOSTUNREACH, and the next hop of the route (the destination, or a gateway) does not answer ARP or neighbour discovery.",
        words: "connect() failed with EHOSTUNREACH: the next hop (see next_hop) is on this host's own link, and does not answer ARP or neighbour discovery",
        remedy: "check that the next hop is up, and in the same VLAN or bridge (ip neigh, ip route get); a wrong prefix length makes a far address look near",
    }
    NoLocalPort = "no_local_port" {
        proof: "connect() ended before a SYN was sent, and the socket had no local port.",
        words: "connect() failed with EADDRNOTAVAIL before a SYN was sent: no local port was free toward this destination",
        remedy: "find what holds the ports (ss -tan: TIME_WAIT, open connections; ports that are bound count for all destinations); reuse connections, or widen ip_local_port_range",
    }
    RejectedByIcmp = "rejected_by_icmp" {
        proof: "connect() ended with ECONNREFUSED, and no RST came.",
        words: "connect() failed with ECONNREFUSED, and no RST came: an ICMP error rejected it (a firewall's reject rule)",
        remedy: "look for a reject rule on the way (nft list ruleset, iptables-save; kube-proxy makes them for services without endpoints)",
    }
    ListensElsewhere = "listens_elsewhere" {
        proof: "A RST answered the SYN, and a process of the destination's host listens on that port of another address.",
        words: "the port is closed at this address, but a process listens on it at another address of the same host (see listens_at)",
        remedy: "connect to the address that the service listens on, or let it listen on this one too (localhost may mean ::1 or 127.0.0.1)",
    }
    PairInUse = "pair_in_use" {
        proof: "connect() ended at once with a local port that bind() had chosen, and another socket has the same two ends.",
        words: "connect() failed with EADDRNOTAVAIL before a SYN was sent: another connection has the same local port and destination",
        remedy: "let connect() choose the local port, or close the connection that has these ends first",
    }
    NotSent = "not_sent" {
        proof: "connect() ended within 0.1 ms with a local port that bind() had chosen, and no other socket with the same ends is known.",
        words: "connect() ended at once, before a SYN was sent or just after",
        remedy: "look at the errno that connect() gave; a fixed local port or a security policy may forbid it",
    }
    EndedAtOnce = "ended_at_once" {
        proof: "The process closed the socket in SYN_SENT within 0.2 s, no SYN was sent again, no RST came, and it opened no other connection within the second before.",
        words: "the process closed the socket while connecting, at once, and no RST came: an ICMP error told it, or it gave up; which is unknown",
        remedy: "look at the errno that the program reports, and for reject rules on the way (nft list ruleset)",
    }
    PortsHeldOpen = "ports_held_open" {
        proof: "connect() ended before a SYN was sent, the socket had no local port, and open connections to the destination hold more than half of the ports that may be chosen.",
        words: "connect() failed with EADDRNOTAVAIL before a SYN was sent: open connections to this destination hold the local ports",
        remedy: "close connections that are not needed or use fewer (a pool with a limit), widen ip_local_port_range, or use more addresses",
    }
    PortsReserved = "ports_reserved" {
        proof: "connect() ended before a SYN was sent, the socket had no local port, and ip_local_reserved_ports keeps more than half of the range.",
        words: "connect() failed with EADDRNOTAVAIL before a SYN was sent: most of ip_local_port_range is in ip_local_reserved_ports",
        remedy: "reserve fewer ports (net.ipv4.ip_local_reserved_ports), or widen ip_local_port_range",
    }
    ConnectedToItself = "connected_to_itself" {
        proof: "A socket became established whose two ends are the same.",
        words: "the socket connected to itself: nothing listened on the port, and the kernel chose the same one as the local port",
        remedy: "start the service first; keep its port out of ip_local_port_range (net.ipv4.ip_local_reserved_ports): it cannot listen while this lasts",
    }
    // Listening.
    QueueFull = "queue_full" {
        proof: "The accept queue is longer than its limit.",
        words: "connections wait to be accepted and the queue is full: their clients believe they are connected, and the SYNs of others are dropped",
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
        proof: "At least half of the half-open connections had their SYN-ACK sent again, and they are many; or they fill half of the backlog, and many SYN cookies were sent.",
        words: "many handshakes with this listener were begun and not finished: forged SYNs, or a path that loses one direction",
        remedy: "have tcp_syncookies at 1, raise tcp_max_syn_backlog and listen()'s backlog, and filter the sources upstream",
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
        words: "the peer answers but keeps its window closed: it does not read, or only slowly, and the process cannot send",
        remedy: "look at the peer's process (stopped, blocked, slow); here, a send timeout or TCP_USER_TIMEOUT bounds the wait",
    }
    EndedByUserTimeout = "ended_by_user_timeout" {
        proof: "The connection ended with ETIMEDOUT while data waited for a closed window and the peer answered, or without any retransmission.",
        words: "the peer was there but its window stayed closed: TCP_USER_TIMEOUT ended the connection, and the data that waited is lost",
        remedy: "look at the peer's process, which does not read; a longer TCP_USER_TIMEOUT is more patient with slow readers",
    }
    // Silence.
    NobodyAsks = "nobody_asks" {
        proof: "No segment for longer than the threshold, SO_KEEPALIVE is known to be off, and the other end is not a socket of this host.",
        words: "nothing was heard of the peer for long and keepalive is off: if the peer has vanished, this socket stays for ever",
        remedy: "set SO_KEEPALIVE with TCP_KEEPIDLE below the path's idle limits, or send heartbeats; then close what is dead",
    }
    DataUnanswered = "data_unanswered" {
        proof: "Timeouts in a row without any acknowledgement.",
        words: "data was sent again and again without an answer: the peer or the path is gone, and the application does not know yet",
        remedy: "check the peer and the path; to learn of it sooner, set TCP_USER_TIMEOUT or lower tcp_retries2",
    }
    ForgottenSilently = "forgotten_silently" {
        proof: "As data_unanswered, and the connection had been silent beyond the threshold of idle-reset when the data was sent.",
        words: "the first data after a long silence gets no answer: a firewall or NAT has forgotten the connection and drops its segments, or the peer is gone",
        remedy: "set SO_KEEPALIVE with TCP_KEEPIDLE below the idle limit of what is on the path, and TCP_USER_TIMEOUT to learn of it sooner",
    }
    ProbesUnanswered = "probes_unanswered" {
        proof: "The connection ended with ETIMEDOUT while nothing was in flight.",
        words: "the peer did not answer the keepalive probes, and the kernel ended the connection: the peer or the path is gone",
        remedy: "reconnect; check the peer's host and firewalls that forget idle connections, and send keepalives more often",
    }
    // Resets.
    PeerSentReset = "peer_sent_reset" {
        proof: "A RST came, and nothing else is known of who sent it.",
        words: "a RST ended the connection, and what was on its way is lost; who sent it is not known",
        remedy: "look at the peer: it closed with unread data or SO_LINGER 0, it was killed, or a device on the path sent the RST",
    }
    ClientLeft = "client_left" {
        proof: "A client that had connected sent a RST, and nothing was unread or unacknowledged.",
        words: "a client ended the connection by a RST while nothing was on its way: no data is lost",
        remedy: "nothing to do if health checks or port scans do this; else look at the client",
    }
    ReaderCancelled = "reader_cancelled" {
        proof: "A client that had connected ended the connection by a RST, and something was unread or unacknowledged.",
        words: "a client ended the connection by a RST while data was on its way: it did not wait for the end",
        remedy: "nothing to do if clients cancel (head, browsers, timeouts of their own); else look at the client",
    }
    NothingLost = "nothing_lost" {
        proof: "A RST came after all was read and acknowledged, and this side had asked for nothing since.",
        words: "a RST ended the connection while nothing was on its way and nobody waited: no data is lost",
        remedy: "nothing to do: some servers end idle connections so",
    }
    LastWords = "last_words" {
        proof: "At most 64 bytes were not read or not acknowledged, at the end of a connection that had carried data both ways without a pause.",
        words: "a last message (close_notify of TLS, QUIT) came when the other side had closed already, and was answered with a RST: nobody waits for it",
        remedy: "nothing to do",
    }
    KeepaliveRace = "keepalive_race" {
        proof: "A request was sent on a connection that had been idle, within 1 s of the moment at which the peer closed it; or came there while it closed.",
        words: "a request was sent on an idle keep-alive connection just as the server closed it: the request is lost, and a proxy answers 502",
        remedy: "make the client's keep-alive time shorter than the server's, and repeat requests that may be repeated",
    }
    PeerKilled = "peer_killed" {
        proof: "The other end's process, on this host, was killed by a signal, which closed its connections.",
        words: "the peer's process was killed, and the kernel closed its connections",
        remedy: "see who sent the signal, and the kernel's log if memory ran out",
    }
    PeerListenerClosed = "peer_listener_closed" {
        proof: "The other end, on this host, waited to be accepted when its listener was closed.",
        words: "the peer's listener was closed with this connection in its queue: nobody had accepted it",
        remedy: "let the server accept what is in its queue before it closes the listener (a graceful stop), and connect again",
    }
    PeerDestroyed = "peer_destroyed" {
        proof: "The other end, on this host, was destroyed from outside (ECONNABORTED).",
        words: "the peer's socket was destroyed from outside (ss -K, or a BPF program)",
        remedy: "find out who destroys sockets there, and connect again",
    }
    PeerGaveUp = "peer_gave_up" {
        proof: "The other end, on this host, ended with ETIMEDOUT.",
        words: "the peer's kernel gave the connection up, since its data or its probes were not acknowledged, and sent a RST",
        remedy: "look at the path between the two: segments from here to the peer were lost for long",
    }
    PeerAbortedIdle = "peer_aborted_idle" {
        proof: "After a silence beyond the threshold a RST came, and the other end, on this host, had closed by it.",
        words: "the peer itself aborted the connection after a long silence; no device on the path did",
        remedy: "make the idle limit of this side shorter than the peer's, or send heartbeats",
    }
    PeerClosedWithLinger = "peer_closed_with_linger" {
        proof: "A RST came, and the other end, on this host, was closed with SO_LINGER 0.",
        words: "the peer closed with SO_LINGER 0, which sends a RST: the application gets ECONNRESET",
        remedy: "leave SO_LINGER alone at the peer; use shutdown() there and wait for this side's FIN",
    }
    PeerClosedUnread = "peer_closed_unread" {
        proof: "A RST came, and the other end, on this host, was closed with unread data.",
        words: "the peer closed without reading all that this side had sent, which sends a RST: its answer may be lost",
        remedy: "at the peer, read to the end before close(), or shutdown() the sending side and read what is left",
    }
    NoSocketThere = "no_socket_there" {
        proof: "This host's kernel answered with a RST since it had no socket for these ends, while no end of it there had been closed.",
        words: "the kernel at the other end, on this host, had no socket for these two ends, and answered with a RST: NAT translated one direction only, or that end was gone long before",
        remedy: "look at NAT and conntrack: drop INVALID packets, or set net.netfilter.nf_conntrack_tcp_be_liberal=1",
    }
    SentOnPath = "sent_on_path" {
        proof: "A RST came, but the other end, on this host, is still open and sent none.",
        words: "a device or firewall on the path sent the RST: the peer's socket is still open, and sent none",
        remedy: "look for reject rules and connection limits on the path (nft list ruleset, conntrack); the peer still believes it is connected",
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
    LingerNothingLost = "linger_nothing_lost" {
        proof: "close() with SO_LINGER 0, and at neither end was anything unread or unacknowledged.",
        words: "the process closed with SO_LINGER 0, which sends a RST, but nothing was on its way: no data is lost (health checks do this)",
        remedy: "nothing to do; shutdown() and close() would spare the peer an ECONNRESET",
    }
    StoppedReading = "stopped_reading" {
        proof: "The client closed with unread data, or with SO_LINGER 0 and unread data alone.",
        words: "a client closed before it had read all that the server sent: it did not want the rest",
        remedy: "nothing to do if it cancels on purpose; else read to the end before close()",
    }
    KilledBySignal = "killed_by_signal" {
        proof: "The process exits since a signal ended it, and the kernel closes its connections.",
        words: "the process was killed by a signal, and its open connections were cut",
        remedy: "see who sent the signal: the kernel when memory ran out (dmesg), a supervisor's stop after its time limit, or a crash",
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
        remedy: "reuse connections (keep-alive, pools), set tcp_tw_reuse=1 (it needs tcp_timestamps=1), or widen ip_local_port_range",
    }
    PortsReused = "ports_reused" {
        proof: "The same, but tcp_tw_reuse lets new connections take the ports over.",
        words: "closed connections keep their local ports toward this destination; tcp_tw_reuse lets new ones take them over after 1 s",
        remedy: "nothing fails as long as both ends use TCP timestamps; reusing connections saves their handshakes",
    }
    PortsNotReused = "ports_not_reused" {
        proof: "The same, and tcp_tw_reuse is on, but tcp_timestamps is 0.",
        words: "closed connections keep their local ports toward this destination for 60 s: tcp_tw_reuse has no effect without tcp_timestamps",
        remedy: "set tcp_timestamps=1, reuse connections (keep-alive, pools), or widen ip_local_port_range",
    }
    PathLoses = "path_loses" {
        proof: "Retransmissions above the threshold, while acknowledgements come.",
        words: "many segments are sent again: the path loses packets, or the peer's host drops them",
        remedy: "look at the path (duplex, full queues, MTU, a firewall that drops) with ss -ti, and at the counters of interfaces, qdiscs and the peer's listener",
    }
}
