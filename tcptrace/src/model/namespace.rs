//! A network namespace: its name, its kernel counters, and its TCP settings.

use serde::{Deserialize, Serialize};

/// A network namespace, with what a listing read about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Inode number of its file in nsfs.
    pub inode: u32,
    /// Its name in `/run/netns`, where it has one (ip-netns(8)).
    pub name: Option<String>,
    /// The kernel's counters since the namespace was created; `None` if they could not be read.
    pub counters: Option<NetCounters>,
    /// Its sysctls; `None` if they were not requested.
    pub settings: Option<NetSettings>,
}

/// Counters of a network namespace: `TcpExt` of `/proc/net/netstat` (`net/ipv4/proc.c`, `snmp4_net_list`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetCounters {
    /// `ListenOverflows`: handshakes that completed, or would have begun, while the accept queue was full.
    pub listen_overflows: u64,
    /// `ListenDrops`: SYNs and handshake ACKs dropped for any reason, including a full accept queue.
    pub listen_drops: u64,
    /// `SyncookiesSent`: SYN-ACKs sent with a cookie.
    pub syncookies_sent: u64,
    /// `SyncookiesFailed`: ACKs with a wrong or expired cookie.
    pub syncookies_failed: u64,
    /// `TCPReqQFullDoCookies`: SYNs answered with a cookie because the request queue was full.
    pub request_queue_full_cookies: u64,
    /// `TCPReqQFullDrop`: SYNs dropped because the request queue was full and SYN cookies are off.
    pub request_queue_full_drops: u64,
    /// `TCPTimeWaitOverflow`: connections closed without TIME_WAIT because there were already `tcp_max_tw_buckets`.
    pub time_wait_overflows: u64,
    /// `TCPAbortOnMemory`: connections reset because of memory pressure or too many orphans.
    pub aborts_on_memory: u64,
}

/// TCP settings of a network namespace (`Documentation/networking/ip-sysctl.rst`). Each is `None` if the kernel lacks
/// it, does not expose it in this namespace, or does not permit reading it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetSettings {
    /// `ip_local_port_range`: first and last port that `connect` may choose.
    pub local_ports: Option<(u16, u16)>,
    /// Number of ports of that range that `ip_local_reserved_ports` excludes.
    pub reserved_ports: Option<u64>,
    /// `tcp_timestamps`: 0 is off. Without timestamps no port in TIME_WAIT is reused.
    pub timestamps: Option<u32>,
    /// `tcp_tw_reuse`: 0 never, 1 always, 2 on loopback only.
    pub tw_reuse: Option<u32>,
    /// `tcp_max_tw_buckets`: maximum number of timewait sockets.
    pub max_tw_buckets: Option<u32>,
    /// `tcp_syncookies`: 0 never, 1 when the queue is full, 2 always.
    pub syncookies: Option<u32>,
    /// `tcp_max_syn_backlog`: maximum number of half-open requests per listener.
    pub max_syn_backlog: Option<u32>,
    /// `net.core.somaxconn`: upper limit of the accept queue.
    pub somaxconn: Option<u32>,
    /// `tcp_fin_timeout`, in s: how long an orphan stays in FIN_WAIT2.
    pub fin_timeout: Option<u32>,
    /// `tcp_retries2`: timeouts before an established connection is given up.
    pub retries2: Option<u32>,
    /// `tcp_orphan_retries`; 0 means 8.
    pub orphan_retries: Option<u32>,
    /// `tcp_syn_retries`: retransmissions of a SYN.
    pub syn_retries: Option<u32>,
    /// `tcp_synack_retries`: retransmissions of a SYN-ACK.
    pub synack_retries: Option<u32>,
    /// `tcp_keepalive_time`, in s: idle time before the first probe.
    pub keepalive_time: Option<u32>,
    /// `tcp_keepalive_intvl`, in s: time between probes.
    pub keepalive_interval: Option<u32>,
    /// `tcp_keepalive_probes`: unanswered probes before a connection is ended.
    pub keepalive_probes: Option<u32>,
}

/// Number of ports from `first` to `last` in a list such as `1,2-4,10-10`, whose ranges do not overlap
/// (`kernel/sysctl.c`, `proc_do_large_bitmap`).
#[must_use]
pub fn reserved_ports(list: &str, first: u64, last: u64) -> u64 {
    let ranges = list.split(',').filter_map(|part| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        Some((from.trim().parse::<u64>().ok()?.max(first), to.trim().parse::<u64>().ok()?.min(last)))
    });
    ranges.filter(|(from, to)| from <= to).map(|(from, to)| to - from + 1).fold(0, u64::saturating_add)
}
