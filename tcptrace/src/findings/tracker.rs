//! Findings over time: each opens, is updated at a bounded rate, and closes, or becomes part of another one.

use crate::{
    findings::{
        cause::Cause,
        detection::{Sighting, Subject, Value},
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
    /// It goes on, and has changed.
    Updated,
    /// It goes on as a part of another one, which has this number.
    Merged(u64),
    /// It is over.
    Closed,
}

impl Phase {
    /// Name in all outputs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Updated => "updated",
            Self::Merged(_) => "merged",
            Self::Closed => "closed",
        }
    }

    /// Number of the finding that it is a part of from now on.
    #[must_use]
    pub const fn into_number(self) -> Option<u64> {
        match self {
            Self::Merged(into) => Some(into),
            _ => None,
        }
    }
}

/// A finding, as it is to be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// CLOCK_MONOTONIC, in ns.
    pub time_ns: u64,
    /// Its number in this run.
    pub number: u64,
    /// What happened to it.
    pub phase: Phase,
    /// How long it has been open, in ns.
    pub open_for_ns: u64,
    /// Its count as it was seen last. That of the sighting is the highest since it opened, and only rises.
    pub count_now: u64,
    /// As it was seen last.
    pub sighting: Sighting,
}

/// What tells sightings apart: those with the same one, one after the other, are of one finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    identity: Identity,
    subject: Subject,
}

/// A trouble of a command, wherever it is: what moves or merges stays within it. Processes come and go, so a command stands
/// for them. Failures with different causes are different troubles.
type Identity = (Kind, Option<u32>, Option<Command>, Option<Cause>);

impl Sighting {
    /// Its key.
    #[must_use]
    pub fn key(&self) -> Key {
        let cause = self.kind.is_of_failures().then_some(self.cause.of_key());
        let identity = (self.kind, self.netns, self.owner.map(|owner| owner.command), cause);
        Key { identity, subject: self.subject }
    }
}

/// The findings that are open.
#[derive(Debug, Default)]
pub struct Ledger {
    open: KeyedMap<Key, Open>,
    /// Since when sightings wait for their evidence, in ns.
    waiting: KeyedMap<Key, u64>,
    next: u64,
    update_every_ns: u64,
}

#[derive(Debug)]
struct Open {
    number: u64,
    opened_ns: u64,
    told_ns: u64,
    seen_ns: u64,
    /// The next update waits for so long, in ns.
    patience_ns: u64,
    /// As it was told last, or would have been if the filter showed it: that changes nothing of what is told when.
    told: Option<Told>,
    /// Was it told? From when on the filter shows any of its sockets.
    is_told: bool,
    /// As it is, with the highest count.
    sighting: Sighting,
    count_now: u64,
}

/// What must change for an update: not the times, which always do.
#[derive(Debug, PartialEq)]
struct Told {
    count: u64,
    count_now: u64,
    severity: Severity,
    subject: Subject,
    evidence: Vec<(&'static str, Value)>,
}

/// The first update waits for so long, in ns, the next one twice as long, and so on up to the time between updates. One by
/// which the count has doubled, or the severity risen, waits for no longer than the first.
const FIRST_UPDATE_NS: u64 = 1_000_000_000;

impl Ledger {
    /// Without findings.
    #[must_use]
    pub fn new(thresholds: &Thresholds) -> Self {
        Self { update_every_ns: thresholds.update_every_ns, next: 1, ..Self::default() }
    }

    /// Takes in all troubles that there are at `now_ns`; gives what is to be told.
    pub fn update(&mut self, sightings: Vec<Sighting>, now_ns: u64) -> Vec<Finding> {
        let before = std::mem::take(&mut self.waiting);
        let sightings = by_key(sightings.into_iter().map(|sighting| self.kept_together(sighting)));
        let mut told = self.link(&sightings, now_ns);
        for (key, sighting) in sightings {
            if let Some(open) = self.open.get_mut(&key) {
                open.sees(sighting, now_ns);
                told.extend(open.news(now_ns, self.update_every_ns));
                continue;
            }
            let since_ns = before.get(&key).copied().unwrap_or(now_ns);
            if !sighting.is_settled && now_ns.saturating_sub(since_ns) < key.identity.0.patience_ns() {
                self.waiting.insert(key, since_ns);
                continue;
            }
            let mut open = Open::new(self.next, sighting, now_ns);
            self.next += 1;
            told.extend(open.news(now_ns, self.update_every_ns));
            self.open.insert(key, open);
        }
        self.open.retain(|key, open| {
            let is_open = now_ns.saturating_sub(open.seen_ns) <= key.identity.0.hold_ns();
            if !is_open && open.is_told {
                told.push(open.finding(Phase::Closed, now_ns));
            }
            is_open
        });
        told.sort_by_key(|finding| finding.number);
        told
    }

    /// What was told of as several ends stays that until it is over, however many there are left.
    fn kept_together(&self, sighting: Sighting) -> Sighting {
        let together = Key { subject: Subject::Several, ..sighting.key() };
        if self.open.contains_key(&together) { Sighting { subject: Subject::Several, ..sighting } } else { sighting }
    }

    /// Findings that are seen no more while one of the same kind comes that has a socket in common with them, or is of
    /// several ends of the same owner: the trouble has moved. The new one goes on under the number of the oldest, and the
    /// others are told to be a part of it.
    fn link(&mut self, sightings: &[(Key, Sighting)], now_ns: u64) -> Vec<Finding> {
        let mut told = Vec::new();
        let is_seen = |key: &Key| sightings.binary_search_by_key(key, |(key, _)| *key).is_ok();
        let mut unseen_of: KeyedMap<Identity, Vec<Key>> = KeyedMap::default();
        let mut unseen_with: KeyedMap<u64, Vec<Key>> = KeyedMap::default();
        for (key, open) in self.open.iter().filter(|(key, _)| !is_seen(key)) {
            unseen_of.entry(key.identity).or_default().push(*key);
            for cookie in open.sighting.examples.iter().filter_map(|example| example.cookie) {
                unseen_with.entry(cookie).or_default().push(*key);
            }
        }
        if unseen_of.is_empty() {
            return told;
        }
        for (key, new) in sightings {
            if self.open.contains_key(key) {
                continue;
            }
            let parts = unseen_of.get(&key.identity).filter(|_| new.subject == Subject::Several).into_iter().flatten();
            let cookies = new.examples.iter().filter_map(|example| example.cookie);
            let shared = cookies.filter_map(|cookie| unseen_with.get(&cookie)).flatten();
            let shared = shared.filter(|old| self.open.get(old).is_some_and(|open| open.sighting.shares_socket(new)));
            let numbered = |old: &Key| Some((self.open.get(old)?.number, *old));
            let mut moved: Vec<_> = parts.chain(shared).filter_map(numbered).collect();
            moved.sort_unstable();
            moved.dedup();
            let mut moved =
                moved.into_iter().filter_map(|(_, old)| self.open.remove(&old)).collect::<Vec<_>>().into_iter();
            let Some(mut first) = moved.next() else { continue };
            for other in moved.filter(|other| other.is_told) {
                told.push(other.finding(Phase::Merged(first.number), now_ns));
            }
            // Its place is what it is about now; seen below.
            first.sighting.subject = key.subject;
            self.open.insert(*key, first);
        }
        told
    }

    /// Does a sighting wait for its evidence?
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The findings that are open at `now_ns` and shown, worst first.
    #[must_use]
    pub fn open(&self, now_ns: u64) -> Vec<Finding> {
        let shown = self.open.values().filter(|open| open.is_told);
        let mut open: Vec<_> = shown.map(|open| open.finding(Phase::Updated, now_ns)).collect();
        open.sort_by_key(|finding| {
            (std::cmp::Reverse((finding.sighting.severity, finding.sighting.count)), finding.number)
        });
        open
    }

    /// What the findings that are open have come to since they were told of: to be told at the end of a run.
    pub fn take_rest(&mut self, now_ns: u64) -> Vec<Finding> {
        let mut rest: Vec<_> = self.open.values_mut().filter_map(|open| open.news(now_ns, 0)).collect();
        rest.sort_by_key(|finding| finding.number);
        rest
    }
}

impl Open {
    fn new(number: u64, sighting: Sighting, now_ns: u64) -> Self {
        Self {
            number,
            opened_ns: now_ns,
            told_ns: now_ns,
            seen_ns: now_ns,
            patience_ns: FIRST_UPDATE_NS,
            told: None,
            is_told: false,
            count_now: sighting.count,
            sighting,
        }
    }

    fn sees(&mut self, sighting: Sighting, now_ns: u64) {
        self.seen_ns = now_ns;
        self.count_now = sighting.count;
        let is_shown = self.sighting.is_shown || sighting.is_shown;
        self.sighting = Sighting { count: sighting.count.max(self.sighting.count), is_shown, ..sighting };
    }

    /// What is to be told of it now, at most every `every_ns`: that it is there, or that it has changed.
    fn news(&mut self, now_ns: u64, every_ns: u64) -> Option<Finding> {
        let is_news = self.is_due(now_ns, every_ns) || !self.is_told;
        if !is_news || !self.sighting.is_shown {
            return None;
        }
        let phase = if std::mem::replace(&mut self.is_told, true) { Phase::Updated } else { Phase::Opened };
        Some(self.finding(phase, now_ns))
    }

    /// Has it changed, and is it time to tell of it?
    fn is_due(&mut self, now_ns: u64, every_ns: u64) -> bool {
        let now = self.as_told();
        if let Some(told) = &self.told {
            let is_urgent = now.severity > told.severity || now.count >= told.count.saturating_mul(2);
            let wait_ns = if is_urgent { FIRST_UPDATE_NS } else { self.patience_ns }.min(every_ns);
            if now == *told || now_ns.saturating_sub(self.told_ns) < wait_ns {
                return false;
            }
            self.patience_ns = self.patience_ns.saturating_mul(2);
        }
        (self.told, self.told_ns) = (Some(now), now_ns);
        true
    }

    fn as_told(&self) -> Told {
        let Sighting { count, severity, subject, ref evidence, .. } = self.sighting;
        let changes_always = |name: &str| {
            name.ends_with("_ns") || matches!(name, "growth_per_minute" | "waits_in" | "descriptors" | "unread_bytes")
        };
        let changes = evidence.iter().filter(|(name, _)| !changes_always(name));
        Told { count, count_now: self.count_now, severity, subject, evidence: changes.cloned().collect() }
    }

    fn finding(&self, phase: Phase, now_ns: u64) -> Finding {
        Finding {
            time_ns: now_ns,
            number: self.number,
            phase,
            open_for_ns: now_ns.saturating_sub(self.opened_ns),
            count_now: self.count_now,
            sighting: self.sighting.clone(),
        }
    }
}

/// One sighting for each key, in the order of keys: what waits and what has failed already may be of one.
fn by_key(sightings: impl Iterator<Item = Sighting>) -> Vec<(Key, Sighting)> {
    let mut places: KeyedMap<Key, usize> = KeyedMap::default();
    let mut found: Vec<(Key, Sighting)> = Vec::new();
    for sighting in sightings {
        let key = sighting.key();
        match places.get(&key).and_then(|place| found.get_mut(*place)) {
            Some((_, first)) => first.take(sighting),
            None => {
                places.insert(key, found.len());
                found.push((key, sighting));
            }
        }
    }
    found.sort_by_key(|(key, _)| *key);
    found
}

impl Sighting {
    /// Is it the same trouble of a socket that both show?
    fn shares_socket(&self, other: &Self) -> bool {
        let cookies =
            |sighting: &Self| sighting.examples.iter().filter_map(|example| example.cookie).collect::<Vec<_>>();
        let others = cookies(other);
        (self.kind, self.netns) == (other.kind, other.netns)
            && cookies(self).iter().any(|cookie| others.contains(cookie))
    }

    /// Takes in another one of the same place: it tells what this one does not know. What the worse one means stands for
    /// both; what is so of one and not so of the other is not known. Bytes and destinations add up.
    fn take(&mut self, other: Self) {
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

/// A piece of evidence of two sightings.
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
