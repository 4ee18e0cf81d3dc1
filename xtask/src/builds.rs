//! Builds of the tracer and its tests that several commands need.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::{
    cargo::{self, Executable},
    workspace::TRACER,
};

/// The profile of `cargo xtask run` and `demo`: optimised, but without LTO, which only packages are worth waiting for.
const QUICK_PROFILE: [&str; 2] = ["--profile", "fast"];

/// The bench target whose instructions are counted.
pub const INSTRUCTIONS: &str = "instructions";

/// Builds the tracer and returns its path: with the profile `fast`, or without optimisation.
pub fn tracer(root: &Path, debug: bool) -> Result<PathBuf> {
    let mut words = vec!["build", "--package", TRACER];
    if !debug {
        words.extend(QUICK_PROFILE);
    }
    cargo::pick(&cargo::build(root, &words)?, "bin", TRACER)
}

/// Builds the tests of one target that run as root, and the tracer that they test.
pub fn root_tests(root: &Path, target: &str, release: bool) -> Result<(PathBuf, PathBuf)> {
    let mut words = vec!["test", "--no-run", "--all-features", "--package", TRACER, "--test", target];
    if release {
        words.push("--release");
    }
    // Cargo builds a package's executables along with its integration tests.
    let built = cargo::build(root, &words)?;
    Ok((cargo::pick(&built, "test", target)?, cargo::pick(&built, "bin", TRACER)?))
}

/// Builds the bench target [`INSTRUCTIONS`], and the tracer with it: without debug assertions, as users have it. LTO
/// would triple the time, and counts are compared with counts of the same build.
pub fn instructions(root: &Path) -> Result<Vec<Executable>> {
    let bench = ["bench", "--package", TRACER, "--bench", INSTRUCTIONS, "--no-run"];
    cargo::build(root, &[&bench[..], &["--config", "profile.bench.lto='off'"]].concat())
}
