//! `cargo xtask pictures`: the pictures and sample outputs of the documentation, made from a real run.
//!
//! [`play`] makes small troubles in a network namespace of its own and runs tcptrace on them, as root. [`svg`] draws
//! what a terminal would show, and [`pages`] puts the text into the pages of `docs/`. Nothing is edited by hand, so the
//! documentation shows what the program prints.

mod browser;
mod pages;
mod play;
mod screen;
mod svg;

use std::{
    env, fs,
    path::PathBuf,
    process::{ExitCode, Stdio},
};

use anyhow::{Context as _, Result, bail};
use xtask::{builds, privilege::Root, programs, workspace};

use play::Shot;

/// Options of `cargo xtask pictures`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The tracer to run, instead of building it
    #[arg(long)]
    tracer: Option<PathBuf>,
    /// Run the commands as root and print their outputs as JSON: how this command calls itself
    #[arg(long, hide = true, requires = "tracer")]
    play: bool,
}

/// The pictures: outputs, and the paragraph of each that is drawn.
const PICTURES: [(&str, usize); 2] = [("trace", 1), ("story", 2)];
/// Pictures of whole screens.
const SCREENS: [&str; 1] = ["top"];

/// Builds the tracer and writes the files as the caller; only the run in between is root's.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if let (true, Some(tracer)) = (args.play, &args.tracer) {
        println!("{}", serde_json::to_string(&play::play(tracer)?)?);
        return Ok(ExitCode::SUCCESS);
    }
    let root = workspace::root()?;
    let tracer = match &args.tracer {
        Some(tracer) => tracer.canonicalize().with_context(|| tracer.display().to_string())?,
        None => builds::tracer(&root, true)?,
    };
    let shots = shoot(&tracer)?;
    let named =
        |name: &str| shots.iter().find(|shot| shot.name == name).with_context(|| format!("no output called {name}"));
    let write = |name: &str, line: &str, lines: &[&str]| {
        let file = root.join(format!("docs/pictures/{name}.svg"));
        fs::write(&file, svg::draw(line, lines)).with_context(|| file.display().to_string())?;
        println!("wrote docs/pictures/{name}.svg");
        anyhow::Ok(())
    };
    for (name, paragraph) in PICTURES {
        let shot = named(name)?;
        write(name, &shot.line, &shot.paragraphs(paragraph, paragraph))?;
    }
    for name in SCREENS {
        let shot = named(name)?;
        write(name, &shot.line, &shot.stdout.trim_end().lines().collect::<Vec<_>>())?;
    }
    browser::picture(&root, &named("report")?.stdout, "docs/pictures/report.png")?;
    println!("wrote docs/pictures/report.png");
    for page in pages::update(&root, &shots)? {
        println!("wrote {page}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Calls this program again as root, since only root can trace.
fn shoot(tracer: &PathBuf) -> Result<Vec<Shot>> {
    let this = env::current_exe().context("this program does not know where it is")?;
    let mut command = Root::required()?.command(this, &[])?;
    command.args(["pictures", "--play", "--tracer"]).arg(tracer).stderr(Stdio::inherit());
    let output = command.output().with_context(|| format!("`{}` cannot be started", programs::line(&command)))?;
    if !output.status.success() {
        bail!("`{}`: {}", programs::line(&command), output.status);
    }
    serde_json::from_slice(&output.stdout).context("the run printed no valid JSON")
}
