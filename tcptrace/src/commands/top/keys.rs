//! Keys of the terminal, read by a thread of its own: to read the rest of an escape sequence may take as long as the user or
//! the network likes, and must not hold up the run.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel},
    },
    thread,
    time::Duration,
};

use ratatui::crossterm::event::{self, Event};
use tokio::sync::Notify;

use crate::sys::terminal::wait_for_input;

/// Most keys that wait; then the terminal keeps them.
const MAX_WAITING: usize = 256;

pub(super) struct Keys {
    events: Receiver<Event>,
    came: Arc<Notify>,
    /// The one that ended a wait.
    next: Option<Event>,
    is_over: bool,
}

impl Keys {
    pub(super) fn start() -> io::Result<Self> {
        let (to, events) = sync_channel(MAX_WAITING);
        let came = Arc::new(Notify::new());
        let notify = Arc::clone(&came);
        thread::Builder::new().name("keys".to_owned()).spawn(move || {
            read(&to, &notify);
            drop(to);
            notify.notify_one(); // that no more come
        })?;
        Ok(Self { events, came, next: None, is_over: false })
    }

    /// Waits until there are keys, or the terminal is gone.
    pub(super) async fn came(&self) {
        if self.is_over {
            return std::future::pending().await;
        }
        self.came.notified().await;
    }

    /// The same for at most `timeout`, without a runtime.
    pub(super) fn wait(&mut self, timeout: Duration) {
        match self.events.recv_timeout(timeout) {
            Ok(event) => self.next = Some(event),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => self.is_over = true,
        }
    }

    /// The next key that has come.
    pub(super) fn take(&mut self) -> Option<Event> {
        if let Some(event) = self.next.take() {
            return Some(event);
        }
        match self.events.try_recv() {
            Ok(event) => Some(event),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                self.is_over = true;
                None
            }
        }
    }

    /// True if the terminal is gone.
    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }
}

/// Passes keys on until the terminal is gone. crossterm would read from a terminal that is gone for ever (`try_read` of its
/// mio source), so that is asked before.
fn read(to: &SyncSender<Event>, came: &Notify) {
    while wait_for_input(None).is_ok() {
        while let Ok(true) = event::poll(Duration::ZERO) {
            let Ok(event) = event::read() else { return };
            if to.send(event).is_err() {
                return;
            }
            came.notify_one();
        }
    }
}
