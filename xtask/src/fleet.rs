//! `cargo xtask fleet`: the records of a fleet in ClickHouse's engine, and how long its queries take there.
//!
//! The example `fleet` of tcptrace makes the records, and what runs the queries is what tests them
//! (`tests/peers/clickhouse.py`). The figures are those of docs/pipelines/clickhouse.md.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{
    cargo,
    peers::Environment,
    programs, setup,
    workspace::{self, TRACER},
};

/// Options of `cargo xtask fleet`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Hosts of the fleet
    #[arg(long, default_value_t = 1000)]
    hosts: u32,
    /// Events of all of them together, some 30 bytes each on disk, and as much again in the database
    #[arg(long, default_value_t = 10_000_000)]
    events: u64,
    /// The same number gives the same fleet
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder for the files and the database, which must not be there; it is removed at the end
    #[arg(long, default_value = "target/fleet")]
    out: PathBuf,
    /// Leave the folder
    #[arg(long)]
    keep: bool,
    /// Make the records without optimisation: quicker to compile, slower to make
    #[arg(long)]
    debug: bool,
}

/// Makes the records, has them read and queried, and prints the figures as Markdown.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let root = workspace::root()?;
    if args.out.exists() {
        bail!("{}: is there already; name another folder by --out, or remove it", args.out.display());
    }
    setup::peer_environment()?;
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
    let parameters = stdout_of(&mut make)?;
    let python = Environment::find(root)?.folder.join("bin/python");
    let mut query = Command::new(python);
    query.arg(root.join("tcptrace/tests/peers/clickhouse.py")).arg("files");
    query.arg(root.join("docs/pipelines/clickhouse")).arg(&args.out).args(parameters.lines());
    let answer = stdout_of(&mut query)?;
    print(&serde_json::from_str(&answer).context("clickhouse.py: printed no valid JSON")?)
}

/// What `command` prints on its standard output; it may complain on the terminal.
fn stdout_of(command: &mut Command) -> Result<String> {
    let shown = programs::line(command);
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("`{shown}` cannot be started"))?;
    if !output.status.success() {
        bail!("`{shown}` failed: {}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{shown}`: printed no UTF-8"))
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
