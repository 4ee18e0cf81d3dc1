//! The command line as clap parses it: one struct for each command, whose doc comments are the help texts.
//!
//! A flag that several commands share stands in a struct of its own ([`FilterArgs`], [`ListingArgs`]), which they flatten.

mod filters;
mod kill;
mod output;
pub mod recording;
pub mod replay;
mod trace;
pub mod values;
mod views;

use std::{ffi::OsString, path::PathBuf, sync::LazyLock};

use clap::{Parser, Subcommand};
use clap_complete::Shell;

use crate::cli::args::values::{Color, LogLevel};

pub use self::{
    filters::{FilterArgs, ListingArgs},
    kill::KillArgs,
    output::{OutputArgs, Time},
    recording::RecordingArgs,
    replay::{RecordArgs, ReplayArgs, ReplayView, ReportArgs},
    trace::{AggregateBy, MetricsBy, NOT_AGGREGATE, TraceArgs},
    views::{Area, DoctorArgs, GroupBy, RatesArgs, SocketsArgs, StoryArgs, StuckArgs, TopArgs},
};

/// Traces TCP state transitions: how long each took, why connections end, and which processes are responsible.
#[derive(Debug, Parser)]
#[command(name = "tcptrace", version, long_version = LONG_VERSION.as_str(), about, after_help = after_help(), max_term_width = 110)]
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
    /// All of it on one screen: problems, sockets, processes, services, states and rates, with keys to look closer
    Top(TopArgs),
    /// List connections that are leaked, or that a filter chooses; with --yes, end them
    Kill(KillArgs),
    /// Print events per second: opens, failures, resets, retransmits, orphans
    Rates(RatesArgs),
    /// Follow single connections: every transition, retransmit and RST in order, from both ends if both are local
    Story(StoryArgs),
    /// Check whether tcptrace works on this machine, and its TCP settings: problems, their effects and remedies
    Doctor(DoctorArgs),
    /// Run as a service: configured by a file, with systemd notifications and health checks over HTTP
    Daemon(DaemonArgs),
    /// Record everything in a file, for tcptrace replay
    Record(RecordArgs),
    /// Show what a recording contains: events, problems, sockets and stories from that time; needs no privileges
    Replay(ReplayArgs),
    /// Write a report on a recording: one HTML page with findings, state machine, latencies and connections
    Report(Box<ReportArgs>),
    /// Check a config file, or show what is in force and where it comes from
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Explain a finding, a state, an errno or any other name that tcptrace prints: the section of the documentation
    Explain(ExplainArgs),
    /// Print the completions for a shell, e.g. tcptrace completions bash > /etc/bash_completion.d/tcptrace
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Print a man page, e.g. tcptrace man sockets | man -l -
    Man(ManArgs),
}

/// `tcptrace man`.
#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// The command whose page is wanted [default: tcptrace itself]
    #[arg(value_name = "COMMAND", conflicts_with = "to")]
    pub command: Vec<String>,

    /// Write the pages of all commands into this folder
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
}

/// The version, the commit if the build was told it, and the features.
static LONG_VERSION: LazyLock<String> = LazyLock::new(|| {
    let commit = option_env!("TCPTRACE_BUILD_COMMIT").unwrap_or("unknown: built by hand");
    let features = if cfg!(feature = "kafka") { "kafka" } else { "none" };
    format!("{}\ncommit: {commit}\nfeatures: {features}", env!("CARGO_PKG_VERSION"))
});

/// `tcptrace explain`.
#[derive(Debug, clap::Args)]
pub struct ExplainArgs {
    /// What to explain, e.g. close-wait-leak, CLOSE_WAIT, ETIMEDOUT or 110 [default: list everything]
    #[arg(value_name = "NAME")]
    pub topic: Vec<String>,

    /// Print an object per topic, with its text in Markdown
    #[arg(long, help_heading = "Output")]
    pub json: bool,

    /// When to colour text: on a terminal, always, never
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    pub color: Color,
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

        /// Print one object: whether the file is valid, what is wrong, and its outputs
        #[arg(long)]
        json: bool,
    },
    /// Show every setting that `tcptrace daemon` would use, and where each comes from: a flag, a variable, a line of the
    /// config file, or the default
    Show(ConfigShowArgs),
}

/// `tcptrace config show`.
#[derive(Debug, clap::Args)]
pub struct ConfigShowArgs {
    /// The config file [default: the variable TCPTRACE_CONFIG, else /etc/tcptrace/tcptrace.toml if it exists]
    #[arg(value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Print one object
    #[arg(long, conflicts_with = "toml")]
    pub json: bool,

    /// Print a config file with the same effect
    #[arg(long)]
    pub toml: bool,

    /// Flags of `tcptrace daemon` to take into account, after --
    #[arg(last = true, value_name = "FLAGS")]
    pub flags: Vec<OsString>,
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
         tcptrace top                                all of it on one screen\n  \
         tcptrace kill --finding close-wait-leak     what would be ended; --yes ends it\n  \
         tcptrace rates                              opens, failures, resets and retransmits per second\n  \
         tcptrace explain CLOSE_WAIT                 what a state, a finding or an errno means\n  \
         tcptrace doctor                             can tcptrace run here, and are the TCP settings sound?",
        filters::state_names()
    )
}

impl Args {
    /// The flags of tracing as they are without any given.
    ///
    /// # Errors
    /// None: all have defaults.
    pub fn parse_trace() -> Result<TraceArgs, clap::Error> {
        Ok(Self::try_parse_from(["tcptrace"])?.trace)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::words::arrange;

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn pid_takes_no_value_or_a_list() {
        let parsed = |line: &str| {
            let words = arrange(line.split(' ').map(Into::into).collect(), &Args::command()).unwrap();
            let pid = Args::try_parse_from(words).unwrap().trace.filter.pid;
            pid.map(|list| list.map(|list| list.0.iter().map(|term| term.value.0).collect::<Vec<_>>()))
        };
        assert!(parsed("tcptrace").is_none());
        assert!(parsed("tcptrace --pid").unwrap().is_none());
        assert!(parsed("tcptrace --pid --summary").unwrap().is_none());
        assert_eq!(parsed("tcptrace --pid 12,34").unwrap().unwrap(), [12, 34]);
        assert_eq!(parsed("tcptrace -p 12").unwrap().unwrap(), [12]);
        assert_eq!(parsed("tcptrace --state CLOSE_WAIT --pid=7").unwrap().unwrap(), [7]);
    }
}
