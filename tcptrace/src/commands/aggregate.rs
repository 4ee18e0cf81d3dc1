//! `tcptrace --aggregate`: the BPF programs count events, and each summary is made from their maps.

use std::{io, mem, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, Interval},
};

use crate::{
    analysis::{
        metrics::{Snapshot, counted},
        report::Report,
    },
    bpf::{
        aggregate::CountTables,
        probes::{Attached, KernelCounters},
    },
    commands::{
        delivery::{next_query, push, pushes, serve},
        settings::Settings,
        trace::{
            Started,
            error::{Error, no_thread},
            ready_file::ReadyFile,
            run::{CHECK_EVERY, due, report_end},
            start,
            threads::{self, Threads},
        },
    },
    listing::chosen_netns::ChosenNetns,
    model::{
        kernel_counts::{By, Counts},
        losses::Losses,
        names::Names,
        state::StateSet,
    },
    outputs::{
        Outputs,
        http::{
            Server,
            answers::{Health, Query},
        },
        messages::warn,
    },
    pipeline::route::Route,
    render::{context::Context, text::losses_line},
    sys::{
        cgroup,
        clock::{now_ns, wall_offset},
        lookups::Lookups,
        process::usage,
        signals::{Hangup, SHUTDOWN_LIMIT, Stop, begin_shutdown, every, release_memory},
        systemd::Service,
        terminal::screen,
    },
};

/// Longest time of a search for the chosen network namespace.
const LONGEST_SEARCH: Duration = Duration::from_secs(60);

/// Counts until a signal or a limit ends the run, or nobody reads the output any more.
///
/// # Errors
/// If tracing cannot start, the maps cannot be read, or an output cannot be written.
pub async fn run(mut settings: Settings, by: By) -> Result<(), Error> {
    let Started { outputs, server, mut stop, mut hangup, attached } = start(&mut settings)?;
    let Attached { probes, counters, counts, .. } = attached;
    let start_ns = now_ns();
    let mut run = Run {
        by,
        start_unix_ns: wall_offset().unix_ns(start_ns),
        counters,
        tables: counts,
        counted: Counts::default(),
        counted_ns: start_ns,
        context: Context {
            screen: screen(),
            ..Context::new(wall_offset(), Names::new(Default::default(), Box::new(cgroup::lookup())))
        },
        routes: settings.routes,
        outputs,
        states: settings.session.states,
        threads: Threads::default(),
        server: None,
        queries: None,
        pushes: None,
        chosen: settings.chosen.map(NetnsWatch::start).transpose().map_err(no_thread)?,
    };
    stop.deadline = settings.duration.map(|duration| Instant::now() + duration);
    let (server, queries) = serve(server)?;
    (run.server, run.queries) = (server, queries);
    run.pushes = pushes(&settings.outputs).then(|| every(settings.metrics_every));
    let ready = settings.ready_file.map(ReadyFile::create).transpose()?;
    let service = settings.service;
    service.ready();
    release_memory();
    let stopped = run.until_stopped(&mut stop, &mut hangup, settings.interval, &service).await;
    begin_shutdown();
    service.stopping(SHUTDOWN_LIMIT);
    drop(ready);
    drop(probes); // detached, so the counts are final
    let finished = run.finish(start_ns, stopped.as_ref().map_or("failed", |reason| reason));
    match stopped {
        Ok(_) => finished,
        Err(error) => {
            let _ = finished.map_err(warn);
            Err(error)
        }
    }
}

/// The state of a run after all programs are attached.
struct Run {
    by: By,
    /// Start of the run, in ns since the epoch.
    start_unix_ns: u64,
    counters: KernelCounters,
    tables: CountTables,
    /// The counts at the last summary.
    counted: Counts,
    /// When these were read, CLOCK_MONOTONIC in ns.
    counted_ns: u64,
    context: Context,
    routes: Vec<Route>,
    outputs: Outputs,
    /// The user's filter by states.
    states: StateSet,
    threads: Threads,
    /// Serves metrics and health checks.
    server: Option<Server>,
    queries: Option<mpsc::Receiver<Query>>,
    /// OctaveTimes at which metrics are sent.
    pushes: Option<Interval>,
    /// The network namespace to which the run is limited.
    chosen: Option<NetnsWatch>,
}

/// Looks for the chosen network namespace, in a thread that reads other processes.
struct NetnsWatch {
    chosen: ChosenNetns,
    ask: Box<dyn FnMut(()) -> bool>,
    is_gone: Lookups<(), bool>,
}

impl NetnsWatch {
    fn start(chosen: ChosenNetns) -> io::Result<Self> {
        let its = chosen.clone();
        let is_gone = Lookups::start("namespaces", LONGEST_SEARCH, || {}, move |()| its.is_gone())?;
        Ok(Self { chosen, ask: Box::new(is_gone.asker()), is_gone })
    }

    /// True if it was found to be gone; searches again otherwise.
    fn is_gone(&mut self) -> bool {
        if self.is_gone.try_next() == Some(true) {
            return true;
        }
        if !self.chosen.has_its_name() {
            (self.ask)(()); // with too many questions the answer comes all the same
        }
        false
    }
}

impl Run {
    /// Writes summaries and metrics; returns why it ended.
    async fn until_stopped(
        &mut self,
        stop: &mut Stop,
        hangup: &mut Hangup,
        interval: Option<Duration>,
        service: &Service,
    ) -> Result<&'static str, Error> {
        let (mut intervals, mut checks) = (interval.map(every), every(CHECK_EVERY));
        loop {
            tokio::select! {
                biased;
                reason = stop.wait() => return Ok(reason),
                () = hangup.received() => {
                    self.outputs.reopen();
                    service.reloaded();
                }
                _ = checks.tick() => {
                    self.check_threads()?;
                    let broken = self.threads.broken();
                    let is_well = broken.is_none();
                    if service.is_service {
                        let status = broken.map_or_else(|| Ok(losses_line(&self.losses(&self.counted)?)), Ok::<_, Error>);
                        service.alive(&status?, is_well);
                    }
                    if let Some(watch) = &mut self.chosen && watch.is_gone() {
                        warn(format_args!("{}: the trace ends", watch.chosen.gone_message()));
                        return Ok("netns_gone");
                    }
                }
                () = due(&mut intervals) => self.end_interval()?,
                () = due(&mut self.pushes) => self.push_metrics()?,
                query = next_query(&mut self.queries) => match query {
                    // Sending fails if the client is gone.
                    Query::Metrics(to) => _ = to.send(self.metrics()?),
                    Query::Health(to) => _ = to.send(Health { not_ready: None, broken: self.threads.broken() }),
                },
            }
            if self.outputs.are_over() && self.queries.is_none() {
                return Ok("closed");
            }
        }
    }

    fn check_threads(&mut self) -> Result<(), Error> {
        self.threads.check(&self.outputs, &["http"])?;
        self.threads.replace_server(self.server.as_mut())
    }

    /// Writes the summary of the interval since the last one.
    fn end_interval(&mut self) -> Result<(), Error> {
        let before_ns = self.counted_ns;
        let before = mem::take(&mut self.counted);
        let losses = self.read()?;
        self.write(&self.counted.since(&before), before_ns, false, losses);
        Ok(())
    }

    /// Writes the summary of the whole run, and the last record.
    fn finish(mut self, start_ns: u64, reason: &str) -> Result<(), Error> {
        if self.pushes.is_some() {
            self.push_metrics()?;
        }
        let mut losses = self.read()?;
        let counted = mem::take(&mut self.counted);
        self.write(&counted, start_ns, true, losses.clone());
        self.outputs.drain();
        let outputs = threads::states(&self.outputs);
        losses.outputs = self.outputs.lost();
        let context = &mut self.context;
        self.routes.iter_mut().for_each(|route| route.end(self.counted_ns, reason, &losses, &outputs, context));
        self.hand_over();
        report_end(&losses, &outputs);
        self.outputs.end().map_err(Error::Outputs)
    }

    fn hand_over(&mut self) {
        self.outputs.push(self.routes.iter_mut().map(Route::take));
    }

    /// The current metrics.
    fn metrics(&mut self) -> Result<Snapshot, Error> {
        let counts = self.tables.read()?;
        let losses = self.losses(&counts)?;
        let names = &mut self.context.names;
        let run = counted::Run {
            start_unix_ns: self.start_unix_ns,
            now_unix_ns: wall_offset().unix_ns(now_ns()),
            losses: &losses,
            outputs: &threads::states(&self.outputs),
            workers: self.threads.states(),
            usage: usage(),
        };
        Ok(counted::snapshot(&counts, self.by, |id| names.cgroup(id).map(str::to_owned), run))
    }

    fn push_metrics(&mut self) -> Result<(), Error> {
        let snapshot = self.metrics()?;
        push(&self.outputs, &snapshot);
        Ok(())
    }

    /// Reads the maps; returns the losses since the start.
    fn read(&mut self) -> Result<Losses, Error> {
        self.counted_ns = now_ns();
        self.counted = self.tables.read()?;
        self.losses(&self.counted)
    }

    /// The losses since the start, for these counts.
    fn losses(&self, counted: &Counts) -> Result<Losses, Error> {
        let mut losses = Losses { outputs: self.outputs.lost(), ..Losses::default() };
        losses.set_kernel(&self.counters.read()?, self.counters.passed_over());
        (losses.received, losses.undecodable) = counted.totals();
        losses.sent = losses.received;
        Ok(losses)
    }

    /// Writes the summary of these counts, which were made since `since_ns`.
    fn write(&mut self, counted: &Counts, since_ns: u64, is_final: bool, losses: Losses) {
        let span = (is_final, self.counted_ns, self.counted_ns.saturating_sub(since_ns));
        let find_cgroup = &mut |id| self.context.names.cgroup(id).map(str::to_owned);
        let report: Report = counted.report(self.by, find_cgroup, span, losses);
        self.context.wall = wall_offset();
        self.routes.iter_mut().for_each(|route| route.report(&report, self.states, &mut self.context));
        self.hand_over();
    }
}
