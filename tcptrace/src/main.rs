//! The program: parses, runs, and says with its exit code how it went (0 fine, 1 failed or, of `story`, nothing matched, 2 wrong
//! usage, 3 something is wrong with the sockets or the machine).

use std::process::ExitCode;

use anyhow::anyhow;
use tcptrace::{
    app::{self, Ended},
    bpf::aggregate::Aggregate,
    cli::{
        args::{Command, ConfigCommand, LogLevel},
        config,
        settings::{self, Settings},
        terminal::exit,
    },
    commands, heap,
    listing::{Lister, Wanted},
    service,
    state::State,
    tell::fail,
};
use tracing_subscriber::filter::LevelFilter;

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

const fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = config::parse(std::env::args_os().collect()).unwrap_or_else(|error| exit(error));
    let result: anyhow::Result<ExitCode> = match args.command {
        None => trace(Settings::from_args(&args.trace).unwrap_or_else(|error| exit(error))).await,
        Some(Command::Daemon(args)) => {
            let mut settings = Settings::from_args(&args.trace).unwrap_or_else(|error| exit(error));
            settings.service.is_one = true;
            service::start_log(level(args.log_level));
            trace(settings).await
        }
        Some(Command::Config(ConfigCommand::Check { config })) => {
            let words = commands::config::check(&config).unwrap_or_else(|error| exit(error));
            commands::config::print(&words).map(|()| ExitCode::SUCCESS)
        }
        Some(Command::Stuck(args)) => {
            let settings = Settings::from_stuck_args(&args).unwrap_or_else(|error| exit(error));
            let fails = |worst: Option<_>| args.once && worst.is_some_and(|worst| worst >= args.fail_on);
            let exit = |worst| if fails(worst) { ExitCode::from(FOUND) } else { ExitCode::SUCCESS };
            app::run(settings).await.map(|ended| exit(ended.worst)).map_err(anyhow::Error::from)
        }
        Some(Command::Sockets(args)) => {
            heap::be_brief();
            let selection = settings::selection(&args.filter, None).unwrap_or_else(|error| exit(error));
            // Listeners are told of with the requests that they have.
            let requests = selection.states.contains(State::Listen).then_some(State::SynRecv);
            let states = selection.states.iter().chain(requests).collect();
            let wanted = Wanted { states, holders: true, ..Wanted::default() };
            let list = || Lister::alone(args.listing.no_iter, args.filter.netns.clone()).list(&wanted);
            commands::sockets::run(&args, &selection, list).map(|()| ExitCode::SUCCESS).map_err(anyhow::Error::from)
        }
        Some(Command::Rates(args)) => commands::rates::run(args).await.map(|()| ExitCode::SUCCESS).map_err(Into::into),
        Some(Command::Doctor(args)) => {
            let exit = |found| if found { ExitCode::from(FOUND) } else { ExitCode::SUCCESS };
            commands::doctor::run(&args).map(exit).map_err(Into::into)
        }
        Some(Command::Story(story)) => {
            let settings = Settings::from_story_args(&story).unwrap_or_else(|error| exit(error));
            match app::run(settings).await {
                Ok(Ended { written: 0, .. }) => Err(anyhow!("no connection matched {}", story.which)),
                ended => ended.map(|_| ExitCode::SUCCESS).map_err(anyhow::Error::from),
            }
        }
    };
    match result {
        Ok(exit) => exit,
        Err(error) => {
            fail(error);
            ExitCode::FAILURE
        }
    }
}
