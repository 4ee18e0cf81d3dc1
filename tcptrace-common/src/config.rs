//! Constants that user space puts into the BPF object before loading: where the running kernel keeps what is read,
//! what it can do, and the filter.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::filter::Filter;

/// Bits of [`Config::kernel`]: what the running kernel has.
pub mod kernel {
    /// `bpf_get_socket_cookie` may be called from tp_btf programs (5.12 and later).
    pub const SOCKET_COOKIE: u32 = 1 << 0;
    /// `bpf_get_current_task_btf` exists (5.11 and later).
    pub const TASK_BTF: u32 = 1 << 1;
    /// `tcp_retransmit_skb` passes what sending gave as its third argument (6.18 and later).
    pub const RETRANSMIT_ERR: u32 = 1 << 2;
    /// `tcp_send_reset` passes a reason as its third argument (6.10 and later).
    pub const RESET_REASON: u32 = 1 << 3;
    /// A cgroup keeps the ids of its ancestors in itself (before 6.1), not pointers to them.
    pub const ANCESTOR_IDS: u32 = 1 << 4;
}

/// Offsets of members in bytes, from the running kernel's BTF. Those of `sock_common`, `sock`, `inet_sock` and
/// `inet_connection_sock` count from the start of a `tcp_sock` as well, since each is the first member of the next.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[allow(missing_docs, reason = "each field is named `struct_member` after what it locates")]
pub struct Layout {
    pub sock_common_skc_family: u32,
    pub sock_common_skc_state: u32,
    pub sock_common_skc_num: u32,
    pub sock_common_skc_dport: u32,
    pub sock_common_skc_rcv_saddr: u32,
    pub sock_common_skc_daddr: u32,
    pub sock_common_skc_v6_rcv_saddr: u32,
    pub sock_common_skc_v6_daddr: u32,
    pub sock_common_skc_net: u32,
    pub sock_common_skc_cookie: u32,
    pub sock_common_skc_flags: u32,
    /// In bits.
    pub sock_common_skc_reuseport: u32,
    pub sock_sk_err: u32,
    pub sock_sk_shutdown: u32,
    pub sock_sk_lingertime: u32,
    pub sock_sk_socket: u32,
    pub sock_sk_lock_owned: u32,
    pub net_ns_inum: u32,
    pub inet_sock_inet_sport: u32,
    pub inet_connection_sock_icsk_retransmits: u32,
    pub tcp_sock_srtt_us: u32,
    pub tcp_sock_total_retrans: u32,
    pub tcp_sock_bytes_acked: u32,
    pub tcp_sock_bytes_received: u32,
    pub tcp_sock_linger2: u32,
    pub request_sock_num_retrans: u32,
    pub sk_buff_head: u32,
    pub sk_buff_network_header: u32,
    pub sk_buff_transport_header: u32,
    pub task_struct_flags: u32,
    pub task_struct_group_leader: u32,
    pub task_struct_comm: u32,
    pub task_struct_cgroups: u32,
    pub css_set_dfl_cgrp: u32,
    pub cgroup_level: u32,
    /// `cgroup.ancestor_ids` with [`kernel::ANCESTOR_IDS`], else `cgroup.ancestors`.
    pub cgroup_ancestors: u32,
    pub cgroup_kn: u32,
    pub kernfs_node_id: u32,
    pub sk_buff_dev: u32,
    pub net_device_nd_net: u32,
    pub tcp_sock_rx_opt_ts_recent_stamp: u32,
    pub inet_timewait_sock_tw_substate: u32,
    pub inet_timewait_sock_tw_timer_expires: u32,
    pub request_sock_rsk_timer_expires: u32,
    pub sock_sk_ack_backlog: u32,
    pub sock_sk_max_ack_backlog: u32,
    /// `sk_timer.expires`.
    pub sock_keepalive_expires: u32,
    /// `sk_timer.entry.pprev`: not null while the timer runs.
    pub sock_keepalive_pprev: u32,
    /// `icsk_timeout`, or `icsk_retransmit_timer.expires`.
    pub inet_connection_sock_icsk_timeout: u32,
    pub inet_connection_sock_icsk_pending: u32,
    pub inet_connection_sock_icsk_probes_out: u32,
    pub inet_connection_sock_icsk_ack_lrcvtime: u32,
    pub inet_connection_sock_icsk_rto: u32,
    pub inet_connection_sock_icsk_backoff: u32,
    pub inet_connection_sock_icsk_user_timeout: u32,
    pub tcp_sock_rcv_nxt: u32,
    pub tcp_sock_copied_seq: u32,
    pub tcp_sock_write_seq: u32,
    pub tcp_sock_snd_una: u32,
    pub tcp_sock_lsndtime: u32,
    pub tcp_sock_rcv_tstamp: u32,
    pub tcp_sock_keepalive_time: u32,
    pub tcp_sock_keepalive_intvl: u32,
    pub tcp_sock_keepalive_probes: u32,
    pub socket_sk: u32,
    pub task_struct_tgid: u32,
    pub task_struct_thread_pid: u32,
    pub task_struct_real_cred: u32,
    pub cred_uid: u32,
    pub pid_level: u32,
    pub pid_numbers: u32,
}

/// All constants.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Config {
    /// The filter.
    pub filter: Filter,
    /// Where things are.
    pub layout: Layout,
    /// Bits of [`kernel`].
    pub kernel: u32,
    /// User space is woken when this many bytes wait in the ring buffer; below that it reads on its timer.
    pub wake_bytes: u32,
    /// Ticks of jiffies in a second (CONFIG_HZ).
    pub hz: u32,
    /// PID of tcptrace itself: it holds files for a moment while it lists them, and may so come to close them.
    pub own_pid: u32,
    /// One of [`crate::aggregate::by`].
    pub aggregate: u32,
}
