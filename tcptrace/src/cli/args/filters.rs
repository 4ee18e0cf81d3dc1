//! Which sockets, and how they are listed.

use std::path::PathBuf;

use crate::{
    cli::parse::{PidList, PortList, Prefix},
    model::{netns_choice::NetnsChoice, state::State},
};

/// Which sockets.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Filters")]
pub struct FilterArgs {
    /// Only what enters, leaves or happens in these states, e.g. CLOSE_WAIT,FIN_WAIT2
    #[arg(short, long, value_name = "STATES", value_delimiter = ',', long_help = state_help())]
    pub state: Vec<State>,

    /// Only sockets with one of these ports at either end: lists and ranges, e.g. 80,8000-8099
    #[arg(short, long, value_name = "PORTS", allow_negative_numbers = true)]
    pub port: Option<PortList>,

    /// Only sockets with one of these local ports
    #[arg(short = 'L', long, value_name = "PORTS", allow_negative_numbers = true)]
    pub local_port: Option<PortList>,

    /// Only sockets with one of these remote ports
    #[arg(short = 'R', long, value_name = "PORTS", allow_negative_numbers = true)]
    pub remote_port: Option<PortList>,

    /// Only sockets with one of these addresses at either end: addresses or CIDR, IPv4 or IPv6, e.g. 10.0.0.0/8,::1
    #[arg(short, long, value_name = "CIDR", value_delimiter = ',')]
    pub address: Vec<Prefix>,

    /// Only sockets with one of these local addresses
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub local_address: Vec<Prefix>,

    /// Only sockets with one of these remote addresses
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub remote_address: Vec<Prefix>,

    /// Only connections that run over IPv4
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub ipv4: bool,

    /// Only connections that run over IPv6
    #[arg(short = '6', long)]
    pub ipv6: bool,

    /// Show all that is known of the owner; with PIDS (e.g. 1234,5678) only the sockets that these processes own
    #[arg(long, value_name = "PIDS", num_args = 0..=1)]
    pub pid: Option<Option<PidList>>,

    /// Only sockets of processes in this cgroup (v2) or below it: a path as in /proc/PID/cgroup, or a directory; up to 8
    #[arg(long, value_name = "PATH")]
    pub cgroup: Vec<PathBuf>,

    /// Only sockets of this network namespace: self, a name (ip netns), or an inode number; all if not given
    #[arg(long, value_name = "NETNS")]
    pub netns: Option<NetnsChoice>,
}

/// How sockets are listed.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct ListingArgs {
    /// List sockets and holders by sock_diag and /proc, as where the kernel has no BPF iterators
    #[arg(long, help_heading = "Debugging")]
    pub no_iter: bool,
}

pub(super) fn state_names() -> String {
    State::ALL.map(State::name).join(", ")
}

fn state_help() -> String {
    format!(
        "Only what enters, leaves or happens in these states, several by comma. The states are {}. Any usual spelling \
         is taken: close-wait, CLOSEWAIT, ss's estab and fin-wait-2",
        state_names()
    )
}
