//! Findings as a plugin of Nagios prints them (Monitoring Plugins' guidelines, also read by Icinga, Naemon and Checkmk): a
//! line with the status and performance data, and a line for each finding.

use std::fmt::Write as _;

use bytes::{BufMut as _, BytesMut};

use crate::findings::{Coverage, Finding, Severity};

/// The status of a service, by its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are Nagios'")]
pub enum Status {
    Ok = 0,
    Warning = 1,
    Critical = 2,
    Unknown = 3,
}

impl Status {
    /// The status that the worst open finding makes; one below `fail_on` is no problem.
    #[must_use]
    pub fn of(worst: Option<Severity>, fail_on: Severity) -> Self {
        match worst.filter(|worst| *worst >= fail_on) {
            None => Self::Ok,
            Some(Severity::Info | Severity::Warning) => Self::Warning,
            Some(Severity::Critical) => Self::Critical,
        }
    }

    /// The name in the first line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// Most lines of findings: Nagios keeps 8 KiB of what a plugin prints.
const MOST_LINES: usize = 20;

/// The first line where the check itself failed, for `reason`.
#[must_use]
pub fn unknown(reason: &str) -> String {
    format!("TCPTRACE {}: {}\n", Status::Unknown.name(), plain(reason.lines().next().unwrap_or_default()))
}

/// Writes the open findings, worst first; `headline` is what they are about.
pub(super) fn write(
    to: &mut BytesMut,
    open: &[Finding],
    seen: &Coverage,
    fail_on: Severity,
    mut headline: impl FnMut(&Finding) -> String,
) {
    let status = Status::of(open.iter().map(|finding| finding.detection.severity).max(), fail_on);
    let count = |severity| open.iter().filter(|finding| finding.detection.severity == severity).count();
    let counts = [Severity::Critical, Severity::Warning, Severity::Info].map(|severity| (severity, count(severity)));
    let mut lines = open.iter().map(|finding| {
        let detection = &finding.detection;
        let (severity, id) = (detection.severity.name(), detection.kind.id());
        (plain(&format!("{id} {}", headline(finding))), plain(&format!("{severity}: {}", detection.cause.words())))
    });
    let first = lines.next();
    // To memory.
    let mut text = format!("TCPTRACE {}: ", status.name());
    let _ = match &first {
        None => write!(text, "no finding, {} sockets checked", seen.shown),
        Some((worst, _)) if open.len() == 1 => write!(text, "{worst}"),
        Some((worst, _)) => write!(text, "{} findings, first {worst}", open.len()),
    };
    if seen.unlisted > 0 {
        let _ = write!(text, "; {} namespaces or kernel replies could not be read", seen.unlisted);
    }
    let _ = write!(text, " |");
    for (severity, count) in counts {
        let _ = write!(text, " {}={count};;;0", severity.name());
    }
    let _ = writeln!(text, " sockets={};;;0", seen.shown);
    for (what, why) in first.into_iter().chain(lines).take(MOST_LINES) {
        let _ = writeln!(text, "{what} - {why}");
    }
    if open.len() > MOST_LINES {
        let _ = writeln!(text, "and {} more", open.len() - MOST_LINES);
    }
    to.put_slice(text.as_bytes());
}

/// Text without the character that begins performance data.
fn plain(text: &str) -> String {
    text.replace('|', "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_follows_from_the_worst_finding_that_counts() {
        use Severity::{Critical, Info, Warning};
        let status = |worst, fail_on| Status::of(worst, fail_on) as u8;
        assert_eq!([None, Some(Info), Some(Warning), Some(Critical)].map(|worst| status(worst, Warning)), [0, 0, 1, 2]);
        assert_eq!(
            [None, Some(Info), Some(Warning), Some(Critical)].map(|worst| status(worst, Critical)),
            [0, 0, 0, 2]
        );
        assert_eq!([None, Some(Info), Some(Critical)].map(|worst| status(worst, Info)), [0, 1, 2]);
        assert_eq!(unknown("a|b\nc"), "TCPTRACE UNKNOWN: a/b\n");
    }
}
