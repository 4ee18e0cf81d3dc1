//! The terminal of the user: its size, and single keys.

use std::{
    fs::{File, OpenOptions},
    io::Read as _,
    os::unix::fs::OpenOptionsExt as _,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::{
    process::getpgrp,
    stdio::{stdin, stdout},
    termios::{LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    signal::unix::{Signal, SignalKind, signal},
};

use crate::model::screen::Screen;

/// The size of the terminal at stdout. `None` if there is none, or it has no size.
#[must_use]
pub fn screen() -> Option<Screen> {
    let size = tcgetwinsize(stdout()).ok()?;
    let screen = Screen { columns: size.ws_col.into(), rows: size.ws_row.into() };
    (screen.columns > 0 && screen.rows > 0).then_some(screen)
}

/// The terminal's modes before [`Keys`] changed them.
static BEFORE: OnceLock<Termios> = OnceLock::new();
static IS_CHANGED: AtomicBool = AtomicBool::new(false);

/// Gives the terminal its modes back, if they were changed. Async-signal-safe: atomics and system calls.
pub fn restore() {
    // In the background the modes are the shell's, and setting them would stop this process (SIGTTOU).
    if IS_CHANGED.swap(false, Ordering::SeqCst)
        && is_in_foreground()
        && let Some(before) = BEFORE.get()
    {
        let _ = tcsetattr(stdin(), OptionalActions::Now, before); // at the end there is nobody to tell
    }
}

fn is_in_foreground() -> bool {
    tcgetpgrp(stdin()).is_ok_and(|group| group == getpgrp())
}

/// Reads single keys from the terminal at stdin, without echo. Ctrl-C and Ctrl-Z work as before; the modes are restored
/// when this is dropped.
pub struct Keys {
    tty: AsyncFd<File>,
    continued: Signal,
}

impl Keys {
    /// Listens, if stdin is a terminal and this process is in its foreground. Needs tokio's runtime.
    #[must_use]
    pub fn listen() -> Option<Self> {
        if !isatty(stdin()) {
            return None;
        }
        // Opened again, since O_NONBLOCK belongs to what the shell and other programs have open, too.
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let tty = OpenOptions::new().read(true).custom_flags(flags).open("/proc/self/fd/0").ok()?;
        let keys = Self {
            // SAFETY: the file is not replaced while it is registered.
            tty: unsafe { AsyncFd::register_with_interest(tty, Interest::READABLE) }.ok()?,
            continued: signal(SignalKind::from_raw(libc::SIGCONT)).ok()?,
        };
        single_keys().then_some(keys)
    }

    /// Waits until the user presses `q`.
    pub async fn quit(&mut self) {
        let mut bytes = [0; 64];
        loop {
            tokio::select! {
                // The shell may have set the modes as it likes.
                _ = self.continued.recv() => { single_keys(); }
                ready = self.tty.readable() => {
                    let Ok(mut ready) = ready else { break };
                    match ready.try_io(|tty| tty.get_ref().read(&mut bytes)) {
                        Ok(Ok(count @ 1..)) if bytes[..count].iter().any(|key| matches!(key, b'q' | b'Q')) => return,
                        Ok(Ok(1..)) | Err(_) => {}
                        Ok(Ok(0) | Err(_)) => break,
                    }
                }
            }
        }
        std::future::pending().await // the terminal is gone; signals end the run
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        restore();
    }
}

/// Makes the terminal hand over each key at once, without echo.
fn single_keys() -> bool {
    let Some(mut modes) = tcgetattr(stdin()).ok().filter(|_| is_in_foreground()) else { return false };
    let _ = BEFORE.set(modes.clone());
    modes.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
    let is_set = tcsetattr(stdin(), OptionalActions::Now, &modes).is_ok();
    IS_CHANGED.store(is_set, Ordering::SeqCst);
    is_set
}
