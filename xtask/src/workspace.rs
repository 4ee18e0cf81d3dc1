//! Where things of the repository are, said once.

use std::{env, path::PathBuf};

use anyhow::{Context as _, Result};

/// The package whose code runs in the kernel. It does not build for the host, so every command over the workspace
/// leaves it out.
pub(crate) const EBPF_PACKAGE: &str = "tcptrace-ebpf";

/// The package that the programs in the kernel share with user space.
pub(crate) const COMMON_PACKAGE: &str = "tcptrace-common";

/// The package of the tracer, and the name of its executable.
pub(crate) const TRACER: &str = "tcptrace";

/// The integration test that needs a kernel to trace. It brings a harness of its own and is run apart, as root.
pub(crate) const LIVE_TEST: &str = "live";

/// The integration test that puts the tracer in front of real programs; it is run as the live tests are.
pub(crate) const INTEROP_TEST: &str = "interop";

/// The root of the repository.
pub(crate) fn root() -> Result<PathBuf> {
    // `cargo run` sets the variable; an executable called by hand falls back on where it was compiled.
    let manifest =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let root = manifest.parent().with_context(|| {
        format!("{}: has no parent folder, so the repository's root is unknown", manifest.display())
    })?;
    root.canonicalize().with_context(|| format!("{}: cannot find the repository's root", root.display()))
}
