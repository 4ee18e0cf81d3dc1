//! What tcptrace needs to know about the running kernel before it loads its programs.

use std::collections::HashMap;

use tcptrace_common::config::{Layout, feature};

use super::{
    btf::{Error, KernelBtf},
    hooks,
};

/// Which of the two programs on `inet_csk_accept` fits: the offset of the return value depends on the number of
/// arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptShape {
    /// `(sk, arg)`, from 6.10 on.
    Two,
    /// `(sk, flags, err, kern)`.
    Four,
}

/// The running kernel, as described by its BTF.
#[derive(Debug)]
pub struct Kernel {
    /// Offsets of the struct members that the programs read.
    pub layout: Layout,
    /// What the kernel can do, as bits of [`feature`].
    pub features: u32,
    /// Signature of `inet_csk_accept`; `None` if it is neither of the two known ones.
    pub accept: Option<AcceptShape>,
    /// Names of `enum sk_rst_reason` in lower case without their prefix, by value: the values differ between kernels.
    pub reset_reasons: HashMap<u32, String>,
    /// Why the iterators cannot work; `None` if they can.
    pub no_listing: Option<String>,
    /// Offset of the cookie in `struct net` (`SO_NETNS_COOKIE`, since 5.14).
    pub net_cookie: Option<u32>,
    /// Those of tcptrace's tracepoints that this kernel has.
    tracepoints: Vec<&'static str>,
}

impl Kernel {
    /// Reads what is needed from the kernel's BTF.
    ///
    /// # Errors
    /// If a member that the programs require is missing.
    pub fn from_btf(btf: &KernelBtf<'_>) -> Result<Self, Error> {
        let mut features = 0;
        let mut has = |feature: u32, yes: bool| features |= if yes { feature } else { 0 };
        has(feature::SOCKET_COOKIE, btf.function_parameters("bpf_get_socket_ptr_cookie").is_some());
        has(feature::TASK_BTF, btf.function_parameters("bpf_get_current_task_btf").is_some());
        has(feature::RETRANSMIT_ERR, btf.tracepoint_arguments("tcp_retransmit_skb") == Some(3));
        has(feature::RESET_REASON, btf.tracepoint_arguments("tcp_send_reset") == Some(3));
        let mut layout = layout(btf)?;
        let no_listing = listing_layout(btf, &mut layout).err().map(|error| error.to_string());
        has(feature::ANCESTOR_IDS, btf.offset_of("cgroup", "ancestor_ids").is_ok());
        let accept = match btf.function_parameters(hooks::ACCEPT) {
            Some(2) => Some(AcceptShape::Two),
            Some(4) => Some(AcceptShape::Four),
            _ => None,
        };
        let reset_reasons = btf.enum_values("sk_rst_reason").into_iter().map(|(name, value)| {
            let short = name.strip_prefix("SK_RST_REASON_").unwrap_or(name);
            (value, short.to_ascii_lowercase())
        });
        Ok(Self {
            layout,
            features,
            accept,
            reset_reasons: reset_reasons.collect(),
            no_listing,
            net_cookie: btf.offset_of("net", "net_cookie").ok(),
            tracepoints: hooks::tracepoints().filter(|name| btf.tracepoint_arguments(name).is_some()).collect(),
        })
    }

    /// Whether the kernel has this tracepoint.
    #[must_use]
    pub fn has_tracepoint(&self, name: &str) -> bool {
        self.tracepoints.contains(&name)
    }
}

/// `$rest` with the offsets of these members in bytes.
macro_rules! layout {
    ($btf:expr, $rest:expr, $($field:ident = $of:literal $path:literal),* $(,)?) => {
        Layout { $($field: $btf.offset_of($of, $path)?,)* ..$rest }
    };
}

fn layout(btf: &KernelBtf<'_>) -> Result<Layout, Error> {
    let bytes = layout! { btf, Layout::default(),
        sock_common_skc_family = "sock_common" "skc_family",
        sock_common_skc_state = "sock_common" "skc_state",
        sock_common_skc_num = "sock_common" "skc_num",
        sock_common_skc_dport = "sock_common" "skc_dport",
        sock_common_skc_rcv_saddr = "sock_common" "skc_rcv_saddr",
        sock_common_skc_daddr = "sock_common" "skc_daddr",
        sock_common_skc_v6_rcv_saddr = "sock_common" "skc_v6_rcv_saddr",
        sock_common_skc_v6_daddr = "sock_common" "skc_v6_daddr",
        sock_common_skc_net = "sock_common" "skc_net",
        sock_common_skc_cookie = "sock_common" "skc_cookie",
        sock_common_skc_flags = "sock_common" "skc_flags",
        sock_sk_protocol = "sock" "sk_protocol",
        sock_sk_err = "sock" "sk_err",
        sock_sk_shutdown = "sock" "sk_shutdown",
        sock_sk_lingertime = "sock" "sk_lingertime",
        sock_sk_socket = "sock" "sk_socket",
        sock_sk_lock_owned = "sock" "sk_lock.owned",
        net_ns_inum = "net" "ns.inum",
        inet_sock_inet_sport = "inet_sock" "inet_sport",
        inet_connection_sock_icsk_retransmits = "inet_connection_sock" "icsk_retransmits",
        inet_connection_sock_icsk_probes_out = "inet_connection_sock" "icsk_probes_out",
        tcp_sock_srtt_us = "tcp_sock" "srtt_us",
        tcp_sock_total_retrans = "tcp_sock" "total_retrans",
        tcp_sock_bytes_acked = "tcp_sock" "bytes_acked",
        tcp_sock_bytes_received = "tcp_sock" "bytes_received",
        tcp_sock_linger2 = "tcp_sock" "linger2",
        tcp_sock_rcv_nxt = "tcp_sock" "rcv_nxt",
        tcp_sock_copied_seq = "tcp_sock" "copied_seq",
        tcp_sock_write_seq = "tcp_sock" "write_seq",
        tcp_sock_snd_una = "tcp_sock" "snd_una",
        inet_connection_sock_icsk_ack_lrcvtime = "inet_connection_sock" "icsk_ack.lrcvtime",
        tcp_sock_lsndtime = "tcp_sock" "lsndtime",
        tcp_sock_rcv_tstamp = "tcp_sock" "rcv_tstamp",
        request_sock_num_retrans = "request_sock" "num_retrans",
        sk_buff_head = "sk_buff" "head",
        sk_buff_network_header = "sk_buff" "network_header",
        sk_buff_transport_header = "sk_buff" "transport_header",
        task_struct_flags = "task_struct" "flags",
        task_struct_group_leader = "task_struct" "group_leader",
        task_struct_comm = "task_struct" "comm",
        task_struct_start_boottime = "task_struct" "start_boottime",
        task_struct_signal = "task_struct" "signal",
        signal_struct_group_exit_code = "signal_struct" "group_exit_code",
        task_struct_cgroups = "task_struct" "cgroups",
        css_set_dfl_cgrp = "css_set" "dfl_cgrp",
        cgroup_level = "cgroup" "level",
        cgroup_kn = "cgroup" "kn",
        kernfs_node_id = "kernfs_node" "id",
        sk_buff_dev = "sk_buff" "dev",
        net_device_nd_net = "net_device" "nd_net.net",
        tcp_sock_rx_opt_ts_recent_stamp = "tcp_sock" "rx_opt.ts_recent_stamp",
        tcp_sock_tsorted_sent_queue = "tcp_sock" "tsorted_sent_queue",
        inet_timewait_sock_tw_substate = "inet_timewait_sock" "tw_substate",
    };
    Ok(Layout {
        sock_common_skc_reuseport: btf.bit_of("sock_common", "skc_reuseport")?,
        cgroup_ancestors: first(btf, &[("cgroup", "ancestor_ids"), ("cgroup", "ancestors")])?,
        ..bytes
    })
}

/// Offset of the first of these member names that the kernel has.
fn first(btf: &KernelBtf<'_>, names: &[(&str, &str)]) -> Result<u32, Error> {
    let mut last = Error::NoType(String::new());
    for (of, path) in names {
        match btf.offset_of(of, path) {
            Ok(offset) => return Ok(offset),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Adds the offsets that only the iterators use.
fn listing_layout(btf: &KernelBtf<'_>, to: &mut Layout) -> Result<(), Error> {
    if btf.function_parameters("bpf_sock_from_file").is_none() {
        return Err(Error::NoType("bpf_sock_from_file".to_owned())); // 5.11 and later
    }
    // Since 7.0 the timers are elsewhere, and `sk_timer` is another name for the retransmission timer.
    let keepalive = |member: &str| {
        let names = [format!("icsk_keepalive_timer.{member}"), format!("sk_timer.{member}")];
        first(btf, &[("inet_connection_sock", &names[0]), ("sock", &names[1])])
    };
    let retransmission = [
        ("inet_connection_sock", "icsk_timeout"),
        ("inet_connection_sock", "icsk_retransmit_timer.expires"),
        ("sock", "tcp_retransmit_timer.expires"),
    ];
    let bytes = layout! { btf, *to,
        inet_timewait_sock_tw_timer_expires = "inet_timewait_sock" "tw_timer.expires",
        request_sock_rsk_timer_expires = "request_sock" "rsk_timer.expires",
        sock_sk_ack_backlog = "sock" "sk_ack_backlog",
        sock_sk_max_ack_backlog = "sock" "sk_max_ack_backlog",
        inet_connection_sock_icsk_pending = "inet_connection_sock" "icsk_pending",
        inet_connection_sock_icsk_rto = "inet_connection_sock" "icsk_rto",
        inet_connection_sock_icsk_backoff = "inet_connection_sock" "icsk_backoff",
        inet_connection_sock_icsk_user_timeout = "inet_connection_sock" "icsk_user_timeout",
        tcp_sock_snd_nxt = "tcp_sock" "snd_nxt",
        tcp_sock_snd_wnd = "tcp_sock" "snd_wnd",
        tcp_sock_rcv_wnd = "tcp_sock" "rcv_wnd",
        tcp_sock_keepalive_time = "tcp_sock" "keepalive_time",
        tcp_sock_keepalive_intvl = "tcp_sock" "keepalive_intvl",
        tcp_sock_keepalive_probes = "tcp_sock" "keepalive_probes",
        socket_sk = "socket" "sk",
        socket_alloc_vfs_inode = "socket_alloc" "vfs_inode",
        inode_i_ino = "inode" "i_ino",
        inet_connection_sock_icsk_ulp_ops = "inet_connection_sock" "icsk_ulp_ops",
        tcp_ulp_ops_name = "tcp_ulp_ops" "name",
        task_struct_tgid = "task_struct" "tgid",
        task_struct_thread_pid = "task_struct" "thread_pid",
        task_struct_real_cred = "task_struct" "real_cred",
        cred_uid = "cred" "uid",
        pid_level = "pid" "level",
        pid_numbers = "pid" "numbers",
    };
    *to = Layout {
        sock_keepalive_expires: keepalive("expires")?,
        sock_keepalive_pprev: keepalive("entry.pprev")?,
        inet_connection_sock_icsk_timeout: first(btf, &retransmission)?,
        ..bytes
    };
    Ok(())
}
