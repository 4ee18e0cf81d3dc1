//! Values that several commands share.

use clap::ValueEnum;

/// Output format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// An aligned table
    #[default]
    Text,
    /// One object per line (tcptrace explain FIELD)
    Json,
    /// Rows; the first one names the columns
    Csv,
    /// The line, details and performance data of a Nagios plugin, with its exit codes; only for `stuck --once`
    #[value(skip)]
    Nagios,
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

/// Levels of the service's log and of the BPF programs' messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the usual levels")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}
