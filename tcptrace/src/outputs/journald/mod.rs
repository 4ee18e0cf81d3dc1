//! Writes records to the systemd journal, each field as a field of the entry: `journalctl
//! TCPTRACE_FINDING=close-wait-leak`.
//!
//! The protocol is systemd's "Native Journal Protocol": one datagram per entry, or a sealed memory file if the entry is
//! too large.

use std::{
    fs::File,
    io::{self, IoSlice, Write as _},
    os::{fd::AsRawFd as _, unix::net::UnixDatagram},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use serde_json::{Map, Value};
use socket2::{MsgHdr, SockRef};

use super::{
    flat,
    words::{line, priority},
};
use crate::{
    outputs::{
        sink::{DeliveryError, Sink},
        target::{OutputKind, Target},
    },
    pipeline::records::Records,
    sys::workers,
};

/// The socket that journald listens on.
const SOCKET: &str = "/run/systemd/journal/socket";

/// How long to wait while journald's socket is full.
const PATIENCE: Duration = Duration::from_secs(5);

/// Maximum length of a field name in journald, in bytes (`journal_field_valid`).
const NAME_MAX: usize = 64;

/// Output to the journal. journald does not acknowledge entries: an entry counts as delivered when it is in journald's
/// socket, which systemd keeps open while journald restarts.
pub struct Journald {
    path: PathBuf,
    socket: Option<UnixDatagram>,
    /// Converts a record to an entry.
    entry: fn(&[u8]) -> Result<Vec<u8>, String>,
}

impl Journald {
    /// An output to the journald that listens on `path`, by default the system's.
    #[must_use]
    pub fn new(path: Option<PathBuf>) -> Self {
        let entry = |record: &[u8]| flat::parse(record).map(|record| entry(&record));
        let path = path.unwrap_or_else(|| SOCKET.into());
        // Connected now, if it is there: a path through `/proc` takes rights that the run gives up (`sys/sandbox`).
        let socket = connect(&path).ok();
        Self { path, socket, entry }
    }

    /// As [`Self::new`], for log lines made by [`log_entry`].
    #[must_use]
    pub fn log() -> Self {
        Self { entry: |entry| Ok(entry.to_vec()), ..Self::new(None) }
    }

    /// True if journald is listening.
    #[must_use]
    pub fn is_there(&self) -> bool {
        connect(&self.path).is_ok()
    }

    fn send(&mut self, entry: &[u8]) -> io::Result<()> {
        workers::silent_for(PATIENCE);
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => connect(&self.path)?,
        };
        loop {
            match socket.send(entry) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => send_file(&socket, entry)?,
                result => result.map(drop)?,
            }
            break;
        }
        // After an error a new socket is connected: journald may have been restarted.
        self.socket = Some(socket);
        Ok(())
    }
}

impl Sink for Journald {
    fn deliver(&mut self, records: &mut Records) -> Result<(), DeliveryError> {
        loop {
            let Some(record) = records.iter().next() else { return Ok(()) };
            let entry = (self.entry)(record).map_err(|reason| DeliveryError::Refused { records: 1, reason })?;
            self.send(&entry)
                .map_err(|error| DeliveryError::Later(format!("journald at {}: {error}", self.path.display())))?;
            records.take(1);
        }
    }
}

fn connect(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.connect(path)?;
    Ok(socket)
}

/// Converts a log line to an entry. `priority` is a syslog severity (RFC 5424).
#[must_use]
pub fn log_entry(priority: u8, line: &str) -> Vec<u8> {
    let mut entry = Vec::new();
    field(&mut entry, "MESSAGE", line);
    field(&mut entry, "PRIORITY", &priority.to_string());
    field(&mut entry, "SYSLOG_IDENTIFIER", "tcptrace");
    entry
}

/// Converts a record to an entry. The names of its fields begin with TCPTRACE_, so that they cannot collide with
/// journald's own: `pid` is not `_PID`. OBJECT_PID names the process that a finding is about; for senders that are
/// root, journald adds that process's unit, so that `systemctl status` of the unit shows the finding.
fn entry(record: &Map<String, Value>) -> Vec<u8> {
    let mut entry = Vec::with_capacity(2048);
    field(&mut entry, "MESSAGE", &line(record));
    field(&mut entry, "PRIORITY", &(priority(record) as u8).to_string());
    field(&mut entry, "SYSLOG_IDENTIFIER", "tcptrace");
    flat::each(record, &mut |name, value| {
        field(&mut entry, &name_of(name), value);
        if name == "owner_pid" {
            field(&mut entry, "OBJECT_PID", value);
        }
    });
    entry
}

/// Converts a field name to journald's rules: upper case, digits and `_`.
fn name_of(name: &str) -> String {
    let valid = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    "TCPTRACE_".chars().chain(valid).take(NAME_MAX).collect()
}

/// A value with line breaks is preceded by its length, in 64 bits, little-endian.
fn field(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

/// Sends an entry as the descriptor of a memory file, sealed so that journald can trust it.
fn send_file(socket: &UnixDatagram, entry: &[u8]) -> io::Result<()> {
    let mut file = File::from(memfd_create(c"tcptrace", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    file.write_all(entry)?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)?;
    let control = rights(file.as_raw_fd());
    SockRef::from(socket).sendmsg(&MsgHdr::new().with_buffers(&[IoSlice::new(&[])]).with_control(&control), 0)?;
    Ok(())
}

/// A control message with one descriptor (unix(7)): a `cmsghdr`, the descriptor, and padding to a whole word.
fn rights(fd: i32) -> Vec<u8> {
    let len = size_of::<libc::cmsghdr>() + size_of::<i32>();
    let mut message = len.to_ne_bytes().to_vec();
    for part in [libc::SOL_SOCKET, libc::SCM_RIGHTS, fd] {
        message.extend_from_slice(&part.to_ne_bytes());
    }
    message.resize(len.next_multiple_of(size_of::<usize>()), 0);
    message
}

#[cfg(test)]
mod tests;

/// The kind `journald`.
pub(super) const KIND: OutputKind = OutputKind {
    name: "journald",
    form: "journald",
    parse: |path| Ok(Box::new(JournalTarget(Some(path).filter(|path| !path.is_empty()).map(PathBuf::from)))),
};

/// The socket of journald; `None` for the usual one.
#[derive(Clone, Debug)]
struct JournalTarget(Option<PathBuf>);

impl Target for JournalTarget {
    fn path(&self) -> Option<&Path> {
        self.0.as_deref()
    }

    fn open(&self) -> io::Result<Box<dyn Sink>> {
        Ok(Box::new(Journald::new(self.0.clone())))
    }

    fn boxed(&self) -> Box<dyn Target> {
        Box::new(self.clone())
    }
}
