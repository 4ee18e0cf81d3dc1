//! The commands, one module each: they connect settings, kernel, session and outputs.
//!
//! This is the only room that uses all others. `tcptrace` itself is [`trace`] (with [`aggregate`] for `--aggregate`), and
//! `stuck` and `story` are traces with other settings (see [`settings`]); `sockets`, `kill`, `rates` and `doctor` have views of
//! their own, which stand next to them. [`delivery`] opens outputs for all commands.

pub mod aggregate;
pub mod config;
mod confinement;
pub mod delivery;
pub mod doctor;
pub mod explain;
pub mod filters;
pub mod kill;
mod lookup;
mod manual;
mod plugin;
pub mod rates;
pub mod replay;
pub mod report;
pub mod settings;
pub mod sockets;
pub mod top;
pub mod trace;

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use tokio::runtime::{Builder, Runtime};

use self::{filters::Place, settings::Settings, sockets::View};
use crate::{
    bpf::object::Aggregate,
    cli::{
        args::{
            Args, Command, ConfigCommand, DoctorArgs, FilterArgs, ManArgs, TraceArgs,
            values::{Format, LogLevel},
        },
        config::{Notice, Parsed, parse},
        findings::FindingsMode,
        given::Given,
        terminal::exit,
    },
    listing::{Lister, ListingOptions},
    model::state::{State, StateSet},
    outputs::{
        exec::helper,
        messages::{self, Form, Level, info, warn},
    },
    sys::{descriptors, heap, host_proc, pids, systemd::Service},
};

/// Exit code where something was found.
const FOUND: u8 = 3;
/// Exit code for wrong usage.
const USAGE: u8 = 2;

/// Traces until that ends.
async fn run_trace(settings: Settings) -> anyhow::Result<ExitCode> {
    match settings.probes.aggregate {
        Some(Aggregate { by, .. }) => aggregate::run(settings, by).await?,
        None => _ = trace::run(settings).await?,
    }
    Ok(ExitCode::SUCCESS)
}

const fn level(level: LogLevel) -> Level {
    match level {
        LogLevel::Error => Level::Error,
        LogLevel::Warn => Level::Warn,
        LogLevel::Info | LogLevel::Debug | LogLevel::Trace => Level::Info,
    }
}

/// The least that is said on stderr.
const fn least(quiet: bool) -> Level {
    if quiet { Level::Warn } else { Level::Info }
}

/// Runs what the command line asks for, and returns the exit code: 0 if all is well, 1 if it failed or `story` saw no
/// connection that matches, 2 for wrong usage, 3 if sockets or the machine have a problem. `stuck --format nagios` has the exit codes of
/// a plugin.
#[must_use]
pub fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    if let Some(exit) = helper::serve(&words) {
        return exit;
    }
    descriptors::raise();
    let is_plugin = plugin::is_wanted(&words);
    let Parsed { args, notices } = parse(words).unwrap_or_else(|error| plugin::exit(is_plugin, error));
    if let Err((path, error)) = host_proc::adopt() {
        warn(format_args!("the host's /proc at {} is not used: {error}", path.display()));
    }
    let result = match &args.command {
        // It judges also a machine on which nothing else runs.
        Some(Command::Doctor(args)) => check_up(args),
        _ => runtime().and_then(|runtime| runtime.block_on(run(args, notices))),
    };
    let exit = result.unwrap_or_else(|error| {
        messages::error(messages::with_causes(&error));
        ExitCode::FAILURE
    });
    messages::finish();
    exit
}

/// Logs what the user should know about the settings.
fn notify(notices: impl IntoIterator<Item = Notice>) {
    for notice in notices {
        match notice {
            Notice::Warning(text) => messages::warn(text),
            Notice::Info(text) => info(text),
        }
    }
}

fn check_up(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let exit = |found| if found { ExitCode::from(FOUND) } else { ExitCode::SUCCESS };
    doctor::run(args).map(exit).map_err(Into::into)
}

/// It takes some descriptors, and panics where it cannot have them all.
fn runtime() -> anyhow::Result<Runtime> {
    match descriptors::allowed() {
        Some(allowed @ ..descriptors::NEEDED) => bail!(
            "this process may have {allowed} descriptors (RLIMIT_NOFILE), and needs {}: raise that with `ulimit -n 1024`, \
             or LimitNOFILE=1024 in the unit",
            descriptors::NEEDED
        ),
        _ => Builder::new_current_thread().enable_all().build().context("cannot begin"),
    }
}

/// The filters of a command that are to be explained, and where it applies them.
fn to_explain(args: &Args) -> Option<(&FilterArgs, Given, Place)> {
    let of_trace = |trace: &TraceArgs| {
        let has_findings = trace.findings_mode != FindingsMode::Off && !trace.summary;
        if has_findings { Place::Findings } else { Place::Kernel }
    };
    let (filter, given, place) = match &args.command {
        None => (&args.trace.filter, args.trace.given.clone(), of_trace(&args.trace)),
        Some(Command::Daemon(args)) => (&args.trace.filter, args.trace.given.clone(), of_trace(&args.trace)),
        Some(Command::Record(args)) => (&args.filter, Given::default(), Place::Findings),
        Some(Command::Stuck(args)) => (&args.filter, Given::default(), Place::Findings),
        Some(Command::Top(args)) => (&args.filter, Given::default(), Place::Findings),
        Some(Command::Sockets(args)) => (&args.filter, Given::default(), Place::Listing),
        Some(Command::Kill(args)) => (&args.filter, Given::default(), Place::Kill),
        Some(_) => return None,
    };
    filter.explain_filter.then_some((filter, given, place))
}

async fn run(args: Args, notices: Vec<Notice>) -> anyhow::Result<ExitCode> {
    if let Some((filter, given, place)) = to_explain(&args) {
        let text = filters::explain(filter, &given, place).unwrap_or_else(|error| exit(error));
        return config::print(&text).map(|()| ExitCode::SUCCESS);
    }
    match args.command {
        None => {
            let settings = Settings::from_args(&args.trace).unwrap_or_else(|error| exit(error));
            confinement::become_user(args.trace.run_as.as_deref())?;
            messages::start(Form::Plain, least(args.trace.output.quiet))?;
            notify(notices);
            run_trace(settings).await
        }
        Some(Command::Daemon(args)) => {
            let mut settings = Settings::from_args(&args.trace).unwrap_or_else(|error| exit(error));
            settings.service = Service::new();
            confinement::become_user(args.trace.run_as.as_deref())?;
            messages::start_log(level(args.log_level).min(least(args.trace.output.quiet)))?;
            notify(notices);
            run_trace(settings).await
        }
        Some(Command::Config(ConfigCommand::Check { config, json })) => {
            let result = config::check(&config);
            if json {
                config::print(&config::checked_json(&config, &result))?;
                return Ok(if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(USAGE) });
            }
            let outputs = result.unwrap_or_else(|error| exit(error));
            config::print(&config::checked_text(&config, &outputs)).map(|()| ExitCode::SUCCESS)
        }
        Some(Command::Config(ConfigCommand::Show(args))) => {
            let words = config::show(&args).unwrap_or_else(|error| exit(error));
            config::print(&words).map(|()| ExitCode::SUCCESS)
        }
        Some(Command::Explain(args)) => {
            let text = explain::explain(&args).unwrap_or_else(|error| exit(error));
            config::print(&text).map(|()| ExitCode::SUCCESS)
        }
        Some(Command::Completions { shell }) => config::print(&manual::completions(shell)).map(|()| ExitCode::SUCCESS),
        Some(Command::Man(ManArgs { to: Some(folder), .. })) => manual::write(&folder).map(|()| ExitCode::SUCCESS),
        Some(Command::Man(ManArgs { command, .. })) => {
            let text = manual::page(&command).unwrap_or_else(|error| exit(error));
            config::print(&text).map(|()| ExitCode::SUCCESS)
        }
        Some(Command::Stuck(args)) => {
            let is_plugin = args.output.format() == Some(Format::Nagios);
            let settings = Settings::from_stuck_args(&args).unwrap_or_else(|error| plugin::exit(is_plugin, error));
            messages::start(Form::Plain, least(args.output.quiet || is_plugin))?;
            notify(notices);
            if is_plugin {
                return Ok(plugin::exit_code(trace::run(settings).await, args.fail_on));
            }
            let worst = trace::run(settings).await?.worst();
            let fails = args.once && worst.is_some_and(|worst| worst >= args.fail_on);
            Ok(if fails { ExitCode::from(FOUND) } else { ExitCode::SUCCESS })
        }
        Some(Command::Top(args)) => {
            let settings = Settings::from_top_args(&args).unwrap_or_else(|error| exit(error));
            let instead = "`tcptrace stuck` for problems, or `tcptrace sockets --watch`";
            top::check_terminal(instead).unwrap_or_else(|error| exit(error));
            messages::start(Form::Plain, Level::Info)?;
            notify(notices);
            trace::run(settings).await?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Sockets(args)) => {
            heap::be_brief();
            let view = View::new(&args).unwrap_or_else(|error| exit(error));
            notify(notices.into_iter().filter(|_| !args.output.quiet));
            let (filter, netns) = filters::filter(&args.filter, &Given::default()).unwrap_or_else(|error| exit(error));
            let states = filter.sockets.states;
            // Listeners are shown with their half-open requests.
            let requests = states.contains(State::Listen).then_some(State::SynRecv);
            let states = states.iter().chain(requests).collect();
            let states = if view.needs_peers(&args) { StateSet::default() } else { states };
            let wanted = ListingOptions { states, holders: true, ..ListingOptions::default() };
            pids::check(&filter.sockets.pids).map_err(anyhow::Error::msg)?.into_iter().for_each(info);
            pids::warning().into_iter().for_each(warn);
            let mut lister = Lister::alone(args.listing.no_iter, netns.clone());
            if !args.listing.no_sandbox {
                confinement::enter_to_list(&args.output.to, netns.as_ref());
            }
            match args.watch {
                None => sockets::run(&args, &view, &filter, || lister.list(&wanted))?,
                Some(interval) => sockets::watch(&args, &view, &filter, interval, || lister.list(&wanted)).await?,
            }
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Kill(args)) => {
            let choice = kill::choice(&args).unwrap_or_else(|error| exit(error));
            messages::start(Form::Plain, least(args.output.quiet))?;
            notify(notices);
            kill::run(&args, choice).await
        }
        Some(Command::Record(args)) => {
            let settings = Settings::from_record_args(&args).unwrap_or_else(|error| exit(error));
            messages::start(Form::Plain, least(args.quiet))?;
            notify(notices);
            trace::run(settings).await?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Replay(args)) => replay::run(args),
        Some(Command::Report(args)) => report::run(&args),
        Some(Command::Rates(args)) => {
            messages::start(Form::Plain, least(args.output.quiet))?;
            notify(notices);
            rates::run(args).await?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Doctor(args)) => check_up(&args),
        Some(Command::Story(story)) => {
            let settings = Settings::from_story_args(&story).unwrap_or_else(|error| exit(error));
            messages::start(Form::Plain, least(story.output.quiet))?;
            notify(notices);
            if trace::run(settings).await?.written == 0 {
                bail!("no connection matched {}", story.which);
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}
