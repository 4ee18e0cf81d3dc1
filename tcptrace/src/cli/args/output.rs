//! The output flags, which all commands share: they mean the same everywhere.

use clap::ValueEnum;

use crate::cli::{
    args::values::{Color, Format},
    outputs::OutputSpec,
};

/// How and where results are written.
#[derive(Clone, Debug, clap::Args)]
pub struct OutputArgs {
    /// Output format
    #[arg(short, long, value_enum, default_value_t, help_heading = "Output")]
    pub(in crate::cli) format: Format,

    /// Same as --format json
    #[arg(long, conflicts_with = "format", help_heading = "Output")]
    pub json: bool,

    /// Where to write records: stdout, file:PATH, journald, syslog:unix|udp:HOST|tcp:HOST, otlp:URL, prometheus:ADDRESS,
    /// kafka:HOST:PORT/TOPIC; for findings exec:/PROGRAM, webhook:URL, alertmanager:URL; or a path (an existing file is
    /// replaced). May be given several times. Options follow after commas (tcptrace explain outputs), e.g.
    /// file:/var/log/tcptrace.json,records=findings,rotate-size=100MiB
    #[arg(
        id = "output",
        short,
        long = "output",
        value_name = "OUTPUT",
        help_heading = "Output",
        default_value = "stdout"
    )]
    pub to: Vec<OutputSpec>,

    /// Times in text: local or UTC time of day, RFC 3339 with date and zone, the kernel's monotonic clock, or time since
    /// the previous line
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    pub time: Time,

    /// Print only warnings and errors to stderr; records are still written
    #[arg(short, long, help_heading = "Output")]
    pub quiet: bool,

    /// When to colour text: on a terminal, always, never
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    pub color: Color,
}

impl OutputArgs {
    /// The format of outputs that have none of their own.
    #[must_use]
    pub const fn format(&self) -> Format {
        if self.json { Format::Json } else { self.format }
    }

    /// The format of an output: its own, or else the one of all outputs.
    #[must_use]
    pub fn format_of(&self, spec: &OutputSpec) -> Format {
        spec.format.unwrap_or(self.format())
    }
}

/// Clock of the times in text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the flag's help says it")]
pub enum Time {
    #[default]
    Local,
    Utc,
    Iso,
    Mono,
    Delta,
}
