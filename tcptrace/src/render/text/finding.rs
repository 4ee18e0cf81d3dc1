//! Findings as text: at most four lines each, marked so that they stand out among events.

use std::{collections::HashSet, fmt::Write as _};

use bytes::{BufMut as _, BytesMut};

use serde_json::Value as Json;

use super::{
    clock::{Clock, TimeStyle},
    nagios,
    style::{Address, Style, styled},
    table::{Column, Side, Table},
    wrap::wrapped,
};
use crate::{
    findings::{Coverage, Detection, Finding, Phase, Severity, Subject, Value},
    model::{
        printable::printable,
        time::{WallFormat, human},
    },
    render::{
        context::Context,
        finding_columns::{FindingColumn, FindingOrder, sort},
        json::{finding_value, text_time},
        text::words::{age_words, netns_name},
    },
};

/// Writes a finding: everything when it opens, headline and evidence when it is updated, one line when it closes.
pub(super) fn write(to: &mut BytesMut, found: &Finding, color: bool, width: Option<usize>, context: &mut Context) {
    head(to, found, color, width, context);
    if matches!(found.phase, Phase::Closed | Phase::Merged(_)) {
        return;
    }
    line(to, &evidence(&found.detection, context), width);
    if found.phase == Phase::Opened {
        advice(to, &found.detection, width);
    }
}

/// Writes the first line.
fn head(to: &mut BytesMut, found: &Finding, color: bool, width: Option<usize>, context: &mut Context) {
    let detection = &found.detection;
    let (mark, style) = match (found.phase, detection.severity) {
        (Phase::Closed | Phase::Merged(_), _) => ("--", Style::Plain),
        (_, Severity::Info) => ("!!", Style::Attention),
        (_, Severity::Warning | Severity::Critical) => ("!!", Style::Trouble),
    };
    let severity = match found.phase {
        Phase::Closed | Phase::Merged(_) => found.phase.name(),
        Phase::Opened | Phase::Updated => detection.severity.name(),
    };
    let mut head = format!("{mark} {severity} {} #{}", detection.kind.id(), found.number);
    // To memory.
    let _ = match found.phase {
        Phase::Merged(into) => write!(head, " into #{into}"),
        Phase::Opened | Phase::Updated | Phase::Closed => write!(head, "  {}", headline(found, context)),
    };
    if found.phase == Phase::Closed {
        let _ = write!(head, ", after {}", human(found.open_for_ns)); // to memory
    }
    styled(to, &wrapped(&head, 3, width), style, color);
    to.put_u8(b'\n');
}

/// Writes a line for each finding that is still open at the end of a run.
pub(super) fn write_open(
    to: &mut BytesMut,
    open: &[&Finding],
    color: bool,
    width: Option<usize>,
    context: &mut Context,
) {
    if open.is_empty() {
        return;
    }
    styled(to, "\nFindings still open at the end", Style::Heading, color);
    to.put_u8(b'\n');
    for found in open {
        let detection = &found.detection;
        let (severity, kind) = (detection.severity.name(), detection.kind.id());
        let text = format!("{severity} {kind} #{}  {}", found.number, headline(found, context));
        to.put_slice(wrapped(&text, 3, width).as_bytes());
        to.put_u8(b'\n');
    }
}

fn advice(to: &mut BytesMut, detection: &Detection, width: Option<usize>) {
    line(to, detection.cause.words(), width);
    line(to, &format!("-> {} ({})", detection.cause.remedy(), detection.kind.docs()), width);
}

fn line(to: &mut BytesMut, text: &str, width: Option<usize>) {
    if !text.is_empty() {
        let indent = if text.starts_with("-> ") { 6 } else { 3 };
        to.put_slice(wrapped(&format!("   {text}"), indent, width).as_bytes());
        to.put_u8(b'\n');
    }
}

/// Owner, place, count and age.
pub(crate) fn headline(found: &Finding, context: &mut Context) -> String {
    let detection = &found.detection;
    let owner = match (detection.owner, detection.processes.len()) {
        (None, _) => "owner unknown".to_owned(),
        (Some(owner), 0 | 1) => format!("{}[{}]", printable(&owner.command.to_text()), owner.pid),
        (Some(owner), count) => {
            let more = if detection.processes.is_more { "+" } else { "" };
            format!("{} ({count}{more} processes)", printable(&owner.command.to_text()))
        }
    };
    let place = match detection.subject {
        Subject::Local(local) => format!("at {}", Address(local)),
        Subject::Remote(remote) => format!("to {}", Address(remote)),
        Subject::Path(local, remote) => format!("from {} to {}", local.ip(), Address(remote)),
        Subject::Several => "several endpoints".to_owned(),
    };
    let mut text = format!("{owner} {place}: {}", detection.count);
    if found.count_now < detection.count && found.phase != Phase::Closed {
        let _ = write!(text, " ({} now)", found.count_now); // to memory
    }
    if let Some(age) = detection.oldest {
        let _ = write!(text, ", oldest {}", age_words(age)); // to memory
    }
    let elsewhere = detection.netns.filter(|netns| context.names.own_netns.is_some_and(|own| own != *netns));
    if let Some(netns) = elsewhere {
        let _ = write!(text, ", netns {}", netns_name(netns, &context.names)); // to memory
    }
    text
}

/// The known evidence, the file descriptors and the executable.
pub(crate) fn evidence(detection: &Detection, context: &mut Context) -> String {
    let known = detection.evidence.iter().filter(|(_, value)| *value != Value::Unknown);
    let mut parts: Vec<_> = known.map(|(name, value)| words(name, value)).collect();
    let descriptors: Vec<_> = detection
        .examples
        .iter()
        .filter_map(|example| example.holders.first())
        .map(|holder| holder.fd.to_string())
        .collect();
    if !descriptors.is_empty() {
        parts.push(format!("fd {}", descriptors.join(" ")));
    }
    if let Some(owner) = detection.owner
        && let Some(path) = context.names.processes.of(&owner).and_then(|known| known.executable(owner.command))
    {
        parts.push(printable(path));
    }
    parts.join(", ")
}

/// A piece of evidence; the end of its name is its unit.
pub(crate) fn words(name: &str, value: &Value) -> String {
    let (name, unit) = ["_ns", "_us", "_bytes"]
        .into_iter()
        .find_map(|unit| Some((name.strip_suffix(unit)?, unit)))
        .unwrap_or((name, ""));
    let name = name.replace('_', " ");
    match (value, unit) {
        (Value::Unknown, _) => format!("{name} unknown"),
        (Value::Number(ns), "_ns") => format!("{name} {}", human(*ns)),
        (Value::Number(us), "_us") => format!("{name} {}", human(us.saturating_mul(1000))),
        (Value::Number(bytes), "_bytes") => format!("{name} {bytes} B"),
        (Value::Number(number), _) => format!("{name} {number}"),
        (Value::Ratio(ratio), _) => format!("{name} {ratio:.2}"),
        (Value::Flag(flag), _) => format!("{name} {}", if *flag { "yes" } else { "no" }),
        (Value::Name(text), _) => format!("{name} {text}"),
        (Value::Text(text), _) => format!("{name} {}", printable(text)),
    }
}

/// The first line of the list: the number of findings, what was checked, and the sockets close to a threshold.
pub(crate) fn coverage_line(open: usize, seen: &Coverage) -> String {
    let is_any_beyond = seen.states.iter().any(|row| row.beyond > 0);
    let found = match open {
        0 if is_any_beyond => "no finding".to_owned(),
        0 => "nothing is beyond its threshold".to_owned(),
        1 => "1 finding".to_owned(),
        count => format!("{count} findings"),
    };
    let sockets = match (seen.shown, seen.sockets) {
        (1, 1) => "1 socket".to_owned(),
        (shown, all) if shown == all => format!("{all} sockets"),
        (shown, all) => format!("{shown} of {all} sockets"),
    };
    let mut text = format!("{found} after checking {sockets} for {}", human(seen.span_ns));
    for row in &seen.states {
        let threshold = human(row.stuck_after_ns);
        // To memory.
        let _ = match row.oldest {
            Some(oldest) => {
                write!(text, "; {} {}, oldest {} (threshold {threshold})", row.below, row.state, age_words(oldest))
            }
            None => Ok(()),
        };
        if open == 0 && row.beyond > 0 {
            let _ = write!(text, "; {} {} for longer than {threshold}, without a finding", row.beyond, row.state);
        }
    }
    if seen.unlisted > 0 {
        let _ = write!(text, "; {} namespaces or kernel replies could not be read", seen.unlisted);
    }
    text
}

/// Writes the list of open findings for `tcptrace stuck`.
pub struct StuckText {
    color: bool,
    clock: Clock,
    /// The lowest severity that is a problem, if it writes as a plugin of Nagios.
    nagios: Option<Severity>,
    /// The columns of a table; empty for sentences.
    columns: Vec<FindingColumn>,
    /// What findings are sorted by; empty for the worst first.
    sort: Vec<FindingOrder>,
}

impl StuckText {
    /// A writer of lists.
    #[must_use]
    pub fn new(color: bool, time: TimeStyle) -> Self {
        Self { color, clock: Clock::new(time), nagios: None, columns: Vec::new(), sort: Vec::new() }
    }

    /// The same in this order, and as a table if there are columns.
    #[must_use]
    pub fn arranged(self, columns: &[FindingColumn], sort: &[FindingOrder]) -> Self {
        Self { columns: columns.to_vec(), sort: sort.to_vec(), ..self }
    }

    /// A writer of what a plugin of Nagios prints; findings below `fail_on` are no problem.
    #[must_use]
    pub fn nagios(fail_on: Severity) -> Self {
        Self { nagios: Some(fail_on), ..Self::new(false, TimeStyle::Monotonic) }
    }

    /// Writes the open findings, and what was checked.
    pub fn list(&mut self, to: &mut BytesMut, open: &[Finding], seen: &Coverage, context: &mut Context) {
        if let Some(fail_on) = self.nagios {
            return nagios::write(to, open, seen, fail_on, |finding| headline(finding, context));
        }
        self.clock.new_day(to, seen.now_ns, context.wall);
        self.clock.write(to, seen.now_ns, context.wall, 0);
        to.put_slice(format!("  {}\n", coverage_line(open.len(), seen)).as_bytes());
        let open = self.sorted(open, context);
        if self.columns.is_empty() {
            let open: Vec<_> = open.iter().map(|(_, found)| *found).collect();
            self.findings(to, &open, context);
        } else {
            self.table(to, &open);
        }
    }

    /// Findings in the wanted order, each as JSON as well if anything asks for that.
    fn sorted<'a>(&self, open: &'a [Finding], context: &mut Context) -> Vec<(Json, &'a Finding)> {
        let is_plain = self.columns.is_empty() && self.sort.is_empty();
        let mut time = WallFormat::rfc3339();
        let mut value = |found: &Finding| match is_plain {
            true => Json::Null,
            false => finding_value(found, &text_time(&mut time, context.wall, found.time_ns), &mut context.names),
        };
        let mut open: Vec<_> = open.iter().map(|found| (value(found), found)).collect();
        sort(&mut open, &self.sort);
        open
    }

    fn table(&self, to: &mut BytesMut, open: &[(Json, &Finding)]) {
        if open.is_empty() {
            return;
        }
        let columns: Vec<_> = self.columns.iter().map(|column| Column::new(column.name(), Side::Left)).collect();
        let mut table = Table::plain(&columns, self.color);
        for (finding, _) in open {
            table.row(|cells| self.columns.iter().for_each(|column| cells.text(&column.text(finding))));
        }
        table.write_to(to);
    }

    /// Writes findings. Those with the same cause share the explanation, which follows the last of them.
    fn findings(&self, to: &mut BytesMut, open: &[&Finding], context: &mut Context) {
        let mut seen = HashSet::new();
        for cause in open.iter().map(|found| found.detection.cause).filter(|cause| seen.insert(*cause)) {
            let alike = || open.iter().filter(|found| found.detection.cause == cause);
            for found in alike() {
                head(to, found, self.color, None, context);
                line(to, &evidence(&found.detection, context), None);
            }
            if let Some(found) = alike().next() {
                advice(to, &found.detection, None);
            }
        }
    }
}
