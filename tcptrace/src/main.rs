//! The program: parses, runs, and says with its exit code how it went (0 fine, 1 failed, 2 wrong usage, 3 a check-up found
//! something).

use std::process::ExitCode;

use clap::Parser as _;
use tcptrace::{
    app,
    cli::{
        args::{Args, Command},
        settings::{self, Settings},
    },
    commands,
    listing::{Lister, Wanted},
    output::tell,
    state::State,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    let result: anyhow::Result<()> = match args.command {
        None => {
            let settings = Settings::from_args(&args.trace).unwrap_or_else(|error| error.exit());
            app::run(settings).await.map_err(anyhow::Error::from)
        }
        Some(Command::Sockets(args)) => {
            let selection = settings::selection(&args.filter, None).unwrap_or_else(|error| error.exit());
            // Listeners are told of with the requests that they have.
            let requests = selection.states.contains(State::Listen).then_some(State::SynRecv);
            let states = selection.states.iter().chain(requests).collect();
            let wanted = Wanted { states, holders: true, seeds: 0 };
            let list = || Lister::alone(args.listing.no_iter, args.filter.netns.clone()).list(&wanted);
            commands::sockets::run(&args, &selection, list).map_err(anyhow::Error::from)
        }
        Some(Command::Rates(args)) => commands::rates::run(args).await.map_err(Into::into),
        Some(Command::Doctor(args)) => match commands::doctor::run(&args) {
            Ok(true) => return ExitCode::from(3),
            other => other.map(drop).map_err(Into::into),
        },
        Some(Command::Story(story)) => {
            let settings = Settings::from_story_args(&story).unwrap_or_else(|error| error.exit());
            app::run(settings).await.map_err(anyhow::Error::from)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(error);
            ExitCode::FAILURE
        }
    }
}
