//! The causes of findings: all explanations and remedies stand in one table here.
//!
//! A rule picks a cause when the facts that [`Cause::proof`] names are known, and adds them as evidence. Findings and
//! stories print the explanation ([`Cause::words`]) and the remedy. `docs/findings.md` has the same table; a test compares
//! the two, and `TCPTRACE_BLESS=1` writes it.

pub(super) mod connect;
pub(super) mod reset;
#[cfg(test)]
mod tests;

macro_rules! causes {
    ($($variant:ident = $name:literal { proof: $proof:literal, words: $words:literal, remedy: $remedy:literal $(,)? })*) => {
        /// The cause of a finding.
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

            /// The explanation, in one line.
            #[must_use]
            pub const fn words(self) -> &'static str {
                match self {
                    $(Self::$variant => $words),*
                }
            }

            /// The remedy, in one line.
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
    /// The cause in the identity of a finding. Causes of a port shortage count as one, since the holder of the ports may
    /// change while the shortage lasts.
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
        words: "the peer closed its side, but the process still holds the socket and has not called close()",
        remedy: "fix the code path that forgets close() (often an error path or a pooled connection); until then, restart the process",
    }
    WaitsForOtherSide = "waits_for_other_side" {
        proof: "A process holds the socket in CLOSE_WAIT, and holds as many sockets in FIN_WAIT2 that it shut down itself.",
        words: "the peer closed its side; the process passed the close on to its other connection and waits for that peer to close too",
        remedy: "look for close-wait-leak on the other connection's peer (see fin-wait2-stuck of this process), or limit the wait with a timeout",
    }
    PeerKeepsOpen = "peer_keeps_open" {
        proof: "The socket is an orphan in FIN_WAIT2.",
        words: "this side closed and the peer acknowledged it, but the peer has not closed; the kernel drops the socket after tcp_fin_timeout",
        remedy: "nothing leaks here, but look for close-wait-leak on the peer; a lower tcp_fin_timeout frees the memory sooner",
    }
    IdlePooled = "idle_pooled" {
        proof: "A client has at most 8 connections to one destination in CLOSE_WAIT, and their number does not grow.",
        words: "the server closed connections that the client keeps; they are few, idle, and not growing in number, as in a connection pool",
        remedy: "nothing leaks; the pool could drop connections when they become readable, or keep them for less time than the server does",
    }
    OnlyShutDown = "only_shut_down" {
        proof: "A process holds the socket in FIN_WAIT2.",
        words: "the process shut down its sending side and keeps the socket; the peer has not closed, and no timer ends this state",
        remedy: "call close() after a timeout instead of waiting for the peer's FIN; look for close-wait-leak on the peer",
    }
    FinUnanswered = "fin_unanswered" {
        proof: "FIN_WAIT1 or CLOSING for longer than the threshold. Also: nothing was acknowledged since the close, or a segment was retransmitted twice in a row without an answer, or once with nothing acknowledged for 5 s.",
        words: "this side closed, but its last data or its FIN is not acknowledged: the peer or the path is gone",
        remedy: "check the path and the peer; a lower tcp_orphan_retries frees the memory of orphans sooner",
    }
    LastAckMissing = "last_ack_missing" {
        proof: "LAST_ACK for longer than the threshold. Also: nothing was acknowledged since the close, or a segment was retransmitted twice in a row without an answer, or once with nothing acknowledged for 5 s.",
        words: "both sides closed, but this side's FIN is not acknowledged: the peer disappeared",
        remedy: "harmless in small numbers (mobile clients do this); if there are many, lower tcp_orphan_retries",
    }
    // Connecting.
    SynUnanswered = "syn_unanswered" {
        proof: "SYN_SENT for longer than the threshold, and the destination is not a listener on this host whose queue is full.",
        words: "SYNs get no answer: the host is down, a firewall drops them, or the service's queue is full",
        remedy: "check the address, the route and the firewalls on the path (a closed port would answer with a RST)",
    }
    GivenUpEarly = "given_up_early" {
        proof: "The process closed the socket in SYN_SENT after at least 0.2 s, before the first SYN was retransmitted (1 s).",
        words: "the process gives up each attempt before the kernel retransmits the SYN, and had no answer by then",
        remedy: "give connect() at least 3 s, so that one lost SYN does no harm; check the address, the route and the firewalls on the path",
    }
    ScanLike = "scan_like" {
        proof: "One command sent SYNs to at least 10 destinations that did not answer.",
        words: "SYNs to many destinations get no answer: a scan, an outdated list of peers, or a broken path",
        remedy: "check whether other hosts are reachable (ip route get, ping); if so, find out what the process is doing, and update its list of peers",
    }
    PortClosed = "port_closed" {
        proof: "A RST answered the SYN.",
        words: "the destination answered the SYN with a RST: nothing listens on that port, or a firewall rejects the connection",
        remedy: "start the service, or correct the address or port; if a firewall rejects the connection, allow it there",
    }
    ConnectTimedOut = "connect_timed_out" {
        proof: "SYN_SENT ended with ETIMEDOUT.",
        words: "connect() failed with ETIMEDOUT: no SYN was answered",
        remedy: "check the address, the route and the firewalls on the path; with a lower tcp_syn_retries connect() fails sooner",
    }
    Unreachable = "unreachable" {
        proof: "SYN_SENT ended with EHOSTUNREACH, ENETUNREACH or another error that does not come from a RST, and the next hop is not known to be silent.",
        words: "connect() failed: this host or a router on the path reported that it cannot reach the destination",
        remedy: "check the route and the next hop (ip route get; see next_hop_answers), and the routers and firewalls that send ICMP errors",
    }
    NeighbourSilent = "neighbour_silent" {
        proof: "SYN_SENT ended with EHOSTUNREACH, and the next hop of the route (the destination, or a gateway) does not answer ARP or neighbour discovery.",
        words: "connect() failed with EHOSTUNREACH: the next hop (see next_hop) is on a directly attached link, but does not answer ARP or neighbour discovery",
        remedy: "check that the next hop is up and in the same VLAN or bridge (ip neigh, ip route get); a wrong prefix length makes a remote address look local",
    }
    NoLocalPort = "no_local_port" {
        proof: "connect() ended before a SYN was sent, and the socket had no local port.",
        words: "connect() failed with EADDRNOTAVAIL before a SYN was sent: no local port was free for this destination",
        remedy: "find out what holds the ports (ss -tan: TIME_WAIT, open connections; a port that bind() took is taken for all destinations); reuse connections, or widen ip_local_port_range",
    }
    RejectedByIcmp = "rejected_by_icmp" {
        proof: "connect() ended with ECONNREFUSED, and no RST came.",
        words: "connect() failed with ECONNREFUSED, but no RST came: an ICMP error rejected it (a firewall's reject rule)",
        remedy: "look for a reject rule on the path (nft list ruleset, iptables-save; kube-proxy adds them for services without endpoints)",
    }
    ListensElsewhere = "listens_elsewhere" {
        proof: "A RST answered the SYN, and a process on the destination's host listens on that port at another address.",
        words: "nothing listens on this port at this address, but a process listens on it at another address of the same host (see listens_at)",
        remedy: "connect to the address that the service listens on, or let the service listen on this address too (localhost may mean ::1 or 127.0.0.1)",
    }
    PairInUse = "pair_in_use" {
        proof: "connect() ended at once with a local port that bind() had chosen, and another socket has the same addresses and ports.",
        words: "connect() failed with EADDRNOTAVAIL before a SYN was sent: another connection has the same local port and destination",
        remedy: "let connect() choose the local port, or first close the other connection",
    }
    NotSent = "not_sent" {
        proof: "connect() ended within 0.1 ms with a local port that bind() had chosen, and no other socket with the same addresses and ports is known.",
        words: "connect() failed immediately, before a SYN was sent or just after",
        remedy: "look at the errno of connect(); a fixed local port or a security policy may forbid the connection",
    }
    EndedAtOnce = "ended_at_once" {
        proof: "The process closed the socket in SYN_SENT within 0.2 s, no SYN was retransmitted, no RST came, and the process had opened no other connection in the second before.",
        words: "the process closed the socket immediately while connecting, and no RST came: either it got an ICMP error or it gave up",
        remedy: "look at the errno that the program reports, and for reject rules on the path (nft list ruleset)",
    }
    PortsHeldOpen = "ports_held_open" {
        proof: "connect() ended before a SYN was sent, the socket had no local port, and open connections to the destination hold more than half of the available ports.",
        words: "connect() failed with EADDRNOTAVAIL before a SYN was sent: open connections to this destination hold the local ports",
        remedy: "close connections that you do not need or use fewer (a pool with a limit), widen ip_local_port_range, or use more addresses",
    }
    PortsReserved = "ports_reserved" {
        proof: "connect() ended before a SYN was sent, the socket had no local port, and ip_local_reserved_ports reserves more than half of the range.",
        words: "connect() failed with EADDRNOTAVAIL before a SYN was sent: most of ip_local_port_range is in ip_local_reserved_ports",
        remedy: "reserve fewer ports (net.ipv4.ip_local_reserved_ports), or widen ip_local_port_range",
    }
    ConnectedToItself = "connected_to_itself" {
        proof: "A socket became established whose local and remote address and port are the same.",
        words: "the socket connected to itself: nothing listened on the port, and the kernel chose that same port as the local one",
        remedy: "start the service first, and keep its port out of ip_local_port_range (net.ipv4.ip_local_reserved_ports): the service cannot listen while this connection lasts",
    }
    // Listening.
    QueueFull = "queue_full" {
        proof: "The accept queue is longer than its limit.",
        words: "the accept queue is full: clients in it believe they are connected, and SYNs of other clients are dropped",
        remedy: "find out what keeps the process from calling accept(); then raise both listen()'s backlog and net.core.somaxconn",
    }
    AccepterStopped = "accepter_stopped" {
        proof: "Connections have waited in the accept queue for longer than the threshold, and a process that holds the listener is in state T.",
        words: "clients are connected and wait to be accepted, but the process is stopped: nobody serves them",
        remedy: "let the process continue (kill -CONT PID), or restart it; find out who stopped it",
    }
    AccepterOutOfDescriptors = "accepter_out_of_descriptors" {
        proof: "Connections have waited for longer than the threshold, and the process has as many open descriptors as RLIMIT_NOFILE allows.",
        words: "clients are connected and wait to be accepted, but the process has no file descriptors left: accept() fails with EMFILE",
        remedy: "find out what keeps descriptors open (ls -l /proc/PID/fd), then raise LimitNOFILE= or ulimit -n",
    }
    AccepterBusy = "accepter_busy" {
        proof: "Connections have waited for longer than the threshold, and the process used a CPU between two checks.",
        words: "clients are connected and wait to be accepted: the process is using the CPU all the time and does not call accept()",
        remedy: "see what it computes (perf top -p PID); move that out of the accept loop, or run more workers",
    }
    AccepterRuns = "accepter_runs" {
        proof: "Connections have waited for longer than the threshold, and the process was running when it was checked.",
        words: "clients are connected and wait to be accepted: the process is running but does not call accept() often enough",
        remedy: "see what it does instead of accepting (perf top -p PID), or run more workers",
    }
    AccepterWaits = "accepter_waits" {
        proof: "Connections have waited for longer than the threshold, and the process was sleeping when it was checked.",
        words: "clients are connected and wait to be accepted: the process is waiting for something else and does not call accept()",
        remedy: "see what it waits for (a lock, a database, a long request): /proc/PID/stack, gdb -p PID",
    }
    NotAccepted = "not_accepted" {
        proof: "Connections have waited in the accept queue for longer than the threshold; what the process is doing is not known.",
        words: "clients are connected and wait to be accepted: the process does not call accept()",
        remedy: "find out what the process is doing instead of accepting: it may be stopped, blocked, or out of descriptors",
    }
    HandshakesUnfinished = "handshakes_unfinished" {
        proof: "There are many half-open connections and at least half of them had their SYN-ACK retransmitted; or they fill half of the backlog, and many SYN cookies were sent.",
        words: "many handshakes with this listener started but did not finish: forged SYNs, or a path that loses packets in one direction",
        remedy: "keep tcp_syncookies at 1, raise tcp_max_syn_backlog and listen()'s backlog, and filter the sources upstream",
    }
    NotExpected = "not_expected" {
        proof: "The listener's address is not on the list of expected listeners.",
        words: "a process listens on a port that is not on the list of expected listeners",
        remedy: "find out what the process is; add the port to the list if it belongs there, otherwise stop the process",
    }
    // Reading.
    RequestsUnread = "requests_unread" {
        proof: "Data has been unread for longer than the threshold in accepted connections of a server, whose window is open.",
        words: "the process accepted connections but has not read their data: it serves others first, or cannot keep up",
        remedy: "nothing to do if it serves one request at a time; otherwise see what it waits for: /proc/PID/stack, gdb -p PID",
    }
    ReaderStopped = "reader_stopped" {
        proof: "Data has been unread for longer than the threshold, and a process that holds the connections is in state T.",
        words: "the process accepted connections but is stopped and does not read their data: no client gets an answer",
        remedy: "let the process continue (kill -CONT PID), or restart it; find out who stopped it",
    }
    DoesNotRead = "does_not_read" {
        proof: "The window has been closed for longer than the threshold, and the receiver on this host has unread data and was not seen reading.",
        words: "the process does not read what it received: its window is closed, and the sender waits",
        remedy: "find out why it does not read (stopped, blocked, a response body that nobody consumes); read, or close the connection",
    }
    PeerDoesNotRead = "peer_does_not_read" {
        proof: "The sender has waited for the window for longer than the threshold, and the peer answers its probes.",
        words: "the peer answers but keeps its window closed: it reads slowly or not at all, and this process cannot send",
        remedy: "look at the peer's process (stopped, blocked, slow); on this side, a send timeout or TCP_USER_TIMEOUT limits the wait",
    }
    EndedByUserTimeout = "ended_by_user_timeout" {
        proof: "The connection ended with ETIMEDOUT while data waited for a closed window and the peer answered, or without any retransmission.",
        words: "the peer was alive but its window stayed closed: TCP_USER_TIMEOUT ended the connection, and the waiting data is lost",
        remedy: "find out why the peer's process does not read; a longer TCP_USER_TIMEOUT tolerates slow readers",
    }
    // Silence.
    NobodyAsks = "nobody_asks" {
        proof: "No segment for longer than the threshold, SO_KEEPALIVE is known to be off, and the peer is not a socket on this host.",
        words: "nothing came from the peer for a long time and keepalive is off: if the peer has vanished, this socket stays forever",
        remedy: "set SO_KEEPALIVE with TCP_KEEPIDLE below the path's idle limits, or send heartbeats; then close dead connections",
    }
    DataUnanswered = "data_unanswered" {
        proof: "Timeouts in a row without any acknowledgement.",
        words: "data was retransmitted repeatedly without an answer: the peer or the path is gone, and the application does not know yet",
        remedy: "check the peer and the path; to detect this sooner, set TCP_USER_TIMEOUT or lower tcp_retries2",
    }
    ForgottenSilently = "forgotten_silently" {
        proof: "Like data_unanswered, and the connection had been silent for longer than the threshold of idle-reset when the data was sent.",
        words: "the first data after a long silence gets no answer: a firewall or NAT forgot the connection and drops its segments, or the peer is gone",
        remedy: "set SO_KEEPALIVE with TCP_KEEPIDLE below the idle limits on the path, and TCP_USER_TIMEOUT to detect this sooner",
    }
    ProbesUnanswered = "probes_unanswered" {
        proof: "The connection ended with ETIMEDOUT while nothing was in flight.",
        words: "the peer did not answer the keepalive probes, and the kernel ended the connection: the peer or the path is gone",
        remedy: "reconnect; check the peer's host and firewalls that forget idle connections, and send keepalives more often",
    }
    // Resets.
    PeerSentReset = "peer_sent_reset" {
        proof: "A RST came, and nothing shows who sent it.",
        words: "a RST ended the connection, and data in flight is lost; who sent the RST is not known",
        remedy: "look at the peer: it closed with unread data or SO_LINGER 0, it was killed, or a device on the path sent the RST",
    }
    ClientLeft = "client_left" {
        proof: "A client that had connected sent a RST, and nothing was unread or unacknowledged.",
        words: "a client ended the connection with a RST while nothing was in flight: no data is lost",
        remedy: "nothing to do if health checks or port scans do this; otherwise look at the client",
    }
    ReaderCancelled = "reader_cancelled" {
        proof: "A client that had connected ended the connection with a RST, and data was unread or unacknowledged.",
        words: "a client ended the connection with a RST while data was in flight: it did not wait for the end",
        remedy: "nothing to do if clients cancel (head, browsers, client timeouts); otherwise look at the client",
    }
    NothingLost = "nothing_lost" {
        proof: "A RST came after everything was read and acknowledged, and this side had sent no request since.",
        words: "a RST ended the connection while nothing was in flight and nobody waited for an answer: no data is lost",
        remedy: "nothing to do: some servers end idle connections this way",
    }
    LastWords = "last_words" {
        proof: "At most 64 bytes were unread or unacknowledged, at the end of a connection that had carried data both ways without a pause.",
        words: "a last message (TLS close_notify, QUIT) arrived after the other side had closed, and was answered with a RST: nobody needs it",
        remedy: "nothing to do",
    }
    KeepaliveRace = "keepalive_race" {
        proof: "A request was sent on a connection that had been idle, within 1 s of the time when the peer closed it, or it arrived while the peer closed.",
        words: "a request was sent on an idle keep-alive connection just as the server closed it: the request is lost, and a proxy answers 502",
        remedy: "make the client's keep-alive time shorter than the server's, and retry idempotent requests",
    }
    PeerKilled = "peer_killed" {
        proof: "The peer's process, on this host, was killed by a signal, which closed its connections.",
        words: "the peer's process was killed, and the kernel closed its connections",
        remedy: "find out who sent the signal, and check the kernel log for an out-of-memory kill",
    }
    PeerListenerClosed = "peer_listener_closed" {
        proof: "The peer's socket, on this host, was waiting to be accepted when its listener was closed.",
        words: "the server closed its listener while this connection was waiting in the accept queue",
        remedy: "let the server accept everything in its queue before it closes the listener (graceful stop), and connect again",
    }
    PeerDestroyed = "peer_destroyed" {
        proof: "The peer's socket, on this host, was destroyed from outside (ECONNABORTED).",
        words: "something destroyed the peer's socket from outside (ss -K, or a BPF program)",
        remedy: "find out who destroys sockets there, and connect again",
    }
    PeerGaveUp = "peer_gave_up" {
        proof: "The peer's socket, on this host, ended with ETIMEDOUT.",
        words: "the peer's kernel gave up the connection because its data or probes were not acknowledged, and sent a RST",
        remedy: "look at the path between the two: segments from here to the peer were lost for a long time",
    }
    PeerAbortedIdle = "peer_aborted_idle" {
        proof: "A RST came after a silence longer than the threshold, and the peer's socket, on this host, had been closed with a RST.",
        words: "the peer itself aborted the connection after a long silence; it was not a device on the path",
        remedy: "make the idle timeout on this side shorter than the peer's, or send heartbeats",
    }
    PeerClosedWithLinger = "peer_closed_with_linger" {
        proof: "A RST came, and the peer's socket, on this host, was closed with SO_LINGER 0.",
        words: "the peer closed with SO_LINGER 0, which sends a RST: the application gets ECONNRESET",
        remedy: "do not set SO_LINGER on the peer; call shutdown() there and wait for this side's FIN",
    }
    PeerClosedUnread = "peer_closed_unread" {
        proof: "A RST came, and the peer's socket, on this host, was closed with unread data.",
        words: "the peer closed without reading everything this side had sent, which sends a RST: its answer may be lost",
        remedy: "on the peer, read to the end before close(), or shut down the sending side and read the rest",
    }
    NoSocketThere = "no_socket_there" {
        proof: "This host's kernel answered with a RST because it had no socket for these addresses and ports, and no such socket had just been closed.",
        words: "the peer's kernel, on this host, had no socket for this connection and answered with a RST: NAT translated only one direction, or the peer's socket was closed long before",
        remedy: "check NAT and conntrack: drop INVALID packets, or set net.netfilter.nf_conntrack_tcp_be_liberal=1",
    }
    SentOnPath = "sent_on_path" {
        proof: "A RST came, but the peer's socket, on this host, is still open and sent none.",
        words: "a device or firewall on the path sent the RST: the peer's socket is still open and sent none",
        remedy: "look for reject rules and connection limits on the path (nft list ruleset, conntrack); the peer still believes it is connected",
    }
    ForgottenOnPath = "forgotten_on_path" {
        proof: "A RST answered the first segment after a silence longer than the threshold.",
        words: "a RST answered the first segment after a long silence: the peer or a device on the path had forgotten the connection",
        remedy: "set SO_KEEPALIVE with TCP_KEEPIDLE below the idle limits of firewalls, NAT and load balancers, or close idle connections before those do",
    }
    ClosedWithLinger = "closed_with_linger" {
        proof: "close() with SO_LINGER on and a time of 0.",
        words: "the process closed with SO_LINGER 0, which sends a RST: the peer gets ECONNRESET and loses data in flight",
        remedy: "do not set SO_LINGER; call shutdown() and wait for the peer's FIN",
    }
    ClosedUnread = "closed_unread" {
        proof: "close() with unread data in the receive queue.",
        words: "the process closed without reading everything it had received, which sends a RST: the peer gets ECONNRESET and may lose data",
        remedy: "read to the end before close(), or shut down the sending side and read the rest",
    }
    LingerNothingLost = "linger_nothing_lost" {
        proof: "close() with SO_LINGER 0, and nothing was unread or unacknowledged on either side.",
        words: "the process closed with SO_LINGER 0, which sends a RST, but nothing was in flight: no data is lost (health checks do this)",
        remedy: "nothing to do; shutdown() and close() would spare the peer an ECONNRESET",
    }
    StoppedReading = "stopped_reading" {
        proof: "The client closed with unread data, or with SO_LINGER 0 and only unread data.",
        words: "a client closed before it had read everything the server sent: it did not want the rest",
        remedy: "nothing to do if it cancels on purpose; otherwise read to the end before close()",
    }
    KilledBySignal = "killed_by_signal" {
        proof: "A signal ended the process, and the kernel closed its connections.",
        words: "a signal killed the process, and its open connections were cut",
        remedy: "find out who sent the signal: the kernel when memory ran out (dmesg), a supervisor after its stop timeout, or a crash",
    }
    WroteAfterClose = "wrote_after_close" {
        proof: "A RST came in CLOSE_WAIT after data was sent.",
        words: "the peer had closed, this process wrote anyway, and the peer's host answered with a RST: the data is lost",
        remedy: "treat read() returning 0 as the end of the connection; drop pooled connections when they become readable",
    }
    // Ports and loss.
    PortsInTimeWait = "ports_in_time_wait" {
        proof: "TIME_WAIT holds more than the threshold's share of ip_local_port_range for one destination.",
        words: "each closed connection to this destination keeps its local port for 60 s; when no port is left, connect() fails with EADDRNOTAVAIL",
        remedy: "reuse connections (keep-alive, pools), set tcp_tw_reuse=1 (it needs tcp_timestamps=1), or widen ip_local_port_range",
    }
    PortsReused = "ports_reused" {
        proof: "TIME_WAIT holds that many ports, but tcp_tw_reuse lets new connections take them over.",
        words: "closed connections keep their local ports for this destination, but tcp_tw_reuse lets new connections take them over after 1 s",
        remedy: "nothing fails as long as both sides use TCP timestamps; reusing connections would save the handshakes",
    }
    PortsNotReused = "ports_not_reused" {
        proof: "TIME_WAIT holds that many ports, and tcp_tw_reuse is on, but tcp_timestamps is 0.",
        words: "closed connections keep their local ports for this destination for 60 s: tcp_tw_reuse has no effect without tcp_timestamps",
        remedy: "set tcp_timestamps=1, reuse connections (keep-alive, pools), or widen ip_local_port_range",
    }
    PathLoses = "path_loses" {
        proof: "Retransmissions above the threshold, while acknowledgements still come.",
        words: "many segments are retransmitted: the path loses packets, or the peer's host drops them",
        remedy: "check the path (duplex, full queues, MTU, a firewall that drops) with ss -ti, and the counters of interfaces, qdiscs and the peer's listener",
    }
}
