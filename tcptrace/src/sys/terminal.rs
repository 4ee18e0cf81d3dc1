//! The terminal of the user: its size, single keys, and a screen of its own.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Signal as Number, getpgrp, kill_current_process_group},
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
/// True while a screen covers what the terminal showed before.
static HAS_SCREEN: AtomicBool = AtomicBool::new(false);
/// Shows another screen, without a cursor; pasted text comes in one piece (xterm's control sequences 1049, 25, 2004).
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[?2004h";
/// Shows the screen before.
const LEAVE: &[u8] = b"\x1b[0m\x1b[?2004l\x1b[?25h\x1b[?1049l";

/// Gives the terminal its screen and its modes back, if they were changed. Async-signal-safe: atomics and system calls.
pub fn restore() {
    if HAS_SCREEN.swap(false, Ordering::SeqCst) {
        let _ = rustix::io::write(stdout(), LEAVE); // at the end there is nobody to tell
    }
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
        if !is_input() {
            return None;
        }
        let keys = Self { tty: open_input().ok()?, continued: signal(SignalKind::from_raw(libc::SIGCONT)).ok()? };
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

/// True if stdin is a terminal.
#[must_use]
pub fn is_input() -> bool {
    isatty(stdin())
}

/// Waits until there are keys to read, or `timeout` has passed (`None`: however long it takes).
///
/// # Errors
/// If the terminal at stdin is gone, as its session or its window was closed.
pub fn wait_for_input(timeout: Option<Duration>) -> io::Result<()> {
    let stdin = stdin();
    let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
    let limit =
        timeout.map(|timeout| Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() });
    match poll(&mut fds, limit.as_ref()) {
        Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) if fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) => {
            Err(io::Error::from(io::ErrorKind::UnexpectedEof))
        }
        Ok(_) => Ok(()),
    }
}

/// The terminal at stdin, opened again, since O_NONBLOCK belongs to what the shell and other programs have open, too.
fn open_input() -> io::Result<AsyncFd<File>> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let tty = OpenOptions::new().read(true).custom_flags(flags).open("/proc/self/fd/0")?;
    // SAFETY: the file is not replaced while it is registered.
    unsafe { AsyncFd::register_with_interest(tty, Interest::READABLE) }.map_err(|error| error.into_parts().1)
}

/// Stops the processes of this group, as the terminal does for Ctrl-Z; returns when they go on.
pub fn stop_process() {
    let _ = kill_current_process_group(Number::TSTP); // without a shell that could continue it, nothing stops
}

/// A terminal that a screen covers, and that hands over all keys. The terminal is restored when this is dropped.
pub struct Cover {
    resized: Signal,
    continued: Signal,
    was_continued: bool,
}

impl Cover {
    /// Takes the terminal at stdin and stdout. Needs tokio's runtime.
    ///
    /// # Errors
    /// If another process has it.
    pub fn take() -> io::Result<Self> {
        let resized = signal(SignalKind::window_change())?;
        let continued = signal(SignalKind::from_raw(libc::SIGCONT))?;
        if !cover() {
            return Err(io::Error::other("this process is not in the foreground of the terminal"));
        }
        Ok(Self { resized, continued, was_continued: false })
    }

    /// Waits until the size has changed, or this process was stopped and goes on.
    pub async fn changed(&mut self) {
        tokio::select! {
            _ = self.resized.recv() => {}
            _ = self.continued.recv() => self.was_continued = true,
        }
    }

    /// True if this process was stopped since the last call: the shell has used the terminal.
    pub fn was_continued(&mut self) -> bool {
        std::mem::take(&mut self.was_continued)
    }

    /// Covers the terminal again.
    pub fn take_again(&mut self) -> bool {
        cover()
    }
}

impl Drop for Cover {
    fn drop(&mut self) {
        restore();
    }
}

/// Makes the terminal hand over all keys, and shows an empty screen.
fn cover() -> bool {
    let Some(mut modes) = tcgetattr(stdin()).ok().filter(|_| is_in_foreground()) else { return false };
    if !IS_CHANGED.load(Ordering::SeqCst) {
        let _ = BEFORE.set(modes.clone());
    }
    modes.make_raw();
    let is_set = tcsetattr(stdin(), OptionalActions::Now, &modes).is_ok();
    IS_CHANGED.store(is_set, Ordering::SeqCst);
    if is_set {
        HAS_SCREEN.store(true, Ordering::SeqCst);
        let _ = rustix::io::write(stdout(), ENTER); // a terminal that is gone ends the run by SIGHUP
    }
    is_set
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
