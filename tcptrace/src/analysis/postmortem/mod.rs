//! What a report of a recording needs: everything that happened, collected in one pass and within bounds.
//!
//! Counts come from the run's own [`Report`]; here is what that lacks: the times at which something happened, findings that
//! are over, who sent RSTs, and the stories of the connections that findings name.

mod episodes;
mod latency_map;
mod resets;
mod witnesses;

use std::collections::BTreeMap;

use crate::{
    analysis::{report::Report, story::connection::Story},
    findings::{Coverage, Finding},
    model::{
        event::{Command, Event, EventKind, Owner},
        keyed::KeyedMap,
        losses::Losses,
        namespace::NetSettings,
        notice::{Gap, Notice},
        snapshot::Snapshot,
        time::WallOffset,
    },
};

pub use self::{
    episodes::{Episode, Episodes},
    latency_map::{LatencyMap, Phase, Times},
    resets::{ResetOrigin, Resets, Sender},
    witnesses::{Witness, Witnesses},
};

/// Most processes whose cgroup and user are remembered.
const MAX_OWNERS: usize = 10_000;
/// Most gaps that are kept one by one.
const MAX_GAPS: usize = 100;
/// Most network namespaces whose settings are kept.
const MAX_SETTINGS: usize = 16;

/// Everything that a report of a recording is made from.
#[derive(Default)]
pub struct Postmortem {
    /// The findings, open and over.
    pub episodes: Episodes,
    /// How long transitions took, over time.
    pub latencies: LatencyMap,
    /// The RSTs that were sent, by sender.
    pub resets: Resets,
    /// The connections that findings name.
    pub witnesses: Witnesses,
    /// Losses of the run, one by one.
    pub gaps: Vec<Gap>,
    /// Number of gaps that are not in `gaps`.
    pub more_gaps: u64,
    /// Number of events.
    pub events: u64,
    /// Number of events whose owner is not known.
    pub unowned: u64,
    /// Number of connections that began.
    pub began: u64,
    /// Number of transitions whose time in the old state is not known exactly.
    pub untimed: u64,
    /// The summary of the whole run, once it is over.
    pub report: Option<Report>,
    /// What the rules have checked; `None` if nobody looked for findings.
    pub coverage: Option<Coverage>,
    /// All that was lost.
    pub losses: Losses,
    /// Why the run ended.
    pub reason: String,
    /// What is wrong with the recording itself, in words.
    pub flaws: Vec<String>,
    /// TCP settings of network namespaces by inode number, as last listed.
    pub settings: BTreeMap<u32, NetSettings>,
    owners: KeyedMap<(u32, Command), Owner>,
}

impl Postmortem {
    /// Takes an event from before the time that the report is about: connections begin with it.
    pub fn before(&mut self, event: &Event) {
        self.witnesses.event(event);
    }

    /// Takes an event. What polls find belongs to no story: it comes a minute later.
    pub fn event(&mut self, event: &Event, is_polled: bool, wall: WallOffset) {
        if !is_polled {
            self.witnesses.event(event);
        }
        self.resets.event(event);
        if event.what == EventKind::OwnerChanged {
            return;
        }
        self.events += 1;
        self.began += u64::from(crate::analysis::story::connection::begins(event).is_some());
        match event.owner {
            Some(owner) if self.owners.len() < MAX_OWNERS => {
                self.owners.entry((owner.pid, owner.command)).or_insert(owner);
            }
            Some(_) => {}
            None => self.unowned += 1,
        }
        if let EventKind::Transition(transition) = event.what {
            match transition.time_in_old.filter(|time| time.source.is_measured()) {
                Some(time) => self.latencies.add(wall.wall_ns(event.time_ns), transition.old, time.ns),
                None => self.untimed += 1,
            }
        }
    }

    /// Takes a change of a finding.
    pub fn finding(&mut self, finding: &Finding) {
        self.episodes.add(finding);
        self.witnesses.wanted(finding);
    }

    /// Takes the findings that are open at the end, and what was checked.
    pub fn open(&mut self, findings: &[&Finding], seen: &Coverage) {
        findings.iter().for_each(|finding| self.finding(finding));
        self.coverage = Some(seen.clone());
    }

    /// Takes a connection that is over, or that the run has left.
    pub fn story(&mut self, story: Story) {
        self.witnesses.story(story, &self.episodes);
    }

    /// Takes a notice.
    pub fn notice(&mut self, notice: &Notice) {
        let Notice::Gap(gap) = notice else { return };
        if self.gaps.len() < MAX_GAPS {
            self.gaps.push(gap.clone());
        } else {
            self.more_gaps += 1;
        }
    }

    /// Takes a listing of sockets.
    pub fn listed(&mut self, snapshot: &Snapshot) {
        self.witnesses.listed(snapshot);
        for namespace in &snapshot.namespaces {
            let has_room = self.settings.len() < MAX_SETTINGS || self.settings.contains_key(&namespace.inode);
            if let Some(settings) = namespace.settings.filter(|_| has_room) {
                self.settings.insert(namespace.inode, settings);
            }
        }
    }

    /// What is known about a process by its PID and command name.
    #[must_use]
    pub fn owner(&self, process: (u32, Command)) -> Option<&Owner> {
        self.owners.get(&process)
    }
}
