//! The stories of the connections that findings name. Which these are is known only when a finding opens, often after the
//! connection has ended: so stories of the last connections are kept for a while.

use std::{collections::VecDeque, net::SocketAddr};

use super::Episodes;
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
    /// The finding that wants a connection, by cookie or by ends.
    by_cookie: KeyedMap<u64, u64>,
    by_ends: KeyedMap<(SocketAddr, SocketAddr), u64>,
    kept: Vec<(u64, Story)>,
    /// Number of wanted connections whose story was dropped for lack of room.
    pub forgotten: u64,
    /// Wanted connections whose story was not found yet.
    wanted: u64,
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
            forgotten: 0,
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
            let is_known = example.cookie.map_or_else(
                || self.by_ends.contains_key(&ends),
                |cookie| self.by_cookie.contains_key(&cookie),
            );
            if is_listener || is_known || self.by_cookie.len() + self.by_ends.len() >= MAX_WANTED {
                continue;
            }
            match example.cookie {
                Some(cookie) => _ = self.by_cookie.insert(cookie, finding.number),
                None => _ = self.by_ends.insert(ends, finding.number),
            }
            self.wanted += 1;
            let found = self.recent.iter().position(|story| {
                let cookies = story.seen().any(|(_, side)| side.cookie.is_some() && side.cookie == example.cookie);
                cookies || example.cookie.is_none() && is_of(story, ends)
            });
            if let Some(story) = found.and_then(|place| self.recent.remove(place)) {
                self.recent_events -= events(&story);
                self.kept.push((finding.number, story));
            }
        }
    }

    fn number(&self, story: &Story) -> Option<u64> {
        let by_cookie = |cookie: Option<u64>| self.by_cookie.get(&cookie?).copied();
        let by_ends = || {
            let [left, right] = story.ends();
            self.by_ends.get(&(left, right)).or_else(|| self.by_ends.get(&(right, left))).copied()
        };
        story.seen().find_map(|(_, side)| by_cookie(side.cookie)).or_else(by_ends)
    }

    pub(super) fn story(&mut self, story: Story, episodes: &Episodes) {
        if let Some(number) = self.number(&story) {
            self.kept.push((number, story));
            if self.kept.len() > MAX_KEPT {
                let rank = |number: u64| episodes.get(number).map(super::Episode::rank);
                let least = self.kept.iter().enumerate().max_by_key(|(_, (number, _))| (rank(*number).is_none(), rank(*number)));
                if let Some(place) = least.map(|(place, _)| place) {
                    self.kept.remove(place);
                    self.forgotten += 1;
                }
            }
            return;
        }
        self.recent_events += events(&story);
        self.recent.push_back(story);
        while self.recent.len() > MAX_RECENT || self.recent_events > MAX_RECENT_EVENTS {
            let Some(oldest) = self.recent.pop_front() else { return };
            self.recent_events -= events(&oldest);
        }
    }

    /// The stories that were found, each with the number of its finding, in the order of their ends.
    #[must_use]
    pub fn kept(&self) -> &[(u64, Story)] {
        &self.kept
    }

    /// Number of wanted connections, with a story or without.
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
