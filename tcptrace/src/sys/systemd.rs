//! Tells systemd how a service is doing (sd_notify(3)).

use std::{
    cell::RefCell,
    collections::VecDeque,
    env, io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use crate::sys::clock::now_ns;

/// Messages that wait at most where the service manager does not read.
const MAX_WAITING: usize = 16;

/// Tells systemd (sd_notify(3)) how a run is; without one, nobody. Never waits: what it has no room for is sent later.
#[derive(Debug, Default)]
pub struct Service {
    /// Is this run a service at all?
    pub is_one: bool,
    waiting: RefCell<VecDeque<String>>,
}

impl Service {
    /// A run that is a service.
    #[must_use]
    pub fn new() -> Self {
        Self { is_one: true, ..Self::default() }
    }

    /// All is attached, and what was there at the start is known.
    pub fn ready(&self) {
        self.notify("READY=1".to_owned());
    }

    /// The run goes on, and is so. `is_well`: all its threads are alive, and the watchdog may know.
    pub fn alive(&self, status: &str, is_well: bool) {
        if !self.is_one {
            return;
        }
        let status = status.replace('\n', " ");
        let watchdog = if is_well { "WATCHDOG=1\n" } else { "" };
        if self.send_waiting() {
            let _ = send(&format!("{watchdog}STATUS={status}")); // the next one comes in a second
        }
    }

    /// Files are opened again, which takes no time to speak of.
    pub fn reloaded(&self) {
        self.notify(format!("RELOADING=1\nMONOTONIC_USEC={}", now_ns() / 1000));
        self.notify("READY=1".to_owned());
    }

    /// It ends, which may take this long.
    pub fn stopping(&self, within: Duration) {
        self.notify(format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", within.as_micros()));
    }

    fn notify(&self, message: String) {
        if self.is_one {
            let mut waiting = self.waiting.borrow_mut();
            if waiting.len() < MAX_WAITING {
                waiting.push_back(message);
            }
            drop(waiting);
            self.send_waiting();
        }
    }

    /// Sends what waits, in order; tells whether nothing waits any more.
    fn send_waiting(&self) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        while let Some(message) = waiting.front() {
            match send(message) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                _ => _ = waiting.pop_front(), // where nobody listens nobody ever will
            }
        }
        true
    }
}

/// Sends a message to the socket that the service manager named, without blocking.
fn send(message: &str) -> io::Result<()> {
    let Some(name) = env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name)?,
        None => SocketAddr::from_pathname(&name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(message.as_bytes(), &address).map(drop)
}
