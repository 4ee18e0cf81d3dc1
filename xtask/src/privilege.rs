//! Tracing the kernel takes root; building as root would leave files in `target` that their owner cannot replace.
//! So a command builds as its caller, and only what traces or installs goes through sudo or doas.

use std::{
    env,
    ffi::OsString,
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Error, Result, anyhow, bail};

use crate::programs;

/// How a program can be started as root.
pub enum Root {
    /// This process is root.
    Already,
    /// Through `sudo` or `doas`, found here.
    Through(PathBuf),
    /// Not at all.
    No,
}

impl Root {
    /// How to become root, perhaps by typing a password.
    pub fn find() -> Self {
        // SAFETY: geteuid has no preconditions and cannot fail.
        if unsafe { libc::geteuid() } == 0 {
            return Self::Already;
        }
        match programs::find("sudo").or_else(|| programs::find("doas")) {
            Some(program) => Self::Through(program),
            None => Self::No,
        }
    }

    /// Fails early where there is no way to become root: a build takes minutes, and is useless without.
    pub fn required() -> Result<Self> {
        match Self::find() {
            Self::No => bail!(no_root()),
            root => Ok(root),
        }
    }

    /// How to become root without getting stuck: sudo counts only if it needs no password or can ask for one.
    pub fn find_usable() -> Self {
        match Self::find() {
            Self::Through(program) => {
                let silent = Command::new(&program)
                    .args(["-n", "true"])
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status()
                    .is_ok_and(|status| status.success());
                if silent || io::stdin().is_terminal() { Self::Through(program) } else { Self::No }
            }
            other => other,
        }
    }

    /// A command that starts `program` as root with `variables` in its environment. sudo clears the environment, so
    /// the variables go through `env`, which doas lets pass as well.
    pub fn command(&self, program: impl Into<PathBuf>, variables: &[(&str, PathBuf)]) -> Result<Command> {
        let program = program.into();
        match self {
            Self::Already => {
                let mut command = Command::new(program);
                command.envs(variables.iter().map(|(name, value)| (name, value)));
                Ok(command)
            }
            Self::Through(escalate) => {
                let mut command = Command::new(escalate);
                if escalate.ends_with("sudo") {
                    command.arg("--");
                }
                if !variables.is_empty() {
                    command.arg("env");
                    for (name, value) in variables {
                        let mut word = OsString::from(name);
                        word.push("=");
                        word.push(value);
                        command.arg(word);
                    }
                }
                command.arg(program);
                Ok(command)
            }
            Self::No => bail!(no_root()),
        }
    }

    /// Starts this program again as root, with these arguments, in the place of this process. Returns only if that fails.
    pub fn restart(&self, args: impl IntoIterator<Item = OsString>) -> Error {
        let command = env::current_exe()
            .context("this program does not know where it is")
            .and_then(|this| self.command(this, &[]));
        match command {
            Ok(mut command) => programs::replace_this(command.args(args)),
            Err(error) => error,
        }
    }
}

fn no_root() -> Error {
    let user = env::var("USER").unwrap_or_else(|_| "this user".to_owned());
    anyhow!("{user} is not root and there is neither sudo nor doas: install one of them, or run the command as root")
}
