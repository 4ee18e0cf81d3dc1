//! The program: parses, runs, and says with its exit code how it went (0 fine, 1 failed or, of `story`, nothing matched, 2 wrong
//! usage, 3 something is wrong with the sockets or the machine).

use std::process::ExitCode;

use anyhow::anyhow;
use tcptrace::{
    app::{self, Ended},
    bpf::aggregate::Aggregate,
    cli::{
        args::{Args, Command, ConfigCommand, LogLevel},
        config,
        settings::{self, Settings},
        terminal::exit,
    },
    commands, heap,
    listing::{Lister, Wanted},
    service::{self, Service},
    state::State,
    tell::{self, Form, Level, fail},
};

/// Exit code where something was found.
const FOUND: u8 = 3;

/// Traces until that ends.
async fn trace(settings: Settings) -> anyhow::Result<ExitCode> {
    match settings.probes.aggregate {
        Some(Aggregate { by, .. }) => commands::aggregate::run(settings, by).await?,
        None => _ = app::run(settings).await?,
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

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = config::parse(std::env::args_os().collect()).unwrap_or_else(|error| exit(error));
    let result = run(args).await;
    let exit = result.unwrap_or_else(|error| {
        fail(error);
        ExitCode::FAILURE
    });
    tell::finish();
    exit
}

async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        None => {
            let settings = Settings::from_args(&args.trace).unwrap_or_else(|error| exit(error));
            tell::start(Form::Plain, least(args.trace.quiet))?;
            trace(settings).await
        }
        Some(Command::Daemon(args)) => {
            let mut settings = Settings::from_args(&args.trace).unwrap_or_else(|error| exit(error));
            settings.service = Service::new();
            service::start_log(level(args.log_level).min(least(args.trace.quiet)))?;
            trace(settings).await
        }
        Some(Command::Config(ConfigCommand::Check { config })) => {
            let words = commands::config::check(&config).unwrap_or_else(|error| exit(error));
            commands::config::print(&words).map(|()| ExitCode::SUCCESS)
        }
        Some(Command::Stuck(args)) => {
            let settings = Settings::from_stuck_args(&args).unwrap_or_else(|error| exit(error));
            tell::start(Form::Plain, least(args.quiet))?;
            let worst = app::run(settings).await?.worst;
            let fails = args.once && worst.is_some_and(|worst| worst >= args.fail_on);
            Ok(if fails { ExitCode::from(FOUND) } else { ExitCode::SUCCESS })
        }
        Some(Command::Sockets(args)) => {
            heap::be_brief();
            let selection = settings::selection(&args.filter, None).unwrap_or_else(|error| exit(error));
            // Listeners are told of with the requests that they have.
            let requests = selection.states.contains(State::Listen).then_some(State::SynRecv);
            let states = selection.states.iter().chain(requests).collect();
            let wanted = Wanted { states, holders: true, ..Wanted::default() };
            let list = || Lister::alone(args.listing.no_iter, args.filter.netns.clone()).list(&wanted);
            commands::sockets::run(&args, &selection, list)?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Rates(args)) => {
            tell::start(Form::Plain, Level::Info)?;
            commands::rates::run(args).await?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Doctor(args)) => {
            let found = commands::doctor::run(&args)?;
            Ok(if found { ExitCode::from(FOUND) } else { ExitCode::SUCCESS })
        }
        Some(Command::Story(story)) => {
            let settings = Settings::from_story_args(&story).unwrap_or_else(|error| exit(error));
            tell::start(Form::Plain, least(story.quiet))?;
            match app::run(settings).await? {
                Ended { written: 0, .. } => Err(anyhow!("no connection matched {}", story.which)),
                _ => Ok(ExitCode::SUCCESS),
            }
        }
    }
}
