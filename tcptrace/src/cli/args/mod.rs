//! What can be typed.

mod filters;
mod trace;
pub mod values;
mod views;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::cli::args::values::LogLevel;

pub use self::{
    filters::{FilterArgs, ListingArgs},
    trace::{AggregateBy, MetricsBy, NOT_AGGREGATE, Time, TraceArgs},
    views::{Area, DoctorArgs, GroupBy, RatesArgs, SocketsArgs, StoryArgs, StuckArgs, StuckFormat},
};

/// Traces TCP state transitions: how long each took, why connections end, and the processes responsible.
#[derive(Debug, Parser)]
#[command(name = "tcptrace", version, about, after_help = after_help(), max_term_width = 110)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    /// What to do instead of tracing.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// How to trace.
    #[command(flatten)]
    pub trace: TraceArgs,
}

/// What can be done besides tracing.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the sockets that there are: state, age, queues, timer, owner and all holders
    Sockets(SocketsArgs),
    /// Show only what is wrong: stuck sockets and failures, with owner, evidence and a way out
    Stuck(StuckArgs),
    /// Print what happens per second: opens, failures, resets, retransmits, orphans
    Rates(RatesArgs),
    /// Tell one connection's story: each transition, retransmit and RST in order, both ends where both are here
    Story(StoryArgs),
    /// Check this machine and its TCP settings: what is fit, what is not, what it comes to and what helps
    Doctor(DoctorArgs),
    /// Trace as a service: by a config file, for months, told about by systemd and HTTP
    Daemon(DaemonArgs),
    /// Check a config file
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// A service.
#[derive(Debug, clap::Args)]
#[command(mut_arg("config", |config| config.default_value(CONFIG_PATH)))]
pub struct DaemonArgs {
    /// How to trace.
    #[command(flatten)]
    pub trace: TraceArgs,

    /// The least that the service's own log tells
    #[arg(long, value_enum, value_name = "LEVEL", default_value = "info", help_heading = "Debugging")]
    pub log_level: LogLevel,
}

/// Where a service has its config file.
pub const CONFIG_PATH: &str = "/etc/tcptrace/tcptrace.toml";

/// What is done with config files.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check a config file, and say what it comes to; nothing is traced
    Check {
        /// The file
        #[arg(value_name = "FILE", default_value = CONFIG_PATH)]
        config: PathBuf,
    },
}

fn after_help() -> String {
    format!(
        "States: {}.\n\nExamples:\n  \
         tcptrace                                    all transitions of this machine\n  \
         tcptrace --state CLOSE_WAIT --pid           who leaks: what enters and leaves CLOSE_WAIT, with its owner\n  \
         tcptrace --remote-port 5432 --format json   connections to a database, for a pipeline\n  \
         tcptrace --summary --duration 30s           latencies of all transitions over half a minute\n  \
         tcptrace --aggregate port --interval 10s    the same at the lowest cost, apart for each service\n  \
         tcptrace sockets --port 443                 what there is on a port now, held by whom\n  \
         tcptrace story 10.1.2.3:5432                one connection from its first event to its end\n  \
         tcptrace stuck                              what is wrong now: who leaks, who is refused, whose peer is gone\n  \
         tcptrace rates                              opens, failures, resets and retransmits per second\n  \
         tcptrace doctor                             is this machine fit, and what its TCP settings come to",
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
