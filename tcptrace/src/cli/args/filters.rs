//! The flags that select sockets, and the one that selects how they are listed.

use std::path::PathBuf;

use crate::{
    cli::parse::{PidList, Where},
    model::{
        filter::{Place, PortRange, Term, Uid},
        netns_choice::NetnsChoice,
        state::State,
    },
};

/// Filters for sockets. Within one flag any value may match; all given flags must. `!` before a value excludes it.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Filters")]
pub struct FilterArgs {
    /// Only transitions into or out of these states, and sockets in them, e.g. CLOSE_WAIT,FIN_WAIT2;
    /// '!LISTEN' excludes a state, and ! works in every filter
    #[arg(short, long, value_name = "STATES", value_delimiter = ',', long_help = state_help())]
    pub state: Vec<Term<State>>,

    /// Only sockets with one of these ports on either side: numbers and ranges, e.g. 80,8000-8099
    #[arg(short = 'P', long, value_name = "PORTS", value_delimiter = ',', allow_negative_numbers = true)]
    pub port: Vec<Term<PortRange>>,

    /// Only sockets with one of these local ports
    #[arg(short = 'L', long, value_name = "PORTS", value_delimiter = ',', allow_negative_numbers = true)]
    pub local_port: Vec<Term<PortRange>>,

    /// Only sockets with one of these remote ports
    #[arg(
        short = 'R',
        short_alias = 'D',
        long,
        value_name = "PORTS",
        value_delimiter = ',',
        allow_negative_numbers = true
    )]
    pub remote_port: Vec<Term<PortRange>>,

    /// Only sockets with one of these addresses on either side: IPv4 or IPv6, single, CIDR
    /// or with a port, e.g. 10.0.0.0/8,::1,192.0.2.1:443
    #[arg(short, long, value_name = "CIDR", value_delimiter = ',')]
    pub address: Vec<Term<Place>>,

    /// Only sockets with one of these local addresses
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub local_address: Vec<Term<Place>>,

    /// Only sockets with one of these remote addresses
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub remote_address: Vec<Term<Place>>,

    /// Only connections over IPv4 (also those of dual-stack IPv6 sockets)
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub ipv4: bool,

    /// Only connections over IPv6
    #[arg(short = '6', long)]
    pub ipv6: bool,

    /// Show everything known about the owner; with PIDS (e.g. 1234,5678) only sockets of these processes
    #[arg(short, long, value_name = "PIDS", num_args = 0..=1, require_equals = true)]
    pub pid: Option<Option<PidList>>,

    /// Only sockets of processes with one of these command names (comm)
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub comm: Vec<Term<String>>,

    /// Only sockets of processes that run one of these executables (paths)
    #[arg(long, value_name = "PATHS", value_delimiter = ',')]
    pub exe: Vec<Term<String>>,

    /// Only sockets of processes with one of these user ids
    #[arg(long, value_name = "UIDS", value_delimiter = ',')]
    pub uid: Vec<Term<Uid>>,

    /// Only sockets of processes of one of these users
    #[arg(long, value_name = "USERS", value_delimiter = ',')]
    pub user: Vec<Term<String>>,

    /// Only sockets of processes of one of these systemd units
    #[arg(long, value_name = "UNITS", value_delimiter = ',')]
    pub unit: Vec<Term<String>>,

    /// Only sockets of processes in one of these containers: id, its first 12 digits, or name
    #[arg(long, value_name = "CONTAINERS", value_delimiter = ',')]
    pub container: Vec<Term<String>>,

    /// Only sockets of processes in one of these Kubernetes pods: UID, NAME or NAMESPACE/NAME
    #[arg(long, value_name = "PODS", value_delimiter = ',')]
    pub pod: Vec<Term<String>>,

    /// Only sockets of processes in or below this cgroup (v2): a path as in /proc/PID/cgroup, or a directory. May be
    /// given up to 8 times
    #[arg(long, value_name = "PATH")]
    pub cgroup: Vec<PathBuf>,

    /// Only sockets in this network namespace: self, a name (ip netns), an inode number, a
    /// file such as /proc/PID/ns/net, or pid:PID [default: all]
    #[arg(long, value_name = "NETNS")]
    pub netns: Option<NetnsChoice>,

    /// Only what matches this expression (tcptrace explain filters), e.g. 'state == CLOSE_WAIT && age > 1m && comm =~ "^java"'
    #[arg(id = "expression", long = "where", value_name = "EXPRESSION")]
    pub expression: Option<Where>,

    /// Print which part of the filters runs in the kernel and which in tcptrace, and exit
    #[arg(long)]
    pub explain_filter: bool,

    /// Filters in the words of ss and tcpdump, e.g. state close-wait dport = :443, or dst 10.0.0.0/8
    #[arg(value_name = "FILTER")]
    pub words: Vec<String>,
}

/// How existing sockets are listed.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct ListingArgs {
    /// List sockets and their holders through sock_diag and /proc even if the kernel has BPF iterators
    #[arg(long, help_heading = "Debugging")]
    pub no_iter: bool,

    /// Keep all rights after the start: by default tcptrace gives up capabilities, and has system calls and writing to files
    /// limited by seccomp and Landlock
    #[arg(long, help_heading = "Debugging")]
    pub no_sandbox: bool,
}

pub(super) fn state_names() -> String {
    State::ALL.map(State::name).join(", ")
}

fn state_help() -> String {
    format!(
        "Only transitions into or out of these states, other events in them, and sockets in them; separate several \
         with commas. The states are {}. Any common spelling works: close-wait, CLOSEWAIT, or ss's estab and fin-wait-2",
        state_names()
    )
}
