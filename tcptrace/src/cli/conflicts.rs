//! Settings that conflict. Messages name each as it was given: by a flag, a variable, or a line of the config file.

use clap::{CommandFactory as _, Error, error::ErrorKind};

use super::{
    args::{Args, MetricsBy, NOT_AGGREGATE, TraceArgs},
    findings::FindingsMode,
    outputs::OutputSpec,
};
use crate::{cli::args::values::Format, outputs::target::Content, pipeline::record_filter::RecordKind};

/// A usage error with this message.
pub(crate) fn conflict(message: &str) -> Error {
    Args::command().error(ErrorKind::ArgumentConflict, message)
}

/// The same with the usage of a command.
pub(crate) fn conflict_of(command: &str, message: &str) -> Error {
    let mut all = Args::command();
    all.build();
    match all.find_subcommand_mut(command) {
        Some(command) => command.error(ErrorKind::ArgumentConflict, message),
        None => conflict(message),
    }
}

/// Checks the settings of all layers for conflicts; clap itself sees only the flags.
///
/// # Errors
/// A usage error that names both settings and mostly the way out.
pub(crate) fn check(args: &TraceArgs) -> Result<(), Error> {
    let check = if args.aggregate.is_some() { aggregate(args) } else { csv(args) };
    exclusive(args).and(check).and(count(args)).and(labels(args)).map_err(|message| conflict(&message))
}

fn exclusive(args: &TraceArgs) -> Result<(), String> {
    for (id, others) in [("aggregate", &NOT_AGGREGATE[..]), ("ipv4", &["ipv6"])] {
        let other = others.iter().find_map(|other| args.given.get(other));
        if let (Some(one), Some(other)) = (args.given.get(id), other) {
            return Err(format!("{other} cannot be used with {one}"));
        }
    }
    match args.given.get("aggregate_keys") {
        Some(keys) if args.aggregate.is_none() => Err(format!("{keys} has no effect without --aggregate")),
        _ => Ok(()),
    }
}

fn aggregate(args: &TraceArgs) -> Result<(), String> {
    let name = |id| args.given.name(id);
    let no_events = || format!("{} counts in the kernel and reads no events", name("aggregate"));
    if args.findings_mode != FindingsMode::Off {
        return Err(format!("{}, but {} needs them: remove one of the two", no_events(), name("findings_mode")));
    }
    if args.filter.pid == Some(None) {
        let way_out = "use --aggregate cgroup, or --pid with PIDS";
        return Err(format!("{}, but {} shows the owner of each: {way_out}", no_events(), name("pid")));
    }
    Ok(())
}

fn csv(args: &TraceArgs) -> Result<(), String> {
    let name = |id| args.given.name(id);
    let others = [("summary", args.summary), ("interval", args.interval.is_some())];
    let other = others.iter().find(|(_, is_given)| *is_given);
    match other.filter(|_| args.output.to.iter().any(|spec| args.output.format_of(spec) == Format::Csv)) {
        Some((other, _)) => Err(format!(
            "csv has rows for events or findings only: use {} with {} text or json",
            name(other),
            name("format")
        )),
        None => Ok(()),
    }
}

fn count(args: &TraceArgs) -> Result<(), String> {
    if args.count.is_none() {
        return Ok(());
    }
    let count = args.given.name("count");
    if args.summary {
        let summary = args.given.name("summary");
        return Err(format!("{count} counts printed events, but {summary} prints none: use --duration"));
    }
    if !args.output.to.iter().any(|spec| is_counted(spec, args)) {
        return Err(format!("{count} counts printed events and findings, but no output prints any: use --duration"));
    }
    Ok(())
}

/// Whether this output gets records that `--count` counts.
fn is_counted(spec: &OutputSpec, args: &TraceArgs) -> bool {
    let wants = |kind: &RecordKind| spec.wants.records.is_empty() || spec.wants.records.contains(kind);
    let has_findings = match args.output.format_of(spec) {
        Format::Csv => args.findings_mode == FindingsMode::Only,
        _ => args.findings_mode != FindingsMode::Off,
    };
    let has_events = args.findings_mode != FindingsMode::Only;
    !matches!(spec.target.content(), Content::Scraped(_))
        && (has_findings && wants(&RecordKind::Findings) || has_events && RecordKind::EVENTS.iter().any(wants))
}

fn labels(args: &TraceArgs) -> Result<(), String> {
    if args.metrics_by.len() > 1 && args.metrics_by.contains(&MetricsBy::None) {
        return Err(format!("{}: `none` cannot be combined with other labels", args.given.name("metrics_by")));
    }
    Ok(())
}
