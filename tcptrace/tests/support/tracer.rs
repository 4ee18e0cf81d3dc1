//! The program that is tested: what a release build makes where `cargo xtask test` says so, else cargo's own.

use std::{env, path::PathBuf, process::Command};

/// It, without any variable that steers it.
pub(super) fn tracer() -> Command {
    let program = env::var_os("TRACER_BIN").map_or_else(|| env!("CARGO_BIN_EXE_tcptrace").into(), PathBuf::from);
    let mut command = Command::new(program);
    let steers = |name: &str| name.starts_with("TCPTRACE_") || ["RUST_BACKTRACE", "NO_COLOR"].contains(&name);
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(steers)) {
        command.env_remove(name);
    }
    command
}
