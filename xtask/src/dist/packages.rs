//! Packages for Debian and RPM systems, from the metadata in `tcptrace/Cargo.toml`.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use xtask::{cargo, programs, workspace::TRACER};

use super::{
    PACKAGE, Source, VERSION,
    binaries::{Binary, PROFILE},
};

/// Writes a `.deb` and a `.rpm`.
pub(super) fn write(source: &Source, binary: &Binary, to: &Path) -> Result<()> {
    let staged = source.stage().join(TRACER);
    fs::copy(&binary.program, &staged).with_context(|| staged.display().to_string())?;
    let target = binary.arch.target();
    let command = |tool: &str| {
        let mut command = cargo::command(&source.root);
        command.args([tool, "--package", TRACER, "--target", &target, "--profile", PROFILE]);
        command.env("SOURCE_DATE_EPOCH", &source.time);
        command
    };
    let deb = to.join(format!("{PACKAGE}_{VERSION}-1_{}.deb", binary.arch.debian()));
    // Quietly: it warns of each file that cargo has not built.
    programs::succeed(command("deb").args(["--quiet", "--no-build", "--no-strip", "--locked", "--output"]).arg(deb))?;
    let rpm = to.join(format!("{PACKAGE}-{VERSION}-1.{}.rpm", binary.arch.name()));
    programs::succeed(command("generate-rpm").args(["--source-date", &source.time, "--output"]).arg(rpm))
}
