//! Output to standard output and standard error.

use std::{
    fs::{File, OpenOptions},
    io::{self, IsTerminal as _, Write as _},
    os::{
        fd::{AsRawFd as _, FromRawFd as _},
        unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    },
};

use super::waiting::writable;
use crate::{
    outputs::{
        sink::{DeliveryError, Sink},
        target::{Content, OutputKind, Target},
    },
    pipeline::records::Records,
};

/// Writes to a standard stream, without blocking if it is a pipe, a terminal or a socket.
///
/// Pipes and terminals are opened a second time, non-blocking: so the number of bytes that a stalled reader has
/// received is known exactly, and other processes that write there are not affected.
#[derive(Debug)]
pub struct Standard {
    file: File,
    kind: Kind,
    /// Bytes of the first record that were already written.
    written: usize,
}

/// How to write to the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A regular file. If the disk is full, there may be room later.
    Regular,
    /// A socket: it cannot be reopened, but send(2) can be non-blocking.
    Socket,
    /// A pipe or terminal that was reopened, or a device.
    Other,
    /// A pipe or terminal that could not be reopened, because it belongs to another user.
    MayBlock,
}

/// A pipe that is writable by poll(2) has room for this many bytes (`PIPE_BUF`, pipe(7)).
const PIPE_BUF: usize = 4096;

impl Standard {
    /// The standard output of this process.
    ///
    /// # Errors
    /// If it is closed.
    pub fn output() -> io::Result<Self> {
        Self::new(libc::STDOUT_FILENO)
    }

    /// The standard error of this process.
    ///
    /// # Errors
    /// If it is closed.
    pub fn error() -> io::Result<Self> {
        Self::new(libc::STDERR_FILENO)
    }

    fn new(number: i32) -> io::Result<Self> {
        // SAFETY: takes only numbers.
        let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 0) };
        if copy < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it is open, and has no other owner.
        let file = unsafe { File::from_raw_fd(copy) };
        let file_type = file.metadata()?.file_type();
        if file_type.is_char_device() && !file.is_terminal() {
            // Fails for `/dev/full`, to which nothing can ever be written.
            let _none = (&file).write(&[])?;
        }
        let again = || {
            let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
            OpenOptions::new().write(true).custom_flags(flags).open(format!("/proc/self/fd/{number}"))
        };
        let (file, kind) = if file_type.is_file() {
            (file, Kind::Regular)
        } else if file_type.is_socket() {
            (file, Kind::Socket)
        } else if file_type.is_fifo() || file.is_terminal() {
            again().map_or((file, Kind::MayBlock), |again| (again, Kind::Other))
        } else {
            (file, Kind::Other)
        };
        Ok(Self { file, kind, written: 0 })
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.kind {
            Kind::Socket => {
                let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
                // SAFETY: the bytes are valid for their length.
                let sent = unsafe { libc::send(self.file.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
                usize::try_from(sent).map_err(|_| io::Error::last_os_error())
            }
            Kind::MayBlock => {
                writable(&self.file)?;
                (&self.file).write(bytes.get(..PIPE_BUF).unwrap_or(bytes))
            }
            Kind::Regular | Kind::Other => (&self.file).write(bytes),
        }
    }
}

impl Sink for Standard {
    fn deliver(&mut self, records: &mut Records) -> Result<(), DeliveryError> {
        while !records.is_empty() {
            let rest = records.bytes().get(self.written..).unwrap_or_default();
            match self.write(rest) {
                Ok(count) => {
                    self.written += count;
                    let whole = records.within(self.written);
                    let before = records.bytes().len();
                    records.take(whole);
                    self.written -= before - records.bytes().len();
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => {
                        writable(&self.file).map_err(|error| DeliveryError::Later(error.to_string()))?;
                    }
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                        return Err(DeliveryError::Closed(error.to_string()));
                    }
                    io::ErrorKind::TimedOut => return Err(DeliveryError::Later(error.to_string())),
                    _ if self.kind == Kind::Regular => return Err(DeliveryError::Later(error.to_string())),
                    _ => return Err(DeliveryError::Failed(error.to_string())),
                },
            }
        }
        Ok(())
    }
}

/// The kind `stdout`.
pub(super) const KIND: OutputKind = OutputKind {
    name: "stdout",
    form: "stdout",
    parse: |rest| {
        if rest.is_empty() { Ok(Box::new(Stdout)) } else { Err(format!("stdout takes no target, not `{rest}`")) }
    },
};

/// Standard output as a target.
#[derive(Clone, Copy, Debug)]
pub struct Stdout;

impl Target for Stdout {
    fn keys(&self) -> &'static [&'static str] {
        &["format"]
    }

    fn content(&self) -> Content {
        Content::Formatted
    }

    fn is_stdout(&self) -> bool {
        true
    }

    fn open(&self) -> io::Result<Box<dyn Sink>> {
        Ok(Box::new(Standard::output()?))
    }

    fn boxed(&self) -> Box<dyn Target> {
        Box::new(*self)
    }
}
