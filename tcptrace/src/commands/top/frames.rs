//! Screens on their way to the terminal: only what has changed, written by a thread of its own, so that a terminal that
//! takes nothing (a stalled ssh) holds up neither the run nor the kernel's rings.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use ratatui::{
    backend::{Backend as _, CrosstermBackend},
    buffer::Buffer,
    layout::Rect,
};

/// How long the end waits for the terminal.
const PATIENCE: Duration = Duration::from_millis(500);

/// Clears the screen.
const CLEAR: &[u8] = b"\x1b[0m\x1b[2J";

pub(super) struct Frames {
    to: SyncSender<Vec<u8>>,
    /// True while the thread writes.
    is_busy: Arc<AtomicBool>,
    /// What the terminal shows; `None` if that is not known.
    shown: Option<Buffer>,
}

impl Frames {
    pub(super) fn start() -> io::Result<Self> {
        let (to, frames) = sync_channel::<Vec<u8>>(1);
        let is_busy = Arc::new(AtomicBool::new(false));
        let busy = Arc::clone(&is_busy);
        thread::Builder::new().name("screen".to_owned()).spawn(move || {
            for frame in frames {
                let mut stdout = io::stdout().lock();
                // If the terminal is gone, so is the run: SIGHUP, or the end of the keys.
                let _ = stdout.write_all(&frame).and_then(|()| stdout.flush());
                busy.store(false, Ordering::Release);
            }
        })?;
        Ok(Self { to, is_busy, shown: None })
    }

    /// Draws a screen of this size, unless the one before is still being written.
    pub(super) fn draw(&mut self, area: Rect, draw: impl FnOnce(&mut Buffer)) {
        if self.is_busy.load(Ordering::Acquire) {
            return;
        }
        let mut next = Buffer::empty(area);
        draw(&mut next);
        let mut bytes = Vec::new();
        let before = match self.shown.take().filter(|shown| shown.area == area) {
            Some(shown) => shown,
            None => {
                bytes.extend_from_slice(CLEAR);
                Buffer::empty(area)
            }
        };
        let changes = before.diff(&next);
        // To memory.
        let _ = CrosstermBackend::new(&mut bytes).draw(changes.into_iter());
        self.shown = Some(next);
        self.is_busy.store(true, Ordering::Release);
        if self.to.try_send(bytes).is_err() {
            self.is_busy.store(false, Ordering::Release); // the thread has ended, and the terminal with it
        }
    }

    /// The terminal shows something else now.
    pub(super) fn forget(&mut self) {
        self.shown = None;
    }

    /// Waits a moment until everything is written.
    pub(super) fn wait(&self) {
        let start = Instant::now();
        while self.is_busy.load(Ordering::Acquire) && start.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(1));
        }
    }
}
