//! The stories of the connections that findings name. Which these are is known only when a finding opens, often after the
//! connection has ended: so stories of the last connections are kept for a while.

use std::{collections::VecDeque, net::SocketAddr};

use super::episodes::{Episode, Episodes};
use crate::{
    analysis::story::{
        Limits, Stories,
        connection::{Story, StoryFilter},
    },
    findings::Finding,
    model::{event::Event, keyed::KeyedMap, snapshot::Snapshot},
};

/// Bounds of the connections that have not ended.
const LIMITS: Limits = Limits { sides: 20_000, events: 60, all_events: 200_000 };
/// Most connections that have ended and may still be asked for.
const MAX_RECENT: usize = 4_096;
/// Most events of these.
const MAX_RECENT_EVENTS: usize = 60_000;
/// Most connections that are wanted for each finding.
const OF_A_FINDING: usize = 3;
/// Most connections that are wanted.
const MAX_WANTED: usize = 4_096;
/// Most stories that are kept for the report.
const MAX_KEPT: usize = 200;

/// The stories of the connections that findings name.
pub struct Witnesses {
    /// The connections that have not ended.
    pub stories: Stories,
    recent: VecDeque<Story>,
    recent_events: usize,
    /// The finding that wants a socket, by cookie or by ends.
    by_cookie: KeyedMap<u64, u64>,
    by_ends: KeyedMap<(SocketAddr, SocketAddr), u64>,
    kept: Vec<Witness>,
    /// Number of sockets that findings named.
    wanted: u64,
}

/// A connection that findings name.
#[derive(Debug)]
pub struct Witness {
    /// The numbers of the findings: one for each side at most, in the order in which they named it.
    pub findings: Vec<u64>,
    /// What happened to it.
    pub story: Story,
}

impl Default for Witnesses {
    fn default() -> Self {
        Self {
            stories: Stories::new(StoryFilter::All, LIMITS),
            recent: VecDeque::new(),
            recent_events: 0,
            by_cookie: KeyedMap::default(),
            by_ends: KeyedMap::default(),
            kept: Vec::new(),
            wanted: 0,
        }
    }
}

impl Witnesses {
    pub(super) fn event(&mut self, event: &Event) {
        self.stories.ingest(event);
    }

    pub(super) fn listed(&mut self, snapshot: &Snapshot) {
        self.stories.listed(snapshot);
    }

    /// Wants the first examples of a finding.
    pub(super) fn wanted(&mut self, finding: &Finding) {
        for example in finding.detection.examples.iter().take(OF_A_FINDING) {
            let ends = (example.local, example.remote);
            let is_listener = example.remote.port() == 0;
            let is_known = example
                .cookie
                .map_or_else(|| self.by_ends.contains_key(&ends), |cookie| self.by_cookie.contains_key(&cookie));
            if is_listener || is_known || self.by_cookie.len() + self.by_ends.len() >= MAX_WANTED {
                continue;
            }
            match example.cookie {
                Some(cookie) => _ = self.by_cookie.insert(cookie, finding.number),
                None => _ = self.by_ends.insert(ends, finding.number),
            }
            self.wanted += 1;
            let is_it = |story: &Story| {
                let cookies = story.seen().any(|(_, side)| side.cookie.is_some() && side.cookie == example.cookie);
                cookies || example.cookie.is_none() && is_of(story, ends)
            };
            if let Some(kept) = self.kept.iter_mut().find(|kept| is_it(&kept.story)) {
                if !kept.findings.contains(&finding.number) {
                    kept.findings.push(finding.number); // the other side
                }
            } else if let Some(story) = self.recent.iter().position(is_it).and_then(|place| self.recent.remove(place)) {
                self.recent_events -= events(&story);
                self.kept.push(Witness { findings: vec![finding.number], story });
            }
        }
    }

    /// The findings that want a connection.
    fn findings(&self, story: &Story) -> Vec<u64> {
        let by_cookie = |cookie: Option<u64>| self.by_cookie.get(&cookie?).copied();
        let [left, right] = story.ends();
        let by_ends = [(left, right), (right, left)].into_iter().filter_map(|ends| self.by_ends.get(&ends).copied());
        let mut findings: Vec<_> = story.seen().filter_map(|(_, side)| by_cookie(side.cookie)).chain(by_ends).collect();
        findings.sort_unstable();
        findings.dedup();
        findings
    }

    pub(super) fn story(&mut self, story: Story, episodes: &Episodes) {
        let findings = self.findings(&story);
        if !findings.is_empty() {
            self.kept.push(Witness { findings, story });
            self.make_room(episodes);
            return;
        }
        self.recent_events += events(&story);
        self.recent.push_back(story);
        while self.recent.len() > MAX_RECENT || self.recent_events > MAX_RECENT_EVENTS {
            let Some(oldest) = self.recent.pop_front() else { return };
            self.recent_events -= events(&oldest);
        }
    }

    /// Drops the story of the least important finding if there are too many.
    fn make_room(&mut self, episodes: &Episodes) {
        while self.kept.len() > MAX_KEPT {
            let rank = |witness: &Witness| {
                witness.findings.iter().filter_map(|number| episodes.get(*number)).map(Episode::rank).min()
            };
            // Those of forgotten findings first.
            let least = self.kept.iter().enumerate().max_by_key(|(_, witness)| {
                let rank = rank(witness);
                (rank.is_none(), rank)
            });
            let Some(place) = least.map(|(place, _)| place) else { return };
            self.kept.remove(place);
        }
    }

    /// The stories that were found.
    #[must_use]
    pub fn kept(&self) -> &[Witness] {
        &self.kept
    }

    /// Number of sockets that findings named, with a story or without.
    #[must_use]
    pub const fn wanted_count(&self) -> u64 {
        self.wanted
    }
}

fn is_of(story: &Story, (local, remote): (SocketAddr, SocketAddr)) -> bool {
    let [left, right] = story.ends();
    (left, right) == (local, remote) || (right, left) == (local, remote)
}

fn events(story: &Story) -> usize {
    story.seen().map(|(_, side)| side.events.len()).sum()
}
