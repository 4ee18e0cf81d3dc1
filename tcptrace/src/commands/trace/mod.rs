//! `tcptrace`: attaches the probes, then runs the main loop (see `run.rs`), which passes events from the kernel to the session
//! and rendered records from the session to the outputs.

pub(crate) mod error;
pub(crate) mod kernel_log;
mod listing;
pub(crate) mod names;
pub(crate) mod purpose;
pub(crate) mod ready_file;
mod recording;
pub(crate) mod run;
pub(crate) mod threads;

use std::{collections::HashSet, net::TcpListener};

use tokio::time::Instant;

use self::threads::Threads;
use crate::{
    bpf::{
        object,
        probes::{Attached, Probes},
    },
    commands::{
        confinement,
        delivery::{self, pushes, serve},
        doctor::read,
        settings::Settings,
        top::Screen,
        trace::{
            error::{Error, no_thread, signals},
            kernel_log::StderrLog,
            names::NameReader,
            purpose::Purpose,
            run::{Ended, Run, worker},
        },
    },
    listing::{
        Lister,
        chosen_netns::ChosenNetns,
        netns::{self},
        netns_names::NameWatch,
        worker::ListingWorker,
    },
    model::{keyed::Addresses, netns_choice::NetnsChoice},
    outputs::{
        Outputs,
        messages::{info, warn},
    },
    pipeline::{finding_watch::FindingWatch, recording::encoder::NameLog, session::Session},
    render::context::Context,
    sys::{
        clock::{now_ns, wall_offset},
        files, heap,
        pids::{self, View},
        services,
        signals::{Hangup, Stop, begin_shutdown},
        terminal::screen,
    },
};

/// What the start of a trace makes.
pub(crate) struct Started {
    pub(crate) outputs: Outputs,
    /// Where metrics are served.
    pub(crate) server: Option<TcpListener>,
    pub(crate) stop: Stop,
    pub(crate) hangup: Hangup,
    pub(crate) attached: Attached,
}

/// The start of every trace: finds the wanted network namespace, opens the outputs, handles signals and attaches the programs.
/// Warns about programs that could not be attached. Then it gives up the rights that are not needed any more; only after
/// that further threads start.
///
/// # Errors
/// If tracing cannot start.
pub(crate) fn start(settings: &mut Settings) -> Result<Started, Error> {
    if let Some(path) = &settings.ready_file {
        files::remove_stale(path).map_err(|source| Error::ReadyFile { path: path.clone(), source })?;
    }
    if let Some(obstacle) = read::obstacle() {
        return Err(Error::Obstacle(obstacle));
    }
    pids::check(&settings.session.selection.pids).map_err(Error::Obstacle)?.into_iter().for_each(info);
    pids::warning().into_iter().for_each(warn);
    // Iterators show only processes of this PID namespace.
    settings.probes.no_iterators |= pids::view() == View::HostProc;
    settings.chosen = settings.netns.as_ref().map(ChosenNetns::find).transpose()?.flatten();
    if let Some(ChosenNetns { inode, cookie, .. }) = settings.chosen {
        settings.session.selection.netns = Some(inode);
        settings.probes.filter.constants.netns = inode;
        settings.probes.filter.netns_cookie = cookie;
    }
    let (outputs, server) = (delivery::open(&settings.outputs)?, delivery::bind(settings.server)?);
    let reopens = settings.takes_hangup();
    let stop = Stop::new(reopens).map_err(signals)?;
    let hangup = Hangup::new(reopens).map_err(signals)?;
    let attached = Probes::attach(&settings.probes)?;
    for missing in &attached.probes.missing {
        warn(format_args!("not attached: {} ({}): {}", missing.hook, missing.reason, missing.effect));
    }
    confinement::enter(settings, attached.iterators.is_ok());
    Ok(Started { outputs: outputs.start()?, server, stop, hangup, attached })
}

/// Traces until a signal or a limit ends the run, or nobody reads the output any more.
///
/// # Errors
/// If tracing cannot start, or an output cannot be written.
pub async fn run(mut settings: Settings) -> Result<Ended, Error> {
    heap::be_steady();
    let Started { outputs, server, mut stop, hangup, attached } = start(&mut settings)?;
    let Attached { mut probes, rings, counters, listeners, iterators, netns_alias, .. } = attached;
    if let Err(reason) = &iterators
        && !matches!(reason, object::Error::Forbidden)
    {
        info(format_args!("listing sockets through sock_diag and /proc: {reason}"));
    }
    let iterators = iterators.ok();
    let spare = iterators.as_ref().and_then(|iterators| iterators.try_clone().ok());
    let lister = match &settings.chosen {
        Some(chosen) => Lister::of(iterators, chosen),
        None => Lister::new(iterators, None),
    };
    let log = settings.recording.is_some().then(NameLog::default);
    let mut names = recording::names(std::mem::take(&mut probes.reset_reasons), log.as_ref());
    names.addresses = Addresses::new(settings.kernel_addresses);
    names.services = services::read();
    let reader = NameReader::start(&mut names, settings.names, log.clone()).map_err(no_thread)?;
    names.own_netns = netns::find(Some(&NetnsChoice::Own))?.0.first().map(|found| found.inode);
    let names_within_ns = u64::try_from(settings.read_every.as_nanos()).unwrap_or(u64::MAX);
    let context = Context { screen: screen(), names_within_ns, ..Context::new(wall_offset(), names) };
    let start_ns = now_ns();
    let watched = settings.recording.as_ref().and_then(|recording| recording.on_finding);
    settings.session.owner_unchecked = probes.owner_unchecked;
    let recorder = log.map(|log| recording::start(&settings, &context, netns_alias, start_ns, log)).transpose()?;
    let sampling = settings.recording.as_ref().map(|_| recording::Sampling::start(settings.netns.clone()));
    let sampling = sampling.transpose().map_err(no_thread)?;
    let (server, queries) = serve(server)?;
    let pushes = pushes(&settings.outputs).then_some(settings.metrics_every);
    let mut run = Run {
        queries,
        pushes,
        rings: worker(rings)?,
        counters,
        listeners,
        seeded: HashSet::new(),
        log: settings.probes.log_level.map(|_| probes.logger(StderrLog)).transpose()?,
        session: Session::new(settings.session, settings.routes, context, start_ns),
        outputs,
        recorder: recorder.flatten(),
        sampling,
        worker: ListingWorker::start(move || lister).map_err(no_thread)?,
        names: reader,
        threads: Threads::default(),
        server,
        spare,
        listing: None,
        failed: None,
        poll: settings.poll,
        next_poll: Instant::now(),
        rest: Instant::now(),
        next_report: Instant::now(),
        next_evaluation: Instant::now(),
        last_evaluation: Instant::now(),
        once: settings.once,
        started: None,
        new_owners: settings.probes.max_sockets / 2,
        ready_file: settings.ready_file,
        service: settings.service,
        hangup,
        chosen: settings.chosen,
        is_gone: false,
        netns_names: NameWatch::default(),
        screen: None,
    };
    run.session.netns_alias = netns_alias;
    if let Some(screen) = settings.screen {
        let screen = Screen::start(screen, &mut run.session, start_ns);
        run.screen = Some(screen.map_err(|source| Error::Setup { what: "the screen", source })?);
    }
    run.session.watch = watched.map(FindingWatch::new);
    stop.deadline = settings.duration.map(|duration| Instant::now() + duration);
    run.request_listing(Purpose::Start);
    let stopped = run.until_stopped(&mut stop, settings.read_every, settings.interval).await;
    begin_shutdown();
    drop(run.screen.take());
    drop(probes); // detached, so no more events reach the rings
    let finished = run.finish(stopped.as_ref().map_or("failed", |reason| reason)).await;
    match (stopped, finished) {
        (Err(error), finished) => {
            let _ = finished.map_err(warn);
            Err(error)
        }
        (Ok(_), finished) => finished,
    }
}
