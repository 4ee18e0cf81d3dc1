//! The route to one output: which records it takes, their format, and what was rendered for it.

use crate::{
    analysis::{
        postmortem::Postmortem,
        report::Report,
        story::{Stories, connection::Story},
    },
    findings::{Coverage, Finding},
    model::{
        event::{Event, EventKind, StateSource},
        filter::{Expr, Subject},
        losses::Losses,
        names::Names,
        notice::Notice,
        output_state::OutputState,
        snapshot::Snapshot,
        state::{State, StateSet},
    },
    pipeline::{
        held::{Held, HeldRecord, RELEASED_AT_ONCE, is_undecided, settled},
        record_filter::{RecordFilter, RecordKind},
        records::{Records, RecordsBuilder},
    },
    render::{
        context::Context,
        csv::Csv,
        html::{self, Page},
        json::Json,
        text::{Ladder, StuckText, Text},
    },
    table::{Connection, Table},
};

/// The format of an output.
pub enum Renderer {
    /// Text for people, in columns.
    Text(Text),
    /// JSON, one object per line.
    Json(Json),
    /// CSV rows of one kind of record.
    Csv(Csv),
    /// Stories of connections, each written when the connection is over.
    Story(Box<Stories>, StoryForm),
    /// Open findings, at intervals.
    Stuck(StuckText),
    /// One page about the whole run, written at its end.
    Page(Box<Postmortem>, Page),
}

/// The format of stories.
pub enum StoryForm {
    /// Ladder diagrams.
    Text(Ladder),
    /// One object per line.
    Json(Json),
}

/// Renders a run for one output.
pub struct Route {
    renderer: Renderer,
    wants: RecordFilter,
    records: RecordsBuilder,
    held: Held<HeldRecord>,
}

impl Route {
    /// A route for the records that `wants` selects, in this format.
    #[must_use]
    pub fn new(renderer: Renderer, wants: RecordFilter) -> Self {
        Self { renderer, wants, records: RecordsBuilder::default(), held: Held::default() }
    }

    /// True if records name processes beyond what an event itself says: their executables and peers.
    #[must_use]
    pub const fn names_processes(&self) -> bool {
        match &self.renderer {
            Renderer::Json(_) | Renderer::Csv(_) => true,
            Renderer::Text(text) => text.names_peers(),
            Renderer::Story(..) | Renderer::Stuck(_) | Renderer::Page(..) => false,
        }
    }

    /// True if its filter depends on names of processes that are read from `/proc`.
    #[must_use]
    pub fn filters_by_names(&self) -> bool {
        self.wants.only.as_ref().is_some_and(Expr::needs_names)
    }

    /// Whether its filter cannot decide about this yet, because a process is being read.
    pub(super) fn is_undecided(&self, subject: &dyn Subject, names: &mut Names) -> bool {
        self.wants.only.as_ref().is_some_and(|only| is_undecided(only, subject, names))
    }

    /// Writes the heading of text output, if events are selected; returns true if it did.
    pub fn write_heading(&mut self, context: &Context) -> bool {
        let Self { renderer, wants, records, .. } = self;
        match renderer {
            Renderer::Text(text) if RecordKind::EVENTS.into_iter().any(|kind| wants.kind(kind)) => {
                records.add(|to| text.heading(to, context))
            }
            _ => false,
        }
    }

    /// Writes an event; returns true if it did. An event of a process that is being read waits a moment, and so do those
    /// that come after it.
    pub fn event(&mut self, event: &Event, context: &mut Context) -> bool {
        // Of a connection that matches, all events are wanted.
        let is_story = matches!(self.renderer, Renderer::Story(..));
        if !is_story && !self.wants.event(event, &mut context.names) {
            return false;
        }
        if self.waits_for(event, context) {
            if self.held.is_full() {
                self.write_first(context);
            }
            self.held.add(context, HeldRecord::Event(Box::new(event.clone())));
            return true;
        }
        self.write_event(event, context)
    }

    /// Takes an event from before the time that is shown.
    pub fn before(&mut self, event: &Event) {
        if let Renderer::Page(all, _) = &mut self.renderer
            && !is_polled(event)
        {
            all.before(event);
        }
    }

    fn write_event(&mut self, event: &Event, context: &mut Context) -> bool {
        let Self { renderer, records, .. } = self;
        if let Renderer::Page(all, _) = renderer {
            all.event(event, is_polled(event), context.wall);
            return false;
        }
        records.add(|to| match renderer {
            Renderer::Text(text) => text.event(to, event, context),
            Renderer::Json(json) => json.event(to, event, context),
            Renderer::Csv(csv) => csv.event(to, event, context),
            // A story ends when TIME_WAIT begins: transitions found by polls come a minute later.
            Renderer::Story(..) if is_polled(event) => {}
            Renderer::Story(stories, _) => stories.ingest(event),
            Renderer::Stuck(_) | Renderer::Page(..) => {}
        })
    }

    /// Whether records of this event need names of processes that are being read, or records before it wait.
    fn waits_for(&self, event: &Event, context: &mut Context) -> bool {
        match self.renderer {
            Renderer::Text(_) if event.what == EventKind::OwnerChanged => false, // has no line
            Renderer::Text(_) | Renderer::Json(_) | Renderer::Csv(_) if self.names_processes() => {
                let owners = event.owner.iter().chain(event.peer.as_ref().map(|peer| &peer.owner));
                !settled(owners, context) || !self.held.is_empty()
            }
            Renderer::Text(_) | Renderer::Json(_) | Renderer::Csv(_) => !self.held.is_empty(),
            Renderer::Story(..) | Renderer::Stuck(_) | Renderer::Page(..) => false,
        }
    }

    /// Writes a finding; returns true if it did. It waits like an event.
    pub fn finding(&mut self, finding: &Finding, context: &mut Context) -> bool {
        let has_findings = match &self.renderer {
            Renderer::Text(_) | Renderer::Json(_) | Renderer::Page(..) => true,
            Renderer::Csv(csv) => csv.has_findings(),
            Renderer::Story(..) | Renderer::Stuck(_) => false,
        };
        if !has_findings || !self.wants.finding(finding, &mut context.names) {
            return false; // rows of another kind; stories of connections; a list at intervals
        }
        if let Renderer::Page(all, _) = &mut self.renderer {
            all.finding(finding);
            return false;
        }
        let waits = !settled(finding.detection.owner.iter(), context) || !self.held.is_empty();
        if waits {
            if self.held.is_full() {
                self.write_first(context);
            }
            self.held.add(context, HeldRecord::Finding(Box::new(finding.clone())));
            return true;
        }
        self.write_finding(finding, context)
    }

    fn write_finding(&mut self, finding: &Finding, context: &mut Context) -> bool {
        let Self { renderer, records, .. } = self;
        records.add(|to| match renderer {
            Renderer::Text(text) => text.finding(to, finding, context),
            Renderer::Json(json) => json.finding(to, finding, context),
            Renderer::Csv(csv) => csv.finding(to, finding, context),
            Renderer::Story(..) | Renderer::Stuck(_) | Renderer::Page(..) => {}
        })
    }

    /// Writes the records whose processes were read by now, or that have waited for long enough, a number of them; returns
    /// true if there may be more.
    pub fn release(&mut self, context: &mut Context) -> bool {
        for _ in 0..RELEASED_AT_ONCE {
            let Some((held_ns, record)) = self.held.first() else { return false };
            let is_over = context.now_ns.saturating_sub(held_ns) >= context.names_within_ns;
            if !is_over && !settled(record.owners(), context) {
                return false;
            }
            self.write_first(context);
        }
        true
    }

    /// Writes all records that wait.
    fn flush(&mut self, context: &mut Context) {
        while !self.held.is_empty() {
            self.write_first(context);
        }
    }

    fn write_first(&mut self, context: &mut Context) {
        let Some((_, wall, record)) = self.held.take_first() else { return };
        // Its time is as it would have been without waiting.
        let now = std::mem::replace(&mut context.wall, wall);
        match record {
            HeldRecord::Event(event) => _ = self.write_event(&event, context),
            HeldRecord::Finding(finding) => _ = self.write_finding(&finding, context),
        }
        context.wall = now;
    }

    /// Number of records that wait for names of processes.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Writes the list of open findings and how much was checked; `is_final` at the end of a run.
    pub fn open(&mut self, findings: &[Finding], seen: &Coverage, is_final: bool, context: &mut Context) {
        self.flush(context);
        let Self { renderer, wants, records, .. } = self;
        match renderer {
            Renderer::Stuck(text) => _ = records.add(|to| text.list(to, findings, seen, context)),
            Renderer::Text(text) if is_final => {
                let wanted: Vec<_> =
                    findings.iter().filter(|finding| wants.finding(finding, &mut context.names)).collect();
                records.add(|to| text.open_at_the_end(to, &wanted, context));
            }
            Renderer::Page(all, _) if is_final => {
                let wanted: Vec<_> =
                    findings.iter().filter(|finding| wants.finding(finding, &mut context.names)).collect();
                all.open(&wanted, seen);
            }
            _ => {}
        }
    }

    /// Writes how much was checked, for outputs that get only findings.
    pub fn checked(&mut self, open: usize, seen: &Coverage, context: &mut Context) {
        self.flush(context);
        let Self { renderer, wants, records, .. } = self;
        if let Renderer::Json(json) = renderer
            && wants.kind(RecordKind::Findings)
            && !wants.without_coverage
        {
            records.add(|to| json.looked(to, open, seen, context.wall));
        }
    }

    /// Writes a notice, such as a gap.
    pub fn notice(&mut self, notice: &Notice, context: &mut Context) {
        self.flush(context);
        let Self { renderer, wants, records, .. } = self;
        if wants.kind(RecordKind::Notices) {
            records.add(|to| match renderer {
                Renderer::Text(text) => text.notice(to, notice, context),
                Renderer::Json(json) => json.notice(to, notice, context),
                Renderer::Csv(_) => {}                         // rows of a single kind
                Renderer::Story(..) | Renderer::Stuck(_) => {} // losses are reported at the end
                Renderer::Page(all, _) => all.notice(notice),
            });
        }
    }

    /// Writes a report; `states` are the states in the run's filter.
    pub fn report(&mut self, report: &Report, states: StateSet, context: &mut Context) {
        self.flush(context);
        let Self { renderer, wants, records, .. } = self;
        if wants.kind(RecordKind::Summaries) {
            records.add(|to| match renderer {
                Renderer::Text(text) => text.report(to, report, states, context),
                Renderer::Json(json) => json.report(to, report, context.wall),
                Renderer::Csv(csv) if report.processes.is_none() => csv.report(to, report, context.wall),
                Renderer::Csv(_) | Renderer::Story(..) | Renderer::Stuck(_) => {} // a single kind only
                Renderer::Page(all, _) if report.is_final => all.report = Some(report.clone()),
                Renderer::Page(..) => {}
            });
        }
    }

    /// Writes the stories that `take` returns, at most `room`; returns their number.
    pub fn stories(
        &mut self,
        mut take: impl FnMut(&mut Stories) -> Option<Story>,
        room: u64,
        context: &mut Context,
    ) -> u64 {
        let mut count = 0;
        if let Renderer::Page(all, _) = &mut self.renderer {
            while let Some(story) = take(&mut all.witnesses.stories) {
                all.story(story);
            }
            return 0;
        }
        while count < room
            && let Renderer::Story(stories, form) = &mut self.renderer
            && let Some(story) = take(stories)
        {
            let mut events = story.seen().flat_map(|(_, side)| &side.events);
            if self.wants.only.is_some() && !events.any(|event| self.wants.event(event, &mut context.names)) {
                continue;
            }
            self.records.add(|to| match form {
                StoryForm::Text(ladder) => ladder.story(to, &story, context),
                StoryForm::Json(json) => json.story(to, &story, context),
            });
            count += 1;
        }
        count
    }

    /// Applies a listing of all sockets.
    pub fn listed(&mut self, snapshot: &Snapshot) {
        if let Renderer::Story(stories, _) = &mut self.renderer {
            stories.listed(snapshot);
        }
    }

    /// Takes what a listing says about network namespaces, whatever sockets it has.
    pub fn namespaces(&mut self, snapshot: &Snapshot) {
        if let Renderer::Page(all, _) = &mut self.renderer {
            all.listed(snapshot);
        }
    }

    /// Takes what is wrong with the recording that the run is read from, in words.
    pub fn flaws(&mut self, flaws: &[String]) {
        if let Renderer::Page(all, _) = &mut self.renderer {
            all.flaws = flaws.to_vec();
        }
    }

    /// Reports the selected connections that exist but have no story because nothing happened to them; returns their
    /// number.
    pub fn without_story(&mut self, table: &Table, now_ns: u64, context: &Context) -> u64 {
        let mut count = 0;
        if let Renderer::Story(stories, form) = &mut self.renderer {
            // A connection without an event has none that matches.
            let wants_all = self.wants.only.is_none();
            let is_silent = |known: &&Connection| wants_all && !known.has_events() && stories.asks_for(known);
            let silent = table.connections().filter(is_silent).filter(|known| known.state != State::Listen);
            for known in silent {
                self.records.add(|to| match form {
                    StoryForm::Text(ladder) => ladder.silent(to, known, now_ns),
                    StoryForm::Json(json) => json.silent(to, known, now_ns, context.wall),
                });
                count += 1;
            }
        }
        count
    }

    /// Number of stories that were dropped for lack of memory; `None` if this route writes no stories.
    #[must_use]
    pub fn forgotten_stories(&self) -> Option<u64> {
        match &self.renderer {
            Renderer::Story(stories, _) => Some(stories.evicted()),
            _ => None,
        }
    }

    /// Writes the last record of a run.
    pub fn end(&mut self, now_ns: u64, reason: &str, losses: &Losses, outputs: &[OutputState], context: &mut Context) {
        self.flush(context);
        let Self { renderer, wants, records, .. } = self;
        if wants.kind(RecordKind::End) {
            records.add(|to| match renderer {
                Renderer::Json(json) => json.end(to, context.wall, now_ns, reason, losses, outputs),
                Renderer::Csv(csv) => csv.header(to),
                Renderer::Story(_, StoryForm::Text(ladder)) => ladder.end(to, losses),
                Renderer::Story(_, StoryForm::Json(json)) => {
                    json.end(to, context.wall, now_ns, reason, losses, outputs);
                }
                Renderer::Page(all, page) => {
                    (all.losses, all.reason) = (losses.clone(), reason.to_owned());
                    html::write(to, all, page, context);
                }
                Renderer::Text(_) | Renderer::Stuck(_) => {}
            });
        }
    }

    /// Number of rendered bytes that were not taken yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// True if everything rendered was taken.
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
