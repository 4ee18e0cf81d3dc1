//! The program: parses, runs, and says with its exit code how it went (0 fine, 1 failed, 2 wrong usage).

use std::process::ExitCode;

use clap::Parser as _;
use tcptrace::{
    app,
    cli::{args::Args, settings::Settings},
    output::tell,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let settings = Settings::from_args(&Args::parse()).unwrap_or_else(|error| error.exit());
    match app::run(settings).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(error);
            ExitCode::FAILURE
        }
    }
}
