//! Findings from their opening to their end.

use std::{cmp::Reverse, collections::BTreeMap};

use crate::findings::{Detection, Finding, Phase, Severity};

/// Most findings that are kept.
const MAX_EPISODES: usize = 1_000;

/// A finding over its whole life.
#[derive(Clone, Debug)]
pub struct Episode {
    /// Its number in the run.
    pub number: u64,
    /// When it opened, CLOCK_MONOTONIC in ns.
    pub opened_ns: u64,
    /// When it was last reported, CLOCK_MONOTONIC in ns.
    pub seen_ns: u64,
    /// True if the problem ended, false if it was still there.
    pub is_over: bool,
    /// The finding that it continues in.
    pub merged_into: Option<u64>,
    /// The highest severity that it had.
    pub severity: Severity,
    /// The last detection, with the highest count.
    pub detection: Detection,
}

impl Episode {
    /// Order of importance: the worst first, then those with the most sockets, then the oldest.
    #[must_use]
    pub fn rank(&self) -> impl Ord + use<> {
        (Reverse(self.severity), self.merged_into.is_some(), Reverse(self.detection.count), self.number)
    }
}

/// The findings of a run. Of more than fit the least important one is forgotten, and counted.
#[derive(Clone, Debug, Default)]
pub struct Episodes {
    all: BTreeMap<u64, Episode>,
    /// Number of findings that were forgotten.
    pub forgotten: u64,
}

impl Episodes {
    pub(super) fn add(&mut self, finding: &Finding) {
        let opened_ns = finding.time_ns.saturating_sub(finding.open_for_ns);
        let is_over = matches!(finding.phase, Phase::Closed | Phase::Merged(_));
        let severity = finding.detection.severity;
        let episode = self.all.entry(finding.number).or_insert_with(|| Episode {
            number: finding.number,
            opened_ns,
            seen_ns: finding.time_ns,
            is_over,
            merged_into: None,
            severity,
            detection: finding.detection.clone(),
        });
        episode.seen_ns = finding.time_ns;
        episode.is_over = is_over;
        episode.merged_into = finding.phase.into_number();
        episode.severity = episode.severity.max(severity);
        if !is_over {
            episode.detection = finding.detection.clone();
        }
        if self.all.len() > MAX_EPISODES
            && let Some(number) = self.all.values().max_by_key(|episode| episode.rank()).map(|least| least.number)
        {
            self.all.remove(&number);
            self.forgotten += 1;
        }
    }

    /// The finding with this number.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<&Episode> {
        self.all.get(&number)
    }

    /// All findings, in order of their numbers.
    pub fn all(&self) -> impl Iterator<Item = &Episode> {
        self.all.values()
    }

    /// The worst first.
    #[must_use]
    pub fn ranked(&self) -> Vec<&Episode> {
        let mut all: Vec<_> = self.all.values().collect();
        all.sort_by_key(|episode| episode.rank());
        all
    }

    /// Number of findings of this severity.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.all.values().filter(|episode| episode.severity == severity).count()
    }
}
