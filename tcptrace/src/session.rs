//! The pure middle as one value: takes records, keeps the table and the summaries, and gives output.

use std::collections::HashMap;

use rustc_hash::FxHashSet;
use tcptrace_common::{
    cpu::Counters,
    listener::{Listener, ListenerKey},
    record::socket_flag,
};

use crate::{
    decode::decode,
    event::Event,
    findings::{Findings, Thresholds},
    listeners,
    losses::Losses,
    metrics::{self, Metrics, Moment, Usage},
    notice::{Gap, Notice},
    outputs::{OutputState, Records},
    render::{Context, Names},
    report::Report,
    route::{Route, concerns},
    select::Selection,
    snapshot::{Holder, ListedSocket, Snapshot},
    state::{State, StateSet},
    story::{Stories, Story},
    summary::Summary,
    table::{Connection, Table},
};

/// Namespaces that are remembered at most.
const MAX_NAMESPACES: usize = 65_536;

/// What a session does with events.
pub struct SessionSettings {
    /// States that an event must concern; empty for all.
    pub states: StateSet,
    /// The same for sockets that were listed, with all other parts of the filter.
    pub selection: Selection,
    /// The kernel side lets events pass whose owner it does not know: they must be looked at once more.
    pub owner_unchecked: bool,
    /// Are there polls for what makes no events?
    pub polls: bool,
    /// Sockets in the table at most.
    pub max_sockets: usize,
    /// Are transitions counted by process?
    pub by_process: bool,
    /// Are events written, or summaries alone?
    pub events: bool,
    /// Events to be written at most.
    pub count: Option<u64>,
    /// What is called trouble; `None` where it is not looked for.
    pub findings: Option<Thresholds>,
    /// What metrics tell apart; `None` where none are made.
    pub metrics: Option<metrics::Settings>,
}

/// A run from its first record to its end.
pub struct Session {
    settings: SessionSettings,
    routes: Vec<Route>,
    /// What renderers need.
    pub context: Context,
    table: Table,
    interval: Summary,
    interval_start_ns: u64,
    total: Summary,
    start_ns: u64,
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
        // Within the namespaces that are looked at.
        let all = Selection { netns: settings.selection.netns, ..Selection::default() };
        let is_partial = settings.selection != all;
        Self {
            metrics: settings.metrics.clone().map(|settings| Metrics::new(settings, context.wall.unix_ns(start_ns))),
            findings: settings.findings.clone().map(|thresholds| Findings::new(thresholds, is_partial, start_ns)),
            table: Table::new(settings.max_sockets, settings.states, settings.polls),
            routes,
            context,
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

    /// Takes in a record, as a ring or a recording holds it.
    pub fn ingest(&mut self, record: &[u8]) {
        self.losses.received += 1;
        let Ok(mut event) = decode(record) else {
            self.losses.undecodable += 1;
            return;
        };
        if let Some(netns) = event.socket.netns.filter(|netns| self.last_netns != Some(*netns)) {
            self.has_new_namespace |= self.namespaces.insert(netns);
            if self.active.len() < MAX_NAMESPACES {
                self.active.insert(netns);
            }
            self.last_netns = Some(netns);
        }
        self.last_event_ns = event.time_ns;
        let ended = self.table.take_over(&event);
        ended.iter().for_each(|ended| self.tell(ended, None));
        let left = self.table.ingest(&mut event);
        self.tell(&event, left.as_ref());
    }

    /// Tells of an event; `left` is what was known of the socket that ended with it.
    fn tell(&mut self, event: &Event, left: Option<&Connection>) {
        if self.owner_passes(event) && self.passes(event) {
            self.interval.ingest(event);
            if let Some(findings) = &mut self.findings {
                findings.ingest(event, left);
            }
            if let Some(metrics) = &mut self.metrics {
                metrics.ingest(event);
            }
            self.write(event);
        }
    }

    /// Looks for trouble, and tells of it; `true` if all sockets should be listed, to know more.
    pub fn look(&mut self, now_ns: u64) -> bool {
        let Some(findings) = &mut self.findings else { return false };
        let told = findings.look(&mut self.table, now_ns);
        let wants_listing = findings.wants_listing();
        if let Some(metrics) = &mut self.metrics {
            told.iter().for_each(|finding| metrics.finding(finding));
        }
        for route in &mut self.routes {
            told.iter().for_each(|finding| route.finding(finding, &mut self.context));
        }
        wants_listing
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

    /// How many findings are open.
    #[must_use]
    pub fn open_findings(&self, now_ns: u64) -> usize {
        self.findings.as_ref().map_or(0, |findings| findings.open(now_ns).len())
    }

    fn write_open(&mut self, now_ns: u64) {
        if let Some(findings) = &self.findings {
            let open = findings.open(now_ns);
            self.routes.iter_mut().for_each(|route| route.open(&open, now_ns, &mut self.context));
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

    /// Takes in a listing of these.
    pub fn show(&mut self, snapshot: &Snapshot) {
        self.table.show_listed(snapshot);
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
        let wanted = |state: State| self.settings.states.is_empty() || self.settings.states.contains(state);
        let is_polled = |state: &State| match state {
            State::TimeWait => wanted(State::TimeWait) || wanted(State::FinWait2), // which goes there
            State::SynRecv | State::FinWait2 => wanted(*state),
            State::Listen => self.looks() && wanted(State::Listen), // its queue
            _ => false,
        };
        let silent: StateSet = State::ALL.into_iter().filter(is_polled).collect();
        (!silent.is_empty()).then_some(silent)
    }

    /// Is the event about one of the wanted states? The kernel asked the same; but it lets pass what only the decoder
    /// can tell.
    fn passes(&self, event: &Event) -> bool {
        let states = self.settings.states;
        if event.socket.is(socket_flag::OWNER_LEFT) {
            return false; // tells the table alone
        }
        states.is_empty() || concerns(event, states)
    }

    /// Is the owner a wanted one? Asked where the kernel side does not know all owners.
    fn owner_passes(&mut self, event: &Event) -> bool {
        if !self.settings.owner_unchecked {
            return true;
        }
        let (selection, names) = (&self.settings.selection, &mut self.context.names);
        let is_wanted = selection.owner_matches(event.owner.as_ref(), |id| names.cgroup(id).map(str::to_owned));
        self.table.show(event, is_wanted);
        is_wanted
    }

    fn write(&mut self, event: &Event) {
        if !self.settings.events || self.is_complete() {
            return;
        }
        let mut is_written = false;
        for route in &mut self.routes {
            is_written |= route.event(event, &mut self.context);
        }
        self.written += u64::from(is_written);
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
        let report = interval.report(&self.table, now_ns, span_ns, false, self.losses.clone());
        self.write_report(&report);
        self.write_open(now_ns);
        self.total.merge(interval);
    }

    /// Writes the summary of the whole run. [`Session::end`] comes after it.
    pub fn finish(&mut self, now_ns: u64) {
        let interval = std::mem::replace(&mut self.interval, Summary::new(self.settings.by_process));
        self.total.merge(interval);
        if let Some(gap) = joined(self.healing.take(), self.gap.take()) {
            self.notice(&Notice::Gap(gap));
        }
        self.update_losses();
        let span_ns = now_ns.saturating_sub(self.start_ns);
        let report = self.total.report(&self.table, now_ns, span_ns, true, self.losses.clone());
        self.write_report(&report);
        self.write_open(now_ns);
        let until_ns = self.checked_ns;
        self.write_stories(|stories| stories.take_rest(until_ns));
        if !self.is_complete() {
            self.routes.iter_mut().for_each(|route| route.silent(&self.table, now_ns));
        }
    }

    /// Writes the last record, with what became of the records of each output until then.
    pub fn end(&mut self, now_ns: u64, reason: &str, outputs: &[OutputState]) {
        self.losses.outputs = outputs.iter().map(OutputState::lost).sum();
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
    pub fn metrics(&mut self, now_ns: u64, usage: Usage, outputs: &[OutputState]) -> Option<metrics::Snapshot> {
        self.update_losses();
        self.losses.outputs = outputs.iter().map(OutputState::lost).sum();
        let open = self.findings.as_ref().map(|findings| findings.open(now_ns)).unwrap_or_default();
        let now_unix_ns = self.context.wall.unix_ns(now_ns);
        let Self { metrics, table, losses, context, .. } = self;
        let names = &mut context.names;
        let mut moment = Moment { now_ns, now_unix_ns, table, losses, open: &open, outputs, usage, names };
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
fn wanted<'a>(selection: &'a Selection, names: &'a mut Names) -> impl FnMut(&ListedSocket, &[Holder]) -> bool + 'a {
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
