//! Calling cargo, and reading from its messages where it put the executables, whatever the target folder is.

use std::{
    env,
    ffi::OsString,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::programs;

/// An executable that cargo built.
pub struct Executable {
    /// The target's name.
    pub name: String,
    /// `bin`, `test`, …
    pub kind: String,
    /// Where it is.
    pub path: PathBuf,
}

/// The cargo that runs this program, in the folder `root`. It does not see what cargo told this program about the
/// package of this program: crates that read these variables would be compiled again for each program that builds them.
pub fn command(root: &Path) -> Command {
    let program = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    command.current_dir(root);
    let is_of_package = |name: &str| ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|start| name.starts_with(start));
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_of_package)) {
        command.env_remove(name);
    }
    command
}

/// Runs `cargo build` or `cargo test --no-run` with `args`, and returns the executables that it made.
pub fn build(root: &Path, args: &[&str]) -> Result<Vec<Executable>> {
    executables(command(root).args(args))
}

/// Runs this command of cargo, and returns the executables that it made.
pub fn executables(command: &mut Command) -> Result<Vec<Executable>> {
    command.arg("--message-format=json-render-diagnostics").stdin(Stdio::null()).stdout(Stdio::piped());
    let shown = programs::line(command);
    let mut child = command.spawn().with_context(|| format!("`{shown}` cannot be started"))?;
    let stdout = child.stdout.take().with_context(|| format!("`{shown}`: it has no pipe"))?;
    let mut executables = Vec::new();
    for line in BufReader::new(stdout).lines() {
        let line = line.with_context(|| format!("`{shown}`: cannot read its output"))?;
        executables.extend(executable(&line));
    }
    let status = child.wait().with_context(|| format!("`{shown}`: cannot wait for it"))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(executables)
}

/// The path of the executable of this name and kind among those that cargo made.
pub fn pick(executables: &[Executable], kind: &str, name: &str) -> Result<PathBuf> {
    executables
        .iter()
        .find(|executable| executable.kind == kind && executable.name == name)
        .map(|executable| executable.path.clone())
        .with_context(|| format!("cargo reported no executable of kind {kind} called {name}"))
}

/// What `cargo metadata` prints about the workspace's own packages.
pub fn metadata(root: &Path) -> Result<Value> {
    let mut command = command(root);
    let text = programs::stdout_of(command.args(["metadata", "--format-version=1", "--no-deps"]))?;
    serde_json::from_str(&text).context("`cargo metadata` printed no valid JSON")
}

/// Reads one message of cargo. Test executables have the kind of their target too, and are told apart by it: an
/// integration test is of kind `test`, the tracer's executable of kind `bin`.
fn executable(line: &str) -> Option<Executable> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message.get("reason")? != "compiler-artifact" {
        return None;
    }
    let target = message.get("target")?;
    Some(Executable {
        name: target.get("name")?.as_str()?.to_owned(),
        kind: target.get("kind")?.get(0)?.as_str()?.to_owned(),
        path: PathBuf::from(message.get("executable")?.as_str()?),
    })
}

#[cfg(test)]
mod tests {
    use super::executable;

    #[test]
    fn an_artifact_with_an_executable_is_read() {
        let line =
            r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"tcptrace"},"executable":"/t/tcptrace"}"#;
        let found = executable(line).unwrap();
        assert_eq!(found.name, "tcptrace");
        assert_eq!(found.kind, "bin");
        assert_eq!(found.path.to_str(), Some("/t/tcptrace"));
    }

    #[test]
    fn other_messages_are_passed_over() {
        for line in [
            r#"{"reason":"build-finished","success":true}"#,
            r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"tcptrace"},"executable":null}"#,
            "not json",
            "",
        ] {
            assert!(executable(line).is_none(), "{line}");
        }
    }
}
