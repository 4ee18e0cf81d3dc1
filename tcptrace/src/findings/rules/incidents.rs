//! Turns failed connections into detections.

use crate::{
    findings::{
        cause::Cause,
        context::{MAX_SUBJECTS, RuleContext},
        detection::{Detection, MAX_EXAMPLES, Processes, Subject, Value},
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
    /// The most recent failures.
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

/// The process at the other end of a failed connection, if it is on this host.
pub(super) fn other_owner(incident: &Incident) -> Option<Owner> {
    incident.peer.owner
}

/// Severity and cause of a group of failures: those of the worst among the most history.
pub(super) fn diagnosed(last: &[&Incident]) -> (Severity, Cause) {
    let worst = last.iter().map(|incident| incident.cause).max_by_key(|(severity, _)| *severity);
    worst.unwrap_or((Severity::Warning, Cause::PeerSentReset))
}

/// Detections of one kind of failure, grouped by command, cause and subject. `meaning` gives severity and cause of a group
/// from its last failures, newest first; `evidence` gives the evidence from the newest.
pub(super) fn detections<'a>(
    context: &RuleContext<'a>,
    kind: Kind,
    meaning: impl Fn(&[&'a Incident]) -> (Severity, Cause),
    evidence: impl Fn(&'a Incident) -> Vec<(&'static str, Value)>,
) -> Vec<Detection> {
    let mut by_command: KeyedMap<_, KeyedMap<Subject, Failures<'_>>> = KeyedMap::default();
    for ((_, netns, command, _, cause), incidents) in context.history.incidents().filter(|((of, ..), _)| *of == kind) {
        let Some(newest) = incidents.last.last() else { continue };
        let failures = Failures {
            count: incidents.count,
            processes: incidents.processes.clone(),
            last: incidents.last.iter().collect(),
            is_shown: incidents.is_shown,
        };
        let subject = context.subject_at(newest.netns, (newest.local, newest.remote), newest.active);
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
            let detection = Detection {
                owner: newest.owner,
                processes: failures.processes,
                count: failures.count,
                examples: failures.last.iter().map(|incident| incident.example()).collect(),
                is_shown: failures.is_shown,
                ..Detection::new(kind, severity, cause, netns, subject)
            };
            found.push(detection.with(evidence(newest)));
        }
    }
    found
}
