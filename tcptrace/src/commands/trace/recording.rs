//! The recording of a run: what stands at its beginning, and the names that the session looks up.

use std::{
    collections::HashMap,
    fs, io,
    time::{Duration, Instant},
};

use tcptrace_common::record::WIRE_VERSION;

use crate::{
    analysis::rates::meter::Round,
    commands::{
        doctor::read::tcp_settings,
        rates::sample::{self, Sampler},
        settings::Settings,
        trace::error::Error,
    },
    model::{decode::NetnsAlias, names::Names, netns_choice::NetnsChoice},
    outputs::recorder::Recorder,
    pipeline::recording::{
        encoder::{Name, NameLog},
        header::Header,
    },
    render::context::Context,
    sys::{cgroup, lookups::Lookups},
};

/// Names that are looked up on this machine, and logged for the recording.
pub(super) fn names(reset_reasons: HashMap<u32, String>, log: Option<&NameLog>) -> Names {
    let mut cgroup = cgroup::lookup();
    let Some(log) = log.cloned() else { return Names::new(reset_reasons, Box::new(cgroup)) };
    let find_cgroup = move |id| {
        let path = cgroup(id);
        log.borrow_mut().push(Name::Cgroup(id, path.clone()));
        path
    };
    Names::new(reset_reasons, Box::new(find_cgroup))
}

/// Starts the recording, if one is wanted.
pub(super) fn start(
    settings: &Settings,
    context: &Context,
    netns_alias: Option<NetnsAlias>,
    start_ns: u64,
    log: NameLog,
) -> Result<Option<Recorder>, Error> {
    let Some(recording) = settings.recording.clone() else { return Ok(None) };
    let names = &context.names;
    let header = Header {
        tcptrace: env!("CARGO_PKG_VERSION").to_owned(),
        boot_id: fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned(),
        wire: WIRE_VERSION,
        run_ns: start_ns,
        start_ns,
        wall: context.wall,
        segment: 0,
        own_netns: names.own_netns,
        reset_reasons: names.reset_reasons().map(|(code, name)| (code, name.to_owned())).collect(),
        owner_unchecked: settings.session.owner_unchecked,
        netns_alias: netns_alias.map(|alias| (alias.name, alias.inode)),
        polls: settings.session.polls,
        max_sockets: settings.session.max_sockets as u64,
        findings: settings.session.findings.is_some(),
        interval_ns: settings.interval.and_then(|interval| u64::try_from(interval.as_nanos()).ok()),
        settings: tcp_settings(),
    };
    let path = recording.path.clone();
    let started = Recorder::start(recording, header, names.addresses.clone(), log);
    started.map(Some).map_err(|source| Error::Recording { path, source })
}

/// Name of the thread that samples the kernel's counters, and the longest time for one sample.
pub(super) const SAMPLER: &str = "counters";
const LONGEST: Duration = Duration::from_secs(60);
/// Shortest time between two samples, which take at most this fraction of the time (1/N).
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
const SAMPLE_SHARE: u32 = 100;

/// Samples the kernel's TCP counters for the recording, in a thread of its own.
pub(super) struct Sampling {
    samples: Lookups<(), (Result<Round, sample::Error>, Duration)>,
    next: Instant,
}

impl Sampling {
    /// Starts the thread, for this network namespace or for all.
    ///
    /// # Errors
    /// If no thread can be started.
    pub(super) fn start(choice: Option<NetnsChoice>) -> io::Result<Self> {
        let mut sampler = None;
        let sample = move |()| {
            let start = Instant::now();
            let round = match &mut sampler {
                Some(sampler) => Ok(sampler),
                none => Sampler::new(choice.clone()).map(|new| none.insert(new)),
            };
            (round.and_then(Sampler::round), start.elapsed())
        };
        let samples = Lookups::start(SAMPLER, LONGEST, || {}, sample)?;
        let mut sampling = Self { samples, next: Instant::now() };
        sampling.ask();
        Ok(sampling)
    }

    /// Asks for a sample, if it is time for one. Until it is there no other one is due.
    pub(super) fn ask_if_due(&mut self) {
        if Instant::now() >= self.next {
            self.ask();
        }
    }

    /// Asks for a sample now.
    pub(super) fn ask(&mut self) {
        self.next = Instant::now() + LONGEST;
        let _ = self.samples.asker()(()); // fails if there are very many questions
    }

    /// Waits for the next sample; `None` if that failed. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Round> {
        let (round, took) = self.samples.next().await;
        self.next = Instant::now() + (took * SAMPLE_SHARE).max(SAMPLE_EVERY - CHECK_EARLY);
        round.ok()
    }
}

/// Samples are asked for when the run checks its threads, once a second, and that may come a little early.
const CHECK_EARLY: Duration = Duration::from_millis(100);
