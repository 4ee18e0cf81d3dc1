//! A TCP connection that knows what the other end's kernel has acknowledged.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

use socket2::SockRef;

use crate::{pipeline::records::Records, sys::workers};

/// How long one look for an end or for acknowledgements takes.
const LOOK: Duration = Duration::from_millis(1);

/// A connection on which frames go out, and nothing is expected to come in.
pub(super) struct Stream {
    socket: TcpStream,
    /// How long the other end may acknowledge nothing before it is given up.
    patience: Duration,
}

impl Stream {
    pub(super) fn connect(address: SocketAddr, patience: Duration) -> io::Result<Self> {
        let socket = TcpStream::connect_timeout(&address, patience)?;
        // The last frames of a call are waited for: they shall not wait for acknowledgements of those before them.
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(LOOK))?;
        socket.set_write_timeout(Some(LOOK))?;
        Ok(Self { socket, patience })
    }

    /// Has the other end not closed it?
    pub(super) fn is_open(&self) -> bool {
        self.look().is_ok()
    }

    /// Sends frames, and takes those off whose last byte the other end's kernel has acknowledged: what only was in the
    /// send buffer when a connection breaks is sent again. After an error this connection must not be used any more.
    pub(super) fn send(&mut self, frames: &mut Records) -> io::Result<()> {
        let mut written = 0;
        let result = self.push(frames, &mut written);
        if result.is_err() {
            let _ = self.acknowledged(frames, &mut written); // the error that there is says more
            // What was not acknowledged goes another way: a RST, and not the rest of the buffer in the background.
            let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO)); // then it may arrive twice
        }
        result
    }

    /// Sends frames; of those that are left, `written` bytes are in the kernel.
    fn push(&mut self, frames: &mut Records, written: &mut usize) -> io::Result<()> {
        let mut moved = Instant::now();
        let mut waiting = usize::MAX;
        while !frames.is_empty() {
            match self.socket.write(frames.bytes().get(*written..).unwrap_or_default()) {
                Ok(bytes) => *written += bytes,
                Err(error) if is_nothing_yet(&error) => {}
                Err(error) => return Err(error),
            }
            self.look()?;
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

    /// Takes off what was acknowledged; tells how many bytes were not.
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

    /// Fails where the other end has closed the connection; what it says is of no interest.
    fn look(&self) -> io::Result<()> {
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

    /// Frames of the same length, each with its number.
    fn frames(count: usize) -> Records {
        let mut collecting = RecordsBuilder::default();
        for number in 0..count {
            collecting.add(|to| to.extend_from_slice(format!("{number:0LEN$}").as_bytes()));
        }
        collecting.take()
    }

    /// The numbers of the whole frames that come until the connection ends, and how many bytes more there were.
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
