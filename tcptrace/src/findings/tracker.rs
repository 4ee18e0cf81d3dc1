//! Follows detections over time. A detection opens a finding, further ones with the same key update it at a bounded rate, and
//! it closes when they stop, or is merged into another finding.

use crate::{
    findings::{
        cause::Cause,
        detection::{Detection, Subject, Value},
        kind::{Kind, Severity},
        thresholds::Thresholds,
    },
    model::{event::Command, keyed::KeyedMap},
};

/// What happened to a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// It is new.
    Opened,
    /// It has changed.
    Updated,
    /// It continues as part of the finding with this number.
    Merged(u64),
    /// The problem is over.
    Closed,
}

impl Phase {
    /// The name in all outputs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Updated => "updated",
            Self::Merged(_) => "merged",
            Self::Closed => "closed",
        }
    }

    /// The number of the finding that it was merged into.
    #[must_use]
    pub const fn into_number(self) -> Option<u64> {
        match self {
            Self::Merged(into) => Some(into),
            _ => None,
        }
    }
}

/// A finding as it is reported.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// CLOCK_MONOTONIC, in ns.
    pub time_ns: u64,
    /// The number in this run.
    pub number: u64,
    /// What this report is about.
    pub phase: Phase,
    /// How long it has been open, in ns.
    pub open_for_ns: u64,
    /// The current count. The detection's own `count` is the highest since the finding opened.
    pub count_now: u64,
    /// The last detection.
    pub detection: Detection,
}

/// The key of detections: consecutive detections with the same key belong to one finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    identity: Identity,
    subject: Subject,
}

/// A problem of one command with any subject; findings move and merge only within it. It has the command and not the process,
/// since processes come and go, and the cause for failures, since failures with different causes are different problems.
type Identity = (Kind, Option<u32>, Option<Command>, Option<Cause>);

impl Detection {
    /// The key of this detection.
    #[must_use]
    pub fn key(&self) -> Key {
        let cause = self.kind.counts_failures().then_some(self.cause.of_key());
        let identity = (self.kind, self.netns, self.owner.map(|owner| owner.command), cause);
        Key { identity, subject: self.subject }
    }
}

/// The open findings.
#[derive(Debug, Default)]
pub struct Tracker {
    open: KeyedMap<Key, Open>,
    /// Detections that wait for evidence, and since when, in ns.
    waiting: KeyedMap<Key, u64>,
    next: u64,
    update_every_ns: u64,
}

#[derive(Debug)]
struct Open {
    number: u64,
    opened_ns: u64,
    reported_ns: u64,
    seen_ns: u64,
    /// Shortest time to the next update, in ns.
    patience_ns: u64,
    /// The last report. Also set for reports that the filter suppressed, so that a filter does not change their times.
    reported: Option<Reported>,
    /// True once it was really reported, because the filter shows one of its sockets.
    is_reported: bool,
    /// The last detection, with the highest count so far.
    detection: Detection,
    count_now: u64,
}

/// The parts that must change to cause an update; times are left out because they always change.
#[derive(Debug, PartialEq)]
struct Reported {
    count: u64,
    count_now: u64,
    severity: Severity,
    subject: Subject,
    evidence: Vec<(&'static str, Value)>,
}

/// Time until the first update, in ns. It doubles with each update, up to `update-every`. If the count has doubled or the
/// severity has risen, an update waits only this long.
const FIRST_UPDATE_NS: u64 = 1_000_000_000;

impl Tracker {
    /// A tracker without findings.
    #[must_use]
    pub fn new(thresholds: &Thresholds) -> Self {
        Self { update_every_ns: thresholds.update_every_ns, next: 1, ..Self::default() }
    }

    /// Takes all problems that exist at `now_ns`, and returns the findings to report.
    pub fn update(&mut self, detections: Vec<Detection>, now_ns: u64) -> Vec<Finding> {
        let before = std::mem::take(&mut self.waiting);
        let detections = by_key(detections.into_iter().map(|detection| self.keep_together(detection)));
        let mut reported = self.link(&detections, now_ns);
        for (key, detection) in detections {
            if let Some(open) = self.open.get_mut(&key) {
                open.update(detection, now_ns);
                reported.extend(open.due_report(now_ns, self.update_every_ns));
                continue;
            }
            let since_ns = before.get(&key).copied().unwrap_or(now_ns);
            if !detection.is_settled && now_ns.saturating_sub(since_ns) < key.identity.0.evidence_timeout_ns() {
                self.waiting.insert(key, since_ns);
                continue;
            }
            let mut open = Open::new(self.next, detection, now_ns);
            self.next += 1;
            reported.extend(open.due_report(now_ns, self.update_every_ns));
            self.open.insert(key, open);
        }
        self.open.retain(|key, open| {
            let is_open = now_ns.saturating_sub(open.seen_ns) <= key.identity.0.hold_ns();
            if !is_open && open.is_reported {
                reported.push(open.finding(Phase::Closed, now_ns));
            }
            is_open
        });
        reported.sort_by_key(|finding| finding.number);
        reported
    }

    /// Keeps a finding of several subjects together until it closes, even if only few subjects are left.
    fn keep_together(&self, detection: Detection) -> Detection {
        let together = Key { subject: Subject::Several, ..detection.key() };
        if self.open.contains_key(&together) { Detection { subject: Subject::Several, ..detection } } else { detection }
    }

    /// Moves findings to a new key. If a finding is no longer detected, but a new detection of its kind shares a socket with it
    /// or covers several subjects of the same command, the problem has moved. The new detection continues the oldest such
    /// finding; the others are reported as merged into it.
    fn link(&mut self, detections: &[(Key, Detection)], now_ns: u64) -> Vec<Finding> {
        let mut reported = Vec::new();
        let is_seen = |key: &Key| detections.binary_search_by_key(key, |(key, _)| *key).is_ok();
        let mut unseen_of: KeyedMap<Identity, Vec<Key>> = KeyedMap::default();
        let mut unseen_with: KeyedMap<u64, Vec<Key>> = KeyedMap::default();
        for (key, open) in self.open.iter().filter(|(key, _)| !is_seen(key)) {
            unseen_of.entry(key.identity).or_default().push(*key);
            for cookie in open.detection.examples.iter().filter_map(|example| example.cookie) {
                unseen_with.entry(cookie).or_default().push(*key);
            }
        }
        if unseen_of.is_empty() {
            return reported;
        }
        for (key, new) in detections {
            if self.open.contains_key(key) {
                continue;
            }
            let parts = unseen_of.get(&key.identity).filter(|_| new.subject == Subject::Several).into_iter().flatten();
            let cookies = new.examples.iter().filter_map(|example| example.cookie);
            let shared = cookies.filter_map(|cookie| unseen_with.get(&cookie)).flatten();
            let shared = shared.filter(|old| self.open.get(old).is_some_and(|open| open.detection.shares_socket(new)));
            let numbered = |old: &Key| Some((self.open.get(old)?.number, *old));
            let mut moved: Vec<_> = parts.chain(shared).filter_map(numbered).collect();
            moved.sort_unstable();
            moved.dedup();
            let mut moved =
                moved.into_iter().filter_map(|(_, old)| self.open.remove(&old)).collect::<Vec<_>>().into_iter();
            let Some(mut first) = moved.next() else { continue };
            for other in moved.filter(|other| other.is_reported) {
                reported.push(other.finding(Phase::Merged(first.number), now_ns));
            }
            // Its subject changes here; `update` fills in the rest.
            first.detection.subject = key.subject;
            self.open.insert(*key, first);
        }
        reported
    }

    /// True if a detection waits for evidence.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The open and reported findings at `now_ns`, worst first.
    #[must_use]
    pub fn open(&self, now_ns: u64) -> Vec<Finding> {
        let shown = self.open.values().filter(|open| open.is_reported);
        let mut open: Vec<_> = shown.map(|open| open.finding(Phase::Updated, now_ns)).collect();
        open.sort_by_key(|finding| {
            (std::cmp::Reverse((finding.detection.severity, finding.detection.count)), finding.number)
        });
        open
    }

    /// Updates of open findings that changed since their last report: for the end of a run.
    pub fn take_final_updates(&mut self, now_ns: u64) -> Vec<Finding> {
        let mut rest: Vec<_> = self.open.values_mut().filter_map(|open| open.due_report(now_ns, 0)).collect();
        rest.sort_by_key(|finding| finding.number);
        rest
    }
}

impl Open {
    fn new(number: u64, detection: Detection, now_ns: u64) -> Self {
        Self {
            number,
            opened_ns: now_ns,
            reported_ns: now_ns,
            seen_ns: now_ns,
            patience_ns: FIRST_UPDATE_NS,
            reported: None,
            is_reported: false,
            count_now: detection.count,
            detection,
        }
    }

    fn update(&mut self, detection: Detection, now_ns: u64) {
        self.seen_ns = now_ns;
        self.count_now = detection.count;
        let is_shown = self.detection.is_shown || detection.is_shown;
        self.detection = Detection { count: detection.count.max(self.detection.count), is_shown, ..detection };
    }

    /// The report that is due, if any: the first one, or a change, at most every `every_ns`.
    fn due_report(&mut self, now_ns: u64, every_ns: u64) -> Option<Finding> {
        let is_wanted = self.is_due(now_ns, every_ns) || !self.is_reported;
        if !is_wanted || !self.detection.is_shown {
            return None;
        }
        let phase = if std::mem::replace(&mut self.is_reported, true) { Phase::Updated } else { Phase::Opened };
        Some(self.finding(phase, now_ns))
    }

    /// True if it has changed and enough time has passed since the last report, which is then recorded.
    fn is_due(&mut self, now_ns: u64, every_ns: u64) -> bool {
        let now = self.reportable();
        if let Some(reported) = &self.reported {
            let is_urgent = now.severity > reported.severity || now.count >= reported.count.saturating_mul(2);
            let wait_ns = if is_urgent { FIRST_UPDATE_NS } else { self.patience_ns }.min(every_ns);
            if now == *reported || now_ns.saturating_sub(self.reported_ns) < wait_ns {
                return false;
            }
            self.patience_ns = self.patience_ns.saturating_mul(2);
        }
        (self.reported, self.reported_ns) = (Some(now), now_ns);
        true
    }

    fn reportable(&self) -> Reported {
        let Detection { count, severity, subject, ref evidence, .. } = self.detection;
        let changes_always = |name: &str| {
            name.ends_with("_ns") || matches!(name, "growth_per_minute" | "waits_in" | "descriptors" | "unread_bytes")
        };
        let changes = evidence.iter().filter(|(name, _)| !changes_always(name));
        Reported { count, count_now: self.count_now, severity, subject, evidence: changes.cloned().collect() }
    }

    fn finding(&self, phase: Phase, now_ns: u64) -> Finding {
        Finding {
            time_ns: now_ns,
            number: self.number,
            phase,
            open_for_ns: now_ns.saturating_sub(self.opened_ns),
            count_now: self.count_now,
            detection: self.detection.clone(),
        }
    }
}

/// Merges detections with the same key and sorts them by key. Two rules may detect one problem: in sockets that still wait,
/// and in connections that have already failed.
fn by_key(detections: impl Iterator<Item = Detection>) -> Vec<(Key, Detection)> {
    let mut places: KeyedMap<Key, usize> = KeyedMap::default();
    let mut found: Vec<(Key, Detection)> = Vec::new();
    for detection in detections {
        let key = detection.key();
        match places.get(&key).and_then(|place| found.get_mut(*place)) {
            Some((_, first)) => first.merge(detection),
            None => {
                places.insert(key, found.len());
                found.push((key, detection));
            }
        }
    }
    found.sort_by_key(|(key, _)| *key);
    found
}

impl Detection {
    /// True if both are the same kind of problem and have an example in common.
    fn shares_socket(&self, other: &Self) -> bool {
        let cookies =
            |detection: &Self| detection.examples.iter().filter_map(|example| example.cookie).collect::<Vec<_>>();
        let others = cookies(other);
        (self.kind, self.netns) == (other.kind, other.netns)
            && cookies(self).iter().any(|cookie| others.contains(cookie))
    }

    /// Merges another detection with the same key: adds counts and byte sums, keeps the higher severity with its cause, fills
    /// in missing evidence, and marks values that disagree as unknown.
    fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.processes.merge(&other.processes);
        if other.severity > self.severity {
            (self.severity, self.cause) = (other.severity, other.cause);
        }
        let ages = [self.oldest, other.oldest];
        self.oldest = ages.into_iter().flatten().max_by_key(|age| age.ns);
        self.is_settled &= other.is_settled;
        self.is_shown |= other.is_shown;
        for (name, value) in other.evidence {
            match self.evidence.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => *known = joined(name, known, value),
                None => self.evidence.push((name, value)),
            }
        }
        let room = crate::findings::detection::MAX_EXAMPLES.saturating_sub(self.examples.len());
        self.examples.extend(other.examples.into_iter().take(room));
    }
}

/// The merged value of a piece of evidence.
fn joined(name: &str, one: &Value, other: Value) -> Value {
    let adds_up = name.ends_with("_bytes") || name == "destinations";
    let is_of_one = name.ends_with("_pid") || name == "closed_by";
    match (one, other) {
        (Value::Unknown, other) => other,
        (one, Value::Unknown) => one.clone(),
        (Value::Number(one), Value::Number(other)) if adds_up => Value::Number(one.saturating_add(other)),
        (one, other) if *one == other => other,
        (Value::Flag(_) | Value::Name(_) | Value::Text(_), _) => Value::Unknown,
        (Value::Number(_), _) if is_of_one => Value::Unknown,
        (one, _) => one.clone(),
    }
}
