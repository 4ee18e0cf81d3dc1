//! What `cargo xtask setup --tests` installs from the Python package index, in a folder of its own.

use std::{env, fs, path::PathBuf};

/// The folder of that virtual environment; `TCPTRACE_PEERS` names another.
fn folder() -> PathBuf {
    let cache = || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cache/tcptrace/peers");
    env::var_os("TCPTRACE_PEERS").map_or_else(cache, PathBuf::from)
}

/// A file or folder of an installed package, none where that is not installed.
pub(crate) fn packaged(path: &str) -> Option<PathBuf> {
    let versions = fs::read_dir(folder().join("lib")).ok()?;
    versions.flatten().map(|version| version.path().join("site-packages").join(path)).find(|path| path.exists())
}

/// The interpreter.
#[cfg(feature = "kafka")]
pub(crate) fn interpreter() -> PathBuf {
    folder().join("bin/python")
}

/// Why tests that want this file of a package cannot run here.
pub(crate) fn missing(path: &str) -> Option<String> {
    packaged(path).is_none().then(|| format!("no {path} in the Python packages of {}", folder().display()))
}
