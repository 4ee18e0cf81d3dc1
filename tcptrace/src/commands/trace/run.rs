//! The main loop: waits for events, timers, signals and listings, and passes them to the session and the outputs.

use std::{
    collections::HashSet,
    io::{self, IsTerminal as _},
    ops::ControlFlow,
    path::PathBuf,
    time::Duration,
};

use aya_log::EbpfLogger;
use tcptrace_common::listener::ListenerKey;
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc,
    time::{Instant, Interval, timeout_at},
};

use super::threads::Threads;
use crate::{
    analysis::{metrics, rates::meter::Round},
    bpf::{
        iterators::Iterators,
        probes::{KernelCounters, ListenerTable},
        rings::Rings,
    },
    commands::{
        delivery::{next_query, push},
        top::Screen,
        trace::{
            error::{Error, no_thread},
            kernel_log::StderrLog,
            names::{self, Answer, NameReader},
            purpose::Purpose,
            ready_file::ReadyFile,
            recording::{SAMPLER, Sampling},
            threads,
        },
    },
    findings::{Coverage, Finding, Severity},
    listing::{
        Lister,
        chosen_netns::ChosenNetns,
        netns_names::NameWatch,
        worker::{ListingResult, ListingWorker},
    },
    model::{
        losses::Losses,
        output_state::{LOG, OutputState},
    },
    outputs::{
        Outputs,
        http::{
            Server,
            answers::{Health, Query},
        },
        messages::{info, warn},
        recorder::Recorder,
    },
    pipeline::{
        finding_watch::FindingWatch,
        input::{CounterReading, Input},
        session::{Session, apply::PIECE_BYTES},
    },
    render::text::losses_line,
    sys::{
        clock::{now_ns, wall_offset},
        process::usage,
        signals::{Hangup, SHUTDOWN_LIMIT, Stop, every, release_memory},
        systemd::Service,
        terminal::screen,
    },
};

/// Most records that are read before signals and timers are checked again.
pub(crate) const READ_AT_ONCE: usize = 4096;

/// Time between two checks of the threads and the kernel's counters.
pub(crate) const CHECK_EVERY: Duration = Duration::from_secs(1);

/// Shortest time between two evaluations of the rules for findings.
pub(crate) const EVALUATE_EVERY: Duration = Duration::from_millis(250);
/// After an evaluation the rules rest for this many times its duration,
pub(crate) const EVALUATE_REST: u32 = 20;
/// but not longer than this.
pub(crate) const EVALUATE_AT_LEAST_EVERY: Duration = Duration::from_secs(1);
/// Longest wait for names of processes at the end.
const NAMED_WITHIN: Duration = Duration::from_millis(300);
/// Longest wait for evidence with `stuck --once`.
pub(crate) const ONCE_WITHIN: Duration = Duration::from_secs(2);

/// The state of a run after all programs are attached.
pub(crate) struct Run {
    /// Queries of the metrics server.
    pub(super) queries: Option<mpsc::Receiver<Query>>,
    /// How often metrics are sent by OTLP, if any output wants them.
    pub(super) pushes: Option<Duration>,
    pub(super) rings: AsyncFd<Rings>,
    pub(super) counters: KernelCounters,
    pub(super) listeners: ListenerTable,
    /// Listeners from before the start that were written to the BPF map, until a listing confirms that they still exist.
    pub(super) seeded: HashSet<ListenerKey>,
    pub(super) log: Option<EbpfLogger<StderrLog>>,
    pub(super) session: Session,
    pub(super) outputs: Outputs,
    /// Records the run.
    pub(super) recorder: Option<Recorder>,
    /// Samples the kernel's counters for it.
    pub(super) sampling: Option<Sampling>,
    pub(super) worker: ListingWorker,
    /// Reads processes from `/proc`.
    pub(super) names: NameReader,
    pub(super) threads: Threads,
    /// Serves metrics and health checks.
    pub(super) server: Option<Server>,
    /// The iterators of a listing thread that replaces another one: no program is loaded any more.
    pub(super) spare: Option<Iterators>,
    /// The purpose of the listing in progress.
    pub(super) listing: Option<Purpose>,
    /// Why the last listing failed, so that the same error is reported once.
    pub(super) failed: Option<String>,
    /// Shortest time between two polls.
    pub(super) poll: Option<Duration>,
    /// Earliest time of the next poll.
    pub(super) next_poll: Instant,
    /// Earliest time of the next listing of all sockets.
    pub(super) rest: Instant,
    /// Earliest time of the next listing for a summary.
    pub(super) next_report: Instant,
    /// Earliest time of the next evaluation of rules.
    pub(super) next_evaluation: Instant,
    /// Time of the last evaluation.
    pub(super) last_evaluation: Instant,
    /// True if the run ends once the problems that exist at the start are reported.
    pub(super) once: bool,
    /// The network namespace to which the run is limited.
    pub(super) chosen: Option<ChosenNetns>,
    /// True if that namespace no longer exists.
    pub(super) is_gone: bool,
    pub(super) netns_names: NameWatch,
    /// When the sockets from before the start became known.
    pub(super) started: Option<Instant>,
    /// Most sockets from before the start whose owners the BPF programs remember; the rest of their memory is for new ones.
    pub(super) new_owners: u32,
    /// Created when the sockets from before the start are known.
    pub(super) ready_file: Option<PathBuf>,
    pub(super) service: Service,
    pub(super) hangup: Hangup,
    /// The screen on which the run is shown.
    pub(super) screen: Option<Screen>,
}

impl Run {
    /// Reads events and writes output; returns why it ended.
    pub(crate) async fn until_stopped(
        &mut self,
        stop: &mut Stop,
        read_every: Duration,
        interval: Option<Duration>,
    ) -> Result<&'static str, Error> {
        let mut read = every(read_every);
        let mut summaries = interval.map(every);
        let mut checks = every(CHECK_EVERY);
        let mut polls = self.poll.filter(|_| self.session.polled_states().is_some()).map(every);
        let mut pushes = self.pushes.map(every);
        let mut evaluations = self.session.has_findings().then(|| every(EVALUATE_EVERY));
        let mut refreshes = self.screen.as_ref().map(|screen| every(screen.every()));
        let mut ready = None;
        let mut more = false;
        loop {
            let happened = tokio::select! {
                biased;
                reason = stop.wait() => return Ok(reason),
                () = self.hangup.received() => LoopEvent::HungUp,
                () = due(&mut summaries) => LoopEvent::SummaryDue,
                answer = self.worker.next_result() => LoopEvent::Listed(Box::new(answer)),
                answer = self.names.next() => LoopEvent::Named(answer),
                round = sampled(&mut self.sampling) => LoopEvent::Sampled(round),
                _ = checks.tick() => LoopEvent::CheckDue, // also while there are always more events
                () = std::future::ready(()), if more => LoopEvent::Events,
                _ = read.tick() => LoopEvent::Events,
                () = due(&mut polls) => LoopEvent::PollDue,
                () = due(&mut evaluations) => LoopEvent::EvaluationDue,
                () = due(&mut pushes) => LoopEvent::PushDue,
                () = due(&mut refreshes) => LoopEvent::RefreshDue,
                () = woken(&mut self.screen) => LoopEvent::KeyPressed,
                query = next_query(&mut self.queries) => LoopEvent::Queried(query),
                ready = self.rings.readable_mut() => {
                    if let Ok(mut ready) = ready {
                        ready.clear_ready();
                    }
                    LoopEvent::Events
                }
            };
            let before_ns = now_ns();
            self.apply(&Input::Clock(before_ns, wall_offset()));
            let happened = match happened {
                LoopEvent::Named(answer) => {
                    self.learn(answer);
                    LoopEvent::Events
                }
                other => other,
            };
            more = self.read(before_ns);
            more |= self.apply(&Input::Released);
            if !more {
                self.apply(&Input::Read(before_ns));
            }
            if matches!(happened, LoopEvent::SummaryDue | LoopEvent::EvaluationDue | LoopEvent::CheckDue) {
                self.session.context.screen = screen(); // it may have another size
            }
            match happened {
                LoopEvent::Events | LoopEvent::Named(_) => {}
                LoopEvent::SummaryDue => self.summarize()?,
                LoopEvent::HungUp => {
                    self.outputs.reopen();
                    self.service.reloaded();
                }
                LoopEvent::CheckDue => {
                    self.sampling.iter_mut().for_each(Sampling::ask_if_due);
                    self.check_threads()?;
                    let broken = self.threads.broken();
                    let status = broken.clone().unwrap_or_else(|| losses_line(&self.session.losses));
                    self.service.alive(&status, broken.is_none());
                    if self.check_losses()? || self.recording_wants_listing() {
                        self.request_listing(Purpose::Heal);
                    }
                    if self.session.wants_listeners(now_ns()) {
                        self.request_listing(Purpose::Services);
                    }
                    if self.chosen.as_ref().is_some_and(|chosen| !chosen.has_its_name()) {
                        self.request_listing(Purpose::Namespace);
                    }
                }
                LoopEvent::Sampled(round) => self.record_sample(round.as_ref()),
                LoopEvent::RefreshDue => self.refresh(),
                LoopEvent::KeyPressed => {
                    if self.take_keys().is_break() {
                        return Ok("interrupted");
                    }
                }
                LoopEvent::PollDue => self.request_listing(Purpose::Poll),
                LoopEvent::PushDue => self.push_metrics(),
                LoopEvent::Queried(Query::Metrics(to)) => {
                    // Sending fails if the client is gone.
                    let _ = self.metrics().map(|snapshot| to.send(snapshot));
                }
                LoopEvent::Queried(Query::Health(to)) => {
                    let not_ready =
                        self.started.is_none().then(|| "still listing the sockets from before the start".to_owned());
                    let _ = to.send(Health { not_ready, broken: self.threads.broken() });
                }
                // Unread events may change the result. But on a busy host there are always some.
                LoopEvent::EvaluationDue if more && self.last_evaluation.elapsed() < EVALUATE_AT_LEAST_EVERY => {}
                LoopEvent::EvaluationDue => self.evaluate(if more { self.session.last_event_ns() } else { now_ns() }),
                LoopEvent::Listed(answer) => {
                    let purpose = self.handle_listing(*answer)?;
                    if purpose == Some(Purpose::Start) && self.started.is_none() {
                        self.started = Some(Instant::now());
                        self.service.ready();
                        self.greet();
                        ready = self.ready_file.take().map(ReadyFile::create).transpose()?;
                        release_memory();
                    }
                    if matches!(purpose, Some(Purpose::Start | Purpose::Evidence)) {
                        self.next_evaluation = Instant::now();
                        self.evaluate(now_ns());
                        self.refresh();
                    }
                }
            }
            if self.is_once_done() {
                return Ok("once");
            }
            self.outputs.push(self.session.take());
            if self.outputs.are_over() && self.queries.is_none() {
                return Ok("closed");
            }
            if self.is_gone {
                let gone_message = self.chosen.as_ref().map(ChosenNetns::gone_message).unwrap_or_default();
                info(format_args!("{gone_message}: the trace ends"));
                return Ok("netns_gone");
            }
            if self.session.is_complete() {
                drop(ready);
                return Ok("count");
            }
        }
    }

    /// Shows on a terminal that it traces: on an idle machine the first event may be far away.
    fn greet(&mut self) {
        if io::stdout().is_terminal() && self.session.write_headings() && io::stderr().is_terminal() {
            info(format_args!("tracing, Ctrl-C ends"));
        }
    }

    /// Shows the present on the screen.
    fn refresh(&mut self) {
        if let Some(screen) = &mut self.screen {
            screen.refresh(&mut self.session, now_ns());
        }
    }

    /// Takes the keys that were pressed; breaks when the user wants to end.
    fn take_keys(&mut self) -> ControlFlow<()> {
        match &mut self.screen {
            Some(screen) => screen.take_keys(&mut self.session, now_ns(), &mut |_| ()),
            None => ControlFlow::Continue(()),
        }
    }

    fn metrics(&mut self) -> Option<metrics::Snapshot> {
        self.session.metrics(now_ns(), usage(), &threads::states(&self.outputs), self.threads.states())
    }

    /// Sends the current metrics to the outputs that want them.
    fn push_metrics(&mut self) {
        if let Some(snapshot) = self.metrics() {
            push(&self.outputs, &snapshot);
        }
    }

    /// Checks the threads, and replaces those that hang or have died.
    fn check_threads(&mut self) -> Result<(), Error> {
        self.threads.check(&self.outputs, &["listing", "http", names::THREAD, names::RESOLVER, SAMPLER])?;
        if self.names.is_broken() {
            self.threads.replace(names::THREAD)?;
            self.names.replace(&mut self.session.context.names).map_err(no_thread)?;
        }
        if self.worker.is_broken() {
            self.threads.replace("listing")?;
            let iterators = self.spare.as_ref().and_then(|iterators| iterators.try_clone().ok());
            let chosen = self.chosen.clone();
            let make = move || match &chosen {
                Some(chosen) => Lister::of(iterators, chosen),
                None => Lister::new(iterators, None),
            };
            self.worker.replace(make).map_err(no_thread)?;
            if self.listing.is_some() {
                self.handle_listing(Err(crate::listing::Error::Hangs))?;
            }
        }
        self.threads.replace_server(self.server.as_mut())
    }

    pub(crate) fn check_losses(&mut self) -> Result<bool, Error> {
        let (by_cpu, passed_over) = (self.counters.read()?, self.counters.passed_over());
        let counters = CounterReading::new(now_ns(), &by_cpu, passed_over, self.outputs.lost());
        Ok(self.apply(&Input::Counters(counters)))
    }

    /// Passes an input to the session, and to the recording. Returns true if the session wants a listing.
    pub(super) fn apply(&mut self, input: &Input<'_>) -> bool {
        let wants_listing = self.session.apply(input);
        if let Some(recorder) = &mut self.recorder {
            recorder.add(input, &mut self.session.context.names);
            if let Some(noticed) = self.session.watch.as_mut().and_then(FindingWatch::take) {
                recorder.keep(noticed);
            }
        }
        wants_listing
    }

    fn record_sample(&mut self, round: Option<&Round>) {
        if let Some((recorder, round)) = self.recorder.as_mut().zip(round) {
            recorder.sample(round);
        }
    }

    /// Rates of a recording cover all of it.
    async fn sample_at_the_end(&mut self) {
        let Some(sampling) = &mut self.sampling else { return };
        sampling.ask();
        if let Ok(round) = timeout_at(Instant::now() + NAMED_WITHIN, sampling.next()).await {
            self.record_sample(round.as_ref());
        }
    }

    fn recording_wants_listing(&self) -> bool {
        self.recorder.as_ref().is_some_and(Recorder::wants_listing)
    }

    /// True if a run with `--once` may end. It is limited in time, because on a busy host new sockets keep becoming suspicious.
    fn is_once_done(&self) -> bool {
        let has_time = |started: Instant| started.elapsed() < ONCE_WITHIN && !self.session.is_settled();
        self.once && self.started.is_some_and(|started| !has_time(started))
    }

    /// Evaluates the rules for findings, and requests a listing if they lack evidence.
    fn evaluate(&mut self, now_ns: u64) {
        if Instant::now() < self.next_evaluation {
            return;
        }
        let start = Instant::now();
        if self.apply(&Input::Evaluated(now_ns)) {
            self.request_listing(Purpose::Evidence);
        }
        self.next_evaluation = Instant::now() + (EVALUATE_REST * start.elapsed()).min(EVALUATE_AT_LEAST_EVERY);
        self.last_evaluation = start;
    }

    /// Reads events up to this time until a piece of output is full or none is left; returns true if there may be more.
    fn read(&mut self, until_ns: u64) -> bool {
        if let Some(names) = self.netns_names.changed() {
            self.apply(&Input::NetnsNames(names.into()));
        }
        if let Some(log) = &mut self.log {
            log.flush();
        }
        let mut left = READ_AT_ONCE;
        let Self { rings, session, recorder, .. } = self;
        rings.get_mut().read(until_ns, |record| {
            let input = Input::Record(record);
            session.apply(&input);
            if let Some(recorder) = recorder {
                recorder.add(&input, &mut session.context.names);
            }
            left -= 1;
            left > 0 && session.rendered() < PIECE_BYTES
        })
    }

    /// Takes an answer, and those that are there already.
    fn learn(&mut self, answer: Answer) {
        for input in self.names.take(answer) {
            self.apply(&input);
        }
    }

    /// Waits a moment for the names that the last records need.
    async fn await_names(&mut self, now_ns: u64) {
        let deadline = Instant::now() + NAMED_WITHIN;
        while self.apply(&Input::NamesAsked(now_ns)) {
            match timeout_at(deadline, self.names.next()).await {
                Ok(answer) => self.learn(answer),
                Err(_) => return,
            }
        }
    }

    /// Reads the remaining events, writes the last records, and waits until everything is delivered.
    pub(crate) async fn finish(mut self, reason: &str) -> Result<Ended, Error> {
        self.service.stopping(SHUTDOWN_LIMIT);
        while self.read(now_ns()) {
            self.outputs.push(self.session.take());
        }
        let counted = self.check_losses();
        self.list_at_the_end().await;
        let now_ns = now_ns();
        self.apply(&Input::Evaluated(now_ns));
        self.await_names(now_ns).await;
        self.sample_at_the_end().await;
        self.apply(&Input::Finished(now_ns));
        self.apply(&Input::Ended(reason.into()));
        self.outputs.push(self.session.take());
        if self.pushes.is_some() {
            self.push_metrics();
        }
        // The last record has the delivery state of all outputs.
        self.outputs.drain();
        let outputs = threads::states(&self.outputs);
        self.session.end(now_ns, reason, &outputs);
        self.outputs.push(self.session.take());
        let (open, seen) = self.session.open(now_ns).unwrap_or_default();
        let ended = Ended { open, seen, written: self.session.written() };
        let written = self.outputs.end();
        let recorded = self.recorder.take().map_or(Ok(()), Recorder::finish);
        report_end(&self.session.losses, &outputs);
        written.map_err(Error::Outputs)?;
        recorded.map_err(Error::Outputs)?;
        counted?;
        Ok(ended)
    }
}

/// What woke up the loop.
pub(crate) enum LoopEvent {
    Events,
    HungUp,
    PushDue,
    Queried(Query),
    Named(Answer),
    Sampled(Option<Round>),
    SummaryDue,
    CheckDue,
    PollDue,
    RefreshDue,
    KeyPressed,
    EvaluationDue,
    Listed(Box<ListingResult>),
}

pub(crate) fn worker(rings: Rings) -> Result<AsyncFd<Rings>, Error> {
    // SAFETY: the rings own their maps and so the file descriptors, which do not change while the rings live.
    unsafe { AsyncFd::register_with_interest(rings, Interest::READABLE) }
        .map_err(|error| Error::Setup { what: "the ring buffers", source: error.into_parts().1 })
}

/// The next key of the screen, or never.
async fn woken(screen: &mut Option<Screen>) {
    match screen {
        Some(screen) => screen.woken().await,
        None => std::future::pending().await,
    }
}

/// The next sample of the kernel's counters, or never.
async fn sampled(sampling: &mut Option<Sampling>) -> Option<Round> {
    match sampling {
        Some(sampling) => sampling.next().await,
        None => std::future::pending().await,
    }
}

/// The next tick, or never.
pub(crate) async fn due(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => _ = interval.tick().await,
        None => std::future::pending().await,
    }
}

/// How a run ended.
pub struct Ended {
    /// The findings that were open at the end, worst first.
    pub open: Vec<Finding>,
    /// What was checked for findings.
    pub seen: Coverage,
    /// Number of events, findings and stories written.
    pub written: u64,
}

impl Ended {
    /// The highest severity of the open findings.
    #[must_use]
    pub fn worst(&self) -> Option<Severity> {
        self.open.iter().map(|finding| finding.detection.severity).max()
    }
}

/// Reports the end of a run on stderr: a short line if nothing was lost, otherwise what was lost where.
pub(crate) fn report_end(losses: &Losses, outputs: &[OutputState]) {
    let has_seen_enough = |output: &&OutputState| output.has_no_reader && output.name != LOG;
    let unwanted: u64 = outputs.iter().filter(has_seen_enough).map(OutputState::lost).sum();
    let losses = Losses { outputs: losses.outputs.saturating_sub(unwanted), ..losses.clone() };
    if losses.any() {
        warn(losses_line(&losses))
    } else {
        info(losses_line(&losses))
    }
    for output in outputs.iter().filter(|output| output.suppressed > 0) {
        let OutputState { name, suppressed, .. } = output;
        info(format_args!("output {name}: {suppressed} of {} records were suppressed by its rate", output.made()));
    }
    // Outputs that failed are in the error message.
    for output in outputs.iter().filter(|output| output.lost() > 0 && output.trouble.is_none()) {
        warn(format_args!("output {}: {} of {} records were lost", output.name, output.lost(), output.made()));
    }
}
