//! The pure middle as one value: takes records, keeps the table and the summaries, and gives output.

use std::{cell::RefCell, collections::HashMap, net::IpAddr};

use rustc_hash::FxHashSet;
use tcptrace_common::{
    cpu::Counters,
    listener::{Listener, ListenerKey},
};

use crate::{
    analysis::{
        metrics::{self, Metrics, Moment},
        report::Report,
        story::{Stories, connection::Story},
        summary::Summary,
    },
    findings::{Coverage, Finding, Findings, Severity, ShownFilter},
    model::{
        decode::{NetnsAlias, decode},
        event::{Event, ProcessId},
        holders::Holder,
        losses::Losses,
        names::Names,
        notice::{Gap, Notice},
        output_state::OutputState,
        snapshot::Snapshot,
        socket::ListedSocket,
        socket_filter::SocketFilter,
        state::{State, StateSet},
    },
    pipeline::{listeners, records::Records, route::Route, settings::SessionSettings, shown::Shown},
    render::context::Context,
    sys::{process::Usage, workers::WorkerState},
    table::{Connection, Table},
};

/// Namespaces that are remembered at most.
const MAX_NAMESPACES: usize = 65_536;
/// Descriptors whose processes are looked at in each poll at most.
const MAX_AWAITED: usize = 64;

/// A run from its first record to its end.
pub struct Session {
    settings: SessionSettings,
    routes: Vec<Route>,
    /// What renderers need.
    pub context: Context,
    /// How records name the network namespace that is chosen, where that is not by its inode number.
    pub netns_alias: Option<NetnsAlias>,
    table: Table,
    interval: Summary,
    interval_start_ns: u64,
    total: Summary,
    start_ns: u64,
    /// Events, findings and stories that were written.
    written: u64,
    /// What was lost; the edge sets what the kernel counted.
    pub losses: Losses,
    /// When the kernel's counters were looked at last.
    checked_ns: u64,
    /// What was lost and not made up for yet.
    gap: Option<Gap>,
    /// What the listing that is under way makes up for: it was lost before that began.
    healing: Option<Gap>,
    time_wait_overflows: HashMap<u32, u64>,
    shown: Shown,
    findings: Option<Findings>,
    metrics: Option<Metrics>,
    /// Namespaces of events and listings.
    namespaces: FxHashSet<u32>,
    /// Was there an event of a namespace that is new?
    has_new_namespace: bool,
    /// Namespaces of events since the last poll, and that of the last one.
    active: FxHashSet<u32>,
    last_netns: Option<u32>,
    /// CLOCK_MONOTONIC of the last event, in ns.
    last_event_ns: u64,
}

impl Session {
    /// A run that starts at `start_ns` (CLOCK_MONOTONIC), and is told of by these ways.
    #[must_use]
    pub fn new(settings: SessionSettings, routes: Vec<Route>, context: Context, start_ns: u64) -> Self {
        let shown = Shown::new(&settings);
        let table = if settings.findings.is_some() {
            Table::new(settings.max_sockets, StateSet::default(), settings.polls).keeping_all()
        } else {
            Table::new(settings.max_sockets, settings.states, settings.polls)
        };
        Self {
            metrics: settings.metrics.clone().map(|settings| Metrics::new(settings, context.wall.unix_ns(start_ns))),
            findings: settings.findings.clone().map(|thresholds| Findings::new(thresholds, start_ns)),
            table,
            shown,
            routes,
            context,
            netns_alias: None,
            interval: Summary::new(settings.by_process),
            interval_start_ns: start_ns,
            total: Summary::new(settings.by_process),
            start_ns,
            written: 0,
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

    /// Takes in a record, as a ring or a recording holds it; none once the run is complete.
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
        self.shown.ingest(&event);
        let ended = self.table.take_over(&event);
        ended.iter().for_each(|ended| self.tell(ended, None));
        let left = self.table.ingest(&mut event);
        self.tell(&event, left.as_ref());
    }

    /// Tells of an event; `left` is what was known of the socket that ended with it. Findings see all events, the rest
    /// those that are shown.
    fn tell(&mut self, event: &Event, left: Option<&Connection>) {
        if let Some(earlier) = self.shown.held_back(event) {
            self.show_event(&earlier);
        }
        let is_shown = !self.shown.holds_back(event) && self.show_event(event);
        if let Some(findings) = &mut self.findings {
            findings.ingest(event, left, is_shown);
        }
    }

    /// Counts and writes an event if the filter lets it pass; tells whether it does.
    fn show_event(&mut self, event: &Event) -> bool {
        if self.is_complete() {
            return false;
        }
        let is_shown = self.shown.event(event, &mut self.context.names);
        if is_shown {
            self.interval.ingest(event);
            if let Some(metrics) = &mut self.metrics {
                metrics.ingest(event);
            }
            self.write(event);
        } else {
            self.losses.not_shown += 1;
        }
        is_shown
    }

    /// Looks for trouble, and tells of it; `true` if all sockets should be listed, to know more.
    pub fn look(&mut self, now_ns: u64) -> bool {
        let Some(findings) = &mut self.findings else { return false };
        let (shown, names) = (&self.shown, RefCell::new(&mut self.context.names));
        let is_shown = |known: &Connection, holders: &[Holder]| shown.socket(known, holders, &mut names.borrow_mut());
        let filter: Option<ShownFilter<'_>> = shown.chooses().then_some(&is_shown);
        let told = findings.evaluate(&mut self.table, now_ns, filter);
        let wants_listing = findings.wants_listing();
        self.write_findings(told);
        wants_listing
    }

    fn write_findings(&mut self, told: Vec<Finding>) {
        for finding in told {
            if self.is_complete() {
                return;
            }
            if let Some(metrics) = &mut self.metrics {
                metrics.finding(&finding);
            }
            let mut is_written = false;
            for route in &mut self.routes {
                is_written |= route.finding(&finding, &mut self.context);
            }
            self.written += u64::from(is_written);
        }
    }

    /// CLOCK_MONOTONIC of the last event, in ns.
    #[must_use]
    pub const fn last_event_ns(&self) -> u64 {
        self.last_event_ns
    }

    /// Is trouble looked for?
    #[must_use]
    pub const fn looks(&self) -> bool {
        self.findings.is_some()
    }

    /// Was all trouble told of that can be seen now?
    #[must_use]
    pub fn has_told_all(&self) -> bool {
        self.findings.as_ref().is_none_or(|findings| !findings.is_waiting() && !findings.wants_listing())
    }

    /// The severity of the worst finding that is open and shown.
    #[must_use]
    pub fn worst(&self, now_ns: u64) -> Option<Severity> {
        let open = self.findings.as_ref()?.open(now_ns);
        open.iter().map(|finding| finding.detection.severity).max()
    }

    /// Writes a list of the findings that are open; `is_final` at the end of the run.
    fn write_open(&mut self, now_ns: u64, is_final: bool) {
        let Some(findings) = &self.findings else { return };
        let open = findings.open(now_ns);
        let seen = Coverage { unlisted: self.losses.unlisted, ..findings.coverage(&self.table, now_ns) };
        for route in &mut self.routes {
            route.open(&open, &seen, is_final, &mut self.context);
            if is_final && !self.settings.events {
                route.looked(open.len(), &seen, &self.context);
            }
        }
    }

    /// A listing begins; what comes of it goes to [`Session::reconcile`].
    pub fn begin_listing(&mut self) {
        self.table.begin_listing();
        self.healing = joined(self.healing.take(), self.gap.take());
    }

    /// Nothing came of the listing that began.
    pub fn abandon_listing(&mut self) {
        self.table.abandon_listing();
        self.gap = joined(self.healing.take(), self.gap.take());
    }

    /// Takes in the listing of all states that began: what was there before the start, or what is there after a gap,
    /// which is healed with it.
    pub fn reconcile(&mut self, snapshot: &Snapshot) {
        let mut events = Vec::new();
        let wanted = wanted(&self.settings.selection, &mut self.context.names);
        let reconciled = self.table.reconcile(snapshot, wanted, |event| events.push(event));
        if let Some(gap) = self.healing.take() {
            self.notice(&Notice::Gap(Gap { healed: Some((snapshot.ended_ns, reconciled)), ..gap }));
        }
        self.take_in_polled(snapshot, &events);
        self.routes.iter_mut().for_each(|route| route.listed(snapshot));
    }

    /// The listeners of a listing, for the programs.
    pub fn listener_seeds(&mut self, snapshot: &Snapshot) -> HashMap<ListenerKey, Listener> {
        let (selection, names) = (&self.settings.selection, &mut self.context.names);
        listeners::seeds(snapshot, selection, |id| names.cgroup(id).map(str::to_owned))
    }

    /// Was there, since this was asked last, an event of a namespace that is new?
    pub fn take_new_namespace(&mut self) -> bool {
        if self.namespaces.len() > MAX_NAMESPACES {
            self.namespaces.clear();
        }
        std::mem::take(&mut self.has_new_namespace)
    }

    /// Namespaces in which something happened since this was asked last.
    pub fn take_active(&mut self) -> FxHashSet<u32> {
        self.last_netns = None;
        std::mem::take(&mut self.active)
    }

    /// States whose sockets should be listed with their holders, to know more of those that are suspected of trouble, and
    /// in which namespaces (empty: all). The listener that a SYN goes to may be in any.
    #[must_use]
    pub fn suspects(&self) -> (StateSet, FxHashSet<u32>) {
        let states: StateSet = self.table.suspects().map(|known| known.state).chain([State::Listen]).collect();
        let namespaces = if states.contains(State::SynSent) {
            FxHashSet::default()
        } else {
            self.table.suspects().filter_map(|known| known.netns()).collect()
        };
        (states, namespaces)
    }

    /// The processes that connections wait for, as far as their holders were listed.
    #[must_use]
    pub fn awaited_processes(&self) -> Vec<ProcessId> {
        if !self.looks() {
            return Vec::new();
        }
        let holders = self.table.awaited().filter_map(|known| self.table.holders_of(known)).flatten();
        let processes: FxHashSet<_> = holders.map(Holder::id).take(MAX_AWAITED).collect();
        processes.into_iter().collect()
    }

    /// Where connections just failed as the destination could not be reached: it may be a neighbour that is silent.
    #[must_use]
    pub fn unreachable(&self) -> Vec<(u32, IpAddr)> {
        self.findings.as_ref().map_or_else(Vec::new, Findings::unreachable)
    }

    /// Takes in a listing of these.
    pub fn show(&mut self, snapshot: &Snapshot) {
        self.table.show_listed(snapshot);
        self.take_in_polled(snapshot, &[]);
    }

    /// Is a listing of listeners wanted at `now_ns`, to know whose the connections are that come through them?
    #[must_use]
    pub fn wants_listeners(&self, now_ns: u64) -> bool {
        self.table.wants_listeners(now_ns)
    }

    /// Takes in a listing of these.
    pub fn show_listeners(&mut self, snapshot: &Snapshot) {
        self.table.show_listeners(snapshot);
        self.take_in_polled(snapshot, &[]);
    }

    /// Takes in a listing of what makes no events.
    pub fn poll(&mut self, snapshot: &Snapshot) {
        let mut events = Vec::new();
        let wanted = wanted(&self.settings.selection, &mut self.context.names);
        self.table.poll(snapshot, wanted, |event| events.push(event));
        self.take_in_polled(snapshot, &events);
    }

    fn take_in_polled(&mut self, snapshot: &Snapshot, events: &[Event]) {
        self.losses.unlisted = self.losses.unlisted.max(snapshot.skipped.unseen());
        if snapshot.states.is_empty() {
            // The number of one that is gone may be the next one's.
            let visited = snapshot.namespaces.iter().map(|namespace| namespace.inode);
            self.namespaces = visited.chain(snapshot.left_alone.iter().copied()).collect();
            self.time_wait_overflows.retain(|inode, _| self.namespaces.contains(inode));
            self.context.names.netns.retain(|inode, _| self.namespaces.contains(inode));
            self.last_netns = None;
        }
        for namespace in &snapshot.namespaces {
            // The kernel gives the inode number of a namespace that is gone to the next one, which may have no name.
            match &namespace.name {
                Some(name) => _ = self.context.names.netns.insert(namespace.inode, name.clone()),
                None => _ = self.context.names.netns.remove(&namespace.inode),
            }
            let Some(now) = namespace.counters.map(|counters| counters.time_wait_overflows) else { continue };
            if let Some(before) = self.time_wait_overflows.insert(namespace.inode, now)
                && now > before
            {
                let (time_ns, netns, count) = (snapshot.ended_ns, namespace.inode, now - before);
                self.notice(&Notice::TimeWaitOverflow { time_ns, netns, count });
            }
        }
        if let Some(findings) = &mut self.findings {
            findings.listed(snapshot);
        }
        events.iter().for_each(|event| self.tell(event, None));
    }

    /// Takes the kernel's counters as of `now_ns`; tells whether events were lost that no listing has made up for yet.
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
        self.routes.iter_mut().for_each(|route| route.notice(notice, &self.context));
    }

    /// States whose sockets must be polled for, as they make no events; `None` where none is wanted.
    #[must_use]
    pub fn polled_states(&self) -> Option<StateSet> {
        let states = if self.looks() { StateSet::default() } else { self.settings.states };
        let wanted = |state: State| states.is_empty() || states.contains(state);
        let is_polled = |state: &State| match state {
            State::TimeWait => wanted(State::TimeWait) || wanted(State::FinWait2), // which goes there
            State::SynRecv | State::FinWait2 => wanted(*state),
            State::Listen => self.looks(), // its queue
            _ => false,
        };
        let silent: StateSet = State::ALL.into_iter().filter(is_polled).collect();
        (!silent.is_empty()).then_some(silent)
    }

    /// To be called before sockets are shown.
    fn choose_sockets(&mut self) {
        let (shown, names) = (&self.shown, &mut self.context.names);
        if shown.chooses() {
            self.table.choose(|known, holders| shown.socket(known, holders, names));
        }
    }

    fn write(&mut self, event: &Event) {
        if !self.settings.events {
            return;
        }
        let mut is_written = false;
        for route in &mut self.routes {
            is_written |= route.event(event, &mut self.context);
        }
        self.written += u64::from(is_written);
    }

    /// Events and findings that were written, or stories and connections without one.
    #[must_use]
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// Was as much written as was asked for?
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.settings.count.is_some_and(|count| self.written >= count)
    }

    /// Writes the stories that are over at `now_ns`, when all events up to then were taken in.
    pub fn tick(&mut self, now_ns: u64) {
        self.write_stories(|stories| stories.take_over(now_ns));
    }

    fn write_stories(&mut self, mut take: impl FnMut(&mut Stories) -> Option<Story>) {
        for route in &mut self.routes {
            let room = self.settings.count.map_or(u64::MAX, |count| count.saturating_sub(self.written));
            self.written += route.stories(&mut take, room, &self.context);
        }
    }

    /// Writes the summary since the last one.
    pub fn end_interval(&mut self, now_ns: u64) {
        self.update_losses();
        let interval = std::mem::replace(&mut self.interval, Summary::new(self.settings.by_process));
        let span_ns = now_ns.saturating_sub(self.interval_start_ns);
        self.interval_start_ns = now_ns;
        self.choose_sockets();
        let report = interval.report(&self.table, now_ns, span_ns, false, self.losses.clone());
        self.write_report(&report);
        self.write_open(now_ns, false);
        self.total.merge(interval);
    }

    /// Writes the summary of the whole run. [`Session::end`] comes after it.
    pub fn finish(&mut self, now_ns: u64) {
        let interval = std::mem::replace(&mut self.interval, Summary::new(self.settings.by_process));
        self.total.merge(interval);
        if let Some(gap) = joined(self.healing.take(), self.gap.take()) {
            self.notice(&Notice::Gap(gap));
        }
        let rest = self.findings.as_mut().map(|findings| findings.take_final_updates(now_ns));
        self.write_findings(rest.unwrap_or_default());
        self.update_losses();
        let span_ns = now_ns.saturating_sub(self.start_ns);
        self.choose_sockets();
        let report = self.total.report(&self.table, now_ns, span_ns, true, self.losses.clone());
        self.write_report(&report);
        self.write_open(now_ns, true);
        let until_ns = self.checked_ns;
        self.write_stories(|stories| stories.take_rest(until_ns));
        if !self.is_complete() {
            self.written += self.routes.iter_mut().map(|route| route.silent(&self.table, now_ns)).sum::<u64>();
        }
    }

    /// Writes the last record, with what became of the records of each output until then.
    pub fn end(&mut self, now_ns: u64, reason: &str, outputs: &[OutputState]) {
        self.losses.outputs = OutputState::lost_records(outputs);
        for route in &mut self.routes {
            route.end(now_ns, reason, &self.losses, outputs, &self.context);
        }
    }

    fn update_losses(&mut self) {
        // Where stories are told the table is not shown.
        let forgotten = self.routes.iter().find_map(Route::forgotten_stories);
        self.losses.evicted = forgotten.unwrap_or_else(|| self.table.evicted());
        self.losses.unnamed_process_events = self.total.other_processes() + self.interval.other_processes();
    }

    fn write_report(&mut self, report: &Report) {
        let states = self.settings.states;
        self.routes.iter_mut().for_each(|route| route.report(report, states, &self.context));
    }

    /// The metrics of this moment, if any are made.
    pub fn metrics(
        &mut self,
        now_ns: u64,
        usage: Usage,
        outputs: &[OutputState],
        workers: &[WorkerState],
    ) -> Option<metrics::Snapshot> {
        self.update_losses();
        self.losses.outputs = OutputState::lost_records(outputs);
        self.choose_sockets();
        let open = self.findings.as_ref().map(|findings| findings.open(now_ns)).unwrap_or_default();
        let now_unix_ns = self.context.wall.unix_ns(now_ns);
        let Self { metrics, table, losses, context, .. } = self;
        let names = &mut context.names;
        let mut moment = Moment { now_ns, now_unix_ns, table, losses, open: &open, outputs, workers, usage, names };
        Some(metrics.as_mut()?.snapshot(&mut moment))
    }

    /// How much is kept of each kind, by name, for tests of the bounds (docs/architecture.md).
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
            ("rendered_bytes", self.rendered()),
        ]);
        sizes.extend(self.findings.iter().flat_map(Findings::sizes));
        sizes.extend(self.metrics.as_ref().map(|metrics| ("series", metrics.series())));
        sizes
    }

    /// What was rendered for each output, and not taken yet.
    pub fn take(&mut self) -> impl Iterator<Item = Records> {
        self.routes.iter_mut().map(Route::take)
    }

    /// Bytes that were rendered and not taken yet, of the output with the most.
    #[must_use]
    pub fn rendered(&self) -> usize {
        self.routes.iter().map(Route::len).max().unwrap_or(0)
    }
}

/// Which listed sockets are wanted.
fn wanted<'a>(selection: &'a SocketFilter, names: &'a mut Names) -> impl FnMut(&ListedSocket, &[Holder]) -> bool + 'a {
    move |socket, holders| selection.matches(socket, holders, |holder| names.cgroup(holder.cgroup?).map(str::to_owned))
}

/// Two gaps as one, the earlier first.
fn joined(earlier: Option<Gap>, later: Option<Gap>) -> Option<Gap> {
    match (earlier, later) {
        (Some(mut gap), Some(later)) => {
            gap.merge(&later);
            Some(gap)
        }
        (earlier, later) => earlier.or(later),
    }
}
