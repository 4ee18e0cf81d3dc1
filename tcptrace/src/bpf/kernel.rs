//! What tcptrace has to know of the running kernel before it loads its programs.

use std::collections::HashMap;

use tcptrace_common::config::{Layout, kernel};

use super::btf::{Error, KernelBtf};

/// Which of the two programs on `inet_csk_accept` fits: what the function returns stands behind its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptShape {
    /// `(sk, arg)`, from 6.10 on.
    Two,
    /// `(sk, flags, err, kern)`.
    Four,
}

/// The running kernel, as its BTF shows it.
#[derive(Debug)]
pub struct Kernel {
    /// Where the programs find what they read.
    pub layout: Layout,
    /// Bits of [`kernel`].
    pub abilities: u32,
    /// How `inet_csk_accept` looks, `None` where it looks like neither form.
    pub accept: Option<AcceptShape>,
    /// Names of `enum sk_rst_reason` without their prefix, in lower case, by value: the numbering differs between kernels.
    pub reset_reasons: HashMap<u32, String>,
    /// The tracepoints, of those that tcptrace uses, that this kernel has.
    tracepoints: Vec<&'static str>,
}

/// All tracepoints that have a program.
const TRACEPOINTS: [&str; 7] = [
    "inet_sock_set_state",
    "tcp_destroy_sock",
    "tcp_rcv_space_adjust",
    "tcp_retransmit_skb",
    "tcp_retransmit_synack",
    "tcp_send_reset",
    "tcp_receive_reset",
];

impl Kernel {
    /// Takes what is needed from the kernel's BTF.
    ///
    /// # Errors
    /// Where a member that the programs cannot do without is missing.
    pub fn from_btf(btf: &KernelBtf<'_>) -> Result<Self, Error> {
        let mut abilities = 0;
        let mut has = |ability: u32, yes: bool| abilities |= if yes { ability } else { 0 };
        has(kernel::SOCKET_COOKIE, btf.function_parameters("bpf_get_socket_ptr_cookie").is_some());
        has(kernel::TASK_BTF, btf.function_parameters("bpf_get_current_task_btf").is_some());
        has(kernel::RETRANSMIT_ERR, btf.tracepoint_arguments("tcp_retransmit_skb") == Some(3));
        has(kernel::RESET_REASON, btf.tracepoint_arguments("tcp_send_reset") == Some(3));
        let layout = layout(btf)?;
        has(kernel::ANCESTOR_IDS, layout.cgroup_ancestor_ids != 0);
        let accept = match btf.function_parameters("inet_csk_accept") {
            Some(2) => Some(AcceptShape::Two),
            Some(4) => Some(AcceptShape::Four),
            _ => None,
        };
        let reset_reasons = btf.enum_values("sk_rst_reason").into_iter().map(|(name, value)| {
            let short = name.strip_prefix("SK_RST_REASON_").unwrap_or(name);
            (value, short.to_ascii_lowercase())
        });
        let here = |name: &&str| btf.tracepoint_arguments(name).is_some();
        Ok(Self {
            layout,
            abilities,
            accept,
            reset_reasons: reset_reasons.collect(),
            tracepoints: TRACEPOINTS.into_iter().filter(here).collect(),
        })
    }

    /// Has the kernel this tracepoint?
    #[must_use]
    pub fn has_tracepoint(&self, name: &str) -> bool {
        self.tracepoints.contains(&name)
    }
}

/// A layout with the bytes at which these members lie; the others are 0.
macro_rules! layout {
    ($btf:expr, $($field:ident = $of:literal $path:literal),* $(,)?) => {
        Layout { $($field: $btf.offset_of($of, $path)?,)* ..Layout::default() }
    };
}

fn layout(btf: &KernelBtf<'_>) -> Result<Layout, Error> {
    let bytes = layout! { btf,
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
        sock_sk_err = "sock" "sk_err",
        sock_sk_shutdown = "sock" "sk_shutdown",
        sock_sk_lingertime = "sock" "sk_lingertime",
        sock_sk_socket = "sock" "sk_socket",
        sock_sk_lock_owned = "sock" "sk_lock.owned",
        net_ns_inum = "net" "ns.inum",
        inet_sock_inet_sport = "inet_sock" "inet_sport",
        inet_connection_sock_icsk_retransmits = "inet_connection_sock" "icsk_retransmits",
        tcp_sock_srtt_us = "tcp_sock" "srtt_us",
        tcp_sock_total_retrans = "tcp_sock" "total_retrans",
        tcp_sock_bytes_acked = "tcp_sock" "bytes_acked",
        tcp_sock_bytes_received = "tcp_sock" "bytes_received",
        tcp_sock_linger2 = "tcp_sock" "linger2",
        request_sock_num_retrans = "request_sock" "num_retrans",
        sk_buff_head = "sk_buff" "head",
        sk_buff_network_header = "sk_buff" "network_header",
        sk_buff_transport_header = "sk_buff" "transport_header",
        task_struct_flags = "task_struct" "flags",
        task_struct_group_leader = "task_struct" "group_leader",
        task_struct_comm = "task_struct" "comm",
        task_struct_cgroups = "task_struct" "cgroups",
        css_set_dfl_cgrp = "css_set" "dfl_cgrp",
        cgroup_level = "cgroup" "level",
    };
    Ok(Layout {
        sock_common_skc_reuseport: btf.bit_of("sock_common", "skc_reuseport")?,
        // Before 6.1 only.
        cgroup_ancestor_ids: btf.offset_of("cgroup", "ancestor_ids").unwrap_or(0),
        ..bytes
    })
}
