//! What there is to show at a moment.

use bytes::BytesMut;
use jiff::tz::TimeZone;
use ratatui::layout::Rect;

use crate::{
    analysis::overview::{Overview, SocketId, history::Second},
    findings::{Finding, Severity},
    model::{
        names::Names,
        printable::printable,
        time::{WallFormat, WallOffset},
    },
    render::{
        context::Context,
        screen::timeline::Timeline,
        text::{
            Address, evidence, headline,
            words::{age_words, netns_name},
        },
    },
};

/// A moment of a run.
pub struct Scene {
    /// Sockets, processes, services and transitions.
    pub overview: Overview,
    /// The last minutes, oldest first.
    pub seconds: Vec<Second>,
    /// Open findings that the filter shows, worst first.
    pub findings: Vec<FindingLine>,
    /// Number of open findings that the filter does not show.
    pub hidden_findings: usize,
    /// What was checked for findings.
    pub checked: String,
    /// Time for which events have been counted, in ns.
    pub counted_ns: u64,
    /// What was lost, if anything.
    pub losses: Option<String>,
    /// Where a replay is.
    pub timeline: Option<Timeline>,
    /// The latest message of the program.
    pub message: Option<String>,
    /// Time of day.
    pub(super) time: String,
    /// Names of network namespaces by inode number, and the one in which tcptrace runs.
    pub(super) netns: Vec<(u32, String)>,
    pub(super) own_netns: Option<u32>,
    /// Names of the ports of services, in the order of [`Overview::services`].
    pub(super) service_names: Vec<String>,
    zone: TimeZone,
    wall: WallOffset,
}

/// A finding in words.
#[derive(Clone, Debug)]
pub struct FindingLine {
    /// Its number in this run.
    pub number: u64,
    /// How serious it is.
    pub severity: Severity,
    /// Identifier of its kind.
    pub kind: &'static str,
    /// Owner, place, count and age.
    pub head: String,
    /// The facts that prove it.
    pub evidence: String,
    /// Its cause, and what helps.
    pub cause: &'static str,
    /// What helps.
    pub remedy: &'static str,
    /// Some of its sockets.
    pub examples: Vec<String>,
    /// The first of them.
    pub first: Option<SocketId>,
}

impl FindingLine {
    /// Words for a finding; asks for names of its processes.
    pub fn new(finding: &Finding, context: &mut Context) -> Self {
        let detection = &finding.detection;
        let example = |example: &crate::findings::Example| {
            let age = example.age.map(|age| format!(" for {}", age_words(age))).unwrap_or_default();
            let fd = example.holders.first().map(|holder| format!(", fd {}", holder.fd)).unwrap_or_default();
            format!("{} ⇄ {}  {}{age}{fd}", Address(example.local), Address(example.remote), example.state)
        };
        let first = detection.examples.first().map(|example| SocketId {
            local: example.local,
            remote: example.remote,
            netns: detection.netns,
            cookie: example.cookie,
        });
        Self {
            number: finding.number,
            severity: detection.severity,
            kind: detection.kind.id(),
            head: headline(finding, context),
            evidence: evidence(detection, context),
            cause: detection.cause.words(),
            remedy: detection.cause.remedy(),
            examples: detection.examples.iter().map(example).collect(),
            first,
        }
    }
}

impl Scene {
    /// The part of a screen between the tabs and the last lines.
    pub(super) fn body(&self, area: Rect) -> Rect {
        let below = 1 + u16::from(self.timeline.is_some());
        Rect { y: area.y + 2, height: area.height.saturating_sub(2 + below), ..area }
    }

    /// An empty one; times of day are in `zone`.
    #[must_use]
    pub fn new(zone: TimeZone) -> Self {
        Self {
            overview: Overview::default(),
            seconds: Vec::new(),
            findings: Vec::new(),
            hidden_findings: 0,
            checked: String::new(),
            counted_ns: 0,
            losses: None,
            timeline: None,
            message: None,
            time: String::new(),
            netns: Vec::new(),
            own_netns: None,
            service_names: Vec::new(),
            zone,
            wall: WallOffset(0),
        }
    }

    /// Takes in names and the time: `now_ns` is CLOCK_MONOTONIC.
    pub fn set_names(&mut self, names: &Names, wall: WallOffset, now_ns: u64) {
        self.wall = wall;
        self.time = self.time_of(now_ns);
        self.own_netns = names.own_netns;
        self.netns.clear();
        self.netns.extend(names.netns.keys().map(|inode| (*inode, netns_name(*inode, names))));
        self.netns.sort_unstable();
        let name = |port: u16| names.services.get(&port).map_or_else(String::new, |name| printable(name));
        self.service_names.clear();
        self.service_names.extend(self.overview.services.iter().map(|line| name(line.port)));
    }

    /// The time of day at `ns` (CLOCK_MONOTONIC).
    #[must_use]
    pub fn time_of(&self, ns: u64) -> String {
        let mut text = BytesMut::new();
        WallFormat::time_of_day(self.zone.clone()).write(&mut text, self.wall.wall_ns(ns), 0);
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The zone of times of day.
    #[must_use]
    pub const fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// What a network namespace is called here; empty for the own one.
    pub(super) fn netns_of(&self, inode: Option<u32>) -> String {
        match inode {
            Some(inode) if Some(inode) == self.own_netns => String::new(),
            Some(inode) => match self.netns.binary_search_by_key(&inode, |(known, _)| *known) {
                Ok(index) => self.netns.get(index).map_or_else(String::new, |(_, name)| name.clone()),
                Err(_) => inode.to_string(),
            },
            None => "?".to_owned(),
        }
    }
}
