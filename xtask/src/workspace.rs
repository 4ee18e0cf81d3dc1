//! Names and places in the repository that several commands need.

use std::{env, path::PathBuf};

use anyhow::{Context as _, Result};

/// The package whose code runs in the kernel. It does not build for the host, so commands over the workspace exclude
/// it.
pub const EBPF_PACKAGE: &str = "tcptrace-ebpf";

/// The package that both the BPF programs and user space use.
pub const COMMON_PACKAGE: &str = "tcptrace-common";

/// The package of the tracer, and the name of its executable.
pub const TRACER: &str = "tcptrace";

/// The integration test that traces the kernel. It has its own harness and runs separately, as root.
pub const LIVE_TEST: &str = "live";

/// The integration test that traces real programs; it runs like the live tests.
pub const INTEROP_TEST: &str = "interop";

/// The root of the repository.
pub fn root() -> Result<PathBuf> {
    // `cargo run` sets the variable; an executable called by hand falls back on where it was compiled.
    let manifest =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let root = manifest.parent().with_context(|| {
        format!("{}: has no parent folder, so the repository's root is unknown", manifest.display())
    })?;
    root.canonicalize().with_context(|| format!("{}: cannot find the repository's root", root.display()))
}
