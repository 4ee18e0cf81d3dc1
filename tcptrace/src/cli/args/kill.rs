//! The flags of `tcptrace kill`.

use std::time::Duration;

use crate::{
    cli::{
        args::{filters::FilterArgs, output::OutputArgs},
        findings::FindingArgs,
        parse::{cookie, number},
    },
    findings::Kind,
    model::number::duration,
};

/// `tcptrace kill`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "All criteria that are given must match. Without --yes nothing is ended: the sockets are listed, \
                  and why each was chosen.\n\n\
                  A process whose connection is ended gets ECONNABORTED (\"Software caused connection abort\") when it \
                  uses it; in CLOSE_WAIT, reads still return 0 and writes fail. It keeps the descriptor until it closes \
                  it. The peer gets a RST, unless both sides have closed already. Just before, each socket is checked \
                  again by its cookie; one that has changed is left alone.\n\n\
                  Exit codes: 0 all were ended or were gone, or a dry run; 1 a socket was not ended, a cookie was not \
                  found, or the run failed; 2 usage error."
)]
pub struct KillArgs {
    /// End the sockets with these cookies, which findings and `tcptrace sockets --format json` have; `tcptrace kill
    /// cookie:N` is the same
    #[arg(long = "cookie", value_name = "cookie:N", value_delimiter = ',', value_parser = cookie, help_heading = "Filters")]
    pub cookies: Vec<u64>,

    /// End the sockets of these findings, e.g. close-wait-leak, if their severity is warning or higher
    #[arg(long, value_name = "FINDINGS", value_delimiter = ',', help_heading = "Filters")]
    pub finding: Vec<Kind>,

    /// End only sockets that have been in their state for at least this time. A socket whose time is not known is left alone
    #[arg(long, value_name = "TIME", value_parser = duration, allow_negative_numbers = true, help_heading = "Filters")]
    pub older_than: Option<Duration>,

    /// Which sockets are ended.
    #[command(flatten)]
    pub filter: FilterArgs,

    /// What counts as a problem.
    #[command(flatten)]
    pub findings: FindingArgs,

    /// End the sockets. Without this, only list them
    #[arg(short, long, help_heading = "Action")]
    pub yes: bool,

    /// Also end listeners, which refuses all new connections
    #[arg(long, help_heading = "Action")]
    pub listeners: bool,

    /// End nothing if more sockets than this match
    #[arg(long, value_name = "N", value_parser = number::<1_000_000>, default_value = "1000", help_heading = "Limits")]
    pub max: u32,

    /// How and where results are written.
    #[command(flatten)]
    pub output: OutputArgs,
}
