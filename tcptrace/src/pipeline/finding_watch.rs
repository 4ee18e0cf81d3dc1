//! Notices findings of a severity: when they open, or become as severe as that.

use std::mem;

use rustc_hash::FxHashSet;

use crate::findings::{Finding, Kind, Phase, Severity};

/// A finding that was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noticed {
    /// Its kind.
    pub kind: Kind,
    /// Its severity.
    pub severity: Severity,
    /// CLOCK_MONOTONIC in ns.
    pub time_ns: u64,
    /// Unix time in ns.
    pub unix_ns: u64,
}

/// Notices each finding once, while it is open.
#[derive(Debug)]
pub struct FindingWatch {
    lowest: Severity,
    /// The numbers of open findings that were noticed.
    known: FxHashSet<u64>,
    noticed: Option<Noticed>,
}

impl FindingWatch {
    /// Notices findings of at least this severity.
    #[must_use]
    pub fn new(lowest: Severity) -> Self {
        Self { lowest, known: FxHashSet::default(), noticed: None }
    }

    /// Takes a report of a finding, at this Unix time in ns.
    pub fn see(&mut self, finding: &Finding, unix_ns: u64) {
        let (kind, severity, time_ns) = (finding.detection.kind, finding.detection.severity, finding.time_ns);
        if matches!(finding.phase, Phase::Closed | Phase::Merged(_)) {
            self.known.remove(&finding.number);
        } else if severity >= self.lowest
            && self.known.insert(finding.number)
            && self.noticed.is_none_or(|before| severity > before.severity)
        {
            self.noticed = Some(Noticed { kind, severity, time_ns, unix_ns });
        }
    }

    /// The worst of the findings that were noticed since this was asked for.
    pub fn take(&mut self) -> Option<Noticed> {
        mem::take(&mut self.noticed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::{Cause, Detection, Processes, Subject};

    fn finding(number: u64, phase: Phase, severity: Severity) -> Finding {
        let detection = Detection {
            kind: if severity == Severity::Critical { Kind::AcceptQueueFull } else { Kind::CloseWaitLeak },
            severity,
            netns: None,
            owner: None,
            processes: Processes::default(),
            subject: Subject::Several,
            count: 1,
            oldest: None,
            evidence: Vec::new(),
            examples: Vec::new(),
            cause: Cause::NeverClosed,
            is_settled: true,
            is_shown: true,
        };
        Finding { time_ns: 10 * number, number, phase, open_for_ns: 0, count_now: 1, detection }
    }

    #[test]
    fn each_finding_is_noticed_once_and_the_worst_one_counts() {
        use Severity::{Critical, Info, Warning};
        let mut watch = FindingWatch::new(Warning);
        let mut noticed = |reports: &[(u64, Phase, Severity)]| {
            reports.iter().for_each(|(number, phase, severity)| watch.see(&finding(*number, *phase, *severity), 5));
            watch.take().map(|noticed| (noticed.kind, noticed.time_ns))
        };
        assert_eq!(noticed(&[(1, Phase::Opened, Info)]), None);
        assert_eq!(noticed(&[(1, Phase::Updated, Warning)]), Some((Kind::CloseWaitLeak, 10)), "it became worse");
        assert_eq!(noticed(&[(1, Phase::Updated, Critical), (1, Phase::Closed, Critical)]), None);
        let three = [(2, Phase::Opened, Warning), (3, Phase::Opened, Critical), (4, Phase::Opened, Warning)];
        assert_eq!(noticed(&three), Some((Kind::AcceptQueueFull, 30)));
        assert_eq!(noticed(&[(2, Phase::Merged(4), Warning), (4, Phase::Closed, Warning)]), None);
        assert_eq!(watch.known.into_iter().collect::<Vec<_>>(), [3], "closed ones are forgotten");
    }
}
