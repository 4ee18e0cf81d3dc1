//! The static binaries.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use xtask::{cargo, programs, workspace::TRACER};

use super::Source;
use crate::arch::Arch;

/// The largest binary, without its line tables, in bytes.
const LARGEST: u64 = 9 << 20;

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
    let mut command = cargo::command(&source.root);
    let target = arch.target();
    command.args([
        "build",
        "--locked",
        "--profile",
        "dist",
        "--all-features",
        "--package",
        TRACER,
        "--target",
        &target,
    ]);
    command.env("TCPTRACE_BUILD_COMMIT", &source.commit).env("SOURCE_DATE_EPOCH", &source.time);
    // Paths of this machine are in no binary.
    let home = programs::cargo_home().context("HOME is not set")?;
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    command.env("CARGO_ENCODED_RUSTFLAGS", [remap(&source.root, "."), remap(&home, "/cargo")].join("\x1f"));
    let prefix = |from: &Path, to: &str| format!("-ffile-prefix-map={}={to}", from.display());
    let of_c = [prefix(&source.root, "."), prefix(&home, "/cargo")].join(" ");
    let variable = target.replace('-', "_");
    command.env(format!("CFLAGS_{variable}"), of_c);
    if arch.name() == env::consts::ARCH {
        command.env(format!("CC_{variable}"), "musl-gcc");
    } else {
        command.env(format!("CC_{variable}"), format!("{}-linux-gnu-gcc", arch.name()));
        command.env(format!("CARGO_TARGET_{}_LINKER", variable.to_uppercase()), "rust-lld");
    }
    programs::succeed(&mut command)?;
    let built = target_folder(source)?.join(&target).join("dist");
    split(arch, &built.join(TRACER))
}

fn target_folder(source: &Source) -> Result<PathBuf> {
    let metadata = cargo::metadata(&source.root)?;
    metadata["target_directory"].as_str().map(PathBuf::from).context("`cargo metadata` names no target folder")
}

fn split(arch: Arch, built: &Path) -> Result<Binary> {
    let tool = |name: &str| {
        let prefix =
            if arch.name() == env::consts::ARCH { String::new() } else { format!("{}-linux-gnu-", arch.name()) };
        Command::new(format!("{prefix}{name}"))
    };
    let (program, debug) = (built.with_file_name("stripped").join(TRACER), built.with_file_name("tcptrace.debug"));
    fs::create_dir_all(built.with_file_name("stripped")).with_context(|| built.display().to_string())?;
    programs::succeed(
        tool("objcopy").arg("--only-keep-debug").arg("--compress-debug-sections").arg(built).arg(&debug),
    )?;
    let link = format!("--add-gnu-debuglink={}", debug.display());
    programs::succeed(tool("objcopy").args(["--strip-all", &link]).arg(built).arg(&program))?;
    let size = fs::metadata(&program).with_context(|| program.display().to_string())?.len();
    println!("dist: {}: {:.1} MiB", arch.target(), size as f64 / f64::from(1 << 20));
    if size > LARGEST {
        bail!("{}: larger than {} MiB", program.display(), LARGEST >> 20);
    }
    Ok(Binary { arch, program, debug })
}
