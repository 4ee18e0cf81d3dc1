//! A network namespace: what it is called, what the kernel counts in it, and its TCP settings.

/// A network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Inode number: its name for ever.
    pub inode: u32,
    /// Its name in `/run/netns`, where it has one (ip-netns(8)).
    pub name: Option<String>,
    /// What the kernel counted in it since it was made; `None` where it could not be read.
    pub counters: Option<NetCounters>,
    /// What is set in it; `None` where nobody asked.
    pub settings: Option<NetSettings>,
}

/// Counters of a network namespace: `TcpExt` of `/proc/net/netstat` (`net/ipv4/proc.c`, `snmp4_net_list`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetCounters {
    /// `ListenOverflows`: handshakes that ended, or would have begun, while the accept queue was full.
    pub listen_overflows: u64,
    /// `ListenDrops`: SYNs and ACKs of handshakes that were dropped for any reason, a full accept queue among them.
    pub listen_drops: u64,
    /// `SyncookiesSent`.
    pub syncookies_sent: u64,
    /// `SyncookiesFailed`: ACKs whose cookie was wrong or too old.
    pub syncookies_failed: u64,
    /// `TCPReqQFullDoCookies`: SYNs answered by a cookie, as the queue of requests was full.
    pub request_queue_full_cookies: u64,
    /// `TCPReqQFullDrop`: SYNs dropped, as the queue of requests was full and SYN cookies are off.
    pub request_queue_full_drops: u64,
    /// `TCPTimeWaitOverflow`: connections that closed without TIME_WAIT, as there were `tcp_max_tw_buckets` already.
    pub time_wait_overflows: u64,
    /// `TCPAbortOnMemory`: connections that were reset for want of memory, or as there were too many orphans.
    pub aborts_on_memory: u64,
}

/// What is set in a network namespace (`Documentation/networking/ip-sysctl.rst`), each `None` where the kernel has no such
/// setting, does not show it in this namespace, or it may not be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetSettings {
    /// `ip_local_port_range`, both ends included.
    pub local_ports: Option<(u16, u16)>,
    /// Ports of that range that `ip_local_reserved_ports` keeps back.
    pub reserved_ports: Option<u64>,
    /// `tcp_timestamps`: 0 off; without them no port in TIME_WAIT is taken over.
    pub timestamps: Option<u32>,
    /// `tcp_tw_reuse`: 0 never, 1 always, 2 on loopback.
    pub tw_reuse: Option<u32>,
    /// `tcp_max_tw_buckets`.
    pub max_tw_buckets: Option<u32>,
    /// `tcp_syncookies`: 0 never, 1 when the queue is full, 2 always.
    pub syncookies: Option<u32>,
    /// `tcp_max_syn_backlog`.
    pub max_syn_backlog: Option<u32>,
    /// `net.core.somaxconn`.
    pub somaxconn: Option<u32>,
    /// `tcp_fin_timeout`, in s.
    pub fin_timeout: Option<u32>,
    /// `tcp_retries2`.
    pub retries2: Option<u32>,
    /// `tcp_orphan_retries`; 0 means 8.
    pub orphan_retries: Option<u32>,
    /// `tcp_syn_retries`.
    pub syn_retries: Option<u32>,
    /// `tcp_synack_retries`.
    pub synack_retries: Option<u32>,
    /// `tcp_keepalive_time`, in s.
    pub keepalive_time: Option<u32>,
    /// `tcp_keepalive_intvl`, in s.
    pub keepalive_interval: Option<u32>,
    /// `tcp_keepalive_probes`.
    pub keepalive_probes: Option<u32>,
}

/// How many of the ports from `first` to `last` are in a list as `1,2-4,10-10`, which does not overlap itself
/// (`kernel/sysctl.c`, `proc_do_large_bitmap`).
#[must_use]
pub fn reserved_ports(list: &str, first: u64, last: u64) -> u64 {
    let ranges = list.split(',').filter_map(|part| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        Some((from.trim().parse::<u64>().ok()?.max(first), to.trim().parse::<u64>().ok()?.min(last)))
    });
    ranges.filter(|(from, to)| from <= to).map(|(from, to)| to - from + 1).fold(0, u64::saturating_add)
}
