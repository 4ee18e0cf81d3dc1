//! Tracing the kernel takes root; building as root would leave files in `target` that their owner cannot replace.
//! So a command builds as whoever called it, and only what traces or installs goes through sudo or doas.

use std::{
    env,
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::programs;

/// How a program can be started as root.
pub(crate) enum Root {
    /// This process is root already.
    Already,
    /// Through `sudo` or `doas`, found here.
    Through(PathBuf),
    /// Not at all.
    No,
}

impl Root {
    /// How root can be had, be it by typing a password.
    pub(crate) fn find() -> Self {
        // SAFETY: geteuid has no preconditions and cannot fail.
        if unsafe { libc::geteuid() } == 0 {
            return Self::Already;
        }
        match programs::find("sudo").or_else(|| programs::find("doas")) {
            Some(program) => Self::Through(program),
            None => Self::No,
        }
    }

    /// How root can be had without getting stuck: sudo counts only where it needs no password or can ask for one.
    pub(crate) fn find_usable() -> Self {
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

    /// A command that starts `program` as root with `variables` in its environment, or `None` where root cannot be
    /// had. sudo clears the environment, so the variables go through `env`, which doas lets pass as well.
    pub(crate) fn command(&self, program: impl Into<PathBuf>, variables: &[(&str, PathBuf)]) -> Option<Command> {
        let program = program.into();
        match self {
            Self::Already => {
                let mut command = Command::new(program);
                command.envs(variables.iter().map(|(name, value)| (name, value)));
                Some(command)
            }
            Self::Through(escalate) => {
                let mut command = Command::new(escalate);
                if escalate.ends_with("sudo") {
                    command.arg("--");
                }
                if !variables.is_empty() {
                    command.arg("env");
                    for (name, value) in variables {
                        let mut word = std::ffi::OsString::from(name);
                        word.push("=");
                        word.push(value);
                        command.arg(word);
                    }
                }
                command.arg(program);
                Some(command)
            }
            Self::No => None,
        }
    }
}

/// The last clause of an error for want of root: what to type instead.
pub(crate) fn way_out() -> String {
    let user = env::var("USER").unwrap_or_else(|_| "this user".to_owned());
    format!(
        "{user} is not root and neither sudo nor doas is there: install one of them, or call the command again as root"
    )
}
