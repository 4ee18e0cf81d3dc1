//! The main loop: reads the rings, looks at timers, and hands what comes over to the session and the outputs.

use std::{
    collections::HashSet,
    io::{self, IsTerminal as _},
    path::PathBuf,
    time::Duration,
};

use aya_log::EbpfLogger;
use tcptrace_common::listener::ListenerKey;
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc,
    time::{Instant, Interval},
};

use super::threads::Threads;
use crate::{
    analysis::metrics,
    bpf::{
        iterators::Iterators,
        probes::{KernelCounters, ListenerTable},
        rings::Rings,
    },
    commands::{
        delivery::{asked, push},
        trace::{
            error::{Error, no_thread},
            kernel_log::StderrLog,
            purpose::Purpose,
            ready_file::ReadyFile,
            threads,
        },
    },
    findings::Severity,
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
    },
    pipeline::session::Session,
    render::text::losses_line,
    sys::{
        clock::{now_ns, wall_offset},
        process::usage,
        signals::{Hangup, SHUTDOWN_LIMIT, Stop, every, release_memory},
        systemd::Service,
    },
};

/// Output is handed over in pieces of about this size.
pub(crate) const PIECE_BYTES: usize = 64 * 1024;

/// Records that are read between two looks at signals and timers at most.
pub(crate) const READ_AT_ONCE: usize = 4096;

/// Time between two looks at the kernel's counters.
pub(crate) const CHECK_EVERY: Duration = Duration::from_secs(1);

/// Time between two looks for trouble at least; they rest for this many times the time that one took.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(250);

pub(crate) const LOOK_REST: u32 = 20;

/// But not for longer than this.
pub(crate) const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(1);

/// The evidence of one look is waited for so long at most.
pub(crate) const ONE_LOOK: Duration = Duration::from_secs(2);

/// What a run works with once all is attached.
pub(crate) struct Run {
    /// What the server of metrics wants to know.
    pub(super) queries: Option<mpsc::Receiver<Query>>,
    /// Time between two sendings of metrics.
    pub(super) pushes: Option<Duration>,
    pub(super) rings: AsyncFd<Rings>,
    pub(super) counters: KernelCounters,
    pub(super) listeners: ListenerTable,
    /// Listeners from before the start that were told to the programs, until it is sure that they were still there then.
    pub(super) seeded: HashSet<ListenerKey>,
    pub(super) log: Option<EbpfLogger<StderrLog>>,
    pub(super) session: Session,
    pub(super) outputs: Outputs,
    pub(super) worker: ListingWorker,
    pub(super) threads: Threads,
    /// Serves metrics and health.
    pub(super) server: Option<Server>,
    /// Does another thread that lists sockets do without iterators, too?
    pub(super) no_iterators: bool,
    /// What the listing that is under way is for.
    pub(super) listing: Option<Purpose>,
    /// Why the last listing failed, where it did: told once.
    pub(super) failed: Option<String>,
    /// Time between two polls at least.
    pub(super) poll: Option<Duration>,
    /// No poll is made before this.
    pub(super) next_poll: Instant,
    /// No listing of all sockets is made before this: healing and reports wait, but not for polls to have rested.
    pub(super) rest: Instant,
    /// No listing for a report is made before this.
    pub(super) next_report: Instant,
    /// No look for trouble is taken before this.
    pub(super) next_look: Instant,
    /// When the last one was taken.
    pub(super) last_look: Instant,
    /// Is the run over when all trouble was told of that can be seen at the start?
    pub(super) once: bool,
    /// The network namespace that is chosen.
    pub(super) chosen: Option<ChosenNetns>,
    /// Is it no more?
    pub(super) is_gone: bool,
    pub(super) netns_names: NameWatch,
    /// When the sockets from before the start were known.
    pub(super) started: Option<Instant>,
    /// Sockets from before the start whose owners the programs are to remember at most: the rest of their memory is for
    /// what comes.
    pub(super) new_owners: u32,
    /// To be made when the sockets from before the start are known.
    pub(super) ready_file: Option<PathBuf>,
    pub(super) service: Service,
    pub(super) hangup: Hangup,
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
        let mut looks = self.session.has_findings().then(|| every(LOOK_EVERY));
        let mut ready = None;
        let mut more = false;
        loop {
            let happened = tokio::select! {
                biased;
                reason = stop.wait() => return Ok(reason),
                () = self.hangup.received() => LoopEvent::HungUp,
                () = due(&mut summaries) => LoopEvent::SummaryDue,
                answer = self.worker.next_result() => LoopEvent::Listed(Box::new(answer)),
                () = std::future::ready(()), if more => LoopEvent::Events,
                _ = read.tick() => LoopEvent::Events,
                _ = checks.tick() => LoopEvent::CheckDue,
                () = due(&mut polls) => LoopEvent::PollDue,
                () = due(&mut looks) => LoopEvent::LookDue,
                () = due(&mut pushes) => LoopEvent::PushDue,
                query = asked(&mut self.queries) => LoopEvent::Asked(query),
                ready = self.rings.readable_mut() => {
                    if let Ok(mut ready) = ready {
                        ready.clear_ready();
                    }
                    LoopEvent::Events
                }
            };
            self.session.context.wall = wall_offset();
            let before_ns = now_ns();
            more = self.read(before_ns);
            if !more {
                self.session.tick(before_ns);
            }
            match happened {
                LoopEvent::Events => {}
                LoopEvent::SummaryDue => self.summarize()?,
                LoopEvent::HungUp => {
                    self.outputs.reopen();
                    self.service.reloaded();
                }
                LoopEvent::CheckDue => {
                    self.check_threads()?;
                    let broken = self.threads.broken();
                    let status = broken.clone().unwrap_or_else(|| losses_line(&self.session.losses));
                    self.service.alive(&status, broken.is_none());
                    if self.check_losses()? {
                        self.ask(Purpose::Heal);
                    }
                    if self.session.wants_listeners(now_ns()) {
                        self.ask(Purpose::Services);
                    }
                    if self.chosen.as_ref().is_some_and(|chosen| !chosen.has_its_name()) {
                        self.ask(Purpose::Namespace);
                    }
                }
                LoopEvent::PollDue => self.ask(Purpose::Poll),
                LoopEvent::PushDue => self.push_metrics(),
                LoopEvent::Asked(Query::Metrics(to)) => {
                    // Nobody waits any more where sending fails.
                    let _ = self.metrics().map(|snapshot| to.send(snapshot));
                }
                LoopEvent::Asked(Query::Health(to)) => {
                    let not_ready = self
                        .started
                        .is_none()
                        .then(|| "the sockets from before the start are not known yet".to_owned());
                    let _ = to.send(Health { not_ready, broken: self.threads.broken() });
                }
                // What has happened is not all known yet; on a busy host it may never be.
                LoopEvent::LookDue if more && self.last_look.elapsed() < LOOK_AT_LEAST_EVERY => {}
                LoopEvent::LookDue => self.look(if more { self.session.last_event_ns() } else { now_ns() }),
                LoopEvent::Listed(answer) => {
                    let purpose = self.take_in(*answer)?;
                    if purpose == Some(Purpose::Start) && self.started.is_none() {
                        self.started = Some(Instant::now());
                        self.service.ready();
                        self.greet();
                        ready = self.ready_file.take().map(ReadyFile::create).transpose()?;
                        release_memory();
                    }
                    if matches!(purpose, Some(Purpose::Start | Purpose::Evidence)) {
                        self.next_look = Instant::now();
                        self.look(now_ns());
                    }
                }
            }
            if self.has_looked_once() {
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

    fn metrics(&mut self) -> Option<metrics::Snapshot> {
        self.session.metrics(now_ns(), usage(), &threads::states(&self.outputs), self.threads.states())
    }

    /// Hands the metrics of this moment over to the outputs that want them.
    fn push_metrics(&mut self) {
        if let Some(snapshot) = self.metrics() {
            push(&self.outputs, &snapshot);
        }
    }

    /// Looks at the threads, and replaces those that hang or are dead where that can be done.
    fn check_threads(&mut self) -> Result<(), Error> {
        self.threads.look(&self.outputs, &["listing", "http"])?;
        if self.worker.is_broken() {
            self.threads.replace("listing")?;
            let (chosen, no_iterators) = (self.chosen.clone(), self.no_iterators);
            let make = move || {
                let iterators = if no_iterators { None } else { Iterators::alone().ok() };
                match &chosen {
                    Some(chosen) => Lister::of(iterators, chosen),
                    None => Lister::new(iterators, None),
                }
            };
            self.worker.replace(make).map_err(no_thread)?;
            if self.listing.is_some() {
                self.take_in(Err(crate::listing::Error::Hangs))?;
            }
        }
        self.threads.replace_server(self.server.as_mut())
    }

    pub(crate) fn check_losses(&mut self) -> Result<bool, Error> {
        self.session.losses.outputs = self.outputs.lost();
        Ok(self.session.check_losses(&self.counters.read()?, self.counters.passed_over(), now_ns()))
    }

    /// Is it time to end, where one look at what is there was asked for? On a busy host sockets become suspect all the
    /// time.
    fn has_looked_once(&self) -> bool {
        let has_time = |started: Instant| started.elapsed() < ONE_LOOK && !self.session.is_settled();
        self.once && self.started.is_some_and(|started| !has_time(started))
    }

    /// Looks for trouble; where that takes evidence, asks for it.
    fn look(&mut self, now_ns: u64) {
        if Instant::now() < self.next_look {
            return;
        }
        let start = Instant::now();
        if self.session.evaluate(now_ns) {
            self.ask(Purpose::Evidence);
        }
        self.next_look = Instant::now() + (LOOK_REST * start.elapsed()).min(LOOK_AT_LEAST_EVERY);
        self.last_look = start;
    }

    /// Takes in events up to this time until a piece of output is full or none is left; tells whether more may be waiting.
    fn read(&mut self, until_ns: u64) -> bool {
        if let Some(names) = self.netns_names.changed() {
            self.session.context.names.netns = names.into_iter().collect();
        }
        if let Some(log) = &mut self.log {
            log.flush();
        }
        let mut left = READ_AT_ONCE;
        self.rings.get_mut().read(until_ns, |record| {
            self.session.ingest(record);
            left -= 1;
            left > 0 && self.session.rendered() < PIECE_BYTES
        })
    }

    /// Takes in what is left, writes the last words, and waits until all is written.
    pub(crate) async fn finish(mut self, reason: &str) -> Result<Ended, Error> {
        self.service.stopping(SHUTDOWN_LIMIT);
        while self.read(now_ns()) {
            self.outputs.push(self.session.take());
        }
        let counted = self.check_losses();
        self.list_at_the_end().await;
        let now_ns = now_ns();
        self.session.evaluate(now_ns);
        self.session.finish(now_ns);
        self.outputs.push(self.session.take());
        if self.pushes.is_some() {
            self.push_metrics();
        }
        // The last record tells what became of all others.
        self.outputs.drain();
        let outputs = threads::states(&self.outputs);
        self.session.end(now_ns, reason, &outputs);
        self.outputs.push(self.session.take());
        let ended = Ended { worst: self.session.worst(now_ns), written: self.session.written() };
        let written = self.outputs.end();
        tell_end(&self.session.losses, &outputs);
        written.map_err(Error::Outputs)?;
        counted?;
        Ok(ended)
    }
}

/// What the loop woke up for.
pub(crate) enum LoopEvent {
    Events,
    HungUp,
    PushDue,
    Asked(Query),
    SummaryDue,
    CheckDue,
    PollDue,
    LookDue,
    Listed(Box<ListingResult>),
}

pub(crate) fn worker(rings: Rings) -> Result<AsyncFd<Rings>, Error> {
    // SAFETY: the rings own their maps, and these their descriptors, which stay the same as long as they live.
    unsafe { AsyncFd::register_with_interest(rings, Interest::READABLE) }
        .map_err(|error| Error::Setup { what: "the ring buffers", source: error.into_parts().1 })
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
    /// The severity of the worst finding that was open then.
    pub worst: Option<Severity>,
    /// Events, findings and stories that were written.
    pub written: u64,
}

/// Tells how a run ended: a few words where nothing was lost, else how much, where, and by which outputs.
pub(crate) fn tell_end(losses: &Losses, outputs: &[OutputState]) {
    let has_seen_enough = |output: &&OutputState| output.has_no_reader && output.name != LOG;
    let unwanted: u64 = outputs.iter().filter(has_seen_enough).map(OutputState::lost).sum();
    let losses = Losses { outputs: losses.outputs.saturating_sub(unwanted), ..losses.clone() };
    if losses.any() {
        warn(losses_line(&losses))
    } else {
        info(losses_line(&losses))
    }
    // Of those that are in trouble the error tells.
    for output in outputs.iter().filter(|output| output.lost() > 0 && output.trouble.is_none()) {
        warn(format_args!("output {}: {} of {} records are lost", output.name, output.lost(), output.made()));
    }
}
