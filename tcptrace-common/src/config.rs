//! Constants that user space puts into the BPF object before loading: where the running kernel keeps what is read,
//! what it can do, and the filter.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::filter::Filter;

/// Bits of [`Config::kernel`]: what the running kernel has, and what else is known before loading.
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
    /// Not of the kernel: programs are loaded that remember sockets. Without it the iterators look for no memos.
    pub const MEMOS: u32 = 1 << 5;
}

/// Numbers in the instructions of the BPF object that stand for constants until user space puts the constants there.
pub mod place {
    /// Offsets of loads from this on are [`member`]s. No program has so much on its stack, or in a value of a map.
    pub const FIRST_MEMBER: u32 = 0x7c00;
    /// Members that [`FIRST_MEMBER`] leaves room for, and how often 8 bytes can be added to each.
    const MEMBERS: u32 = 0x100;
    const EIGHTS: u32 = 2;
    /// Immediate values with these high bits are [`constant`]s.
    pub const FIRST_CONSTANT: u32 = 0x7ac0_0000;
    const SIZE: u32 = 1 << 16;

    /// Stands for the offset of the member with this number among the words of [`super::Layout`], plus 8 times `eights`.
    #[must_use]
    pub const fn member(number: u32, eights: u32) -> u32 {
        assert!(number < MEMBERS && eights < EIGHTS);
        FIRST_MEMBER + eights * MEMBERS + number
    }

    /// Stands for the `size` bytes (at most 8) at `offset` of [`super::Config`].
    #[must_use]
    pub const fn constant(offset: u32, size: u32) -> u32 {
        assert!(offset < SIZE && size <= 8);
        FIRST_CONSTANT + size * SIZE + offset
    }

    /// What a [`member`] stands for: its number, and what is to be added to its offset.
    #[must_use]
    pub const fn as_member(offset: i16) -> Option<(usize, u32)> {
        let offset = offset as u32;
        if offset < FIRST_MEMBER || offset >= FIRST_MEMBER + EIGHTS * MEMBERS {
            return None;
        }
        let index = offset - FIRST_MEMBER;
        Some(((index % MEMBERS) as usize, index / MEMBERS * 8))
    }

    /// What a [`constant`] stands for: its offset and size.
    #[must_use]
    pub const fn as_constant(immediate: i32) -> Option<(usize, usize)> {
        let index = (immediate as u32).wrapping_sub(FIRST_CONSTANT);
        if index < SIZE || index >= 9 * SIZE { None } else { Some(((index % SIZE) as usize, (index / SIZE) as usize)) }
    }
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
    pub sock_sk_protocol: u32,
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
    pub task_struct_start_boottime: u32,
    pub task_struct_signal: u32,
    pub signal_struct_group_exit_code: u32,
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
    pub tcp_sock_tsorted_sent_queue: u32,
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
    pub tcp_sock_snd_nxt: u32,
    pub tcp_sock_snd_wnd: u32,
    pub tcp_sock_rcv_wnd: u32,
    pub tcp_sock_lsndtime: u32,
    pub tcp_sock_rcv_tstamp: u32,
    pub tcp_sock_keepalive_time: u32,
    pub tcp_sock_keepalive_intvl: u32,
    pub tcp_sock_keepalive_probes: u32,
    pub socket_sk: u32,
    pub socket_alloc_vfs_inode: u32,
    pub inode_i_ino: u32,
    pub inet_connection_sock_icsk_ulp_ops: u32,
    pub tcp_ulp_ops_name: u32,
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
    /// Places in the ring of each CPU, a power of two; 0: there are none, and all records go to the shared ring buffer.
    pub slots: u32,
    /// User space is woken whenever so many more of them are taken, a power of two; else it reads on its timer.
    pub wake_slots: u32,
    /// The same of bytes that wait in the shared ring buffer.
    pub wake_bytes: u32,
    /// How many records of a CPU there are between two looks at that, a power of two, less one.
    pub wake_mask: u32,
    /// Ticks of jiffies in a second (CONFIG_HZ).
    pub hz: u32,
    /// PID of tcptrace itself in its own PID namespace: it holds files for a moment while it lists them, and may so come to
    /// close them.
    pub own_pid: u32,
    /// Inode number of that namespace; 0: it is the initial one.
    pub own_pidns: u32,
    /// Device of that namespace's file (`dev_t` of the kernel).
    pub own_pidns_device: u32,
    /// Sets of memos ([`crate::tracked::sets`]) less one.
    pub memo_sets_mask: u32,
    /// One of [`crate::aggregate::by`].
    pub aggregate: u32,
    /// With a filter by state, the states whose end is told, and those whose beginning is remembered: as [`crate::state::timed`]
    /// says, and CLOSE where that may become a wanted state. By [`crate::state::bit`].
    pub told: u32,
    /// See above.
    pub timed: u32,
}
