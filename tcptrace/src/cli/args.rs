//! What can be typed.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};

use super::parse::{PidList, PortList, Prefix, duration, size};
use crate::state::State;

/// Traces TCP state transitions: how long each took, why connections end, and the processes responsible.
#[derive(Debug, Parser)]
#[command(name = "tcptrace", version, about, after_help = after_help(), max_term_width = 110)]
pub struct Args {
    /// Only what enters, leaves or happens in these states, e.g. CLOSE_WAIT,FIN_WAIT2
    #[arg(short, long, value_name = "STATES", value_delimiter = ',', help_heading = "Filters", long_help = state_help())]
    pub state: Vec<State>,

    /// Only sockets with one of these ports at either end: lists and ranges, e.g. 80,8000-8099
    #[arg(short, long, value_name = "PORTS", help_heading = "Filters")]
    pub port: Option<PortList>,

    /// Only sockets with one of these local ports
    #[arg(short = 'L', long, value_name = "PORTS", help_heading = "Filters")]
    pub local_port: Option<PortList>,

    /// Only sockets with one of these remote ports
    #[arg(short = 'R', long, value_name = "PORTS", help_heading = "Filters")]
    pub remote_port: Option<PortList>,

    /// Only sockets with one of these addresses at either end: addresses or CIDR, IPv4 or IPv6, e.g. 10.0.0.0/8,::1
    #[arg(short, long, value_name = "CIDR", value_delimiter = ',', help_heading = "Filters")]
    pub address: Vec<Prefix>,

    /// Only sockets with one of these local addresses
    #[arg(long, value_name = "CIDR", value_delimiter = ',', help_heading = "Filters")]
    pub local_address: Vec<Prefix>,

    /// Only sockets with one of these remote addresses
    #[arg(long, value_name = "CIDR", value_delimiter = ',', help_heading = "Filters")]
    pub remote_address: Vec<Prefix>,

    /// Only connections that run over IPv4
    #[arg(short = '4', long, conflicts_with = "ipv6", help_heading = "Filters")]
    pub ipv4: bool,

    /// Only connections that run over IPv6
    #[arg(short = '6', long, help_heading = "Filters")]
    pub ipv6: bool,

    /// Show all that is known of the owner; with PIDS (e.g. 1234,5678) only the sockets that these processes own
    #[arg(long, value_name = "PIDS", num_args = 0..=1, help_heading = "Filters")]
    pub pid: Option<Option<PidList>>,

    /// Only sockets of processes in this cgroup (v2) or below it: a path as in /proc/PID/cgroup, or a directory; up to 8
    #[arg(long, value_name = "PATH", help_heading = "Filters")]
    pub cgroup: Vec<PathBuf>,

    /// Form of the output
    #[arg(short, long, value_enum, default_value_t, help_heading = "Output")]
    pub format: Format,

    /// Write to this file instead of stdout; an existing file is replaced
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub output: Option<PathBuf>,

    /// Times in text: local or UTC time of day, the kernel's monotonic clock, or since the line before
    #[arg(short, long, value_enum, default_value_t, help_heading = "Output")]
    pub time: Time,

    /// Colour in text: on a terminal only, always, never
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    pub color: Color,

    /// Print no events, only the summary
    #[arg(long, help_heading = "Output")]
    pub summary: bool,

    /// Print a summary of each interval as well, e.g. 10s
    #[arg(short, long, value_name = "TIME", value_parser = duration, help_heading = "Output")]
    pub interval: Option<Duration>,

    /// End after this time, e.g. 30s or 5m
    #[arg(short, long, value_name = "TIME", value_parser = duration, help_heading = "Limits")]
    pub duration: Option<Duration>,

    /// End after this many events were printed
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Limits")]
    pub count: Option<u64>,

    /// Time from an event to its output at most; shorter costs more wake-ups
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "100ms", help_heading = "Limits")]
    pub latency: Duration,

    /// Size of the ring buffer between kernel and tcptrace, rounded up to a power of two
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "8MiB", help_heading = "Limits")]
    pub ring_size: u64,

    /// Live sockets to keep in tcptrace's table at most; when it is full, the one that came first makes room
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16_777_216), default_value = "1048576", help_heading = "Limits")]
    pub max_sockets: u32,

    /// Live sockets whose clock and owner the kernel side remembers at most, in 128 bytes each, taken at the start
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16_777_216), default_value = "131072", help_heading = "Limits")]
    pub kernel_sockets: u32,

    /// Create this file once all is attached, and remove it at the end
    #[arg(long, value_name = "FILE", help_heading = "Debugging")]
    pub ready_file: Option<PathBuf>,

    /// Print messages of the BPF programs up to this level to stderr; off costs nothing
    #[arg(long, value_enum, value_name = "LEVEL", help_heading = "Debugging")]
    pub bpf_log: Option<LogLevel>,
}

/// Forms of output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// An aligned table
    #[default]
    Text,
    /// One object a line (docs/json.md)
    Json,
    /// Rows, the first names the columns
    Csv,
}

/// Times in text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the flag's help says it")]
pub enum Time {
    #[default]
    Local,
    Utc,
    Mono,
    Delta,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the flag's help says it")]
pub enum Color {
    #[default]
    Auto,
    Always,
    Never,
}

/// Levels of the programs' log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the usual levels")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

fn state_names() -> String {
    State::ALL.map(State::name).join(", ")
}

fn state_help() -> String {
    format!(
        "Only what enters, leaves or happens in these states, several by comma. The states are {}. Any usual spelling \
         is taken: close-wait, CLOSEWAIT, ss's estab and fin-wait-2",
        state_names()
    )
}

fn after_help() -> String {
    format!(
        "States: {}.\n\nExamples:\n  \
         tcptrace                                    all transitions of this machine\n  \
         tcptrace --state CLOSE_WAIT --pid           who leaks: what enters and leaves CLOSE_WAIT, with its owner\n  \
         tcptrace --remote-port 5432 --format json   connections to a database, for a pipeline\n  \
         tcptrace --summary --duration 30s           latencies of all transitions over half a minute",
        state_names()
    )
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn pid_takes_no_value_or_a_list() {
        let parsed = |line: &str| Args::try_parse_from(line.split(' ')).unwrap().pid;
        assert!(parsed("tcptrace").is_none());
        assert!(parsed("tcptrace --pid").unwrap().is_none());
        assert!(parsed("tcptrace --pid --summary").unwrap().is_none());
        assert_eq!(parsed("tcptrace --pid 12,34").unwrap().unwrap().0, [12, 34]);
        assert_eq!(parsed("tcptrace --state CLOSE_WAIT --pid=7").unwrap().unwrap().0, [7]);
    }
}
