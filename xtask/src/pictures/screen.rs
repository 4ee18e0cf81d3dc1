//! `tcptrace top` in a terminal of its own (tmux), for its picture.

use std::{
    path::Path,
    process::{self, Command},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// How long it may take until the screen shows what is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts the tracer with these arguments, waits until the screen shows `wanted`, and takes the screen with its colours.
pub(super) fn shoot(tracer: &Path, line: &str, (columns, rows): (u16, u16), wanted: &str) -> Result<String> {
    let terminal = Terminal(format!("tcptrace-pictures-{}", process::id()));
    let program = format!("'{}' {line} --color always", tracer.display());
    let (columns, rows) = (columns.to_string(), rows.to_string());
    terminal.tmux(&["new-session", "-d", "-x", &columns, "-y", &rows, &program])?;
    let start = Instant::now();
    loop {
        let screen = terminal.tmux(&["capture-pane", "-p", "-e"])?;
        if screen.contains(wanted) {
            return Ok(screen);
        }
        if start.elapsed() > PATIENCE {
            bail!("`tcptrace {line}` does not show `{wanted}`:\n{screen}");
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// A server of tmux, which ends with this value.
struct Terminal(String);

impl Terminal {
    fn tmux(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new("tmux");
        command.args(["-f", "/dev/null", "-L", &self.0]).args(words);
        let output = command.output().context("tmux (Debian package tmux) cannot be started")?;
        if !output.status.success() {
            bail!("tmux {words:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        String::from_utf8(output.stdout).context("the screen is no UTF-8")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Where it has ended already, nothing is left to do.
        let _ = Command::new("tmux").args(["-L", &self.0, "kill-server"]).output();
    }
}
