//! A way to one output: what of a run it wants, in which form, and what was rendered for it.

use crate::{
    analysis::{
        report::Report,
        story::{Stories, connection::Story},
    },
    findings::{Coverage, Finding, Kind, Severity},
    model::{
        event::{Event, EventKind, StateSource},
        losses::Losses,
        notice::Notice,
        output_state::OutputState,
        snapshot::Snapshot,
        socket_filter::{Ends, Prefix, concerns},
        state::{State, StateSet},
    },
    pipeline::records::{Records, RecordsBuilder},
    render::{
        context::Context,
        csv::Csv,
        json::Json,
        text::{Ladder, StuckText, Text},
    },
    table::{Connection, Table},
};

/// The form of the output.
pub enum Renderer {
    /// For people.
    Text(Text),
    /// One object a line.
    Json(Json),
    /// Rows.
    Csv(Csv),
    /// Stories of connections, each when it is over.
    Story(Box<Stories>, Ladder),
    /// The findings that are open, at intervals.
    Stuck(StuckText),
}

/// A kind of record, as far as outputs tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "as docs/json.md names them")]
pub enum RecordKind {
    Transitions,
    Retransmits,
    Resets,
    Owners,
    Findings,
    Summaries,
    Notices,
    /// The last record of a run.
    End,
    /// Not a record of the session, but what is counted of it.
    Metrics,
}

impl RecordKind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Transitions,
        Self::Retransmits,
        Self::Resets,
        Self::Owners,
        Self::Findings,
        Self::Summaries,
        Self::Notices,
        Self::End,
        Self::Metrics,
    ];
    /// Those that are single events.
    pub const EVENTS: [Self; 4] = [Self::Transitions, Self::Retransmits, Self::Resets, Self::Owners];

    /// Its name in settings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transitions => "transitions",
            Self::Retransmits => "retransmits",
            Self::Resets => "resets",
            Self::Owners => "owners",
            Self::Findings => "findings",
            Self::Summaries => "summaries",
            Self::Notices => "notices",
            Self::End => "end",
            Self::Metrics => "metrics",
        }
    }

    const fn of(what: &EventKind) -> Self {
        match what {
            EventKind::Transition(_) => Self::Transitions,
            EventKind::Retransmit { .. } | EventKind::SynAckRetransmit { .. } => Self::Retransmits,
            EventKind::ResetSent { .. } | EventKind::ResetReceived(_) => Self::Resets,
            EventKind::OwnerChanged => Self::Owners,
        }
    }
}

/// What an output wants of a run. A part that is empty lets all pass; parts must all match, of the values of one any.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RecordFilter {
    /// Kinds of records.
    pub records: Vec<RecordKind>,
    /// States that an event concerns.
    pub states: StateSet,
    /// Ranges of ports of events and findings, both ends included.
    pub ports: Ends<(u16, u16)>,
    /// Addresses of these.
    pub addresses: Ends<Prefix>,
    /// Findings.
    pub findings: Vec<Kind>,
    /// The least severity of a finding.
    pub severity: Option<Severity>,
}

impl RecordFilter {
    fn kind(&self, kind: RecordKind) -> bool {
        self.records.is_empty() || self.records.contains(&kind)
    }

    fn event(&self, event: &Event) -> bool {
        let (local, remote) = (event.socket.local, event.socket.remote);
        self.kind(RecordKind::of(&event.what))
            && (self.states.is_empty() || concerns(event, self.states))
            && self.ports.match_ports(local, remote)
            && self.addresses.match_addresses(local, remote)
    }

    fn finding(&self, finding: &Finding) -> bool {
        let detection = &finding.detection;
        let (local, remote) = detection.subject.ends();
        // An end that a finding has not is none that is looked for.
        let end = |end: Option<std::net::SocketAddr>| end.unwrap_or_else(|| ([0, 0, 0, 0], 0).into());
        self.kind(RecordKind::Findings)
            && (self.findings.is_empty() || self.findings.contains(&detection.kind))
            && self.severity.is_none_or(|least| detection.severity >= least)
            && self.ports.match_ports(end(local), end(remote))
            && self.addresses.match_addresses(end(local), end(remote))
    }
}

/// What is made for one output.
pub struct Route {
    renderer: Renderer,
    wants: RecordFilter,
    records: RecordsBuilder,
}

impl Route {
    /// The records that are wanted, in this form.
    #[must_use]
    pub fn new(renderer: Renderer, wants: RecordFilter) -> Self {
        Self { renderer, wants, records: RecordsBuilder::default() }
    }

    /// Writes an event; tells whether it did.
    pub fn event(&mut self, event: &Event, context: &mut Context) -> bool {
        let Self { renderer, wants, records } = self;
        wants.event(event)
            && records.add(|to| match renderer {
                Renderer::Text(text) => text.event(to, event, context),
                Renderer::Json(json) => json.event(to, event, context),
                Renderer::Csv(csv) => csv.event(to, event, context),
                // A story ends where TIME_WAIT begins: what polls find comes a minute later.
                Renderer::Story(..) if is_polled(event) => {}
                Renderer::Story(stories, _) => stories.ingest(event),
                Renderer::Stuck(_) => {}
            })
    }

    /// Writes a finding; tells whether it did.
    pub fn finding(&mut self, finding: &Finding, context: &mut Context) -> bool {
        let Self { renderer, wants, records } = self;
        wants.finding(finding)
            && records.add(|to| match renderer {
                Renderer::Text(text) => text.finding(to, finding, context),
                Renderer::Json(json) => json.finding(to, finding, context),
                // Rows of one kind only; one connection's story; a list at intervals.
                Renderer::Csv(_) | Renderer::Story(..) | Renderer::Stuck(_) => {}
            })
    }

    /// Writes a list of the findings that are open, and what was looked at; `is_final` at the end of a run.
    pub fn open(&mut self, findings: &[Finding], seen: &Coverage, is_final: bool, context: &mut Context) {
        let Self { renderer, wants, records } = self;
        match renderer {
            Renderer::Stuck(text) => _ = records.add(|to| text.list(to, findings, seen, context)),
            Renderer::Text(text) if is_final => {
                let wanted: Vec<_> = findings.iter().filter(|finding| wants.finding(finding)).collect();
                records.add(|to| text.open_at_the_end(to, &wanted, context));
            }
            _ => {}
        }
    }

    /// Writes what was looked at, where findings alone are written.
    pub fn looked(&mut self, open: usize, seen: &Coverage, context: &Context) {
        let Self { renderer, wants, records } = self;
        if let Renderer::Json(json) = renderer
            && wants.kind(RecordKind::Findings)
        {
            records.add(|to| json.looked(to, open, seen, context.wall));
        }
    }

    /// Writes a notice.
    pub fn notice(&mut self, notice: &Notice, context: &Context) {
        let Self { renderer, wants, records } = self;
        if wants.kind(RecordKind::Notices) {
            records.add(|to| match renderer {
                Renderer::Text(text) => text.notice(to, notice, context),
                Renderer::Json(json) => json.notice(to, notice, context),
                Renderer::Csv(_) => {}                         // rows of one kind only
                Renderer::Story(..) | Renderer::Stuck(_) => {} // what was lost is told at the end
            });
        }
    }

    /// Writes a report; `states` are those of the run's filter.
    pub fn report(&mut self, report: &Report, states: StateSet, context: &Context) {
        let Self { renderer, wants, records } = self;
        if wants.kind(RecordKind::Summaries) {
            records.add(|to| match renderer {
                Renderer::Text(text) => text.report(to, report, states),
                Renderer::Json(json) => json.report(to, report, context.wall),
                Renderer::Csv(csv) if report.processes.is_none() => csv.report(to, report, context.wall),
                Renderer::Csv(_) | Renderer::Story(..) | Renderer::Stuck(_) => {} // of one kind only
            });
        }
    }

    /// Writes the stories that `take` gives, `room` of them at most; gives how many these were.
    pub fn stories(
        &mut self,
        mut take: impl FnMut(&mut Stories) -> Option<Story>,
        room: u64,
        context: &Context,
    ) -> u64 {
        let mut count = 0;
        while count < room
            && let Renderer::Story(stories, ladder) = &mut self.renderer
            && let Some(story) = take(stories)
        {
            self.records.add(|to| ladder.story(to, &story, context));
            count += 1;
        }
        count
    }

    /// Takes in a listing of all sockets.
    pub fn listed(&mut self, snapshot: &Snapshot) {
        if let Renderer::Story(stories, _) = &mut self.renderer {
            stories.listed(snapshot);
        }
    }

    /// Names the connections that are there and were asked for, and of which there is no story as nothing happened; gives
    /// how many.
    pub fn silent(&mut self, table: &Table, now_ns: u64) -> u64 {
        let mut count = 0;
        if let Renderer::Story(stories, ladder) = &mut self.renderer {
            let is_silent = |known: &&Connection| !known.has_events() && stories.asks_for(known);
            let silent = table.connections().filter(is_silent).filter(|known| known.state != State::Listen);
            for known in silent {
                self.records.add(|to| ladder.silent(to, known, now_ns));
                count += 1;
            }
        }
        count
    }

    /// Sides that were forgotten; `None` where no stories are told.
    #[must_use]
    pub fn forgotten_stories(&self) -> Option<u64> {
        match &self.renderer {
            Renderer::Story(stories, _) => Some(stories.evicted()),
            _ => None,
        }
    }

    /// Writes the last record of a run.
    pub fn end(&mut self, now_ns: u64, reason: &str, losses: &Losses, outputs: &[OutputState], context: &Context) {
        let Self { renderer, wants, records } = self;
        if wants.kind(RecordKind::End) {
            records.add(|to| match renderer {
                Renderer::Json(json) => json.end(to, context.wall, now_ns, reason, losses, outputs),
                Renderer::Csv(csv) => csv.header(to),
                Renderer::Story(_, ladder) => ladder.end(to, losses),
                Renderer::Text(_) | Renderer::Stuck(_) => {}
            });
        }
    }

    /// Bytes of what was not taken yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Is there nothing that was not taken yet?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Takes what was rendered.
    pub fn take(&mut self) -> Records {
        self.records.take()
    }
}

fn is_polled(event: &Event) -> bool {
    matches!(event.what, EventKind::Transition(transition) if transition.source == StateSource::Polled)
}
