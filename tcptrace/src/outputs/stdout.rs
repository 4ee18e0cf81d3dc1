//! Standard output.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::{
        fd::FromRawFd as _,
        unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    },
};

use super::{Records, Sink, Trouble, waiting::writable};

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
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    writable(&self.file).map_err(|error| Trouble::Later(error.to_string()))?;
                }
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    return Err(Trouble::Closed(error.to_string()));
                }
                Err(error) => return Err(Trouble::Later(error.to_string())),
            }
        }
        Ok(())
    }
}
