//! Constants that user space sets in the BPF object before it loads the programs: offsets of kernel struct members,
//! features of the running kernel, and the filter.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::filter::Filter;

/// Bits of [`Config::features`].
pub mod feature {
    /// tp_btf programs may call `bpf_get_socket_cookie` (5.12 and later).
    pub const SOCKET_COOKIE: u32 = 1 << 0;
    /// `bpf_get_current_task_btf` exists (5.11 and later).
    pub const TASK_BTF: u32 = 1 << 1;
    /// The third argument of `tcp_retransmit_skb` is the result of sending (6.18 and later).
    pub const RETRANSMIT_ERR: u32 = 1 << 2;
    /// The third argument of `tcp_send_reset` is a reason (6.10 and later).
    pub const RESET_REASON: u32 = 1 << 3;
    /// `struct cgroup` holds the ids of its ancestors (before 6.1), not pointers to them.
    pub const ANCESTOR_IDS: u32 = 1 << 4;
    /// Set by tcptrace, not by the kernel: programs that track sockets are loaded. Otherwise the iterators skip the lookup.
    pub const TRACKING: u32 = 1 << 5;
}

/// Placeholders in the instructions of the BPF object, which user space replaces by constants.
pub mod placeholder {
    /// Load offsets from here on are [`member`]s: no program has a stack or map value this large.
    pub const FIRST_MEMBER: u32 = 0x7c00;
    /// Members that fit behind [`FIRST_MEMBER`], and how many 8-byte words of each can be addressed.
    const MEMBERS: u32 = 0x100;
    const WORDS: u32 = 2;
    /// Immediate values with these high bits are [`constant`]s.
    pub const FIRST_CONSTANT: u32 = 0x7ac0_0000;
    const SIZE: u32 = 1 << 16;

    /// Stands for the offset of a member: `field` is the index of its field in [`super::Layout`], `word` the 8-byte word
    /// within the member.
    #[must_use]
    pub const fn member(field: u32, word: u32) -> u32 {
        assert!(field < MEMBERS && word < WORDS);
        FIRST_MEMBER + word * MEMBERS + field
    }

    /// Stands for the `size` bytes (at most 8) at `offset` in [`super::Config`].
    #[must_use]
    pub const fn constant(offset: u32, size: u32) -> u32 {
        assert!(offset < SIZE && size <= 8);
        FIRST_CONSTANT + size * SIZE + offset
    }

    /// Decodes a [`member`]: the index of its field, and the bytes to add to its offset.
    #[must_use]
    pub const fn as_member(offset: i16) -> Option<(usize, u32)> {
        let offset = offset as u32;
        if offset < FIRST_MEMBER || offset >= FIRST_MEMBER + WORDS * MEMBERS {
            return None;
        }
        let index = offset - FIRST_MEMBER;
        Some(((index % MEMBERS) as usize, index / MEMBERS * 8))
    }

    /// Decodes a [`constant`]: its offset and size in bytes.
    #[must_use]
    pub const fn as_constant(immediate: i32) -> Option<(usize, usize)> {
        let index = (immediate as u32).wrapping_sub(FIRST_CONSTANT);
        if index < SIZE || index >= 9 * SIZE { None } else { Some(((index % SIZE) as usize, (index / SIZE) as usize)) }
    }
}

/// Offsets of struct members in bytes, from the running kernel's BTF. Those of `sock_common`, `sock`, `inet_sock` and
/// `inet_connection_sock` are valid from the start of a `tcp_sock` too, since each is the first member of the next.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[allow(missing_docs, reason = "each field is named `struct_member` after the member it locates")]
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
    /// This offset is in bits.
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
    /// `cgroup.ancestor_ids` with [`feature::ANCESTOR_IDS`], else `cgroup.ancestors`.
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
    /// `sk_timer.entry.pprev`, which is not null while the timer runs.
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

/// All constants of the programs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Config {
    /// Decides which events pass.
    pub filter: Filter,
    /// Locates members of kernel structs.
    pub layout: Layout,
    /// Bits of [`feature`].
    pub features: u32,
    /// Slots in the ring of each CPU, a power of two; 0: CPUs have no rings and share one ring buffer.
    pub ring_slots: u32,
    /// A program wakes user space whenever the number of unread records reaches a multiple of this, a power of two.
    /// Otherwise user space reads on its timer.
    pub wake_slots: u32,
    /// A program wakes user space if this many bytes are unread in the shared ring buffer.
    pub wake_bytes: u32,
    /// A power of two, less one: each CPU checks [`Config::wake_bytes`] once in so many records.
    pub wake_check_mask: u32,
    /// Jiffies per second (CONFIG_HZ).
    pub hz: u32,
    /// PID of tcptrace in its own PID namespace. It must not become an owner: it holds files for a moment while it lists
    /// them, and may be the one that closes them.
    pub own_pid: u32,
    /// Inode number of that PID namespace; 0: the initial one.
    pub own_pidns: u32,
    /// Device of the PID namespace's file (the kernel's `dev_t`).
    pub own_pidns_device: u32,
    /// Number of sets in the table of tracked sockets ([`crate::tracked::set_count`]), less one.
    pub tracked_sets_mask: u32,
    /// One of [`crate::aggregate::by`].
    pub aggregate: u32,
    /// With a filter by state: bits of the states whose end is reported ([`crate::state::bit`]).
    pub reported_states: u32,
    /// With a filter by state: bits of the states whose start time is kept ([`crate::state::timed_states`], and CLOSE if it
    /// may turn out to be a wanted state).
    pub timed_states: u32,
}
