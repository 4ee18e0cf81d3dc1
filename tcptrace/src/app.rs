//! Joins the edges with the pure middle: the only loop, and the only place that knows both.

use std::{io, path::PathBuf, time::Duration};

use aya::maps::{MapData, MapError, RingBuf};
use aya_log::EbpfLogger;
use thiserror::Error;
use tokio::{
    io::{Interest, unix::AsyncFd},
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until, timeout},
};

use crate::{
    bpf::{
        preflight,
        probes::{self, KernelCounters, Probes},
    },
    cgroup,
    cli::settings::Settings,
    clock::WallOffset,
    output::{Output, tell},
    render::{Context, Names, text::losses_line},
    session::Session,
};

/// Output is handed over in pieces of about this size.
const PIECE_BYTES: usize = 64 * 1024;
/// Records that are read between two looks at signals and timers at most.
const READ_AT_ONCE: usize = 4096;
/// How long the end waits for a reader that does not read.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a run failed.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("{0}")]
    Obstacle(String),
    #[error(transparent)]
    Probes(#[from] probes::Error),
    #[error("cannot read the counters of the BPF programs: {0}")]
    Counters(#[from] MapError),
    #[error("cannot write to {target}: {source}")]
    Output { target: String, source: io::Error },
    #[error("cannot create the ready file {}: {source}", path.display())]
    ReadyFile { path: PathBuf, source: io::Error },
    #[error("cannot set up {what}: {source}")]
    Setup { what: &'static str, source: io::Error },
}

/// Traces until it is told to end, its time is over, or nobody reads any more.
///
/// # Errors
/// Where tracing cannot start, or the output cannot be written.
pub async fn run(settings: Settings) -> Result<(), Error> {
    let target = settings.output.as_ref().map_or_else(|| "stdout".to_owned(), |path| path.display().to_string());
    if let Some(obstacle) = preflight::obstacle() {
        return Err(Error::Obstacle(obstacle));
    }
    let output =
        Output::open(settings.output.as_deref()).map_err(|source| Error::Output { target: target.clone(), source })?;
    let mut stop = Stop::new()?;
    let (mut probes, ring, counters) = Probes::attach(&settings.probes)?;
    for missing in &probes.missing {
        tell(format_args!("not attached: {} ({}): {}", missing.hook, missing.reason, missing.effect));
    }
    let names = Names::new(std::mem::take(&mut probes.reset_reasons), Box::new(cgroup::lookup()));
    let context = Context { wall: wall_offset(), names };
    let mut run = Run {
        ring: watch(ring)?,
        counters,
        log: settings.probes.log_level.map(|_| probes.logger(StderrLog)).transpose()?,
        session: Session::new(settings.session, settings.renderer, context, now_ns()),
        output,
    };
    stop.deadline = settings.duration.map(|duration| Instant::now() + duration);
    let ready = ReadyFile::create(settings.ready_file)?;
    let reason = run.until_stopped(&mut stop, settings.poll, settings.interval).await?;
    drop(ready);
    drop(probes); // detached: what is in the ring buffer now is all there will be
    run.finish(reason).await?.map_err(|source| Error::Output { target, source })
}

/// What a run works with once all is attached.
struct Run {
    ring: AsyncFd<RingBuf<MapData>>,
    counters: KernelCounters,
    log: Option<EbpfLogger<StderrLog>>,
    session: Session,
    output: Output,
}

impl Run {
    /// Reads events and writes output; returns why it ended.
    async fn until_stopped(
        &mut self,
        stop: &mut Stop,
        poll: Duration,
        interval: Option<Duration>,
    ) -> Result<&'static str, Error> {
        let mut poll = every(poll);
        let mut summaries = interval.map(every);
        let mut more = false;
        loop {
            let summary_due = tokio::select! {
                biased;
                reason = stop.reached() => return Ok(reason),
                () = due(&mut summaries) => true,
                () = std::future::ready(()), if more => false,
                _ = poll.tick() => false,
                ready = self.ring.readable_mut() => {
                    if let Ok(mut ready) = ready {
                        ready.clear_ready();
                    }
                    false
                }
            };
            self.session.context.wall = wall_offset();
            more = self.read();
            if !more {
                self.session.tick(now_ns());
            }
            if summary_due {
                self.session.losses.set_kernel(&self.counters.read()?, self.counters.passed_over());
                self.session.end_interval(now_ns());
            }
            let piece = self.session.take_output().freeze();
            if !piece.is_empty() {
                tokio::select! {
                    biased;
                    written = self.output.write(piece.clone()) => {
                        if written.is_err() {
                            return Ok("closed");
                        }
                    }
                    reason = stop.reached() => {
                        self.session.give_back(piece);
                        return Ok(reason);
                    }
                }
            }
            if self.session.is_complete() {
                return Ok("count");
            }
        }
    }

    /// Takes in events until a piece of output is full or none is left; tells whether more may be waiting.
    fn read(&mut self) -> bool {
        if let Some(log) = &mut self.log {
            log.flush();
        }
        let ring = self.ring.get_mut();
        for _ in 0..READ_AT_ONCE {
            let Some(record) = ring.next() else {
                return false;
            };
            self.session.ingest(&record);
            if self.session.output_len() >= PIECE_BYTES {
                break;
            }
        }
        true
    }

    /// Takes in what is left, writes the last words, and waits until all is written.
    async fn finish(mut self, reason: &str) -> Result<io::Result<()>, Error> {
        let mut open = true;
        let mut late = false;
        loop {
            let more = self.read();
            if !more {
                self.session.losses.set_kernel(&self.counters.read()?, self.counters.passed_over());
                self.session.finish(now_ns(), reason);
            }
            let piece = self.session.take_output().freeze();
            if open && !piece.is_empty() {
                let written = timeout(PATIENCE, self.output.write(piece)).await;
                late |= written.is_err();
                open = matches!(written, Ok(Ok(())));
            }
            if !more {
                break;
            }
        }
        tell(losses_line(&self.session.losses));
        Ok(match self.output.finish(PATIENCE).await {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()), // `| head` has seen enough
            Ok(()) if late => Err(io::Error::new(io::ErrorKind::TimedOut, "its reader did not take all in time")),
            result => result,
        })
    }
}

fn watch(ring: RingBuf<MapData>) -> Result<AsyncFd<RingBuf<MapData>>, Error> {
    // SAFETY: the ring buffer owns its map, and the map its descriptor, which stays the same as long as they live.
    unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }
        .map_err(|error| Error::Setup { what: "the ring buffer", source: error.into_parts().1 })
}

fn every(period: Duration) -> Interval {
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// The next tick, or never.
async fn due(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => _ = interval.tick().await,
        None => std::future::pending().await,
    }
}

/// What ends a run from outside.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
    deadline: Option<Instant>,
}

impl Stop {
    fn new() -> Result<Self, Error> {
        let listen =
            |kind: SignalKind| signal(kind).map_err(|source| Error::Setup { what: "the handling of signals", source });
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            deadline: None,
        })
    }

    /// Waits for the first of them.
    async fn reached(&mut self) -> &'static str {
        let deadline = self.deadline;
        let time_is_over = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => "interrupted",
            _ = self.terminate.recv() => "terminated",
            () = time_is_over => "duration",
        }
    }
}

/// A file that is there while all is attached.
struct ReadyFile(Option<PathBuf>);

impl ReadyFile {
    fn create(path: Option<PathBuf>) -> Result<Self, Error> {
        if let Some(path) = &path {
            std::fs::File::create(path).map_err(|source| Error::ReadyFile { path: path.clone(), source })?;
        }
        Ok(Self(path))
    }
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_file(path); // somebody else may have removed it
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

fn clock_ns(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place to write to; the call does not fail for the clocks used here.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// CLOCK_MONOTONIC, the clock of `bpf_ktime_get_ns`.
fn now_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC) as u64
}

fn wall_offset() -> WallOffset {
    WallOffset(clock_ns(libc::CLOCK_REALTIME) - clock_ns(libc::CLOCK_MONOTONIC))
}
