//! A run as one value: takes records, keeps the table and the summaries, and renders for the outputs.

pub mod apply;
mod listings;
mod undecided;
mod watching;

use std::{cell::RefCell, collections::HashMap};

use rustc_hash::FxHashSet;
use tcptrace_common::counters::Counters;

use crate::{
    analysis::{
        metrics::{self, Metrics, Moment},
        report::Report,
        story::{Stories, connection::Story},
        summary::Summary,
    },
    findings::{Coverage, Finding, Findings, Phase, ShownFilter},
    model::{
        decode::{NetnsAlias, decode},
        event::Event,
        filter::FilterNames,
        holders::Holder,
        losses::Losses,
        notice::{Gap, Notice},
        output_state::OutputState,
        state::{State, StateSet},
    },
    pipeline::{
        finding_watch::FindingWatch,
        held::{Held, Undecided},
        records::Records,
        route::Route,
        settings::SessionSettings,
        user_filter::UserFilter,
        watch::Watch,
    },
    render::context::Context,
    sys::{process::Usage, workers::WorkerState},
    table::{Connection, Table},
};

/// Maximum number of namespaces that are remembered.
const MAX_NAMESPACES: usize = 65_536;
/// Maximum number of descriptors whose processes are read in each poll.
const MAX_AWAITED: usize = 64;

/// A run from its first record to its end.
pub struct Session {
    settings: SessionSettings,
    routes: Vec<Route>,
    /// What renderers need besides the record.
    pub context: Context,
    /// How records identify the selected network namespace, unless by its inode number.
    pub netns_alias: Option<NetnsAlias>,
    table: Table,
    interval: Summary,
    interval_start_ns: u64,
    total: Summary,
    start_ns: u64,
    /// True if nothing is written and counted yet, see [`Session::mute`].
    is_muted: bool,
    /// Number of events, findings and stories written.
    written: u64,
    /// Number of findings that have opened.
    opened: u64,
    /// What was lost. The caller adds the kernel's counts by [`Self::check_losses`].
    pub losses: Losses,
    /// When the kernel's counters were last checked.
    checked_ns: u64,
    /// Losses that no listing has made up for.
    gap: Option<Gap>,
    /// Losses before the current listing began, which it makes up for.
    healing: Option<Gap>,
    time_wait_overflows: HashMap<u32, u64>,
    user_filter: UserFilter,
    /// True if a filter depends on names of processes that are read from `/proc`.
    filters_by_names: bool,
    /// What waits for such names.
    undecided: Held<Undecided>,
    /// True if the last evaluation of findings lacked such names.
    is_unsure: bool,
    findings: Option<Findings>,
    /// Notices findings, for the recording.
    pub watch: Option<FindingWatch>,
    metrics: Option<Metrics>,
    /// What a screen shows, if there is one.
    watched: Option<Watch>,
    /// True if labels of metrics have names of containers or pods.
    names_places: bool,
    /// Namespaces seen in events and listings.
    namespaces: FxHashSet<u32>,
    /// True if an event was in a new namespace.
    has_new_namespace: bool,
    /// Namespaces with events since the last poll; `last_netns` is that of the last event.
    active: FxHashSet<u32>,
    last_netns: Option<u32>,
    /// CLOCK_MONOTONIC of the last event, in ns.
    last_event_ns: u64,
}

impl Session {
    /// A run that starts at `start_ns` (CLOCK_MONOTONIC) and is rendered by these routes.
    #[must_use]
    pub fn new(settings: SessionSettings, routes: Vec<Route>, context: Context, start_ns: u64) -> Self {
        let user_filter = UserFilter::new(&settings);
        let mut table = if settings.findings.is_some() {
            Table::new(settings.max_sockets, StateSet::default(), settings.polls).keeping_all()
        } else {
            Table::new(settings.max_sockets, settings.states, settings.polls)
        };
        if settings.findings.is_some() || routes.iter().any(Route::names_processes) {
            table = table.naming_peers();
        }
        Self {
            names_places: settings.metrics.as_ref().is_some_and(metrics::Settings::names_places),
            metrics: settings.metrics.clone().map(|settings| Metrics::new(settings, context.wall.unix_ns(start_ns))),
            watched: None,
            findings: settings.findings.clone().map(|thresholds| Findings::new(thresholds, start_ns)),
            watch: None,
            table,
            filters_by_names: user_filter.needs_names() || routes.iter().any(Route::filters_by_names),
            undecided: Held::default(),
            is_unsure: false,
            user_filter,
            routes,
            context,
            netns_alias: None,
            interval: Summary::new(settings.by_process),
            interval_start_ns: start_ns,
            total: Summary::new(settings.by_process),
            start_ns,
            is_muted: false,
            written: 0,
            opened: 0,
            losses: Losses::default(),
            checked_ns: start_ns,
            gap: None,
            healing: None,
            time_wait_overflows: HashMap::new(),
            namespaces: FxHashSet::default(),
            has_new_namespace: false,
            active: FxHashSet::default(),
            last_netns: None,
            last_event_ns: start_ns,
            settings,
        }
    }

    /// Processes a record from a ring or a recording; ignores it once the run is complete.
    pub fn ingest(&mut self, record: &[u8]) {
        if self.is_complete() {
            return;
        }
        self.losses.received += 1;
        let Ok(mut event) = decode(record) else {
            self.losses.undecodable += 1;
            return;
        };
        if let Some(alias) = self.netns_alias.filter(|alias| event.socket.netns == Some(alias.name)) {
            event.socket.netns = Some(alias.inode);
        }
        if let Some(netns) = event.socket.netns.filter(|netns| self.last_netns != Some(*netns)) {
            self.has_new_namespace |= self.namespaces.insert(netns);
            if self.active.len() < MAX_NAMESPACES {
                self.active.insert(netns);
            }
            self.last_netns = Some(netns);
        }
        self.last_event_ns = event.time_ns;
        self.user_filter.ingest(&event);
        let ended = self.table.end_replaced(&event);
        ended.iter().for_each(|ended| self.dispatch(ended, None));
        let left = self.table.ingest(&mut event);
        self.dispatch(&event, left.as_ref());
    }

    /// Passes on an event; `left` is the table entry of the socket that ended with it. Findings get all events, outputs
    /// those that match the filter.
    fn dispatch(&mut self, event: &Event, left: Option<&Connection>) {
        if self.filters_by_names && self.hold_undecided(event, left) {
            return;
        }
        self.dispatch_decided(event, left);
    }

    fn dispatch_decided(&mut self, event: &Event, left: Option<&Connection>) {
        self.watch_event(event);
        if let Some(earlier) = self.user_filter.take_held(event) {
            self.write_if_matching(&earlier);
        }
        let is_shown = !self.user_filter.hold_back(event) && self.write_if_matching(event);
        if let Some(findings) = &mut self.findings {
            findings.ingest(event, left, is_shown);
        }
    }

    /// Counts and writes an event if it matches the filter; returns true if it does.
    fn write_if_matching(&mut self, event: &Event) -> bool {
        if self.is_complete() {
            return false;
        }
        let mut lookup = FilterNames::new(&mut self.context.names);
        let matches = self.user_filter.matches_event(event, &mut lookup);
        self.losses.undecided += u64::from(matches.is_none() && lookup.lacks);
        let is_shown = matches == Some(true);
        if is_shown {
            // Nobody reads the summaries of a run that only records.
            if !self.routes.is_empty() {
                self.interval.ingest(event);
            }
            if let Some(metrics) = &mut self.metrics {
                metrics.ingest(event);
                if let Some(owner) = event.owner.as_ref().filter(|_| self.names_places) {
                    self.context.names.processes.is_settled(owner); // asked for, for the labels of the next snapshot
                }
            }
            self.write(event);
        } else {
            self.losses.not_shown += 1;
        }
        is_shown
    }

    /// Evaluates the findings, and writes those that changed. Returns true if a listing of all sockets is needed for
    /// more details.
    pub fn evaluate(&mut self, now_ns: u64) -> bool {
        let Some(findings) = &mut self.findings else { return false };
        let (shown, lookup) = (&self.user_filter, RefCell::new(FilterNames::new(&mut self.context.names)));
        let is_shown = |known: &Connection, holders: &[Holder]| {
            shown.matches_socket(known, holders, &mut lookup.borrow_mut(), now_ns)
        };
        let filter: Option<ShownFilter<'_>> = shown.is_active().then_some(&is_shown);
        let changed = findings.evaluate(&mut self.table, now_ns, filter);
        let wants_listing = findings.wants_listing();
        self.is_unsure = lookup.into_inner().waits;
        self.write_findings(changed);
        wants_listing
    }

    fn write_findings(&mut self, changed: Vec<Finding>) {
        for finding in changed {
            self.opened += u64::from(finding.phase == Phase::Opened);
            if let Some(watch) = &mut self.watch {
                watch.see(&finding, self.context.wall.unix_ns(finding.time_ns));
            }
            if self.is_complete() {
                return;
            }
            if self.is_muted {
                continue;
            }
            if let Some(metrics) = &mut self.metrics {
                metrics.finding(&finding);
            }
            if !self.filters_by_names || !self.hold_undecided_finding(&finding) {
                self.write_finding(&finding);
            }
        }
    }

    fn write_finding(&mut self, finding: &Finding) {
        let mut is_written = false;
        for route in &mut self.routes {
            is_written |= route.finding(finding, &mut self.context);
        }
        self.written += u64::from(is_written);
    }

    /// CLOCK_MONOTONIC of the last event, in ns.
    #[must_use]
    pub const fn last_event_ns(&self) -> u64 {
        self.last_event_ns
    }

    /// Number of findings that have opened so far.
    #[must_use]
    pub const fn findings_opened(&self) -> u64 {
        self.opened
    }

    /// True if findings are enabled.
    #[must_use]
    pub const fn has_findings(&self) -> bool {
        self.findings.is_some()
    }

    /// True if every finding that can be detected now was written.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let is_settled = |findings: &Findings| !findings.is_waiting() && !findings.wants_listing();
        self.findings.as_ref().is_none_or(is_settled) && self.undecided.is_empty() && !self.is_unsure
    }

    /// The findings that are open at `now_ns`, worst first, and what was checked; `None` if findings are disabled.
    #[must_use]
    pub fn open(&self, now_ns: u64) -> Option<(Vec<Finding>, Coverage)> {
        let findings = self.findings.as_ref()?;
        let seen = Coverage { unlisted: self.losses.unlisted, ..findings.coverage(&self.table, now_ns) };
        Some((findings.open(now_ns), seen))
    }

    /// Writes the list of open findings; `is_final` at the end of the run.
    fn write_open(&mut self, now_ns: u64, is_final: bool) {
        let Some((open, seen)) = self.open(now_ns).filter(|_| !self.is_muted) else { return };
        for route in &mut self.routes {
            route.open(&open, &seen, is_final, &mut self.context);
            if is_final && !self.settings.events {
                route.checked(open.len(), &seen, &mut self.context);
            }
        }
    }

    /// Updates the kernel's counters as of `now_ns`; returns true if events were lost that no listing has made up for.
    pub fn check_losses(&mut self, by_cpu: &[Counters], passed_over: u64, now_ns: u64) -> bool {
        let before = self.losses.clone();
        self.losses.set_kernel(by_cpu, passed_over);
        if let Some(later) = self.losses.gap_since(&before, self.checked_ns, now_ns) {
            self.gap = joined(self.gap.take(), Some(later));
        }
        self.checked_ns = now_ns;
        self.gap.is_some()
    }

    fn notice(&mut self, notice: &Notice) {
        if self.is_muted {
            return;
        }
        self.routes.iter_mut().for_each(|route| route.notice(notice, &mut self.context));
    }

    /// States to poll because they have no events; `None` if nothing needs polls.
    #[must_use]
    pub fn polled_states(&self) -> Option<StateSet> {
        let states = if self.has_findings() { StateSet::default() } else { self.settings.states };
        let wanted = |state: State| states.is_empty() || states.contains(state);
        let is_polled = |state: &State| match state {
            State::TimeWait => wanted(State::TimeWait) || wanted(State::FinWait2), // FIN_WAIT2 goes there
            State::SynRecv | State::FinWait2 => wanted(*state),
            State::Listen => self.has_findings(), // for its accept queue
            _ => false,
        };
        let silent: StateSet = State::ALL.into_iter().filter(is_polled).collect();
        (!silent.is_empty()).then_some(silent)
    }

    /// Applies the filter to the table; call it before sockets are reported.
    fn apply_filter(&mut self, now_ns: u64) {
        let (shown, mut lookup) = (&self.user_filter, FilterNames::new(&mut self.context.names));
        if shown.is_active() {
            self.table.apply_filter(|known, holders| shown.matches_socket(known, holders, &mut lookup, now_ns));
        }
    }

    /// Writes the heading of text now, which otherwise comes with the first event. Returns whether there is one.
    pub fn write_headings(&mut self) -> bool {
        let context = &self.context;
        let written = self.routes.iter_mut().map(|route| route.write_heading(context));
        self.settings.events && written.fold(false, |any, one| any | one)
    }

    fn write(&mut self, event: &Event) {
        if !self.settings.events {
            return;
        }
        let mut is_written = false;
        for route in &mut self.routes {
            if self.is_muted && route.forgotten_stories().is_none() {
                route.before(event);
            } else {
                is_written |= route.event(event, &mut self.context);
            }
        }
        self.written += u64::from(is_written);
    }

    /// Number of events and findings written, or of stories and connections without one.
    #[must_use]
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// True if the requested number of records was written.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.settings.count.is_some_and(|count| self.written >= count)
    }

    /// Writes the records that waited for names of processes, if these are known by now or have taken too long.
    pub fn release(&mut self) -> bool {
        if self.decide() {
            return true;
        }
        let context = &mut self.context;
        self.routes.iter_mut().map(|route| route.release(context)).fold(false, |any, more| any | more)
    }

    /// Asks for the processes of the open findings, which are listed at the end, and for those that decide which sockets are.
    /// Returns true if some are being read.
    pub fn ask_for_names(&mut self, now_ns: u64) -> bool {
        if self.filters_by_names {
            self.apply_filter(now_ns);
        }
        let open = self.findings.as_ref().map(|findings| findings.open(now_ns)).unwrap_or_default();
        for owner in open.iter().filter_map(|finding| finding.detection.owner.as_ref()) {
            self.context.names.processes.is_settled(owner);
        }
        self.context.names.processes.is_waiting()
    }

    /// Writes the stories that are over at `now_ns`, provided that all earlier events were ingested.
    pub fn tick(&mut self, now_ns: u64) {
        let now_ns = self.decided_until(now_ns);
        self.advance_watch(now_ns);
        self.write_stories(|stories| stories.take_over(now_ns));
    }

    fn write_stories(&mut self, mut take: impl FnMut(&mut Stories) -> Option<Story>) {
        for route in &mut self.routes {
            if self.is_muted {
                route.stories(&mut take, u64::MAX, &mut self.context);
                _ = route.take();
                continue;
            }
            let room = self.settings.count.map_or(u64::MAX, |count| count.saturating_sub(self.written));
            self.written += route.stories(&mut take, room, &mut self.context);
        }
    }

    /// Writes the summary since the last one.
    pub fn end_interval(&mut self, now_ns: u64) {
        self.update_losses();
        let interval = std::mem::replace(&mut self.interval, Summary::new(self.settings.by_process));
        let span_ns = now_ns.saturating_sub(self.interval_start_ns);
        self.interval_start_ns = now_ns;
        self.apply_filter(now_ns);
        let report = interval.report(&self.table, now_ns, span_ns, false, self.losses.clone());
        self.write_report(&report);
        self.write_open(now_ns, false);
        self.total.merge(interval);
    }

    /// Writes the summary of the whole run. [`Session::end`] comes after it.
    pub fn finish(&mut self, now_ns: u64) {
        self.decide_all();
        let interval = std::mem::replace(&mut self.interval, Summary::new(self.settings.by_process));
        self.total.merge(interval);
        if let Some(gap) = joined(self.healing.take(), self.gap.take()) {
            self.notice(&Notice::Gap(gap));
        }
        let rest = self.findings.as_mut().map(|findings| findings.take_final_updates(now_ns));
        self.write_findings(rest.unwrap_or_default());
        self.update_losses();
        let span_ns = now_ns.saturating_sub(self.start_ns);
        self.apply_filter(now_ns);
        let report = self.total.report(&self.table, now_ns, span_ns, true, self.losses.clone());
        self.write_report(&report);
        self.write_open(now_ns, true);
        let until_ns = self.checked_ns;
        self.write_stories(|stories| stories.take_rest(until_ns));
        if !self.is_complete() {
            self.written += self
                .routes
                .iter_mut()
                .map(|route| route.without_story(&self.table, now_ns, &self.context))
                .sum::<u64>();
        }
    }

    /// Writes the last record, with the delivery counts of each output so far.
    pub fn end(&mut self, now_ns: u64, reason: &str, outputs: &[OutputState]) {
        self.losses.outputs = OutputState::lost_records(outputs);
        for route in &mut self.routes {
            route.end(now_ns, reason, &self.losses, outputs, &mut self.context);
        }
    }

    /// Says what is wrong with the recording that the run is read from.
    pub fn flaws(&mut self, flaws: &[String]) {
        self.routes.iter_mut().for_each(|route| route.flaws(flaws));
    }

    fn update_losses(&mut self) {
        // With stories, the table is not reported.
        let forgotten = self.routes.iter().find_map(Route::forgotten_stories);
        self.losses.evicted = forgotten.unwrap_or_else(|| self.table.evicted());
        self.losses.unnamed_process_events = self.total.other_processes() + self.interval.other_processes();
    }

    fn write_report(&mut self, report: &Report) {
        if self.is_muted {
            return;
        }
        let states = self.settings.states;
        self.routes.iter_mut().for_each(|route| route.report(report, states, &mut self.context));
    }

    /// The current metrics, if they are enabled.
    pub fn metrics(
        &mut self,
        now_ns: u64,
        usage: Usage,
        outputs: &[OutputState],
        workers: &[WorkerState],
    ) -> Option<metrics::Snapshot> {
        self.update_losses();
        self.losses.outputs = OutputState::lost_records(outputs);
        self.apply_filter(now_ns);
        let open = self.findings.as_ref().map(|findings| findings.open(now_ns)).unwrap_or_default();
        let now_unix_ns = self.context.wall.unix_ns(now_ns);
        let Self { metrics, table, losses, context, .. } = self;
        let names = &mut context.names;
        let mut moment = Moment { now_ns, now_unix_ns, table, losses, open: &open, outputs, workers, usage, names };
        Some(metrics.as_mut()?.snapshot(&mut moment))
    }

    /// Sizes of all collections by name, for tests of their bounds (docs/architecture.md).
    #[must_use]
    pub fn sizes(&self) -> Vec<(&'static str, usize)> {
        let mut sizes = self.table.sizes();
        sizes.extend([
            ("sockets", self.table.len()),
            ("processes", self.interval.processes().max(self.total.processes())),
            ("namespaces", self.namespaces.len()),
            ("active_namespaces", self.active.len()),
            ("namespace_counters", self.time_wait_overflows.len()),
            ("namespace_names", self.context.names.netns.len()),
            ("cgroup_paths", self.context.names.cgroups()),
            ("process_names", self.context.names.processes.len()),
            ("host_names", self.context.names.hosts.len()),
            ("held_records", self.routes.iter().map(Route::held).max().unwrap_or(0).max(self.undecided.len())),
            ("rendered_bytes", self.rendered()),
        ]);
        sizes.extend(self.findings.iter().flat_map(Findings::sizes));
        sizes.extend(self.metrics.as_ref().map(|metrics| ("series", metrics.series())));
        sizes
    }

    /// Takes what was rendered for each output.
    pub fn take(&mut self) -> impl Iterator<Item = Records> {
        self.routes.iter_mut().map(Route::take)
    }

    /// Number of rendered bytes waiting in the fullest output.
    #[must_use]
    pub fn rendered(&self) -> usize {
        self.routes.iter().map(Route::len).max().unwrap_or(0)
    }
}

/// Merges two gaps, the earlier one first.
fn joined(earlier: Option<Gap>, later: Option<Gap>) -> Option<Gap> {
    match (earlier, later) {
        (Some(mut gap), Some(later)) => {
            gap.merge(&later);
            Some(gap)
        }
        (earlier, later) => earlier.or(later),
    }
}
