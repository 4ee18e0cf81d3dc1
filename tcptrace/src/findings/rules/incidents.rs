//! Failures as sightings.

use rustc_hash::FxHashMap;

use super::Advice;
use crate::{
    event::Owner,
    findings::{Incident, Kind, Severity, Sighting, Subject, Value, View, sighting::MAX_EXAMPLES, view::MAX_SUBJECTS},
};

/// Failures of one owner with one subject.
#[derive(Default)]
struct Failures<'a> {
    count: u64,
    /// The last ones.
    last: Vec<&'a Incident>,
    is_shown: bool,
}

impl<'a> Failures<'a> {
    fn take(&mut self, other: Failures<'a>) {
        self.count += other.count;
        self.last.extend(other.last);
        self.is_shown |= other.is_shown;
    }
}

/// They are a warning, and all mean the same.
pub(super) fn warning(advice: &'static Advice) -> impl Fn(&[&Incident]) -> (Severity, &'static Advice) {
    move |_| (Severity::Warning, advice)
}

/// The failures of a kind, with the evidence of each group; what they mean follows from the last of them.
pub(super) fn sightings<'a>(
    view: &View<'a>,
    kind: Kind,
    meaning: impl Fn(&[&'a Incident]) -> (Severity, &'static Advice),
    evidence: impl Fn(&'a Incident) -> Vec<(&'static str, Value)>,
) -> Vec<Sighting> {
    let mut by_owner: FxHashMap<_, FxHashMap<Subject, Failures<'_>>> = FxHashMap::default();
    for ((_, netns, owner, _), incidents) in view.recent.incidents().filter(|((of, ..), _)| *of == kind) {
        let Some(newest) = incidents.last.last() else { continue };
        let (count, is_shown) = (incidents.count, incidents.is_shown);
        let failures = Failures { count, last: incidents.last.iter().collect(), is_shown };
        by_owner.entry((*netns, *owner)).or_default().entry(subject(view, newest)).or_default().take(failures);
    }
    let mut found = Vec::new();
    for ((netns, _), mut subjects) in by_owner {
        if subjects.len() > MAX_SUBJECTS {
            let mut all = Failures::default();
            subjects.drain().for_each(|(_, failures)| all.take(failures));
            subjects.insert(Subject::Several, all);
        }
        for (subject, mut failures) in subjects {
            failures.last.sort_by_key(|incident| std::cmp::Reverse(incident.time_ns));
            failures.last.truncate(MAX_EXAMPLES);
            let Some(newest) = failures.last.first() else { continue };
            let (severity, advice) = meaning(&failures.last);
            let sighting = Sighting {
                kind,
                severity,
                netns,
                owner: newest.owner,
                subject,
                count: failures.count,
                oldest: None,
                evidence: Vec::new(),
                examples: failures.last.iter().map(|incident| incident.example()).collect(),
                explanation: "",
                remedy: "",
                is_settled: true,
                is_shown: failures.is_shown,
            };
            found.push(sighting.with(advice, evidence(newest)));
        }
    }
    found
}

/// What connections that failed have in common: the listener that they came through, or their destination.
fn subject(view: &View<'_>, incident: &Incident) -> Subject {
    if incident.active != Some(true)
        && let Some(service) = view.service_of(incident.netns, incident.local)
    {
        return Subject::Local(service);
    }
    if incident.active == Some(false) { Subject::Local(incident.local) } else { Subject::Remote(incident.remote) }
}

/// The process at the other end of a connection that failed, where it is on this host: it failed there too, or is still
/// there.
pub(super) fn other_owner(view: &View<'_>, incident: &Incident) -> Option<Owner> {
    use crate::findings::view::OtherEnd;
    if let OtherEnd::Here(other) = view.end_at(incident.netns, incident.remote, incident.local) {
        return other.owner();
    }
    counterpart(view, incident).and_then(|other| other.owner)
}

/// The failure of the other end of the same connection.
pub(super) fn counterpart<'a>(view: &View<'a>, incident: &Incident) -> Option<&'a Incident> {
    view.failed_at(incident.netns, incident.remote, incident.local)
}
