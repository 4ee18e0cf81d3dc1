//! Joins the edges with the pure middle: the only loop, and the only place that knows both.

mod listing;
pub(crate) mod threads;

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, IsTerminal as _},
    path::PathBuf,
    time::Duration,
};

use aya::maps::MapError;
use aya_log::EbpfLogger;
use tcptrace_common::listener::ListenerKey;
use thiserror::Error;
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc,
    time::{Instant, Interval},
};

use self::{listing::Purpose, threads::Threads};
use crate::{
    bpf::{
        iterators::Iterators,
        object, preflight,
        probes::{Attached, KernelCounters, ListenerTable, Probes},
        rings::Rings,
    },
    cgroup,
    cli::{parse::NetnsChoice, settings::Settings},
    delivery::{self, asked, push, pushes, serve},
    files,
    findings::Severity,
    heap,
    http::{Health, Question, Server},
    keyed::Addresses,
    listing::{
        Lister,
        netns::{self, Chosen, NameWatch},
        proc,
    },
    losses::Losses,
    metrics,
    now::{now_ns, wall_offset},
    outputs::{LOG, OutputState, Outputs},
    pids::{self, View},
    render::{Context, Names, text::losses_line},
    runtime::{ENDS_WITHIN, Hangup, Stop, ends, every, release_memory, removes_at_once},
    service::Service,
    session::Session,
    tell::{tell, warn},
    usage::usage,
    watch::{Answer, Watch},
    workers::WorkerState,
};

/// Output is handed over in pieces of about this size.
const PIECE_BYTES: usize = 64 * 1024;
/// Records that are read between two looks at signals and timers at most.
const READ_AT_ONCE: usize = 4096;

/// Why a run failed.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("{0}")]
    Obstacle(String),
    #[error(transparent)]
    Probes(#[from] object::Error),
    #[error("cannot read the counters of the BPF programs: {0}")]
    Counters(#[from] MapError),
    #[error(transparent)]
    Delivery(#[from] delivery::Error),
    #[error("{0}")]
    Outputs(String),
    #[error("cannot create the ready file {}: {source}", path.display())]
    ReadyFile { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Netns(#[from] netns::Error),
    #[error("cannot set up {what}: {source}")]
    Setup { what: &'static str, source: io::Error },
    #[error("{0}")]
    Thread(WorkerState),
    #[error("the thread `{0}` hangs or fails again and again")]
    HangsAgain(String),
    #[error("no output takes anything any more")]
    AllHang,
}

/// What all traces begin with: the namespace that is wanted is found, the way of the output opened, signals handled, and
/// the programs attached. Tells what could not be attached.
///
/// # Errors
/// Where tracing cannot start.
pub(crate) fn start(settings: &mut Settings) -> Result<(Outputs, Stop, Hangup, Attached), Error> {
    if let Some(path) = &settings.ready_file {
        files::remove_stale(path).map_err(|source| Error::ReadyFile { path: path.clone(), source })?;
    }
    if let Some(obstacle) = preflight::obstacle() {
        return Err(Error::Obstacle(obstacle));
    }
    pids::check(&settings.session.selection.pids).map_err(Error::Obstacle)?.into_iter().for_each(tell);
    pids::warning().into_iter().for_each(tell);
    // Iterators show the processes of this PID namespace alone.
    settings.probes.no_iterators |= pids::view() == View::HostProc;
    settings.chosen = settings.netns.as_ref().map(Chosen::find).transpose()?.flatten();
    if let Some(Chosen { inode, cookie, .. }) = settings.chosen {
        settings.session.selection.netns = Some(inode);
        settings.probes.filter.constants.netns = inode;
        settings.probes.filter.netns_cookie = cookie;
    }
    let outputs = delivery::open(&settings.outputs)?;
    let reopens = settings.takes_hangup();
    let stop = Stop::new(reopens).map_err(signals)?;
    let hangup = Hangup::new(reopens).map_err(signals)?;
    let attached = Probes::attach(&settings.probes)?;
    for missing in &attached.probes.missing {
        warn(format_args!("not attached: {} ({}): {}", missing.hook, missing.reason, missing.effect));
    }
    Ok((outputs, stop, hangup, attached))
}

fn signals(source: io::Error) -> Error {
    Error::Setup { what: "the handling of signals", source }
}

/// How a run ended.
pub struct Ended {
    /// The severity of the worst finding that was open then.
    pub worst: Option<Severity>,
    /// Events, findings and stories that were written.
    pub written: u64,
}

/// Traces until a signal or a limit ends the run, or nobody reads any more.
///
/// # Errors
/// Where tracing cannot start, or the output cannot be written.
pub async fn run(mut settings: Settings) -> Result<Ended, Error> {
    heap::be_steady();
    let (outputs, mut stop, hangup, attached) = start(&mut settings)?;
    let Attached { mut probes, rings, counters, listeners, iterators, netns_alias, .. } = attached;
    if let Err(reason) = &iterators
        && !matches!(reason, object::Error::Forbidden)
    {
        tell(format_args!("sockets are listed by sock_diag and /proc: {reason}"));
    }
    let lister = match &settings.chosen {
        Some(chosen) => Lister::of(iterators.ok(), chosen),
        None => Lister::new(iterators.ok(), None),
    };
    let mut names = Names::new(std::mem::take(&mut probes.reset_reasons), Box::new(cgroup::lookup()));
    names.addresses = Addresses::new(settings.kernel_addresses);
    names.find_executable = Some(Box::new(proc::executable));
    names.own_netns = netns::find(Some(&NetnsChoice::Own))?.0.first().map(|found| found.inode);
    let context = Context { wall: wall_offset(), names };
    let start_ns = now_ns();
    settings.session.owner_unchecked = probes.owner_unchecked;
    let (server, questions) = serve(settings.server)?;
    let pushes = pushes(&settings.outputs).then_some(settings.metrics_every);
    let mut run = Run {
        questions,
        pushes,
        rings: watch(rings)?,
        counters,
        listeners,
        seeded: HashSet::new(),
        log: settings.probes.log_level.map(|_| probes.logger(StderrLog)).transpose()?,
        session: Session::new(settings.session, settings.routes, context, start_ns),
        outputs,
        watch: Watch::start(move || lister).map_err(no_thread)?,
        threads: Threads::default(),
        server,
        no_iterators: settings.probes.no_iterators,
        listing: None,
        failed: None,
        poll: settings.poll,
        next_poll: Instant::now(),
        rest: Instant::now(),
        next_report: Instant::now(),
        next_look: Instant::now(),
        last_look: Instant::now(),
        once: settings.once,
        started: None,
        seeds: settings.probes.max_sockets / 2,
        ready_file: settings.ready_file,
        service: settings.service,
        hangup,
        chosen: settings.chosen,
        is_gone: false,
        netns_names: NameWatch::default(),
    };
    run.session.netns_alias = netns_alias;
    stop.deadline = settings.duration.map(|duration| Instant::now() + duration);
    run.ask(Purpose::Start);
    let stopped = run.until_stopped(&mut stop, settings.read_every, settings.interval).await;
    ends();
    drop(probes); // detached: what is in the rings now is all there will be
    let finished = run.finish(stopped.as_ref().map_or("failed", |reason| reason)).await;
    match (stopped, finished) {
        (Err(error), finished) => {
            let _ = finished.map_err(warn);
            Err(error)
        }
        (Ok(_), finished) => finished,
    }
}

fn no_thread(source: io::Error) -> Error {
    Error::Setup { what: "the listing of sockets", source }
}

/// Time between two looks at the kernel's counters.
pub(crate) const CHECK_EVERY: Duration = Duration::from_secs(1);
/// Time between two looks for trouble at least; they rest for this many times the time that one took.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const LOOK_REST: u32 = 20;
/// But not for longer than this.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(1);
/// The evidence of one look is waited for so long at most.
const ONE_LOOK: Duration = Duration::from_secs(2);

/// What a run works with once all is attached.
struct Run {
    /// What the server of metrics wants to know.
    questions: Option<mpsc::Receiver<Question>>,
    /// Time between two sendings of metrics.
    pushes: Option<Duration>,
    rings: AsyncFd<Rings>,
    counters: KernelCounters,
    listeners: ListenerTable,
    /// Listeners from before the start that were told to the programs, until it is sure that they were still there then.
    seeded: HashSet<ListenerKey>,
    log: Option<EbpfLogger<StderrLog>>,
    session: Session,
    outputs: Outputs,
    watch: Watch,
    threads: Threads,
    /// Serves metrics and health.
    server: Option<Server>,
    /// Does another thread that lists sockets do without iterators, too?
    no_iterators: bool,
    /// What the listing that is under way is for.
    listing: Option<Purpose>,
    /// Why the last listing failed, where it did: told once.
    failed: Option<String>,
    /// Time between two polls at least.
    poll: Option<Duration>,
    /// No poll is made before this.
    next_poll: Instant,
    /// No listing of all sockets is made before this: healing and reports wait, but not for polls to have rested.
    rest: Instant,
    /// No listing for a report is made before this.
    next_report: Instant,
    /// No look for trouble is taken before this.
    next_look: Instant,
    /// When the last one was taken.
    last_look: Instant,
    /// Is the run over when all trouble was told of that can be seen at the start?
    once: bool,
    /// The network namespace that is chosen.
    chosen: Option<Chosen>,
    /// Is it no more?
    is_gone: bool,
    netns_names: NameWatch,
    /// When the sockets from before the start were known.
    started: Option<Instant>,
    /// Sockets from before the start whose owners the programs are to remember at most: the rest of their memory is for
    /// what comes.
    seeds: u32,
    /// To be made when the sockets from before the start are known.
    ready_file: Option<PathBuf>,
    service: Service,
    hangup: Hangup,
}

impl Run {
    /// Reads events and writes output; returns why it ended.
    async fn until_stopped(
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
        let mut looks = self.session.looks().then(|| every(LOOK_EVERY));
        let mut ready = None;
        let mut more = false;
        loop {
            let happened = tokio::select! {
                biased;
                reason = stop.reached() => return Ok(reason),
                () = self.hangup.came() => Happened::HungUp,
                () = due(&mut summaries) => Happened::SummaryDue,
                answer = self.watch.answer() => Happened::Listed(Box::new(answer)),
                () = std::future::ready(()), if more => Happened::Events,
                _ = read.tick() => Happened::Events,
                _ = checks.tick() => Happened::CheckDue,
                () = due(&mut polls) => Happened::PollDue,
                () = due(&mut looks) => Happened::LookDue,
                () = due(&mut pushes) => Happened::PushDue,
                question = asked(&mut self.questions) => Happened::Asked(question),
                ready = self.rings.readable_mut() => {
                    if let Ok(mut ready) = ready {
                        ready.clear_ready();
                    }
                    Happened::Events
                }
            };
            self.session.context.wall = wall_offset();
            let before_ns = now_ns();
            more = self.read(before_ns);
            if !more {
                self.session.tick(before_ns);
            }
            match happened {
                Happened::Events => {}
                Happened::SummaryDue => self.summarize()?,
                Happened::HungUp => {
                    self.outputs.reopen();
                    self.service.reloaded();
                }
                Happened::CheckDue => {
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
                Happened::PollDue => self.ask(Purpose::Poll),
                Happened::PushDue => self.push_metrics(),
                Happened::Asked(Question::Metrics(to)) => {
                    // Nobody waits any more where sending fails.
                    let _ = self.metrics().map(|snapshot| to.send(snapshot));
                }
                Happened::Asked(Question::Health(to)) => {
                    let not_ready = self
                        .started
                        .is_none()
                        .then(|| "the sockets from before the start are not known yet".to_owned());
                    let _ = to.send(Health { not_ready, broken: self.threads.broken() });
                }
                // What has happened is not all known yet; on a busy host it may never be.
                Happened::LookDue if more && self.last_look.elapsed() < LOOK_AT_LEAST_EVERY => {}
                Happened::LookDue => self.look(if more { self.session.last_event_ns() } else { now_ns() }),
                Happened::Listed(answer) => {
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
            if self.outputs.are_over() && self.questions.is_none() {
                return Ok("closed");
            }
            if self.is_gone {
                let epitaph = self.chosen.as_ref().map(Chosen::epitaph).unwrap_or_default();
                tell(format_args!("{epitaph}: the trace ends"));
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
            tell(format_args!("tracing, Ctrl-C ends"));
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
        if self.watch.is_broken() {
            self.threads.replace("listing")?;
            let (chosen, no_iterators) = (self.chosen.clone(), self.no_iterators);
            let make = move || {
                let iterators = if no_iterators { None } else { Iterators::alone().ok() };
                match &chosen {
                    Some(chosen) => Lister::of(iterators, chosen),
                    None => Lister::new(iterators, None),
                }
            };
            self.watch.replace(make).map_err(no_thread)?;
            if self.listing.is_some() {
                self.take_in(Err(crate::listing::Error::Hangs))?;
            }
        }
        self.threads.replace_server(self.server.as_mut())
    }

    fn check_losses(&mut self) -> Result<bool, Error> {
        self.session.losses.outputs = self.outputs.lost();
        Ok(self.session.check_losses(&self.counters.read()?, self.counters.passed_over(), now_ns()))
    }

    /// Is it time to end, where one look at what is there was asked for? On a busy host sockets become suspect all the
    /// time.
    fn has_looked_once(&self) -> bool {
        let has_time = |started: Instant| started.elapsed() < ONE_LOOK && !self.session.has_told_all();
        self.once && self.started.is_some_and(|started| !has_time(started))
    }

    /// Looks for trouble; where that takes evidence, asks for it.
    fn look(&mut self, now_ns: u64) {
        if Instant::now() < self.next_look {
            return;
        }
        let start = Instant::now();
        if self.session.look(now_ns) {
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
    async fn finish(mut self, reason: &str) -> Result<Ended, Error> {
        self.service.stopping(ENDS_WITHIN);
        while self.read(now_ns()) {
            self.outputs.push(self.session.take());
        }
        let counted = self.check_losses();
        self.list_at_the_end().await;
        let now_ns = now_ns();
        self.session.look(now_ns);
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
enum Happened {
    Events,
    HungUp,
    PushDue,
    Asked(Question),
    SummaryDue,
    CheckDue,
    PollDue,
    LookDue,
    Listed(Box<Answer>),
}

fn watch(rings: Rings) -> Result<AsyncFd<Rings>, Error> {
    // SAFETY: the rings own their maps, and these their descriptors, which stay the same as long as they live.
    unsafe { AsyncFd::register_with_interest(rings, Interest::READABLE) }
        .map_err(|error| Error::Setup { what: "the ring buffers", source: error.into_parts().1 })
}

/// Tells how a run ended: a few words where nothing was lost, else how much, where, and by which outputs.
pub(crate) fn tell_end(losses: &Losses, outputs: &[OutputState]) {
    let has_seen_enough = |output: &&OutputState| output.has_no_reader && output.name != LOG;
    let unwanted: u64 = outputs.iter().filter(has_seen_enough).map(OutputState::lost).sum();
    let losses = Losses { outputs: losses.outputs.saturating_sub(unwanted), ..losses.clone() };
    if losses.any() {
        warn(losses_line(&losses))
    } else {
        tell(losses_line(&losses))
    }
    // Of those that are in trouble the error tells.
    for output in outputs.iter().filter(|output| output.lost() > 0 && output.trouble.is_none()) {
        warn(format_args!("output {}: {} of {} records are lost", output.name, output.lost(), output.made()));
    }
}

/// The next tick, or never.
pub(crate) async fn due(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => _ = interval.tick().await,
        None => std::future::pending().await,
    }
}

/// A file that is there while all is attached.
pub(crate) struct ReadyFile {
    path: PathBuf,
    /// Locked: so it is known that the run goes on.
    file: File,
}

impl ReadyFile {
    pub(crate) fn create(path: PathBuf) -> Result<Self, Error> {
        let locked = |file: File| files::lock(&file).map(|()| file);
        match files::create(&path, None).and_then(locked) {
            Ok(file) => {
                removes_at_once(Some(&path));
                Ok(Self { path, file })
            }
            Err(source) => Err(Error::ReadyFile { path, source }),
        }
    }
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        removes_at_once(None);
        // Somebody else may have removed it, or have another one there.
        if files::is_at(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Where the BPF programs' log goes.
struct StderrLog;

impl log::Log for StderrLog {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        tell(format_args!("bpf {}: {}", record.level(), record.args()));
    }

    fn flush(&self) {}
}
