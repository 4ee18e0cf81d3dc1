//! `tcptrace --aggregate`: the programs count, and their maps are read for each summary.

use std::mem;

use tokio::time::Instant;

use crate::{
    aggregate::{By, Counts},
    app::{CHECK_EVERY, ENDS_WITHIN, Error, ReadyFile, due, start},
    bpf::{
        aggregate::CountTables,
        probes::{Attached, KernelCounters},
    },
    cgroup,
    cli::settings::Settings,
    delivery::{asked, push, pushes, serve},
    http::{Health, Question},
    losses::Losses,
    metrics::{Snapshot, counted},
    now::{now_ns, wall_offset},
    outputs::Outputs,
    render::{Context, Names, text::losses_line},
    report::Report,
    route::Route,
    runtime::{every, release_memory},
    state::StateSet,
    tell::tell,
    usage::usage,
};

/// Counts until it is told to end, its time is over, or nobody reads any more.
///
/// # Errors
/// Where tracing cannot start, the maps cannot be read, or the output cannot be written.
pub async fn run(mut settings: Settings, by: By) -> Result<(), Error> {
    let (outputs, mut stop, mut hangup, attached) = start(&mut settings)?;
    let Attached { probes, counters, counts, .. } = attached;
    let start_ns = now_ns();
    let mut run = Run {
        by,
        start_unix_ns: wall_offset().unix_ns(start_ns),
        counters,
        tables: counts,
        counted: Counts::default(),
        counted_ns: start_ns,
        context: Context { wall: wall_offset(), names: Names::new(Default::default(), Box::new(cgroup::lookup())) },
        routes: settings.routes,
        outputs,
        states: settings.session.states,
    };
    stop.deadline = settings.duration.map(|duration| Instant::now() + duration);
    let (_server, mut questions) = serve(settings.server)?;
    let mut pushes = pushes(&settings.outputs).then(|| every(settings.metrics_every));
    let ready = settings.ready_file.map(ReadyFile::create).transpose()?;
    let mut intervals = settings.interval.map(every);
    let service = settings.service;
    let chosen = settings.chosen;
    let mut checks = (service.is_one || chosen.is_some()).then(|| every(CHECK_EVERY));
    service.ready();
    release_memory();
    let reason = loop {
        tokio::select! {
            biased;
            reason = stop.reached() => break reason,
            () = hangup.came() => {
                run.outputs.reopen();
                service.reloaded();
            }
            () = due(&mut checks) => {
                service.alive(&losses_line(&run.losses(&run.counted)?));
                if let Some(gone) = chosen.as_ref().filter(|chosen| chosen.is_gone()) {
                    tell(format_args!("{}: the trace ends", gone.epitaph()));
                    break "netns_gone";
                }
            }
            () = due(&mut intervals) => run.end_interval()?,
            () = due(&mut pushes) => run.push_metrics()?,
            question = asked(&mut questions) => match question {
                // Nobody waits any more where sending fails.
                Question::Metrics(to) => _ = to.send(run.metrics()?),
                Question::Health(to) => _ = to.send(Health { not_ready: None }),
            },
        }
        if run.outputs.are_over() && questions.is_none() {
            break "closed";
        }
    };
    service.stopping(ENDS_WITHIN);
    drop(ready);
    drop(probes); // detached: what is counted now is all there will be
    if pushes.is_some() {
        run.push_metrics()?;
    }
    run.finish(start_ns, reason)
}

/// What a run works with once all is attached.
struct Run {
    by: By,
    /// Begin of the run, in ns since the epoch.
    start_unix_ns: u64,
    counters: KernelCounters,
    tables: CountTables,
    /// What was counted until the last summary.
    counted: Counts,
    /// CLOCK_MONOTONIC of that, in ns.
    counted_ns: u64,
    context: Context,
    routes: Vec<Route>,
    outputs: Outputs,
    /// States of the filter.
    states: StateSet,
}

impl Run {
    /// Writes the summary since the last one.
    fn end_interval(&mut self) -> Result<(), Error> {
        let before_ns = self.counted_ns;
        let before = mem::take(&mut self.counted);
        let losses = self.read()?;
        self.write(&self.counted.since(&before), before_ns, false, losses);
        Ok(())
    }

    /// Writes the summary of the whole run, and the last record.
    fn finish(mut self, start_ns: u64, reason: &str) -> Result<(), Error> {
        let mut losses = self.read()?;
        let counted = mem::take(&mut self.counted);
        self.write(&counted, start_ns, true, losses.clone());
        self.outputs.drain();
        let outputs = self.outputs.states();
        losses.outputs = self.outputs.lost();
        let context = &self.context;
        self.routes.iter_mut().for_each(|route| route.end(self.counted_ns, reason, &losses, &outputs, context));
        self.hand_over();
        tell(losses_line(&losses));
        self.outputs.end().map_err(Error::Outputs)
    }

    fn hand_over(&mut self) {
        self.outputs.push(self.routes.iter_mut().map(Route::take));
    }

    /// The metrics of this moment.
    fn metrics(&mut self) -> Result<Snapshot, Error> {
        let counts = self.tables.read()?;
        let losses = self.losses(&counts)?;
        let names = &mut self.context.names;
        let run = counted::Run {
            start_unix_ns: self.start_unix_ns,
            now_unix_ns: wall_offset().unix_ns(now_ns()),
            losses: &losses,
            outputs: &self.outputs.states(),
            usage: usage(),
        };
        Ok(counted::snapshot(&counts, self.by, |id| names.cgroup(id).map(str::to_owned), run))
    }

    fn push_metrics(&mut self) -> Result<(), Error> {
        let snapshot = self.metrics()?;
        push(&self.outputs, &snapshot);
        Ok(())
    }

    /// Reads the maps; gives what was lost since the start.
    fn read(&mut self) -> Result<Losses, Error> {
        self.counted_ns = now_ns();
        self.counted = self.tables.read()?;
        self.losses(&self.counted)
    }

    /// What was lost since the start, by these counts.
    fn losses(&self, counted: &Counts) -> Result<Losses, Error> {
        let mut losses = Losses { outputs: self.outputs.lost(), ..Losses::default() };
        losses.set_kernel(&self.counters.read()?, self.counters.passed_over());
        (losses.received, losses.undecodable) = counted.totals();
        losses.sent = losses.received;
        Ok(losses)
    }

    /// Writes the summary of what was counted since `since_ns`.
    fn write(&mut self, counted: &Counts, since_ns: u64, is_final: bool, losses: Losses) {
        let span = (is_final, self.counted_ns, self.counted_ns.saturating_sub(since_ns));
        let find_cgroup = &mut |id| self.context.names.cgroup(id).map(str::to_owned);
        let report: Report = counted.report(self.by, find_cgroup, span, losses);
        self.context.wall = wall_offset();
        self.routes.iter_mut().for_each(|route| route.report(&report, self.states, &self.context));
        self.hand_over();
    }
}
