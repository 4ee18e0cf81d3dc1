//! The program: parses, runs, and says with its exit code how it went (0 fine, 1 failed, 2 wrong usage).

use std::process::ExitCode;

use clap::Parser as _;
use tcptrace::{
    app,
    cli::{
        args::{Args, Command},
        settings::Settings,
    },
    output::tell,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.command {
        None => {
            let settings = Settings::from_args(&args.trace).unwrap_or_else(|error| error.exit());
            app::run(settings).await
        }
        Some(Command::Story(story)) => {
            let settings = Settings::from_story_args(&story).unwrap_or_else(|error| error.exit());
            app::run(settings).await
        }
        Some(_) => unimplemented!(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(error);
            ExitCode::FAILURE
        }
    }
}
