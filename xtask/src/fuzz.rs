//! `cargo xtask fuzz`: runs the fuzz targets under libFuzzer, and prints what each run came to.

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};
use xtask::{programs, workspace};

/// Options of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these targets, e.g. records [default: all]
    #[arg(value_name = "TARGET")]
    only: Vec<String>,
    /// How often each target is run
    #[arg(long, default_value_t = 10_000_000)]
    runs: u64,
    /// Longest input in bytes
    #[arg(long, default_value_t = 4096)]
    max_len: u32,
}

/// Lines of libFuzzer's last words, and how the table calls them.
const STATISTICS: [(&str, &str); 3] = [
    ("stat::number_of_executed_units:", "runs"),
    ("stat::average_exec_per_sec:", "runs/s"),
    ("stat::peak_rss_mb:", "MB at most"),
];

/// Runs the targets; one that finds something leaves the input in `fuzz/artifacts`.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if programs::find("cargo-fuzz").is_none() {
        bail!("cargo-fuzz is not installed: `cargo install cargo-fuzz`, then try again");
    }
    let root = workspace::root()?;
    let all = targets(&root)?;
    if let Some(unknown) = args.only.iter().find(|name| !all.contains(name)) {
        bail!("there is no target `{unknown}`; the targets are {}", all.join(", "));
    }
    let mut failed = Vec::new();
    let mut table = vec![format!("{:<10} {}", "target", STATISTICS.map(|(_, name)| format!("{name:>12}")).concat())];
    for name in all.iter().filter(|name| args.only.is_empty() || args.only.contains(name)) {
        let said = fuzz(&root, name, args)?;
        let figure =
            |line: &str| said.lines().find_map(|said| said.strip_prefix(line)).map_or("-", str::trim).to_owned();
        table.push(format!("{name:<10} {}", STATISTICS.map(|(line, _)| format!("{:>12}", figure(line))).concat()));
        if figure(STATISTICS[0].0) == "-" {
            println!("{said}");
            failed.push(name.as_str());
        }
    }
    table.iter().for_each(|line| println!("{line}"));
    if !failed.is_empty() {
        bail!("something was found in: {} (the inputs are in fuzz/artifacts)", failed.join(", "));
    }
    Ok(ExitCode::SUCCESS)
}

/// The targets, by their files.
fn targets(root: &Path) -> Result<Vec<String>> {
    let folder = root.join("fuzz/fuzz_targets");
    let files = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let names = files.filter_map(|file| Some(file.ok()?.path().file_stem()?.to_string_lossy().into_owned()));
    let mut names: Vec<_> = names.collect();
    names.sort();
    Ok(names)
}

/// Runs a target on a copy of its corpus, since libFuzzer adds to it; returns what it printed.
fn fuzz(root: &Path, name: &str, args: &Args) -> Result<String> {
    println!("fuzz: {name}");
    let corpus = root.join("target/fuzz-corpus").join(name);
    fs::create_dir_all(&corpus).with_context(|| corpus.display().to_string())?;
    let mut cargo = Command::new("cargo");
    cargo.current_dir(root).env("RUSTC_BOOTSTRAP", "1"); // sanitizer coverage on a stable toolchain
    cargo.args(["fuzz", "run", "--sanitizer", "none", "--target-dir", "target/fuzz", name]).arg(&corpus);
    cargo.arg(root.join("fuzz/corpus").join(name)).arg("--").arg(format!("-runs={}", args.runs));
    cargo.arg(format!("-max_len={}", args.max_len));
    cargo.args(["-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1", "-verbosity=0"]);
    let output = cargo.output().with_context(|| programs::line(&cargo))?;
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}
