//! The program: parses, runs, and says with its exit code how it went (0 fine, 1 failed, 2 wrong usage, 3 something is
//! wrong with the sockets or the machine).

use std::process::ExitCode;

use anyhow::Context as _;
use tcptrace::{
    app,
    bpf::aggregate::Aggregate,
    cli::{
        args::{Args, Command, ConfigCommand, DoctorArgs, LogLevel},
        config,
        settings::{self, Settings},
    },
    commands, descriptors, heap,
    listing::{Lister, Wanted},
    pids, service,
    state::State,
    tell::{fail, tell},
};
use tokio::runtime::{Builder, Runtime};
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

fn main() -> ExitCode {
    descriptors::raise();
    let args = config::parse(std::env::args_os().collect()).unwrap_or_else(|error| error.exit());
    let result = match &args.command {
        // It judges also a machine on which nothing else runs.
        Some(Command::Doctor(args)) => check_up(args),
        _ => runtime().and_then(|runtime| runtime.block_on(run(args))),
    };
    match result {
        Ok(exit) => exit,
        Err(error) => {
            fail(error);
            ExitCode::FAILURE
        }
    }
}

fn check_up(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let exit = |found| if found { ExitCode::from(FOUND) } else { ExitCode::SUCCESS };
    commands::doctor::run(args).map(exit).map_err(Into::into)
}

/// It takes some descriptors, and panics where it cannot have them all.
fn runtime() -> anyhow::Result<Runtime> {
    match descriptors::allowed() {
        Some(allowed @ ..descriptors::NEEDED) => anyhow::bail!(
            "this process may have {allowed} descriptors (RLIMIT_NOFILE), and needs {}: raise that with `ulimit -n 1024`, \
             or LimitNOFILE=1024 in the unit",
            descriptors::NEEDED
        ),
        _ => Builder::new_current_thread().enable_all().build().context("cannot begin"),
    }
}

async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        None => trace(Settings::from_args(&args.trace).unwrap_or_else(|error| error.exit())).await,
        Some(Command::Daemon(args)) => {
            let mut settings = Settings::from_args(&args.trace).unwrap_or_else(|error| error.exit());
            settings.service.is_one = true;
            service::start_log(level(args.log_level));
            trace(settings).await
        }
        Some(Command::Config(ConfigCommand::Check { config })) => {
            Ok(commands::config::check(&config).unwrap_or_else(|error| error.exit()))
        }
        Some(Command::Stuck(args)) => {
            let settings = Settings::from_stuck_args(&args).unwrap_or_else(|error| error.exit());
            let fails = |worst: Option<_>| args.once && worst.is_some_and(|worst| worst >= args.fail_on);
            let exit = |worst| if fails(worst) { ExitCode::from(FOUND) } else { ExitCode::SUCCESS };
            app::run(settings).await.map(exit).map_err(anyhow::Error::from)
        }
        Some(Command::Sockets(args)) => {
            heap::be_brief();
            let selection = settings::selection(&args.filter, None).unwrap_or_else(|error| error.exit());
            // Listeners are told of with the requests that they have.
            let requests = selection.states.contains(State::Listen).then_some(State::SynRecv);
            let states = selection.states.iter().chain(requests).collect();
            let wanted = Wanted { states, holders: true, ..Wanted::default() };
            pids::check(&selection.pids).map_err(anyhow::Error::msg)?.into_iter().for_each(tell);
            pids::warning().into_iter().for_each(tell);
            let list = || Lister::alone(args.listing.no_iter, args.filter.netns.clone()).list(&wanted);
            commands::sockets::run(&args, &selection, list).map(|()| ExitCode::SUCCESS).map_err(anyhow::Error::from)
        }
        Some(Command::Rates(args)) => commands::rates::run(args).await.map(|()| ExitCode::SUCCESS).map_err(Into::into),
        Some(Command::Doctor(args)) => check_up(&args),
        Some(Command::Story(story)) => {
            let settings = Settings::from_story_args(&story).unwrap_or_else(|error| error.exit());
            app::run(settings).await.map(|_| ExitCode::SUCCESS).map_err(anyhow::Error::from)
        }
    }
}
