//! The command line as clap parses it: one struct for each command, whose doc comments are the help texts.
//!
//! A flag that several commands share stands in a struct of its own ([`FilterArgs`], [`ListingArgs`]), which they flatten.

mod filters;
mod output;
mod trace;
pub mod values;
mod views;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::cli::args::values::LogLevel;

pub use self::{
    filters::{FilterArgs, ListingArgs},
    output::{OutputArgs, Time},
    trace::{AggregateBy, MetricsBy, NOT_AGGREGATE, TraceArgs},
    views::{Area, DoctorArgs, GroupBy, RatesArgs, SocketsArgs, StoryArgs, StuckArgs},
};

/// Traces TCP state transitions: how long each took, why connections end, and which processes are responsible.
#[derive(Debug, Parser)]
#[command(name = "tcptrace", version, about, after_help = after_help(), max_term_width = 110)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    /// The command; without one, trace.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The flags of tracing.
    #[command(flatten)]
    pub trace: TraceArgs,
}

/// The commands other than tracing.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List existing sockets: state, age, queues, timer, owner and all holders
    Sockets(SocketsArgs),
    /// Show only problems: stuck sockets and failures, with owner, evidence and remedy
    Stuck(StuckArgs),
    /// Print events per second: opens, failures, resets, retransmits, orphans
    Rates(RatesArgs),
    /// Follow single connections: every transition, retransmit and RST in order, from both ends if both are local
    Story(StoryArgs),
    /// Check whether tcptrace works on this machine, and its TCP settings: problems, their effects and remedies
    Doctor(DoctorArgs),
    /// Run as a service: configured by a file, with systemd notifications and health checks over HTTP
    Daemon(DaemonArgs),
    /// Check a config file
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// `tcptrace daemon`.
#[derive(Debug, clap::Args)]
#[command(mut_arg("config", |config| config.default_value(CONFIG_PATH)))]
pub struct DaemonArgs {
    /// The flags of tracing.
    #[command(flatten)]
    pub trace: TraceArgs,

    /// Lowest level of messages in the service's own log
    #[arg(long, value_enum, value_name = "LEVEL", default_value = "info", help_heading = "Debugging")]
    pub log_level: LogLevel,
}

/// The config file that `tcptrace daemon` and `tcptrace config check` read by default.
pub const CONFIG_PATH: &str = "/etc/tcptrace/tcptrace.toml";

/// `tcptrace config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check a config file and print the resulting settings, without tracing
    Check {
        /// The file to check
        #[arg(value_name = "FILE", default_value = CONFIG_PATH)]
        config: PathBuf,
    },
}

fn after_help() -> String {
    format!(
        "States: {}.\n\nExamples:\n  \
         tcptrace                                    every TCP transition on this machine\n  \
         tcptrace --state CLOSE_WAIT --pid           find leaks: who enters and leaves CLOSE_WAIT\n  \
         tcptrace --remote-port 5432 --format json   connections to a database, as JSON\n  \
         tcptrace --summary --duration 30s           latency of each kind of transition over 30 seconds\n  \
         tcptrace --aggregate port --interval 10s    the same for each service port, at the lowest cost\n  \
         tcptrace sockets --port 443                 sockets on a port now, and who holds them\n  \
         tcptrace story 10.1.2.3:5432                a connection from its first event to its end\n  \
         tcptrace stuck                              current problems: leaks, refused connections, dead peers\n  \
         tcptrace rates                              opens, failures, resets and retransmits per second\n  \
         tcptrace doctor                             can tcptrace run here, and are the TCP settings sound?",
        filters::state_names()
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
        let parsed = |line: &str| Args::try_parse_from(line.split(' ')).unwrap().trace.filter.pid;
        assert!(parsed("tcptrace").is_none());
        assert!(parsed("tcptrace --pid").unwrap().is_none());
        assert!(parsed("tcptrace --pid --summary").unwrap().is_none());
        assert_eq!(parsed("tcptrace --pid 12,34").unwrap().unwrap().0, [12, 34]);
        assert_eq!(parsed("tcptrace --state CLOSE_WAIT --pid=7").unwrap().unwrap().0, [7]);
    }
}
