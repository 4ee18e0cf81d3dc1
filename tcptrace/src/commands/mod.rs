//! The commands, one module each: they connect settings, kernel, session and outputs.
//!
//! This is the only room that uses all others. `tcptrace` itself is [`trace`] (with [`aggregate`] for `--aggregate`), and
//! `stuck` and `story` are traces with other settings (see [`settings`]); `sockets`, `kill`, `rates` and `doctor` have views of
//! their own, which stand next to them. [`delivery`] opens outputs for all commands.

pub mod aggregate;
pub mod config;
pub mod delivery;
pub mod doctor;
pub mod explain;
pub mod kill;
pub mod rates;
pub mod replay;
pub mod settings;
pub mod sockets;
pub mod trace;

use std::{
    io::{self, Write as _},
    process::{self, ExitCode},
};

use anyhow::{Context as _, bail};
use tokio::runtime::{Builder, Runtime};

use self::settings::Settings;
use crate::{
    bpf::object::Aggregate,
    cli::{
        args::{Args, Command, ConfigCommand, DoctorArgs, StuckFormat, values::LogLevel},
        config::{Notice, Parsed, parse},
        terminal::{self, exit},
    },
    listing::{Lister, ListingOptions},
    model::state::State,
    outputs::messages::{self, Form, Level, info, warn},
    render::text::nagios::{self, Status},
    sys::{descriptors, heap, host_proc, pids, systemd::Service},
};

/// Exit code where something was found.
const FOUND: u8 = 3;

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

/// Ends the program because of wrong usage. The plugin of Nagios also says so on stdout, and its exit code is another.
fn quit(error: clap::Error, is_plugin: bool) -> ! {
    if is_plugin && error.use_stderr() {
        process::exit(unknown(&terminal::print(&error)).into());
    }
    exit(error)
}

/// Prints that the check of the plugin failed, and returns its exit code.
fn unknown(reason: &str) -> u8 {
    let _ = io::stdout().write_all(nagios::unknown(reason).as_bytes());
    Status::Unknown as u8
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
    descriptors::raise();
    let words: Vec<_> = std::env::args_os().collect();
    let is_plugin = words.iter().any(|word| word == "nagios" || word == "--format=nagios" || word == "-fnagios");
    let Parsed { args, notices } = parse(words).unwrap_or_else(|error| quit(error, is_plugin));
    if let Err((path, error)) = host_proc::adopt() {
        warn(format_args!("the host's /proc at {} is not used: {error}", path.display()));
    }
    let result = match &args.command {
        // It judges also a machine on which nothing else runs.
        Some(Command::Doctor(args)) => check_up(args),
        _ => runtime().and_then(|runtime| runtime.block_on(run(args, notices))),
    };
    let exit = result.unwrap_or_else(|error| {
        messages::error(error);
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

async fn run(args: Args, notices: Vec<Notice>) -> anyhow::Result<ExitCode> {
    match args.command {
        None => {
            let settings = Settings::from_args(&args.trace).unwrap_or_else(|error| exit(error));
            messages::start(Form::Plain, least(args.trace.quiet))?;
            notify(notices);
            run_trace(settings).await
        }
        Some(Command::Daemon(args)) => {
            let mut settings = Settings::from_args(&args.trace).unwrap_or_else(|error| exit(error));
            settings.service = Service::new();
            messages::start_log(level(args.log_level).min(least(args.trace.quiet)))?;
            notify(notices);
            run_trace(settings).await
        }
        Some(Command::Config(ConfigCommand::Check { config })) => {
            let words = config::check(&config).unwrap_or_else(|error| exit(error));
            config::print(&words).map(|()| ExitCode::SUCCESS)
        }
        Some(Command::Config(ConfigCommand::Show(args))) => {
            let words = config::show(&args).unwrap_or_else(|error| exit(error));
            config::print(&words).map(|()| ExitCode::SUCCESS)
        }
        Some(Command::Explain(args)) => {
            let text = explain::explain(&args).unwrap_or_else(|error| exit(error));
            config::print(&text).map(|()| ExitCode::SUCCESS)
        }
        Some(Command::Stuck(args)) => {
            let is_plugin = args.format == StuckFormat::Nagios;
            let settings = Settings::from_stuck_args(&args).unwrap_or_else(|error| quit(error, is_plugin));
            messages::start(Form::Plain, least(args.quiet || is_plugin))?;
            notify(notices);
            if is_plugin {
                return Ok(match trace::run(settings).await {
                    Ok(ended) => ExitCode::from(Status::of(ended.worst(), args.fail_on) as u8),
                    Err(error) => ExitCode::from(unknown(&error.to_string())),
                });
            }
            let worst = trace::run(settings).await?.worst();
            let fails = args.once && worst.is_some_and(|worst| worst >= args.fail_on);
            Ok(if fails { ExitCode::from(FOUND) } else { ExitCode::SUCCESS })
        }
        Some(Command::Sockets(args)) => {
            heap::be_brief();
            let selection = settings::selection(&args.filter, None).unwrap_or_else(|error| exit(error));
            // Listeners are shown with their half-open requests.
            let requests = selection.states.contains(State::Listen).then_some(State::SynRecv);
            let states = selection.states.iter().chain(requests).collect();
            let wanted = ListingOptions { states, holders: true, ..ListingOptions::default() };
            pids::check(&selection.pids).map_err(anyhow::Error::msg)?.into_iter().for_each(info);
            pids::warning().into_iter().for_each(warn);
            let list = || Lister::alone(args.listing.no_iter, args.filter.netns.clone()).list(&wanted);
            sockets::run(&args, &selection, list)?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Kill(args)) => {
            let choice = kill::choice(&args).unwrap_or_else(|error| exit(error));
            messages::start(Form::Plain, least(args.quiet))?;
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
        Some(Command::Rates(args)) => {
            messages::start(Form::Plain, Level::Info)?;
            rates::run(args).await?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Doctor(args)) => check_up(&args),
        Some(Command::Story(story)) => {
            let settings = Settings::from_story_args(&story).unwrap_or_else(|error| exit(error));
            messages::start(Form::Plain, least(story.quiet))?;
            if trace::run(settings).await?.written == 0 {
                bail!("no connection matched {}", story.which);
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}
