//! `cargo xtask fleet`: loads the records of a fleet into ClickHouse, and times the queries of docs/pipelines/clickhouse.
//!
//! The example `fleet` of tcptrace generates the records; the script that runs the queries also tests them
//! (`tests/peers/clickhouse.py`). The figures are those of docs/pipelines/clickhouse.md.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use xtask::{
    cargo, programs,
    workspace::{self, TRACER},
};

use crate::{python::Environment, setup};

/// Options of `cargo xtask fleet`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Number of hosts
    #[arg(long, default_value_t = 1000)]
    hosts: u32,
    /// Events of all hosts together; each takes some 30 bytes on disk, and as much again in the database
    #[arg(long, default_value_t = 10_000_000)]
    events: u64,
    /// The same seed gives the same fleet
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder for the files and the database, which must not exist; it is removed at the end
    #[arg(long, default_value = "target/fleet")]
    out: PathBuf,
    /// Keep the folder
    #[arg(long)]
    keep: bool,
    /// Build the generator without optimisation: quicker to compile, slower to run
    #[arg(long)]
    debug: bool,
}

/// Generates the records, loads and queries them, and prints the figures as Markdown.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let root = workspace::root()?;
    if args.out.exists() {
        bail!("{}: exists already; name another folder with --out, or remove it", args.out.display());
    }
    setup::python_environment()?;
    let mut words = vec!["build", "--package", TRACER, "--all-features", "--example", "fleet"];
    if !args.debug {
        words.push("--release");
    }
    let generator = cargo::pick(&cargo::build(&root, &words)?, "example", "fleet")?;
    let result = measure(args, &root, &generator);
    if !args.keep && args.out.exists() {
        fs::remove_dir_all(&args.out).with_context(|| format!("{}: cannot be removed", args.out.display()))?;
    }
    result.map(|()| ExitCode::SUCCESS)
}

fn measure(args: &Args, root: &Path, generator: &Path) -> Result<()> {
    let mut make = Command::new(generator);
    make.arg(&args.out).args([u64::from(args.hosts), args.events, args.seed].map(|number| number.to_string()));
    let parameters = programs::stdout_of(make.stderr(Stdio::inherit()))?;
    let python = Environment::find(root)?.folder.join("bin/python");
    let mut query = Command::new(python);
    query.arg(root.join("tcptrace/tests/peers/clickhouse.py")).arg("files");
    query.arg(root.join("docs/pipelines/clickhouse")).arg(&args.out).args(parameters.lines());
    let answer = programs::stdout_of(query.stderr(Stdio::inherit()))?;
    print(&serde_json::from_str(&answer).context("clickhouse.py: printed no valid JSON")?)
}

fn print(answer: &Value) -> Result<()> {
    let number =
        |name: &str| answer.get(name).and_then(Value::as_f64).with_context(|| format!("no `{name}` in the answer"));
    let (events, load_s, bytes) = (number("events")?, number("load_s")?, number("bytes")?);
    println!("| ClickHouse {} | |\n| --- | --- |", answer.get("version").and_then(Value::as_str).unwrap_or("?"));
    println!("| hosts | {} |\n| events | {events} |\n| findings | {} |", number("hosts")?, number("findings")?);
    println!("| read in | {load_s:.1} s ({:.0} events/s) |", events / load_s);
    println!("| on disk | {:.0} MB ({:.1} bytes an event) |", bytes / 1e6, bytes / events);
    let queries = answer.get("queries").and_then(Value::as_object).context("no `queries` in the answer")?;
    for (name, query) in queries {
        println!("| `{name}.sql` | {:.2} s |", query.get("s").and_then(Value::as_f64).unwrap_or(f64::NAN));
    }
    for (name, query) in queries {
        println!("\n{name}:\n```text\n{}\n```", query.get("text").and_then(Value::as_str).unwrap_or("").trim_end());
    }
    Ok(())
}
