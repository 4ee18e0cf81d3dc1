//! The pure middle as one value: takes records, keeps the table and the summaries, and gives output.

use bytes::BytesMut;
use tcptrace_common::record::socket_flag;

use crate::{
    decode::decode,
    event::{Event, What},
    losses::Losses,
    render::{
        Context,
        csv::Csv,
        json::Json,
        text::{Ladder, Text},
    },
    state::StateSet,
    story::{Stories, Story},
    summary::Summary,
    table::Table,
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
}

/// What a session does with events.
pub struct SessionSettings {
    /// States that an event must concern; empty for all.
    pub states: StateSet,
    /// Sockets in the table at most.
    pub max_sockets: usize,
    /// Are transitions counted by process?
    pub by_process: bool,
    /// Are events written, or summaries alone?
    pub events: bool,
    /// Events to be written at most.
    pub count: Option<u64>,
}

/// A run from its first record to its end.
pub struct Session {
    settings: SessionSettings,
    renderer: Renderer,
    /// What the renderer needs.
    pub context: Context,
    table: Table,
    interval: Summary,
    interval_start_ns: u64,
    total: Summary,
    start_ns: u64,
    written: u64,
    /// What was lost; the edge sets what the kernel counted.
    pub losses: Losses,
    output: BytesMut,
}

impl Session {
    /// A run that starts at `start_ns` (CLOCK_MONOTONIC).
    #[must_use]
    pub fn new(settings: SessionSettings, renderer: Renderer, context: Context, start_ns: u64) -> Self {
        Self {
            table: Table::new(settings.max_sockets, settings.states),
            renderer,
            context,
            interval: Summary::new(settings.by_process),
            interval_start_ns: start_ns,
            total: Summary::new(settings.by_process),
            start_ns,
            written: 0,
            losses: Losses::default(),
            output: BytesMut::new(),
            settings,
        }
    }

    /// Takes in a record, as the ring buffer or a recording holds it.
    pub fn ingest(&mut self, record: &[u8]) {
        self.losses.received += 1;
        let Ok(event) = decode(record) else {
            self.losses.undecodable += 1;
            return;
        };
        self.table.ingest(&event);
        if self.passes(&event) {
            self.interval.ingest(&event);
            self.write(&event);
        }
    }

    /// Is the event about one of the wanted states? The kernel asked the same; but it lets pass what only the decoder
    /// can tell.
    fn passes(&self, event: &Event) -> bool {
        let states = self.settings.states;
        if event.socket.is(socket_flag::OWNER_LEFT) {
            return false; // tells the table alone
        }
        states.is_empty()
            || match event.what {
                What::Transition(transition) => states.contains(transition.old) || states.contains(transition.new),
                _ => states.contains(event.socket.state),
            }
    }

    fn write(&mut self, event: &Event) {
        if !self.settings.events || self.is_complete() {
            return;
        }
        let before = self.output.len();
        match &mut self.renderer {
            Renderer::Text(text) => text.event(&mut self.output, event, &mut self.context),
            Renderer::Json(json) => json.event(&mut self.output, event, &mut self.context),
            Renderer::Csv(csv) => csv.event(&mut self.output, event, &mut self.context),
            Renderer::Story(stories, _) => stories.ingest(event),
        }
        self.written += u64::from(self.output.len() > before);
    }

    /// Were as many events written as were asked for?
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.settings.count.is_some_and(|count| self.written >= count)
    }

    /// Writes the stories that are over at `now_ns`, when all events up to then were taken in.
    pub fn tick(&mut self, now_ns: u64) {
        self.write_stories(|stories| stories.take_over(now_ns));
    }

    fn write_stories(&mut self, mut take: impl FnMut(&mut Stories) -> Option<Story>) {
        while !self.is_complete()
            && let Renderer::Story(stories, ladder) = &mut self.renderer
            && let Some(story) = take(stories)
        {
            ladder.story(&mut self.output, &story, &self.context);
            self.written += 1;
        }
    }

    /// Writes the summary since the last one.
    pub fn end_interval(&mut self, now_ns: u64) {
        self.update_losses();
        let interval = std::mem::replace(&mut self.interval, Summary::new(self.settings.by_process));
        let span_ns = now_ns.saturating_sub(self.interval_start_ns);
        self.interval_start_ns = now_ns;
        let report = interval.report(&self.table, now_ns, span_ns, false, self.losses.clone());
        self.write_report(&report);
        self.total.merge(interval);
    }

    /// Writes the summary of the whole run, and the last record.
    pub fn finish(&mut self, now_ns: u64, reason: &str) {
        let interval = std::mem::replace(&mut self.interval, Summary::new(self.settings.by_process));
        self.total.merge(interval);
        self.update_losses();
        let span_ns = now_ns.saturating_sub(self.start_ns);
        let report = self.total.report(&self.table, now_ns, span_ns, true, self.losses.clone());
        self.write_report(&report);
        self.write_stories(Stories::take_rest);
        match &mut self.renderer {
            Renderer::Json(json) => {
                json.end(&mut self.output, self.context.wall, now_ns, reason, &self.losses);
            }
            Renderer::Csv(csv) => csv.header(&mut self.output),
            Renderer::Story(_, ladder) => ladder.end(&mut self.output, &self.losses),
            Renderer::Text(_) => {}
        }
    }

    fn update_losses(&mut self) {
        self.losses.evicted = self.table.evicted();
        if let Renderer::Story(stories, _) = &self.renderer {
            self.losses.evicted = stories.evicted(); // the table is not shown
        }
        self.losses.unnamed_process_events = self.total.other_processes() + self.interval.other_processes();
    }

    fn write_report(&mut self, report: &crate::report::Report) {
        match &mut self.renderer {
            Renderer::Text(text) => text.report(&mut self.output, report, self.settings.states),
            Renderer::Json(json) => json.report(&mut self.output, report, self.context.wall),
            Renderer::Csv(_) | Renderer::Story(..) => {} // rows of one kind only
        }
    }

    /// The output that was not taken yet.
    pub fn take_output(&mut self) -> BytesMut {
        self.output.split()
    }

    /// Takes back output that was taken but could not be handed on.
    pub fn give_back(&mut self, piece: bytes::Bytes) {
        let mut whole = BytesMut::from(piece);
        whole.unsplit(std::mem::take(&mut self.output));
        self.output = whole;
    }

    /// Bytes of output that were not taken yet.
    #[must_use]
    pub fn output_len(&self) -> usize {
        self.output.len()
    }
}
