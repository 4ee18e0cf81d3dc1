//! The flags that select sockets, and the one that selects how they are listed.

use std::path::PathBuf;

use crate::{
    cli::parse::{PidList, PortList, Prefix},
    model::{netns_choice::NetnsChoice, state::State},
};

/// Filters for sockets. Within one flag any value may match; all given flags must.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Filters")]
pub struct FilterArgs {
    /// Show only transitions into or out of these states, and sockets in them, e.g. CLOSE_WAIT,FIN_WAIT2
    #[arg(short, long, value_name = "STATES", value_delimiter = ',', long_help = state_help())]
    pub state: Vec<State>,

    /// Show only sockets with one of these ports on either side: numbers and ranges, e.g. 80,8000-8099
    #[arg(short = 'P', long, value_name = "PORTS", allow_negative_numbers = true)]
    pub port: Option<PortList>,

    /// Show only sockets with one of these local ports
    #[arg(short = 'L', long, value_name = "PORTS", allow_negative_numbers = true)]
    pub local_port: Option<PortList>,

    /// Show only sockets with one of these remote ports
    #[arg(short = 'R', short_alias = 'D', long, value_name = "PORTS", allow_negative_numbers = true)]
    pub remote_port: Option<PortList>,

    /// Show only sockets with one of these addresses on either side: IPv4 or IPv6, single or CIDR, e.g. 10.0.0.0/8,::1
    #[arg(short, long, value_name = "CIDR", value_delimiter = ',')]
    pub address: Vec<Prefix>,

    /// Show only sockets with one of these local addresses
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub local_address: Vec<Prefix>,

    /// Show only sockets with one of these remote addresses
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub remote_address: Vec<Prefix>,

    /// Show only connections over IPv4 (also those of dual-stack IPv6 sockets)
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub ipv4: bool,

    /// Show only connections over IPv6
    #[arg(short = '6', long)]
    pub ipv6: bool,

    /// Show everything known about the owner; with PIDS (e.g. 1234,5678) show only sockets of these processes
    #[arg(short, long, value_name = "PIDS", num_args = 0..=1, require_equals = true)]
    pub pid: Option<Option<PidList>>,

    /// Show only sockets of processes in or below this cgroup (v2): a path as in /proc/PID/cgroup, or a directory. May be
    /// given up to 8 times
    #[arg(long, value_name = "PATH")]
    pub cgroup: Vec<PathBuf>,

    /// Show only sockets in this network namespace: self, a name (ip netns), an inode number, a
    /// file such as /proc/PID/ns/net, or pid:PID [default: all]
    #[arg(long, value_name = "NETNS")]
    pub netns: Option<NetnsChoice>,
}

/// How existing sockets are listed.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct ListingArgs {
    /// List sockets and their holders through sock_diag and /proc even if the kernel has BPF iterators
    #[arg(long, help_heading = "Debugging")]
    pub no_iter: bool,
}

pub(super) fn state_names() -> String {
    State::ALL.map(State::name).join(", ")
}

fn state_help() -> String {
    format!(
        "Show only transitions into or out of these states, other events in them, and sockets in them; separate several \
         with commas. The states are {}. Any common spelling works: close-wait, CLOSEWAIT, or ss's estab and fin-wait-2",
        state_names()
    )
}
