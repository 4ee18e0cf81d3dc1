//! Standard output.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::{
        fd::{AsRawFd as _, FromRawFd as _},
        unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    },
    time::Duration,
};

use super::{Records, Sink, Trouble};

/// Writes to standard output.
///
/// Where that is a pipe it is opened once more, without blocking: so it is known to the byte what a reader that stops
/// reading has got, and nobody else who writes there is disturbed.
#[derive(Debug)]
pub struct Stdout {
    file: File,
    /// Bytes of the first record that were written already.
    written: usize,
}

/// How long a reader is waited for before that is said.
const PATIENCE: Duration = Duration::from_secs(1);

impl Stdout {
    /// The standard output of this process.
    ///
    /// # Errors
    /// Where it is closed.
    pub fn new() -> io::Result<Self> {
        // SAFETY: dup(2) takes a number.
        let copy = unsafe { libc::dup(libc::STDOUT_FILENO) };
        if copy < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it is open, and nobody else's.
        let file = unsafe { File::from_raw_fd(copy) };
        let is_pipe = file.metadata()?.file_type().is_fifo();
        let again = || OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open("/proc/self/fd/1");
        Ok(Self { file: if is_pipe { again().unwrap_or(file) } else { file }, written: 0 })
    }

    fn wait(&self) -> io::Result<()> {
        let mut ready = libc::pollfd { fd: self.file.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
        // SAFETY: one valid entry.
        match unsafe { libc::poll(&raw mut ready, 1, PATIENCE.as_millis() as i32) } {
            0 => Err(io::ErrorKind::TimedOut.into()),
            count if count > 0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Sink for Stdout {
    fn deliver(&mut self, records: &mut Records) -> Result<(), Trouble> {
        while !records.is_empty() {
            let rest = records.bytes().get(self.written..).unwrap_or_default();
            match self.file.write(rest) {
                Ok(count) => {
                    self.written += count;
                    let whole = records.within(self.written);
                    let before = records.bytes().len();
                    records.take(whole);
                    self.written -= before - records.bytes().len();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match self.wait() {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => return Err(Trouble::Later("its reader does not take what is left".into())),
                },
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    return Err(Trouble::Closed(error.to_string()));
                }
                Err(error) => return Err(Trouble::Later(error.to_string())),
            }
        }
        Ok(())
    }
}
