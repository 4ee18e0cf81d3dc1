//! Records as entries of the systemd journal, with a field for each of theirs: `journalctl TCPTRACE_FINDING=close-wait-leak`.
//!
//! The protocol is systemd's "Native Journal Protocol": one datagram for each entry, or where that is too large a sealed
//! memory file.

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
    outputs::sink::{DeliveryError, Sink},
    pipeline::records::Records,
    sys::workers,
};

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// How long a full socket may keep the thread.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest name of a field that journald takes, in bytes (`journal_field_valid`).
const NAME_MAX: usize = 64;

/// The journal as an output. journald acknowledges nothing: an entry counts as delivered when it is in journald's socket,
/// which systemd holds while journald is restarted.
pub struct Journald {
    path: PathBuf,
    socket: Option<UnixDatagram>,
    /// Makes a record an entry.
    entry: fn(&[u8]) -> Result<Vec<u8>, String>,
}

impl Journald {
    /// An output to the journald that listens at `path`, or where it does usually.
    #[must_use]
    pub fn new(path: Option<PathBuf>) -> Self {
        let entry = |record: &[u8]| flat::parse(record).map(|record| entry(&record));
        Self { path: path.unwrap_or_else(|| SOCKET.into()), socket: None, entry }
    }

    /// The same for lines of a log, which [`log_entry`] made.
    #[must_use]
    pub fn log() -> Self {
        Self { entry: |entry| Ok(entry.to_vec()), ..Self::new(None) }
    }

    /// Does journald listen?
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
        // After an error another one is made: journald may have been started anew.
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

/// A line of a log as journald takes it. `priority` is one of syslog's (RFC 5424).
#[must_use]
pub fn log_entry(priority: u8, line: &str) -> Vec<u8> {
    let mut entry = Vec::new();
    field(&mut entry, "MESSAGE", line);
    field(&mut entry, "PRIORITY", &priority.to_string());
    field(&mut entry, "SYSLOG_IDENTIFIER", "tcptrace");
    entry
}

/// A record as journald takes it. The fields of a record begin with TCPTRACE_, so that none of them is taken for one of
/// journald's own: `pid` is no `_PID`. OBJECT_PID tells of which process a finding is; journald believes only
/// root, and then adds that process's unit, so that `systemctl status` of it shows the finding.
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

/// A name as journald takes them: upper case, digits and `_`.
fn name_of(name: &str) -> String {
    let valid = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    "TCPTRACE_".chars().chain(valid).take(NAME_MAX).collect()
}

/// A value with line breaks has its length before it, in 64 bits, little-endian.
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

/// Sends an entry as the descriptor of a memory file, sealed so that journald may trust it.
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
