//! A TCP connection that tracks what the receiver's kernel has acknowledged.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

use socket2::SockRef;

use crate::{pipeline::records::Records, sys::workers};

/// Time of one check for a close or for acknowledgements.
const CHECK: Duration = Duration::from_millis(1);

/// A connection that sends frames and expects no data back.
pub(super) struct Stream {
    socket: TcpStream,
    /// How long the receiver may acknowledge nothing before the connection is given up.
    patience: Duration,
}

impl Stream {
    pub(super) fn connect(address: SocketAddr, patience: Duration) -> io::Result<Self> {
        let socket = TcpStream::connect_timeout(&address, patience)?;
        // Each call waits for its last frames to be acknowledged: Nagle's algorithm must not delay them.
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(CHECK))?;
        socket.set_write_timeout(Some(CHECK))?;
        Ok(Self { socket, patience })
    }

    /// True unless the receiver has closed it.
    pub(super) fn is_open(&self) -> bool {
        self.check_open().is_ok()
    }

    /// Sends frames, and removes those whose last byte the receiver's kernel has acknowledged: frames that were only in
    /// the send buffer when a connection breaks are sent again. After an error this connection must not be used any
    /// more.
    pub(super) fn send(&mut self, frames: &mut Records) -> io::Result<()> {
        let mut written = 0;
        let result = self.push(frames, &mut written);
        if result.is_err() {
            let _ = self.acknowledged(frames, &mut written); // the original error says more
            // Unacknowledged frames are sent over another connection: so send a RST instead of the rest of the buffer
            // in the background.
            let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO)); // otherwise it might arrive twice
        }
        result
    }

    /// Sends frames; the kernel already has the first `written` bytes of those that are left.
    fn push(&mut self, frames: &mut Records, written: &mut usize) -> io::Result<()> {
        let mut moved = Instant::now();
        let mut waiting = usize::MAX;
        while !frames.is_empty() {
            match self.socket.write(frames.bytes().get(*written..).unwrap_or_default()) {
                Ok(bytes) => *written += bytes,
                Err(error) if is_nothing_yet(&error) => {}
                Err(error) => return Err(error),
            }
            self.check_open()?;
            let unacknowledged = self.acknowledged(frames, written)?;
            if unacknowledged != waiting {
                (moved, waiting) = (Instant::now(), unacknowledged);
                workers::silent_for(self.patience);
            } else if moved.elapsed() > self.patience {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the server acknowledges nothing"));
            }
        }
        Ok(())
    }

    /// Removes acknowledged frames; returns the number of unacknowledged bytes.
    fn acknowledged(&self, frames: &mut Records, written: &mut usize) -> io::Result<usize> {
        let mut queued: libc::c_int = 0;
        // SAFETY: SIOCOUTQ, which is the same number as TIOCOUTQ, writes an int.
        if unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut queued) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let unacknowledged = usize::try_from(queued).unwrap_or(0).min(*written);
        let before = frames.bytes().len();
        frames.take(frames.within(*written - unacknowledged));
        *written -= before - frames.bytes().len();
        Ok(unacknowledged)
    }

    /// Fails if the receiver has closed the connection; what it sends is ignored.
    fn check_open(&self) -> io::Result<()> {
        match (&self.socket).read(&mut [0; 512]) {
            Ok(0) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the server closed the connection")),
            Ok(_) => Ok(()),
            Err(error) if is_nothing_yet(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn is_nothing_yet(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;
    use crate::pipeline::records::RecordsBuilder;

    const LEN: usize = 1000;

    /// Frames of equal length, each with its number.
    fn frames(count: usize) -> Records {
        let mut collecting = RecordsBuilder::default();
        for number in 0..count {
            collecting.add(|to| to.extend_from_slice(format!("{number:0LEN$}").as_bytes()));
        }
        collecting.take()
    }

    /// Numbers of the complete frames received until the connection ends, and the number of further bytes.
    fn read(mut from: TcpStream) -> (Vec<usize>, usize) {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes); // a RST ends it
        let (whole, rest) = bytes.as_chunks::<LEN>();
        (whole.iter().map(|frame| String::from_utf8_lossy(frame).parse().unwrap()).collect(), rest.len())
    }

    #[test]
    fn what_was_not_acknowledged_is_sent_again_and_nothing_twice() {
        const COUNT: usize = 20_000;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let patience = Duration::from_millis(300);
        let mut some = frames(COUNT);

        let mut stream = Stream::connect(address, patience).unwrap();
        let (stuck, _) = listener.accept().unwrap();
        assert_eq!(stream.send(&mut some).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(!some.is_empty() && some.len() < COUNT, "{} are left", some.len());
        drop(stream);
        let (first, part) = read(stuck);
        assert!(part > 0, "a frame was cut by the full buffer");

        let mut stream = Stream::connect(address, Duration::from_secs(10)).unwrap();
        let (reader, _) = listener.accept().unwrap();
        let reading = thread::spawn(move || read(reader));
        stream.send(&mut some).unwrap();
        assert!(some.is_empty());
        drop(stream);
        let (second, rest) = reading.join().unwrap();
        assert_eq!(rest, 0);
        assert!(first.into_iter().chain(second).eq(0..COUNT));
    }

    #[test]
    fn a_closed_connection_is_noticed_before_anything_is_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = Stream::connect(listener.local_addr().unwrap(), Duration::from_secs(10)).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(b"hello?").unwrap();
        assert!(stream.is_open());
        let mut some = frames(1);
        stream.send(&mut some).unwrap();
        assert!(some.is_empty());
        drop(server);
        assert!(!stream.is_open());
        let mut more = frames(1);
        assert!(stream.send(&mut more).is_err());
        assert_eq!(more.len(), 1);
    }
}
