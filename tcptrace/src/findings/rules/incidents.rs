//! Failures as sightings.

use crate::{
    findings::{
        cause::Cause,
        context::{MAX_SUBJECTS, View},
        detection::{MAX_EXAMPLES, Processes, Sighting, Subject, Value},
        incident::Incident,
        kind::{Kind, Severity},
    },
    model::{event::Owner, keyed::KeyedMap},
};

/// Failures of one command with one subject.
#[derive(Default)]
struct Failures<'a> {
    count: u64,
    processes: Processes,
    /// The last ones.
    last: Vec<&'a Incident>,
    is_shown: bool,
}

impl<'a> Failures<'a> {
    fn take(&mut self, other: Failures<'a>) {
        self.count += other.count;
        self.processes.merge(&other.processes);
        self.last.extend(other.last);
        self.is_shown |= other.is_shown;
    }
}

/// The process at the other end of a connection that failed, where it is on this host.
pub(super) fn other_owner(incident: &Incident) -> Option<Owner> {
    incident.peer.owner
}

/// They have the cause that was found for each, and matter as much as the worst of the last.
pub(super) fn judged(last: &[&Incident]) -> (Severity, Cause) {
    let worst = last.iter().map(|incident| incident.cause).max_by_key(|(severity, _)| *severity);
    worst.unwrap_or((Severity::Warning, Cause::PeerSentReset))
}

/// The failures of a kind, with the evidence of each group; `meaning` decides by the last of them, the newest first.
pub(super) fn sightings<'a>(
    view: &View<'a>,
    kind: Kind,
    meaning: impl Fn(&[&'a Incident]) -> (Severity, Cause),
    evidence: impl Fn(&'a Incident) -> Vec<(&'static str, Value)>,
) -> Vec<Sighting> {
    let mut by_command: KeyedMap<_, KeyedMap<Subject, Failures<'_>>> = KeyedMap::default();
    for ((_, netns, command, _, cause), incidents) in view.recent.incidents().filter(|((of, ..), _)| *of == kind) {
        let Some(newest) = incidents.last.last() else { continue };
        let failures = Failures {
            count: incidents.count,
            processes: incidents.processes.clone(),
            last: incidents.last.iter().collect(),
            is_shown: incidents.is_shown,
        };
        let subject = view.subject_at(newest.netns, (newest.local, newest.remote), newest.active);
        by_command.entry((*netns, *command, *cause)).or_default().entry(subject).or_default().take(failures);
    }
    let mut found = Vec::new();
    for ((netns, ..), mut subjects) in by_command {
        if subjects.len() > MAX_SUBJECTS {
            let mut all = Failures::default();
            subjects.drain().for_each(|(_, failures)| all.take(failures));
            subjects.insert(Subject::Several, all);
        }
        for (subject, mut failures) in subjects {
            failures.last.sort_by_key(|incident| std::cmp::Reverse(incident.time_ns));
            failures.last.truncate(MAX_EXAMPLES);
            let Some(newest) = failures.last.first() else { continue };
            let (severity, cause) = meaning(&failures.last);
            let sighting = Sighting {
                owner: newest.owner,
                processes: failures.processes,
                count: failures.count,
                examples: failures.last.iter().map(|incident| incident.example()).collect(),
                is_shown: failures.is_shown,
                ..Sighting::new(kind, severity, cause, netns, subject)
            };
            found.push(sighting.with(evidence(newest)));
        }
    }
    found
}
