//! What a session shows on a screen.

use bytes::BytesMut;
use jiff::tz::TimeZone;

use super::Session;
use crate::{
    analysis::overview::SocketId,
    model::{event::Event, filter::Expr},
    pipeline::watch::Watch,
    render::{
        screen::{FindingLine, Scene},
        text::{Ladder, TimeStyle, coverage_line, losses_line},
    },
};

impl Session {
    /// Collects for a screen from now on what this filter shows; `now_ns` is CLOCK_MONOTONIC.
    pub fn watch(&mut self, filter: Expr, now_ns: u64) {
        self.watched = Some(Watch::new(filter, now_ns));
    }

    /// Changes the filter of the screen.
    pub fn set_watched(&mut self, filter: Expr, now_ns: u64) {
        if let Some(watch) = &mut self.watched {
            watch.set_filter(filter, now_ns);
        }
    }

    #[inline]
    pub(super) fn watch_event(&mut self, event: &Event) {
        if let Some(watch) = &mut self.watched {
            watch.ingest(event, &mut self.context.names);
        }
    }

    /// Ends the seconds that are over at `now_ns`; all events until then must have been ingested.
    #[inline]
    pub(super) fn advance_watch(&mut self, now_ns: u64) {
        if let Some(watch) = &mut self.watched {
            watch.advance(now_ns, self.table.len());
        }
    }

    /// What the screen shows at `now_ns`.
    pub fn scene(&mut self, to: &mut Scene, now_ns: u64) {
        self.update_losses();
        let Self { watched: Some(watch), table, context, losses, .. } = self else { return };
        watch.overview(&mut to.overview, table, &mut context.names, now_ns);
        to.seconds.clear();
        to.seconds.extend(watch.history().seconds().copied());
        to.set_names(&context.names, context.wall, now_ns);
        to.counted_ns = now_ns.saturating_sub(watch.since_ns());
        to.losses = losses.any().then(|| losses_line(losses));
        let (open, seen) = self.open(now_ns).unwrap_or_default();
        to.checked = coverage_line(open.len(), &seen);
        let Self { watched: Some(watch), context, .. } = self else { return };
        to.hidden_findings = open.len();
        to.findings.clear();
        for finding in &open {
            if watch.shows(finding, &mut context.names) {
                to.findings.push(FindingLine::new(finding, context));
            }
        }
        to.hidden_findings -= to.findings.len();
    }

    /// The story of a socket until `now_ns` as text with times in `zone`; `None` if nothing is known of it.
    #[must_use]
    pub fn story_of(&self, which: &SocketId, zone: &TimeZone, now_ns: u64) -> Option<String> {
        let mut text = BytesMut::new();
        let mut ladder = Ladder::new(false, TimeStyle::Wall(zone.clone()));
        match self.watched.as_ref()?.story(which, now_ns) {
            Some(story) => ladder.story(&mut text, &story, &self.context),
            None => {
                let is_it = |known: &&crate::table::Connection| {
                    (known.local(), known.remote(), known.netns()) == (which.local, which.remote, which.netns)
                };
                ladder.silent(&mut text, self.table.all().find(is_it)?, now_ns);
            }
        }
        Some(String::from_utf8_lossy(&text).into_owned())
    }
}
