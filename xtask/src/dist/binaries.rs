//! The static binaries.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use xtask::{
    cargo, programs,
    workspace::{LIVE_TEST, TRACER},
};

use super::Source;
use crate::arch::Arch;

/// The profile in Cargo.toml. Not `dist`: cargo keeps files of its own in `target/PROFILE`.
pub(super) const PROFILE: &str = "small";

/// The largest binary, without its line tables, in bytes.
const LARGEST: u64 = 13 << 20;

/// What is built.
const BUILT: [&str; 4] = ["--locked", "--all-features", "--package", TRACER];

/// What makes the linker write less: relative relocations in a bitmap (5 KB instead of 500 KB), and machine code that
/// several functions have in common once (60 KB).
const SMALL_LINK: [&str; 2] = ["--pack-dyn-relocs=relr", "--icf=all"];

/// Ways to compress of zstd that levels up to 3 do not take, which are half of its code. tcptrace has no higher level.
const UNUSED_STRATEGIES: [&str; 6] = ["GREEDY", "LAZY", "LAZY2", "BTLAZY2", "BTOPT", "BTULTRA"];

/// A binary for one architecture.
pub(super) struct Binary {
    pub(super) arch: Arch,
    /// Without debug information.
    pub(super) program: PathBuf,
    /// Its line tables, for backtraces.
    pub(super) debug: PathBuf,
}

/// Builds the binary for `arch`, and takes its line tables out.
pub(super) fn build(source: &Source, arch: Arch) -> Result<Binary> {
    let target = arch.target();
    let mut command = cargo::command(&source.root);
    command.args(["build", "--profile", PROFILE]).args(BUILT).args(["--target", &target]);
    command.env("TCPTRACE_BUILD_COMMIT", &source.commit).env("SOURCE_DATE_EPOCH", &source.time);
    // Paths of this machine are in no binary.
    let home = programs::cargo_home().context("HOME is not set")?;
    let paths = [(source.root.as_path(), "."), (home.as_path(), "/cargo")];
    let mapped = |flag: &str| paths.map(|(from, to)| format!("{flag}={}={to}", from.display()));
    let linked = SMALL_LINK.map(|flag| format!("-Clink-arg={flag}"));
    command.env("CARGO_ENCODED_RUSTFLAGS", [mapped("--remap-path-prefix"), linked].concat().join("\x1f"));
    let of_c = [mapped("-ffile-prefix-map").join(" "), zstd_without(&UNUSED_STRATEGIES)].join(" ");
    command.env(format!("CFLAGS_{}", variable(arch)), of_c).envs(compilers(arch));
    programs::succeed(&mut command)?;
    let built = target_folder(source)?.join(&target).join(PROFILE);
    split(arch, &built.join(TRACER))
}

/// The live tests as a static program, for systems of another kernel.
pub(super) fn live_tests(root: &Path, arch: Arch) -> Result<PathBuf> {
    let target = arch.target();
    let mut command = cargo::command(root);
    command
        .args(["test", "--no-run"])
        .args(BUILT)
        .args(["--test", LIVE_TEST, "--target", &target])
        .envs(compilers(arch));
    let built = cargo::pick(&cargo::executables(&mut command)?, "test", LIVE_TEST)?;
    let stripped = built.with_extension("stripped");
    programs::succeed(tool(arch, "objcopy").arg("--strip-debug").arg(&built).arg(&stripped))?;
    Ok(stripped)
}

/// What names the compiler and the linker for static programs. The linker is Rust's own: it is there for every
/// architecture, and the same on every machine.
fn compilers(arch: Arch) -> [(String, String); 2] {
    let is_native = arch.name() == env::consts::ARCH;
    let compiler = if is_native { "musl-gcc".to_owned() } else { format!("{}-linux-gnu-gcc", arch.name()) };
    let linker = format!("CARGO_TARGET_{}_LINKER", variable(arch).to_uppercase());
    [(format!("CC_{}", variable(arch)), compiler), (linker, "rust-lld".to_owned())]
}

fn zstd_without(strategies: &[&str]) -> String {
    let flags: Vec<_> = strategies.iter().map(|name| format!("-DZSTD_EXCLUDE_{name}_BLOCK_COMPRESSOR")).collect();
    flags.join(" ")
}

/// The target as names of variables have it.
fn variable(arch: Arch) -> String {
    arch.target().replace('-', "_")
}

fn tool(arch: Arch, name: &str) -> Command {
    let prefix = if arch.name() == env::consts::ARCH { String::new() } else { format!("{}-linux-gnu-", arch.name()) };
    Command::new(format!("{prefix}{name}"))
}

fn target_folder(source: &Source) -> Result<PathBuf> {
    let metadata = cargo::metadata(&source.root)?;
    metadata["target_directory"].as_str().map(PathBuf::from).context("`cargo metadata` names no target folder")
}

fn split(arch: Arch, built: &Path) -> Result<Binary> {
    let (program, debug) = (built.with_file_name("stripped").join(TRACER), built.with_file_name("tcptrace.debug"));
    fs::create_dir_all(built.with_file_name("stripped")).with_context(|| built.display().to_string())?;
    programs::succeed(
        tool(arch, "objcopy").arg("--only-keep-debug").arg("--compress-debug-sections").arg(built).arg(&debug),
    )?;
    let link = format!("--add-gnu-debuglink={}", debug.display());
    programs::succeed(tool(arch, "objcopy").args(["--strip-all", &link]).arg(built).arg(&program))?;
    let size = fs::metadata(&program).with_context(|| program.display().to_string())?.len();
    println!("dist: {}: {:.1} MiB", arch.target(), size as f64 / f64::from(1 << 20));
    if size > LARGEST {
        bail!("{}: larger than {} MiB", program.display(), LARGEST >> 20);
    }
    Ok(Binary { arch, program, debug })
}
