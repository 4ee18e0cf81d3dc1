//! Reports the status of the service to systemd (sd_notify(3)).

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

/// Maximum number of queued messages while the service manager does not read.
const MAX_WAITING: usize = 16;

/// Reports the status of a run to systemd (sd_notify(3)), if it is a service. Never blocks: messages that find no room
/// are sent later.
#[derive(Debug, Default)]
pub struct Service {
    /// Whether this run is a service.
    pub is_service: bool,
    waiting: RefCell<VecDeque<String>>,
}

impl Service {
    /// For a run that is a service.
    #[must_use]
    pub fn new() -> Self {
        Self { is_service: true, ..Self::default() }
    }

    /// Reports READY=1: everything is attached, and the initial listing is complete.
    pub fn ready(&self) {
        self.notify("READY=1".to_owned());
    }

    /// Reports the status, and feeds the watchdog if `is_well`: all threads of the run are alive.
    pub fn alive(&self, status: &str, is_well: bool) {
        if !self.is_service {
            return;
        }
        let status = status.replace('\n', " ");
        let watchdog = if is_well { "WATCHDOG=1\n" } else { "" };
        if self.send_waiting() {
            let _ = send(&format!("{watchdog}STATUS={status}")); // sent again in a second
        }
    }

    /// Reports that files were reopened, which takes negligible time.
    pub fn reloaded(&self) {
        self.notify(format!("RELOADING=1\nMONOTONIC_USEC={}", now_ns() / 1000));
        self.notify("READY=1".to_owned());
    }

    /// Reports that the run is shutting down, which may take this long.
    pub fn stopping(&self, within: Duration) {
        self.notify(format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", within.as_micros()));
    }

    fn notify(&self, message: String) {
        if self.is_service {
            let mut waiting = self.waiting.borrow_mut();
            if waiting.len() < MAX_WAITING {
                waiting.push_back(message);
            }
            drop(waiting);
            self.send_waiting();
        }
    }

    /// Sends the queued messages in order; returns true if none is left.
    fn send_waiting(&self) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        while let Some(message) = waiting.front() {
            match send(message) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                _ => _ = waiting.pop_front(), // no service manager: drop it
            }
        }
        true
    }
}

/// Sends a message to the socket in NOTIFY_SOCKET, without blocking.
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
