//! Findings over time: each opens, is updated at a bounded rate, and closes.

use rustc_hash::FxHashMap;

use super::{Sighting, Thresholds, Value, sighting::Key};

/// What happened to a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// It is new.
    Opened,
    /// It goes on, and has changed.
    Updated,
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
            Self::Closed => "closed",
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
    /// As it was seen last.
    pub sighting: Sighting,
}

/// The findings that are open.
#[derive(Debug, Default)]
pub struct Ledger {
    open: FxHashMap<Key, Open>,
    /// Since when sightings wait for their evidence, in ns.
    waiting: FxHashMap<Key, u64>,
    next: u64,
    update_every_ns: u64,
}

#[derive(Debug)]
struct Open {
    number: u64,
    opened_ns: u64,
    told_ns: u64,
    seen_ns: u64,
    /// As it was told last.
    told: Told,
    /// As it is.
    sighting: Sighting,
}

/// What must change for an update: not the times, which always do.
type Told = (u64, super::Severity, Vec<(&'static str, Value)>);

impl Ledger {
    /// Without findings.
    #[must_use]
    pub fn new(thresholds: &Thresholds) -> Self {
        Self { update_every_ns: thresholds.update_every_ns, next: 1, ..Self::default() }
    }

    /// Takes in all troubles that there are at `now_ns`; gives what is to be told.
    pub fn update(&mut self, sightings: Vec<Sighting>, now_ns: u64) -> Vec<Finding> {
        let mut told = Vec::new();
        let before = std::mem::take(&mut self.waiting);
        for (key, sighting) in by_key(sightings) {
            match self.open.get_mut(&key) {
                Some(open) => {
                    open.seen_ns = now_ns;
                    open.sighting = sighting;
                    let now = open.sighting.told();
                    if now != open.told && now_ns.saturating_sub(open.told_ns) >= self.update_every_ns {
                        (open.told, open.told_ns) = (now, now_ns);
                        told.push(open.finding(Phase::Updated, now_ns));
                    }
                }
                None => {
                    let since_ns = before.get(&key).copied().unwrap_or(now_ns);
                    if !sighting.is_settled && now_ns.saturating_sub(since_ns) < key.0.patience_ns() {
                        self.waiting.insert(key, since_ns);
                        continue;
                    }
                    let open = Open {
                        number: self.next,
                        opened_ns: now_ns,
                        told_ns: now_ns,
                        seen_ns: now_ns,
                        told: sighting.told(),
                        sighting,
                    };
                    self.next += 1;
                    told.push(open.finding(Phase::Opened, now_ns));
                    self.open.insert(key, open);
                }
            }
        }
        self.open.retain(|key, open| {
            let is_open = now_ns.saturating_sub(open.seen_ns) <= key.0.hold_ns();
            if !is_open {
                told.push(open.finding(Phase::Closed, now_ns));
            }
            is_open
        });
        told.sort_by_key(|finding| finding.number);
        told
    }

    /// Does a sighting wait for its evidence?
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The findings that are open at `now_ns`, worst first.
    #[must_use]
    pub fn open(&self, now_ns: u64) -> Vec<Finding> {
        let mut open: Vec<_> = self.open.values().map(|open| open.finding(Phase::Updated, now_ns)).collect();
        open.sort_by_key(|finding| {
            (std::cmp::Reverse((finding.sighting.severity, finding.sighting.count)), finding.number)
        });
        open
    }
}

impl Open {
    fn finding(&self, phase: Phase, now_ns: u64) -> Finding {
        Finding {
            time_ns: now_ns,
            number: self.number,
            phase,
            open_for_ns: now_ns.saturating_sub(self.opened_ns),
            sighting: self.sighting.clone(),
        }
    }
}

/// One sighting for each place, in an order that only depends on them: what waits and what has failed already may be of one.
fn by_key(sightings: Vec<Sighting>) -> Vec<(Key, Sighting)> {
    let mut places: FxHashMap<Key, usize> = FxHashMap::default();
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
    fn told(&self) -> Told {
        let changes = self.evidence.iter().filter(|(name, _)| !name.ends_with("_ns") && *name != "growth_per_minute");
        (self.count, self.severity, changes.cloned().collect())
    }

    /// Takes in another one of the same place: it tells what this one does not know. What the worse one means stands for
    /// both; what is so of one and not so of the other is not known.
    fn take(&mut self, other: Self) {
        self.count += other.count;
        self.processes.merge(&other.processes);
        if other.severity > self.severity {
            (self.severity, self.cause) = (other.severity, other.cause);
        }
        let ages = [self.oldest, other.oldest];
        self.oldest = ages.into_iter().flatten().max_by_key(|age| age.ns);
        self.is_settled &= other.is_settled;
        for (name, value) in other.evidence {
            match self.evidence.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known @ Value::Unknown)) => *known = value,
                Some((_, known @ Value::Flag(_))) if *known != value => *known = Value::Unknown,
                Some(_) => {}
                None => self.evidence.push((name, value)),
            }
        }
        let room = super::sighting::MAX_EXAMPLES.saturating_sub(self.examples.len());
        self.examples.extend(other.examples.into_iter().take(room));
    }
}
