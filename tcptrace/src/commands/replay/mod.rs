//! `tcptrace replay`: a recording through the same session, routes and outputs as a live run.

pub(super) mod files;
mod names;
pub(super) mod player;
mod rates;
mod sockets;
mod top;

use std::{process::ExitCode, rc::Rc};

use anyhow::{Context as _, anyhow, bail};

use self::{
    files::Recording,
    player::{Player, Window},
};
use crate::{
    cli::{
        args::{Args, ReplayArgs, ReplayView, TraceArgs},
        findings::FindingsMode,
        terminal::{exit, is_colored},
    },
    commands::{
        filters,
        settings::{self, Settings},
        sockets::View,
        top::check_terminal,
    },
    model::{filter::Filter, netns_choice::NetnsChoice},
    outputs::{
        messages::{self, Form, Level, info, warn},
        target::Content,
    },
    sys::signals::Stop,
};

/// Exit code where something was found.
const FOUND: u8 = 3;

/// Shows what a recording contains.
///
/// # Errors
/// If it cannot be read, or an output not be written.
pub(crate) fn run(args: ReplayArgs) -> anyhow::Result<ExitCode> {
    let ReplayArgs { file, view, from, to, at, speed, trace } = args;
    let view = view.unwrap_or(ReplayView::Events(trace));
    messages::start(Form::Plain, if is_quiet(&view) { Level::Warn } else { Level::Info })?;
    let failed = |error: anyhow::Error| anyhow!("cannot replay {}: {}", file.display(), messages::with_causes(&error));
    let recording = Rc::new(Recording::open(&file).map_err(failed)?);
    if let (ReplayView::Events(_) | ReplayView::Story(_), Some(_)) = (&view, &at) {
        bail!("--at shows a state: use it with sockets, stuck or summary, or give --from and --to");
    }
    let time = |when| recording.resolve(when).map_err(failed);
    let window = Window { from_ns: from.map(time).transpose()?, to_ns: to.or(at).map(time).transpose()?, speed };
    if let (Some(from_ns), Some(to_ns)) = (window.from_ns, window.to_ns)
        && from_ns > to_ns
    {
        bail!("--from is later than --to");
    }
    if let ReplayView::Rates(args) = &view {
        let netns = args.netns.as_ref().map(|choice| inode(choice, &recording)).transpose()?;
        rates::show(args, &recording, netns, window, at.is_some()).map_err(failed)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let ReplayView::Top(args) = &view {
        let stop = Stop::new(false)?; // signals end the screen
        let instead = "`tcptrace replay FILE stuck --at TIME` or `tcptrace replay FILE`";
        check_terminal(instead).unwrap_or_else(|error| exit(error));
        let filter = filters::initial(&args.filter, false).unwrap_or_else(|error| exit(error));
        let has_color = is_colored(args.color, true);
        let make = || settings(&view, &recording);
        top::show(args, make, filter, has_color, &file, &recording, window)?;
        drop(stop);
        return Ok(ExitCode::SUCCESS);
    }
    let mut settings = settings(&view, &recording)?;
    match view {
        ReplayView::Rates(_) | ReplayView::Top(_) => Ok(ExitCode::SUCCESS), // shown above
        ReplayView::Events(_) | ReplayView::Summary(_) => {
            Player::start(settings, recording, window)?.play()?;
            Ok(ExitCode::SUCCESS)
        }
        ReplayView::Stuck(args) => {
            let worst = Player::start(settings, recording, window)?.play()?.worst;
            let fails = args.once && worst.is_some_and(|worst| worst >= args.fail_on);
            Ok(if fails { ExitCode::from(FOUND) } else { ExitCode::SUCCESS })
        }
        ReplayView::Story(args) => {
            if Player::start(settings, recording, window)?.play()?.written == 0 {
                bail!("no connection matched {}", args.which);
            }
            Ok(ExitCode::SUCCESS)
        }
        ReplayView::Sockets(args) => {
            let view = View::new(&args).unwrap_or_else(|error| exit(error));
            settings.outputs.clear();
            settings.routes.clear();
            let (sockets, rest) = (std::mem::take(&mut settings.session.selection), settings.session.rest.take());
            sockets::show(
                &args,
                &view,
                &Filter { sockets, rest, ..Filter::default() },
                Player::start(settings, recording, window)?,
            )?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn is_quiet(view: &ReplayView) -> bool {
    match view {
        ReplayView::Events(trace) | ReplayView::Summary(trace) => trace.output.quiet,
        ReplayView::Stuck(args) => args.output.quiet,
        ReplayView::Story(args) => args.output.quiet,
        ReplayView::Rates(args) => args.output.quiet,
        ReplayView::Sockets(_) | ReplayView::Top(_) => false,
    }
}

/// The settings of a view, with what the recording says about its run.
fn settings(view: &ReplayView, recording: &Recording) -> anyhow::Result<Settings> {
    let usage = |result: Result<Settings, clap::Error>| result.unwrap_or_else(|error| exit(error));
    let (mut settings, netns) = match view {
        ReplayView::Events(trace) => usage_of(trace, |trace| Settings::from_args(trace)),
        ReplayView::Summary(trace) => usage_of(trace, |trace| {
            trace.summary = true;
            Settings::from_args(trace)
        }),
        ReplayView::Stuck(args) => {
            let mut args = (**args).clone();
            args.once = true; // nothing is drawn again
            let (netns, cgroups) = (args.filter.netns.take(), std::mem::take(&mut args.filter.cgroup));
            let mut settings = usage(Settings::from_stuck_args(&args));
            settings.session.selection.cgroups = cgroups.iter().map(|path| path.display().to_string()).collect();
            settings.interval = None;
            (settings, netns)
        }
        ReplayView::Story(args) => {
            let mut args = (**args).clone();
            let netns = args.netns.take();
            (usage(Settings::from_story_args(&args)), netns)
        }
        ReplayView::Rates(_) => usage_of(&Args::parse_trace()?, |trace| Settings::from_args(trace)), // needs none
        ReplayView::Sockets(args) => {
            let mut trace = Box::new(Args::parse_trace()?);
            trace.filter = args.filter.clone();
            usage_of(&trace, |trace| Settings::from_args(trace))
        }
        ReplayView::Top(args) => {
            // The filter is the screen's.
            let mut trace = Box::new(Args::parse_trace()?);
            trace.filter.netns.clone_from(&args.filter.netns);
            trace.findings = args.findings.clone();
            trace.findings_mode = FindingsMode::Only;
            trace.output.to = Vec::new();
            usage_of(&trace, |trace| Settings::from_args(trace))
        }
    };
    settings.session.selection.netns = netns.map(|choice| inode(&choice, recording)).transpose()?;
    adapt(&mut settings, recording)?;
    Ok(settings)
}

/// The settings of a trace of this recording.
pub(super) fn settings_of(trace: &TraceArgs, recording: &Recording) -> anyhow::Result<Settings> {
    let (mut settings, netns) = usage_of(trace, |trace| Settings::from_args(trace));
    settings.session.selection.netns = netns.map(|choice| inode(&choice, recording)).transpose()?;
    adapt(&mut settings, recording)?;
    Ok(settings)
}

/// Takes over what the recording says about its run.
fn adapt(settings: &mut Settings, recording: &Recording) -> anyhow::Result<()> {
    let header = &recording.header;
    if settings.server.is_some() {
        bail!("a recording has no metrics to scrape: --output prometheus:ADDRESS is for live runs");
    }
    if settings.recording.is_some() {
        bail!("a replay is not recorded: copy the file instead");
    }
    if settings.outputs.iter().any(|output| output.target.content() == Content::Metrics) {
        warn("metrics are sent once, at the end of the recording");
    }
    if !header.findings && settings.session.findings.take().is_some() {
        info("recorded without findings, and with the filter of that run: there is nothing to find problems in");
    }
    settings.session.owner_unchecked = header.owner_unchecked;
    settings.session.unfiltered = header.findings;
    settings.session.polls = header.polls;
    settings.session.max_sockets = usize::try_from(header.max_sockets).unwrap_or(usize::MAX).clamp(1, 1 << 24);
    Ok(())
}

/// The settings of tracing, without what would look at this machine; and the wanted namespace.
fn usage_of(
    trace: &TraceArgs,
    make: impl FnOnce(&mut TraceArgs) -> Result<Settings, clap::Error>,
) -> (Settings, Option<NetnsChoice>) {
    let mut trace = trace.clone();
    let (netns, cgroups) = (trace.filter.netns.take(), std::mem::take(&mut trace.filter.cgroup));
    let mut settings = make(&mut trace).unwrap_or_else(|error| exit(error));
    settings.session.selection.cgroups = cgroups.iter().map(|path| path.display().to_string()).collect();
    if settings.probes.aggregate.is_some() {
        exit(settings::usage_error("--aggregate counts in the kernel: a recording has events, use --summary"));
    }
    (settings, netns)
}

/// The inode number of a namespace, as the recording knows it.
fn inode(choice: &NetnsChoice, recording: &Recording) -> anyhow::Result<u32> {
    match choice {
        NetnsChoice::Inode(inode) => Ok(*inode),
        NetnsChoice::Own => recording.header.own_netns.context("the recording does not say where it was made"),
        NetnsChoice::Name(name) => recording
            .netns_named(name)
            .with_context(|| format!("the recording knows no network namespace named `{name}`: give its inode number")),
        NetnsChoice::Path(path) => {
            bail!("{}: a recording knows names and inode numbers of network namespaces, no files", path.display())
        }
    }
}
