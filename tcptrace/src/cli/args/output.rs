//! The output flags, which all commands share: they mean the same everywhere.

use clap::ValueEnum;

use crate::{
    cli::{
        args::values::{Color, Format},
        outputs::OutputSpec,
    },
    outputs::target::Content,
};

/// How and where results are written.
#[derive(Clone, Debug, clap::Args)]
pub struct OutputArgs {
    /// Output format [default: text, or what the name of a file ends with: .json, .jsonl, .csv or .txt]
    #[arg(short, long, value_enum, help_heading = "Output")]
    pub(in crate::cli) format: Option<Format>,

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
    /// The format that was given for all outputs.
    #[must_use]
    pub const fn format(&self) -> Option<Format> {
        if self.json { Some(Format::Json) } else { self.format }
    }

    /// The format of an output: its own, else the one for all outputs, else what its name says.
    #[must_use]
    pub fn format_of(&self, spec: &OutputSpec) -> Format {
        match spec.target.content() {
            Content::Formatted => spec.format.or(self.format()).or(spec.format_by_name()).unwrap_or_default(),
            _ => Format::Json,
        }
    }

    /// The files that get another format than their names say, because `name` gives one for all outputs.
    pub(in crate::cli) fn misnamed(&self, name: &str) -> impl Iterator<Item = String> {
        self.to.iter().filter(|spec| spec.format.is_none()).filter_map(move |spec| {
            let (of_name, format) = (spec.format_by_name()?, self.format_of(spec));
            let value = format.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
            let message = || format!("{} gets {value} as {name} says, whatever its name ends with", spec.name);
            (of_name != format).then(message)
        })
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
